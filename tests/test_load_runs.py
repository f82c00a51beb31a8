"""Load runs without servers: what is typed, how Locust is started, what it leaves, and how that is shown."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGINT
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import Talk, serving

from harness import assets, cli, clock, processes
from harness.certificates import make_certificates
from harness.errors import BadInput, HarnessError, MissingPrerequisite
from harness.load import generator
from harness.load.generator import FILES, Generator, Progress, master_argv, need_locust, worker_argv
from harness.load.page import milliseconds, to_page
from harness.load.people import Plan
from harness.load.plans import plan_text, read_plan
from harness.load.results import Curve, LoadResult, read_failures, read_requests, to_json
from harness.load.running import port_inside
from harness.load.scaling import Knee, Level, Saturation, Usage, median_interval
from harness.load.seconds import Seconds
from harness.load.settings import LoadSettings, levels_of, pause_of, percent_of, seconds_of, url_of
from harness.load.usage import Sampler
from harness.load.words import lines
from harness.upkeep import keep, told_in_lines
from harness.waiting import wait_until

EVIL = "<script>alert(1)</script>\x1b[31m"


def settings(**changes: Any) -> LoadSettings:
    given = {"users": 20, "spawn_rate": 4, "run_seconds": 30, "workers": 2, "wait": (1.0, 5.0), "seed": 7}
    return LoadSettings(**{**given, **changes})


# -- what is typed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("30s", 30), ("1.5m", 90), ("1h", 3600)])
def test_lengths(text: str, seconds: float) -> None:
    """A number alone is seconds."""
    assert seconds_of(text, option="--run-time") == seconds


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (lambda text: seconds_of(text, option="--run-time"), "0", "--run-time is a length"),
        (lambda text: seconds_of(text, option="--run-time"), "2d", "such as 30s, 5m or 1h"),
        (lambda text: seconds_of(text, option="--run-time"), "25h", "no more than a day"),
        (pause_of, "5-1", "--wait is a pause"),
        (pause_of, "soon", "such as 1-5"),
        (percent_of, "101", "from 0 to 100"),
        (url_of, "example.org", "--host is the address of a site"),
        (url_of, "ftp://example.org", "such as http://"),
        (url_of, "http://example.org/path", "got http://example.org/path"),
        (url_of, "http://me:secret@example.org", "--host"),
        (url_of, "http://example.org:port", "--host"),
        (levels_of, "2", "two different numbers"),
        (levels_of, "0,1", "from 1 to 100"),
        (levels_of, "all", "such as 1,2,3"),
    ],
)
def test_what_cannot_be_meant(read: Callable[[str], object], text: str, told: str) -> None:
    """One message: what is wrong, what was seen, what to do."""
    with pytest.raises(BadInput, match=re.escape(told)):
        read(text)


def test_what_is_meant() -> None:
    """Each is read once, at the door."""
    assert (pause_of("1-5"), pause_of("0"), percent_of("2.5%"), levels_of("3, 1")) == ((1, 5), (0, 0), 0.025, (1, 3))
    assert url_of("https://example.org:8443/") == "https://example.org:8443"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"users": 0}, "--users"),
        ({"spawn_rate": 0}, "--spawn-rate"),
        ({"workers": -1}, "--workers"),
        ({"users": 1}, "a worker without people"),
    ],
)
def test_numbers_that_make_no_sense(changes: dict[str, Any], told: str) -> None:
    """Told before anything is started."""
    with pytest.raises(BadInput, match=told):
        settings(**changes)


def test_in_words() -> None:
    """As the terminal and the page say it."""
    assert settings().in_words() == "20 people, 4 more each second, pauses of 1 to 5 s, 30 s, 2 workers"
    assert settings(workers=0, users=1, wait=(0.0, 0.0)).in_words() == "1 person, 4 more each second, no pauses, 30 s"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["load", "--run-time", "never"], "--run-time is a length"),
        (["load", "--host", "http://127.0.0.1:1", "--instances", "4"], "have no say: leave them out"),
        (["load", "--host", "nowhere"], "--host is the address of a site"),
        (["load", "--users", "2", "--workers", "3"], "a worker without people does nothing"),
        (["load", "no-such-file.toml"], "no-such-file.toml"),
        (["capacity", "--instances", "3"], "one is no curve"),
        (["up", "a.toml", "--setup", "b.toml"], "named twice"),
    ],
)
def test_bad_input_is_one_message(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 2, and nothing was begun."""
    assert cli.main([*words, "--report", str(tmp_path / "reports")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "reports").exists()


def test_without_locust(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is an extra: one message with the remedy. It is looked for, never imported."""
    monkeypatch.setattr(generator, "find_spec", lambda _: None)
    with pytest.raises(MissingPrerequisite, match=re.escape("pip install 'harness[load]'")):
        need_locust()
    assert cli.main(["load", "--report", str(tmp_path)]) == 2
    assert "harness[load]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_locust_is_in_no_process_of_ours() -> None:
    """gevent patches sockets. Everything of the harness that a load run needs is imported without either."""
    code = (
        "import sys, harness.load.running, harness.upkeep, harness.cli; print({'locust', 'gevent'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_pytest_collects_no_load() -> None:
    """The Locust file lies among the scenarios, and is none."""
    code = "import sys, pytest; sys.exit(pytest.main(['scenarios/load', '--collect-only', '-q', '-p', 'no:cacheprovider']))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 5, ended.stdout  # nothing was collected
    assert "error" not in ended.stdout.lower()


# -- how Locust is started ----------------------------------------------------------------------------------------------


def option(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_one_process_alone() -> None:
    """Headless, with results in one folder, and ended by the harness: its own limit is only for when that cannot."""
    argv = master_argv(settings(workers=0), host="http://h:1", file="f.py", folder="/r", bind=None)
    assert {"--headless", "--only-summary"} <= set(argv)
    assert not {"--master", "--expect-workers"} & set(argv)
    assert (option(argv, "--users"), option(argv, "--spawn-rate"), option(argv, "--host")) == ("20", "4", "http://h:1")
    assert (option(argv, "--csv"), option(argv, "--html")) == ("/r/locust", "/r/locust.html")
    assert option(argv, "--wait") == "1-5"
    assert float(option(argv, "--run-time").removesuffix("s")) > 300
    assert option(argv, "--exit-code-on-error") == "0"


def test_a_master_and_its_workers() -> None:
    """The master waits for all of them; a worker finds it, and may have the file from it."""
    argv = master_argv(settings(), host="http://h:1", file="f.py", folder="/r", bind=("127.0.0.1", 5557))
    assert (option(argv, "--expect-workers"), option(argv, "--master-bind-port")) == ("2", "5557")
    assert option(argv, "--master-bind-host") == "127.0.0.1"
    worker = worker_argv(settings(), file="-", master=("load-master", 5557))
    assert worker[:2] == ("--locustfile", "-")
    assert (option(worker, "--master-host"), option(worker, "--wait")) == ("load-master", "1-5")
    assert "--host" not in worker


class Played:
    """A node that makes load, in a play."""

    def __init__(self, name: str, said: list[str], code: int = 0) -> None:
        self.name, self.said, self.code, self.runs = name, said, code, False
        self.log_path = Path(name)
        self.exit_code: int | None = None

    def is_running(self) -> bool:
        return self.runs

    def start(self) -> None:
        self.runs = True

    def stop(self) -> int:
        self.runs, self.exit_code = False, self.code
        return self.code

    kill = stop

    def last_log_lines(self, count: int = 10) -> list[str]:
        return self.said[-count:]

    def cpu_seconds(self) -> float | None:
        return 1.0


TOLD = 'harness-load {"users": 3, "requests": 10, "failed": 1}'


def test_how_far_it_is() -> None:
    """By the last line the master told; nothing while nobody is there."""
    master = Played("load", ["Starting", 'harness-load {"users": 0, "requests": 0, "failed": 0}'])
    made = Generator(master=master, workers=[], fetch=dict)
    assert made.progress() is None
    master.said += [TOLD, "a line of Locust's own"]
    made.start()
    assert made.progress() == Progress(users=3, requests=10, failed=1)
    assert made.looks().keys() == {"load"}


def test_its_results_are_fetched_when_it_has_ended() -> None:
    """All of them, or it is said which are not there."""
    files = dict.fromkeys(FILES, b"")
    made = Generator(master=Played("load-master", [TOLD]), workers=[Played("load-worker-1", [])], fetch=lambda: files)
    made.start()
    made._workers[0].stop()  # ended with its master
    with pytest.raises(HarnessError, match=r"load-worker-1\) ended with code 0"):
        made.check()
    made._workers[0].start()
    made._wait_ended = lambda worker: None  # type: ignore[method-assign]
    assert made.stop() == files
    lacking = Generator(master=Played("load", [TOLD]), workers=[], fetch=lambda: {"locust.html": b""})
    lacking.start()
    with pytest.raises(HarnessError, match=r"left no locust_exceptions\.csv"):
        lacking.stop()


def test_locust_that_fails_says_why() -> None:
    """With the last of what it said, and without our own lines."""
    master = Played("load", [TOLD, "ImportError: no module named x"], code=1)
    made = Generator(master=master, workers=[], fetch=dict)
    made.start()
    with pytest.raises(HarnessError, match=r"^Locust \(load\) ended with code 1: ImportError: no module named x$"):
        made.stop()


# -- the Locust file, in a process of its own -----------------------------------------------------------------------------


def journeys_of_a_small_application(talk: Talk) -> None:
    path, cookies = talk.seen.path, talk.seen.headers.get("cookie", "")
    if talk.seen.method == "POST":
        cookie = "Set-Cookie: session=1; Secure; HttpOnly\r\n" if path == "/login" else ""
        talk.answer(b"", status="303 See Other", headers=f"Location: /home\r\n{cookie}")
    elif "session=1" not in cookies:
        talk.answer(b"who are you?", status="303 See Other", headers="Location: /login\r\n")
    elif path == "/broken":
        talk.answer(b"not what you want", status="200 OK")
    else:
        talk.answer(b"welcome")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A login behind a Secure cookie, a page that is right, and one that is wrong with status 200."""
    good = {"get": "/home", "recognised": {"status": 200, "contains": "welcome"}}
    form = {"email": "{user.email}", "password": "{user.password}"}
    declared = {
        "journeys": {
            "register": {"steps": [{"post": "/register", "form": form, "expect": {"status": 303}}]},
            "login": {"steps": [{"post": "/login", "form": form, "expect": {"location": "/home"}}, good]},
            "whoami": {"steps": [good]},
            "write": {"steps": [{"get": "/broken", "expect": {"contains": "welcome"}}]},
        },
        "shares": {"whoami": 0.5, "write": 0.5},
        "timeout_seconds": 5.0,
        "host_header": "",
    }
    file = tmp_path / "plan.json"
    file.write_text(plan_text(Plan.from_declared(declared)))
    return file


def test_plain_locust_walks_the_journeys(plan: Path, tmp_path: Path) -> None:
    """Bodies decide, not statuses alone; a Secure cookie goes over http; no password is in what it leaves or says."""
    scripts = dict.fromkeys(["register", "login", "home", "broken"], journeys_of_a_small_application)
    with serving(**scripts) as server:
        host, port = server.address
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "locust", "-f", str(assets.path("scenarios/load/locustfile.py"))),
                *(
                    "--setup",
                    str(plan),
                    "--host",
                    f"http://{host}:{port}",
                    "--headless",
                    "-u",
                    "2",
                    "-r",
                    "2",
                    "-t",
                    "60s",
                ),
                *("--wait", "0.01", "--csv", str(tmp_path / "l"), "--html", str(tmp_path / "l.html"), "--only-summary"),
                *("--seconds-file", str(tmp_path / "seconds.json"), "--exit-code-on-error", "0", "--seed", "3"),
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            wait_until(
                lambda: (
                    process.poll() is not None
                    or (len(server.requests("/broken")) >= 2 and len(server.requests("/home")) >= 4)
                ),
                within_seconds=60,
                because="people should have logged in and looked",
            )
        finally:
            process.send_signal(SIGINT)
            out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    rows = {row.name: row for row in read_requests((tmp_path / "l_stats.csv").read_text())}
    assert list(rows) == ["register /register", "login 1 /login", "login 2 /home", "whoami /home", "write /broken"]
    assert rows["login 2 /home"].failed == 0, "the Secure cookie went over http"
    assert rows["write /broken"].failed == rows["write /broken"].requests > 0
    (failure,) = read_failures((tmp_path / "l_failures.csv").read_text())
    assert (failure.error, failure.name) == ("wrong-body", "write /broken")
    counted = Seconds.from_plain(json.loads((tmp_path / "seconds.json").read_text())).items()
    assert sum(each.good + each.failed for _, each in counted) == sum(row.requests for row in rows.values())
    assert any(b"Pw7-" in seen.body for seen in server.seen)
    said = out + err + "".join(path.read_text() for path in tmp_path.iterdir() if path != plan)
    assert "Pw7-" not in said


@pytest.mark.parametrize("signed_by_whom_it_trusts", [True, False])
def test_https_is_believed_where_the_plan_s_authority_signed(
    plan: Path, tmp_path: Path, signed_by_whom_it_trusts: bool
) -> None:
    """Nobody else is: a stranger's certificate is a failure, whoever signed it."""
    ours, strange = (make_certificates(tmp_path / name, "127.0.0.1") for name in ("ours", "strange"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain((ours if signed_by_whom_it_trusts else strange).balancer)
    believed = replace(read_plan(plan), authority=ours.authority.read_text())
    plan.write_text(plan_text(believed))
    scripts = dict.fromkeys(["register", "login", "home", "broken"], journeys_of_a_small_application)
    with serving(tls=context, **scripts) as server:
        host, port = server.address
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "locust", "-f", str(assets.path("scenarios/load/locustfile.py"))),
                *("--setup", str(plan), "--host", f"https://{host}:{port}", "--headless", "-u", "1", "-t", "60s"),
                *("--wait", "0.01", "--csv", str(tmp_path / "l"), "--exit-code-on-error", "0"),
                *("--seconds-file", str(tmp_path / "seconds.json")),
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            asked = next((line for line in process.stdout if re.search(r'"requests": [1-9]', line)), "")
        finally:
            process.send_signal(SIGINT)
            process.communicate(timeout=90)
    assert asked, "it ended without having asked anything"
    first = read_requests((tmp_path / "l_stats.csv").read_text())[0]
    assert first.name == "register /register"
    if signed_by_whom_it_trusts:
        assert (first.requests, first.failed) == (1, 0)
    else:
        assert first.failed == first.requests > 0
        assert {each.error for each in read_failures((tmp_path / "l_failures.csv").read_text())} == {"tls"}
        assert not server.seen


@pytest.mark.parametrize(
    ("outside", "inside"), [(28000, 80), (28443, 8443), (None, None), (1, 80)], ids=["http", "https", "none", "any"]
)
def test_a_container_is_reached_where_it_listens(outside: int | None, inside: int | None) -> None:
    """Beside it, on its network, the ports that are published on this machine mean nothing."""
    spec = SimpleNamespace(container_port=80, port=28000, extra_ports={8443: 28443})
    assert port_inside(spec, outside) == inside
    assert port_inside(SimpleNamespace(port=28000), outside) is None


def test_a_plan_without_an_authority_is_one_of_before() -> None:
    """It trusts whoever answers, as it did."""
    plain = {"journeys": {}, "shares": {}, "timeout_seconds": 5.0, "host_header": ""}
    assert Plan.from_declared(plain).authority == ""
    believed = Plan.from_declared(plain | {"authority": "PEM"})
    assert Plan.from_declared(believed.declared()) == believed


def test_a_plan_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """By plain Locust too, before it sends anything."""
    (tmp_path / "setup.toml").write_text("[app]\n")
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", str(assets.path("scenarios/load/locustfile.py")), "--headless"),
            *("--setup", str(tmp_path / "setup.toml"), "--host", "http://127.0.0.1:9", "-t", "1s"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "locustfile:" in ended.stderr
    assert "app.command" in ended.stderr


# -- what it leaves -----------------------------------------------------------------------------------------------------

STATS = """\
Type,Name,Request Count,Failure Count,Median Response Time,Max Response Time,Requests/s,50%,95%,99%
GET,whoami /dashboard,90,3,5,44.4,9.0,5,12,44
POST,login 2 /login,10,0,60,80.0,1.0,60,80,80
GET,never /asked,0,0,0,0,0,N/A,N/A,N/A
,Aggregated,100,3,6,80,10,6,60,80
"""
FAILURES = f"""\
Method,Name,Error,Occurrences
GET,whoami /dashboard,CatchResponseError('http-500'),1
GET,whoami /dashboard,"{EVIL}",2
"""


def result(**changes: Any) -> LoadResult:
    counted = Seconds()
    for second in range(100, 112):
        counted.at(second).users = 5
        for _ in range(second - 95):
            counted.at(second).add(second / 10, good=True)
    counted.at(105).add(900, good=False)
    given: dict[str, Any] = {
        "run_id": "2026-11-30-0300-7",
        "setup": EVIL,
        "platform": "native",
        "host": "http://127.0.0.1:8080",
        "started": "2026-11-30T03:00:00+00:00",
        "version": "0",
        "command": "harness load --users 5",
        "settings": "5 people",
        "users": 5,
        "workers": 0,
        "seconds": 10.0,
        "rows": read_requests(STATS),
        "failures": read_failures(FAILURES),
        "fail_above": 0.01,
        "usage": Usage(cores=2, machine=0.8, nodes={"app-1": 0.5}, generator=0.3, generator_cores=0.3),
        "counted": counted,
        "begin": 100,
    }
    return LoadResult(**{**given, **changes})


def curve(*, saturates: str = "machine") -> Curve:
    windows = {1: [100.0, 104.0, 98.0, 101.0, 99.0, 103.0], 2: [110.0, 108.0, 112.0, 109.0, 111.0, 107.0]}
    levels = tuple(
        Level(
            instances=count,
            names=tuple(f"app-{number + 1}" for number in range(count)),
            throughput=median_interval(values),
            windows=tuple(values),
            rounds=(values[0], values[-1]),
            p50_ms=40,
            p95_ms=90,
            requests=1000,
            failed=2,
            usage=Usage(cores=2, machine=0.97, generator=0.5),
        )
        for count, values in windows.items()
    )
    found = Saturation(saturates, f"the words of {saturates}")
    knee = Knee(1, sure=True, sentence="after 1 instance: one more instance adds 9% (4% to 14%) of what one carries")
    return Curve(levels=levels, window_seconds=2, warm_up_seconds=3, knee=knee, saturations={1: found, 2: found})


def test_locusts_tables_are_read() -> None:
    """Without their sum, in the order in which people do things; what it cannot say is nothing."""
    rows = read_requests(STATS)
    assert [(row.name, row.requests, row.failed, row.p95_ms) for row in rows] == [
        ("login 2 /login", 10, 0, 80.0),
        ("never /asked", 0, 0, None),
        ("whoami /dashboard", 90, 3, 12.0),
    ]
    assert [(each.error, each.count) for each in read_failures(FAILURES)] == [(EVIL, 2), ("http-500", 1)]


def test_a_table_of_another_version_is_refused() -> None:
    """It is not guessed what a column may have meant."""
    with pytest.raises(HarnessError, match="without Type, Name"):
        read_requests("Method,Path\n")


@pytest.mark.parametrize(
    ("fail_above", "code", "headline"), [(0.01, 1, "Too many failed: 3 of 100"), (0.03, 0, "Carried: 3 of 100")]
)
def test_failures_above_what_is_allowed(fail_above: float, code: int, headline: str) -> None:
    """Exit code 1 above the share, not at it."""
    found = result(fail_above=fail_above)
    assert found.exit_code == code
    assert found.headline.startswith(headline)


@pytest.mark.parametrize(
    ("saturates", "code", "headline"),
    [
        ("machine", 0, "More than 1 instance do not pay"),
        ("load-generator", 3, "The load generator saturated first"),
        ("elsewhere", 3, "Other programs had the machine"),
    ],
)
def test_a_curve_is_advice(saturates: str, code: int, headline: str) -> None:
    """It fails nobody; one that says nothing of the application ends with the code of what is inconclusive."""
    found = result(curve=curve(saturates=saturates))
    assert found.exit_code == code
    assert found.headline.startswith(headline)
    assert json.loads(to_json(found))["curve"]["says_nothing"] == (code == 3)


def test_everything_is_in_the_json() -> None:
    """Valid JSON, versioned, with the exit code and each second."""
    plain = json.loads(to_json(result(curve=curve())))
    assert (plain["format"], plain["version"], plain["requests"], plain["failed"]) == ("harness-load", 1, 100, 3)
    assert plain["by_second"][5] == {"second": 5, "good": 10, "failed": 1, "users": 5, "p50_ms": 10, "p95_ms": 900}
    assert plain["curve"]["levels"][0]["throughput"]["middle"] == 100.5
    assert plain["usage"]["nodes"] == {"app-1": 0.5}


@pytest.mark.parametrize(
    "found",
    [result(), result(curve=curve()), result(rows=(), failures=(), counted=Seconds())],
    ids=["load", "curve", "nothing"],
)
def test_the_page(found: LoadResult) -> None:
    """Whole, without a script, and whatever came from a file or an application is text."""
    page = to_page(found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "style=" not in page
    assert page.count("<svg") == page.count("</svg>") == (3 if found.curve else 2 if found.rows else 0)
    assert "nan" not in page.lower()
    assert "\x1b" not in page
    if found.curve:
        assert "the words of machine" in page
        assert "100" in page
        assert "knee" in page


def test_the_terminal() -> None:
    """Columns, what failed, where to look and how to repeat; no line is wrapped by us."""
    told = list(lines(result(), page="reports/1/load.html"))
    assert told[0].split() == ["request", "count", "failed", "per", "second", "median", "95", "%", "99", "%", "worst"]
    assert any(re.search(r"GET +whoami /dashboard +90 +3 +9\.0 +5 ms +12 ms +44 ms +44 ms", line) for line in told)
    assert told[-3:] == [
        " Too many failed: 3 of 100 requests failed (3.00%), allowed are 1 %.",
        " reports/1/load.html",
        " harness load --users 5",
    ]
    assert any("1 × http-500" in line for line in told)
    assert "\x1b" not in "".join(told)
    told = "\n".join(lines(result(curve=curve()), page="p"))
    assert " knee  after 1 instance" in told
    assert "capacity.scaling is advice" in told


@pytest.mark.parametrize(("value", "told"), [(None, "–"), (0.4, "0 ms"), (12, "12 ms"), (1234, "1.2 s")])
def test_latencies_in_words(value: float | None, told: str) -> None:
    """With their unit."""
    assert milliseconds(value) == told


# -- what was busy --------------------------------------------------------------------------------------------------------


def test_processor_time_is_seen() -> None:
    """Of processes and of the machine; those that are gone count as none."""
    import os

    before = processes.cpu_seconds([os.getpid()])
    end = clock.now() + 0.1
    while clock.now() < end:
        sum(range(1000))
    after = processes.cpu_seconds([os.getpid(), 2**22 + 1])
    assert before is not None
    assert after is not None
    assert after > before
    machine = processes.machine_cpu()
    assert machine is not None
    assert 0 < machine[0] < machine[1]


def test_a_tree_of_processes_is_found() -> None:
    """With children of children, and without the others of this machine."""
    import os

    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        found = processes.tree(os.getpid())
        assert found[0] == os.getpid()
        assert child.pid in found
        assert len(processes.tree(child.pid)) == 2
        assert os.getppid() not in found
    finally:
        child.communicate(b"\n", timeout=90)
    assert processes.tree(child.pid) == [child.pid]


def test_usage_is_what_was_used_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores by node; the load generator apart; what cannot be seen is left out."""
    counters: dict[str, Iterator[float | None]] = {
        "app-1": iter([1.0, 1.5, 2.0, 99.0]),
        "nginx": iter([None, None, None, None]),
        "load": iter([0.0, 0.1, 0.2, 0.3]),
    }
    looks: dict[str, Callable[[], float | None]] = {name: lambda name=name: next(counters[name]) for name in counters}  # type: ignore[misc]
    sampler = Sampler({"app-1": looks["app-1"], "nginx": looks["nginx"]}, generator={"load": looks["load"]})
    moments = iter(range(100, 200))
    monkeypatch.setattr("harness.load.usage.clock.wall", lambda: SimpleNamespace(timestamp=lambda: now[0]))
    monkeypatch.setattr("harness.load.usage.processes.machine_cpu", lambda: (now[0] * 1.5, now[0] * 2))
    now = [0.0]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        for _ in range(4):
            now[0] = float(next(moments))
            sampler._samples.append(sampler._sample(pool))
    counted = Seconds()
    for second, busiest in ((100, 0.2), (101, 0.3), (102, 0.25)):
        counted.at(second).busiest = busiest
    found = sampler.between(100, 102, seconds=counted)
    assert found.nodes == {"app-1": 0.5}
    assert found.generator_cores == pytest.approx(0.1)
    assert found.machine == pytest.approx(0.75)
    assert found.generator in (0.25, 0.3)
    assert sampler.between(300, 400, seconds=counted).machine is None


# -- a setup that stands ------------------------------------------------------------------------------------------------


def test_its_addresses_in_lines() -> None:
    """Aligned, and the commands alone on their lines: to be copied."""
    facts = {
        "balancer": "http://127.0.0.1:1",
        "instances": {"app-1": "http://127.0.0.1:2"},
        "logs": "/logs",
        "commands": ["harness load --host http://127.0.0.1:1"],
    }
    told = told_in_lines(facts)
    assert told[:3] == ["balancer  http://127.0.0.1:1", "app-1     http://127.0.0.1:2", "logs      /logs"]
    assert facts["commands"][0] in told


def test_a_node_that_ends_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last of what it said, without secrets; and again when it is back."""
    app, nginx = Played("app-1", ["bye, hunter2"]), Played("nginx", [])
    nginx.start()
    looks = iter([False] * 4 + [True])
    layout = SimpleNamespace(stores=(), balancer_node=nginx)
    standing: Any = SimpleNamespace(
        cluster=SimpleNamespace(layout=layout, instances=(SimpleNamespace(node=app),)),
        redactor=lambda text: text.replace("hunter2", "[redacted]"),
    )
    said: list[str] = []

    def is_over() -> bool:
        if len(said) == 1:
            app.start()
        return next(looks)

    monkeypatch.setattr("harness.upkeep.clock.sleep", lambda _: None)
    keep(standing, is_over=is_over, say=said.append)
    assert said == ["app-1 has ended with code None: bye, [redacted]", "app-1 runs again"]


def test_the_page_leads_to_its_siblings() -> None:
    """Where there are any."""
    from harness.reporting.page import Link

    page = to_page(
        replace(result(), setup="reference"),
        links=(Link(href="index.html", text="Report"), Link(href="load.html", text="Load")),
    )
    assert 'href="index.html"' in page
    assert 'aria-current="page"' in page
