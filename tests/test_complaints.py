"""What logs complain of: known words of servers and of clients, nothing else of a log, and only where people were failed."""

from __future__ import annotations

from typing import Any

import pytest

from harness.complaints import Complaints, complaint_in
from harness.model import History
from tests.checker_histories import failed, fault, history, op


class Node:
    def __init__(self, name: str) -> None:
        self.name = name
        self.said: list[str] = []

    def last_log_lines(self, count: int = 10) -> list[str]:
        return self.said[-count:]


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("2026/11/30 [alert] 7#7: 1024 worker_connections are not enough", "limit", "(balancer)"),
        ("OSError: [Errno 24] Too many open files", "limit", "descriptors"),
        ("FATAL:  sorry, too many clients already", "database-full", "max_connections"),
        (
            'connection to server at "10.0.0.5", port 5432 failed: FATAL:  sorry, too many clients already',
            "database-full",
            "too many clients already (max_connections of Postgres)",
        ),
        (
            "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            "database-full",
            "remaining connection slots are reserved",
        ),
        ('FATAL:  too many connections for role "app"', "database-full", 'too many connections for role "app"'),
        ("psycopg_pool.PoolTimeout: couldn't get a connection after 30.00 sec", "pool-empty", "psycopg"),
        (
            "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out",
            "pool-empty",
            "QueuePool limit of size 5 overflow 10 reached",
        ),
        (
            "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30000ms.",
            "pool-empty",
            "HikariCP",
        ),
        (
            "Timed out fetching a new connection from the connection pool. More info: http://pris.ly/d/connection-pool",
            "pool-empty",
            "Prisma",
        ),
        ("KnexTimeoutError: Knex: Timeout acquiring a connection. The pool is probably full.", "pool-empty", "Knex"),
        (
            "could not obtain a connection from the pool within 5.000 seconds (waited 5.004 seconds)",
            "pool-empty",
            "within 5.000 seconds",
        ),
        ("Error: timeout exceeded when trying to connect", "pool-empty", "node-postgres"),
        (
            'connection to server at "127.0.0.1", port 5433 failed: Connection refused',
            "database-away",
            'connection to server at "127.0.0.1", port 5433 failed: Connection refused',
        ),
        (
            'connection to server at "db" (10.0.0.5), port 5432 failed: timeout expired',
            "database-away",
            "timeout expired",
        ),
        (
            'psycopg.OperationalError: could not translate host name "dbb" to address: Name or service not known',
            "database-away",
            '"dbb"',
        ),
        ('FATAL:  password authentication failed for user "app"', "database-away", 'user "app"'),
        ('FATAL:  database "shop" does not exist', "database-away", "shop"),
        ("Error: connect ECONNREFUSED 10.0.0.5:5432", "database-away", "ECONNREFUSED 10.0.0.5:5432"),
        ("dial tcp 10.0.0.5:5432: connect: connection refused", "database-away", "dial tcp 10.0.0.5:5432"),
        (
            "redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1:9. Connection refused.",
            "store-away",
            "Error 111 connecting to 127.0.0.1:9 (redis-py)",
        ),
        ("[ioredis] Unhandled error event: Error: connect ECONNREFUSED 10.0.0.6:6379", "store-away", "10.0.0.6:6379"),
        ("dial tcp: lookup redis: no such host", None, ""),
        ("dial tcp 10.0.0.6:6379: i/o timeout", "store-away", "dial tcp 10.0.0.6:6379"),
        ("Unable to connect to redis/10.0.0.6:6379", "store-away", "Lettuce"),
        ("ReplyError: NOAUTH Authentication required.", "store-away", "NOAUTH"),
        ("GET /too/many 200", None, ""),
        ("connect ECONNREFUSED 10.0.0.7:8080", None, ""),
        ("", None, ""),
    ],
)
def test_complaints_in_logs(line: str, kind: str | None, words: str) -> None:
    """By the very words that servers and clients use."""
    found = complaint_in(line)
    assert (found and found.kind) == kind
    assert found is None or words in found.words


def test_nothing_else_of_a_line_is_kept() -> None:
    """Not the address with its password, nor the statement."""
    found = complaint_in(
        'postgres://app:pa55@db/shop SELECT secret: OperationalError: connection to server at "db", port 5432 failed: '
        "Connection refused; Is the server running there, pa55?"
    )
    assert found is not None
    assert found.words == 'connection to server at "db", port 5432 failed: Connection refused'


def test_a_complaint_is_heard_once() -> None:
    """From one look to the next, each once for each node."""
    node, other = Node("postgres"), Node("app-1")
    complaints = Complaints([node, other])
    assert complaints.new() == ()
    node.said += ["03:00:01 sorry, too many clients already", "03:00:02 sorry, too many clients already"]
    ((name, complaint),) = complaints.new()
    assert (name, complaint.words) == ("postgres", "too many clients already (max_connections of Postgres)")
    assert complaints.new() == ()
    node.said += ["all is well", "03:00:09 sorry, too many clients already"]
    assert len(complaints.new()) == 1
    other.said += ["03:00:12 sorry, too many clients already"]
    complaints.pass_over()
    assert complaints.new() == ()


REFUSED = "12:00:01 redis: Error 111 connecting to 127.0.0.1:9. Connection refused."


def heard(history: History, *lines: str) -> dict[str, Any] | None:
    node = Node("app-2")
    complaints = Complaints([node, Node("app-1")])
    node.said += lines
    look = complaints.about(history)
    return None if look is None else dict(look.value)


def test_it_is_written_down_where_people_were_failed() -> None:
    """With whom: by an error of its own, by silence that the balancer did not wait for, or asked directly."""
    told = history(
        [
            op(),
            failed(1.0, error="http-503", instance="app-2"),
            failed(2.0, error="http-504", attempts=("app-1", "app-2")),
            failed(3.0, error="timeout", via="app-3", attempts=()),
        ],
        faults=[fault(node="app-3")],
    )
    assert heard(told, *[REFUSED.replace("01", f"{second:02}", 1) for second in range(9)], "fine") == {
        "scenario": told.scenario,
        "instances": list(told.instances),
        "heard": {"store-away": {"app-2": ["Error 111 connecting to 127.0.0.1:9 (redis-py)"]}},
        "failed": {"app-2": 2, "app-3": 1},
        "broken": ["app-3"],
    }


@pytest.mark.parametrize(
    "of",
    [
        op(),
        failed(1.0, error="http-502", attempts=("app-2",)),
        op(1.0, error="logged-out", status=303, instance="app-2"),
        failed(1.0, error="timeout", attempts=()),
    ],
    ids=["served", "lost on the way", "logged out", "nobody knows who"],
)
def test_nothing_is_written_down_where_no_instance_failed_anybody(of: Any) -> None:
    """A log may complain of what nobody felt."""
    assert heard(history([of]), REFUSED) is None


def test_nothing_is_written_down_where_nobody_complains() -> None:
    assert heard(history([failed(1.0, error="http-503", instance="app-2")]), "fine") is None
