"""Rules about the database and the session store as the instances have them: not reached, full, or with too few connections.

A rule answers None unless instances failed people in the very scenario in which somebody complained, and nobody had taken
away on purpose what is complained of. Must not: read logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkers.evidence import listed, plural
from harness.diagnosis.case import Case
from harness.model import Cause, ComplaintKind, Confidence

__all__ = [
    "database_connections_used_up",
    "database_not_reached",
    "instance_down",
    "pool_used_up",
    "session_store_not_reached",
]

_CONNECTIONS = "Common Issues: Database connection errors"


def session_store_not_reached(case: Case) -> Cause | None:
    """Instances answer with errors, and complain that they do not reach the session store."""
    return _complained(
        case,
        ComplaintKind.STORE_AWAY,
        id="session-store-not-reached",
        sentence="{who} not reach the session store, or may not use it",
        remedy="see that the store runs, that the network lets every instance to it, and that REDIS_URL (or what your "
        "application calls it) is the same for all: app.env, nothing of it in app.instance_env",
        guide="Common Issues: Sessions lost after deployment",
    )


def database_not_reached(case: Case) -> Cause | None:
    """The same of the database."""
    return _complained(
        case,
        ComplaintKind.DATABASE_AWAY,
        id="database-not-reached",
        sentence="{who} not reach the database, or may not use it",
        remedy="see that the database runs, that the network lets every instance to it, and that DATABASE_URL (or what your "
        "application calls it) is the same for all: app.env, nothing of it in app.instance_env",
        guide=_CONNECTIONS,
    )


def database_connections_used_up(case: Case) -> Cause | None:
    """Instances answer with errors, and the database turned connections away."""
    return _complained(
        case,
        ComplaintKind.DATABASE_FULL,
        id="database-connections-used-up",
        sentence="all instances together want more connections than the database allows",
        remedy="keep instances (those of a rollout too) x pool size below what the database allows: smaller pools, a pooler "
        "such as PgBouncer before the database, or a larger max_connections (postgres.max_connections)",
        guide=_CONNECTIONS,
    )


def pool_used_up(case: Case) -> Cause | None:
    """Instances answer with errors, and complain that their pools of connections had none left."""
    return _complained(
        case,
        ComplaintKind.POOL_EMPTY,
        id="pool-used-up",
        sentence="requests wait in vain for a connection of their instance's pool",
        remedy="give the pool as many connections as an instance handles requests that use one, within what the database "
        "allows; and give a connection back as soon as the query is done, not at the end of the request",
        guide=_CONNECTIONS,
    )


def instance_down(case: Case) -> Cause | None:
    """An instance gets nothing through the balancer, and asked directly it is not well."""
    missing = case.evidence("EveryInstanceGetsTraffic").get("missing") or ()
    health: Mapping[str, Mapping[str, Any]] = {
        name: look for seen in case.elsewhere("EveryInstanceAnswers") for name, look in seen["by_instance"].items()
    }
    down = [name for name in missing if name in health and not _is_well(health[name])]
    if not down:
        return None
    said = [f"{name}: {health[name].get('error') or 'status {}'.format(health[name].get('status'))}" for name in down]
    return Cause(
        id="instance-down",
        sentence=f"{listed(down)} {'is' if len(down) == 1 else 'are'} down, and rightly gets nothing",
        confidence=Confidence.CERTAIN if len(down) == len(missing) else Confidence.LIKELY,
        evidence=(
            f"{listed(missing)} answered nothing through the balancer",
            f"asked directly for its health path, {listed(said)}",
        ),
        remedy="mend the instance: its log says what it wants",
        guide="Common Issues: Uneven load distribution",
    )


def _is_well(look: Mapping[str, Any]) -> bool:
    # Stored runs of before there was such a word have none.
    return bool(look.get("well", not look.get("error") and 200 <= (look.get("status") or 0) < 300))


def _complained(
    case: Case,
    kind: ComplaintKind,
    *,
    id: str,  # noqa: A002 - named as in Cause, whose words these are
    sentence: str,
    remedy: str,
    guide: str,
) -> Cause | None:
    for seen in case.complaints:
        instances, broken = seen["instances"], seen["broken"]
        failed: Mapping[str, int] = seen["failed"]
        if not set(broken) <= set(instances):
            continue  # a server was taken away on purpose
        # Whoever was cut off, or just came back, complains of that.
        heard = {name: words for name, words in seen["heard"].get(kind, {}).items() if name not in broken}
        # What a server says of itself holds for all who want something of it.
        servers = [name for name in heard if name not in instances]
        failing = [name for name in heard if name in failed]
        if not servers and not failing:
            continue
        silent = [] if servers else [name for name in failed if name not in heard]
        told = [f"{name} wrote: {'; '.join(heard[name])}" for name in (*servers, *failing)]
        counts = listed(f"{name} ({count})" for name, count in failed.items())
        who = f"{listed(failing)} {'does' if len(failing) == 1 else 'do'}" if failing else "instances do"
        return Cause(
            id=id,
            sentence=sentence.format(who=who),
            confidence=Confidence.LIKELY if silent else Confidence.CERTAIN,
            evidence=(*told, f"{plural(sum(failed.values()), 'request')} failed at {counts}"),
            against=tuple(f"{name} failed people too, and complained of nothing" for name in silent),
            remedy=remedy,
            guide=guide,
        )
    return None
