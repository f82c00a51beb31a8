"""The report: everything is text in it, nothing that failed is left out, and it is always made alike."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from checker_histories import APPS, failed, fault, history, op, step, traffic
from hypothesis import given, settings
from hypothesis import strategies as st
from page_runs import HOSTILE, UNIX, a_run, loss, rollout, stored

from harness import cli
from harness.model import Outcome
from harness.reporting import Redactor, write_page
from harness.reporting.page.evidence import bars_of, gap_of, in_words, matrices_of
from harness.reporting.page.logs import moment_of, read_logs
from harness.reporting.page.recording import Texts, chosen, draw, packed
from harness.reporting.page.setting import draw_setup, trouble_by_node
from harness.traffic import fact_record


class Page(HTMLParser):
    """A page as a browser takes it: its elements, what they are called, and its text."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.source = (folder / "index.html").read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += f"{data} "

    @property
    def histories(self) -> dict[str, Any]:
        """What the time-lines are drawn from."""
        unpacked = json.loads(self.scripts[0])
        return {name: json.loads(zlib.decompress(base64.b64decode(text))) for name, text in unpacked.items()}


def outcomes(data: dict[str, Any]) -> list[str]:
    return [data["shapes"][shape][8] for shape in data["columns"]["shape"]]


# -- what an application says -----------------------------------------------------------------------------------------


def test_whatever_anybody_says_stays_text(tmp_path: Path) -> None:
    """Bodies, paths, versions, names, logs, the setup file: the hostile page has the very elements of the other."""
    plain, hostile = Page(stored(tmp_path / "a", say=" well")), Page(stored(tmp_path / "b", say=HOSTILE))
    assert hostile.tags == plain.tags
    assert hostile.tags.count("script") == 2
    assert not {"img", "iframe", "object", "link", "base"} & set(hostile.tags)
    assert not [name for name, _ in hostile.attributes if name.startswith("on") or name == "style"]
    assert "window.hacked=1" in hostile.text
    assert "{{7*7}}" in hostile.text
    assert "\u2028" not in hostile.source
    assert hostile.scripts[1] == plain.scripts[1]
    told = json.dumps(hostile.histories)
    assert "window.hacked=1" in told
    assert "\\u2028" not in told


def test_nothing_is_fetched(tmp_path: Path) -> None:
    """The only addresses are names of elements and of pages beside it."""
    page = Page(stored(tmp_path))
    addresses = [
        value for name, value in page.attributes if name in ("href", "src", "action", "data", "srcset", "poster")
    ]
    assert set(addresses) <= {"#main"}
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", page.source)


def test_secrets_are_kept_out(tmp_path: Path) -> None:
    """Of results, requests and logs alike, also those that were stored before anybody knew of them."""
    folder = stored(tmp_path, say=" s3cr3t-value", redactor=Redactor(["s3cr3t-value"]))
    page = Page(folder)
    assert "s3cr3t-value" not in page.source
    told = json.dumps(page.histories)
    assert "s3cr3t-value" not in told
    assert "[redacted]" in told
    assert "[redacted]" in page.text


# -- what is told -----------------------------------------------------------------------------------------------------


def test_the_answer_comes_first(tmp_path: Path) -> None:
    """Whether to ship, why not, and what to change: before any promise."""
    text = " ".join(Page(stored(tmp_path)).text.split())
    first = text[: text.index("measured, against the bound")]
    assert "No. 2 of 7 promises are broken" in first
    assert "cause no key appeared (certain: seen)" in first
    assert "remedy mend it; guide, step 2" in first
    for word in ("1 rig-error", "2 fail", "3 pass", "1 inconclusive"):
        assert word in first


def test_each_promise_says_how_to_repeat_only_it(tmp_path: Path) -> None:
    """With the seed; what was never tried is there as well, and what cannot be judged here."""
    text = " ".join(Page(stored(tmp_path)).text.split())
    assert "harness verify my-setup.toml --only failover.kill --seed 7" in text
    assert "not tried shutdown.inflight" in text
    assert "not judged here: failover.partition" in text


def test_histories_are_in_it_once(tmp_path: Path) -> None:
    """Two promises judge the loss: two pictures, one record."""
    page = Page(stored(tmp_path))
    assert list(page.histories) == ["loss-by-kill", "rolling"]
    assert [value for name, value in page.attributes if name == "data-history"].count("loss-by-kill") == 2


def test_logs_are_joined_to_the_time_line(tmp_path: Path) -> None:
    """From before the fault to after it, in order of time, on its clock; single requests are not told twice."""
    logs = Page(stored(tmp_path)).histories["loss-by-kill"]["logs"]
    assert [at for at, _, _ in logs] == sorted(at for at, _, _ in logs)
    assert {node for _, node, _ in logs} == set(APPS)
    at, _, line = next(each for each in logs if "line 8 of app-1" in each[2])
    assert at == pytest.approx(2.0 - 1.02, abs=0.002)
    assert line.endswith("INFO line 8 of app-1")


# -- always alike -----------------------------------------------------------------------------------------------------


def test_a_stored_run_makes_the_same_page_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also by the command, and wherever the folder is moved to."""
    folder = stored(tmp_path / "here")
    first = (folder / "index.html").read_bytes()
    moved = folder.rename(tmp_path / "there")
    (moved / "index.html").unlink()
    assert cli.main(["report", str(moved)]) == 0
    assert capsys.readouterr().out == f"{moved / 'index.html'}\n"
    assert (moved / "index.html").read_bytes() == first


def test_no_page_is_made_of_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One message, exit code 2, nothing written."""
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "no report can be made of" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_damaged_journal_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No half page takes the place of a whole one."""
    folder = stored(tmp_path)
    before = (folder / "index.html").read_bytes()
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"t":"op","scenario":"loss-by-kill","due":"soon"}\n')
    assert cli.main(["report", str(folder)]) == 2
    assert "damaged" in capsys.readouterr().err
    assert (folder / "index.html").read_bytes() == before


def test_a_run_without_a_record_has_a_page(tmp_path: Path) -> None:
    """Of a run whose journal or logs were thrown away, what was concluded is left."""
    folder = stored(tmp_path)
    (folder / "history.jsonl").unlink()
    write_page(folder)
    page = Page(folder)
    assert page.histories == {}
    assert "20 of 821 requests failed" in page.text


# -- much -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(Outcome)), st.floats(0.001, 2.0), st.booleans()), max_size=300),
    st.integers(0, 120),
)
def test_what_went_wrong_is_never_left_out(made: list[tuple[Outcome, float, bool]], room: int) -> None:
    """Failed, unknown, or tried twice: all of them, whatever room there is. Order stays; the same ones each time."""
    operations = [
        op(number / 10, outcome=outcome, latency=latency, attempts=("app-1", "app-2") if twice else ("app-1",))
        for number, (outcome, latency, twice) in enumerate(made)
    ]
    kept = chosen(operations, at_most_ok=room)
    trouble = [each for each in operations if each.outcome is not Outcome.OK or len(each.attempts) > 1]
    assert [each for each in kept if each in trouble] == trouble
    assert [each.due for each in kept] == sorted(each.due for each in kept)
    assert len(kept) - len(trouble) <= max(room, 3)
    assert len(kept) == len(operations) or len(kept) - len(trouble) >= min(room, 1)
    assert chosen(operations, at_most_ok=room) == kept


def test_the_slowest_of_each_stretch_is_kept() -> None:
    """One slow answer among ten thousand is what a reader looks for."""
    operations = [op(number / 100, latency=1.5 if number == 7321 else 0.01) for number in range(10_000)]
    assert operations[7321] in chosen(operations, at_most_ok=500)


@pytest.mark.timeout(300)
def test_a_hundred_thousand_requests_stay_under_two_megabytes(tmp_path: Path) -> None:
    """Half of them failed, each with a path and a body of its own: all of these are drawn, and the page says what is not."""

    def lines() -> Iterator[str]:
        yield '{"t":"journal","version":1,"run":"r"}'
        yield '{"t":"scenario","scenario":"loss-by-kill","seed":1,"instances":["app-1","app-2","app-3"]}'
        times = {"sent": -1.0, "answered": -2.0, "path": "/notes/%(path)032x"}
        both = (op(-1.0, **times), failed(-1.0, detail="<p>%(path)0180d", **times))
        templates = [
            json.dumps(fact_record("loss-by-kill", each), separators=(",", ":"))
            .replace("-1.0", "%(due).3f")
            .replace("-2.0", "%(answered).6f")
            for each in both
        ]
        for number in range(100_000):
            answered = number / 500 + 0.001 + number * 7919 % 1000 / 5000
            facts = {"due": number / 500, "answered": answered, "path": number * 2654435761 % 2**32}
            yield templates[number % 2] % facts
        yield json.dumps(
            fact_record("loss-by-kill", fault(injected=50.0, effective=50.1, healing=60.0, healed=61.0)),
            separators=(",", ":"),
        )

    folder = stored(tmp_path)
    (folder / "history.jsonl").write_text("\n".join(lines()) + "\n")
    write_page(folder)
    page = Page(folder)
    assert len(page.source) < 2_000_000
    data = page.histories["loss-by-kill"]
    assert outcomes(data).count("unknown") == 50_000
    assert data["recorded"] == 100_000
    assert data["counted"] == {"ok": 50_000, "unknown": 50_000}
    assert data["shown"] == len(outcomes(data)) == 80_000
    assert "80,000 of 100,000 requests" in page.text
    assert Texts.LEFT_OUT in data["texts"]


# -- the time-line ----------------------------------------------------------------------------------------------------


def drawn(of: Any, **given: Any) -> dict[str, Any]:
    texts = Texts(characters=10_000)
    data = dict(draw(of, at_most_ok=10_000, texts=texts, **given).data)
    return json.loads(zlib.decompress(base64.b64decode(packed(data | {"texts": texts.all}))))


def states(data: dict[str, Any], node: str) -> list[str]:
    (lane,) = [lane for lane in data["lanes"] if lane["node"] == node]
    edges = [edge for state in lane["states"] for edge in state[:2]]
    assert edges == sorted(edges)
    return [state for _, _, state in lane["states"]]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("kill", ["up", "breaking", "down", "returning", "up"]),
        ("stop", ["up", "stopping", "down", "returning", "up"]),
        ("hang", ["up", "breaking", "hung", "returning", "up"]),
        ("cut-off-silence", ["up", "breaking", "cut off", "returning", "up"]),
    ],
)
def test_a_lane_tells_what_a_node_was(kind: str, told: list[str]) -> None:
    """On the clock that begins with the effect of the fault."""
    data = drawn(replace(loss(), faults=(fault(kind),)))
    assert states(data, "app-1") == told
    assert states(data, "app-2") == ["up"]
    assert data["span"][0] == pytest.approx(-1.02)
    assert data["zero"].startswith("app-1 ")


def test_a_node_that_never_came_back_stays_lost() -> None:
    """To the end of the picture."""
    data = drawn(replace(loss(), faults=(fault(healed=None),)))
    assert states(data, "app-1")[-1] == "returning"
    assert data["windows"][0]["to"] == data["span"][1]
    assert "never ready again" in data["windows"][0]["detail"]


def test_a_rollout_is_told_step_by_step() -> None:
    """Each instance has its window and its lane, and changes its version."""
    data = drawn(rollout(APPS))
    assert states(data, "app-2") == [
        "up", "draining", "drained", "stopping", "down", "starting", "ready, not yet used", "up",
    ]  # fmt: skip
    assert [version for _, _, version in data["lanes"][1]["versions"]] == ["1", "2"]
    assert [each["name"] for each in data["windows"]] == [f"{name} to 2" for name in APPS]
    assert data["zero"] == "the rollout began"
    assert data["stretches"]["without"] == "slow"
    assert max(each[3] for each in data["stretches"]["latencies"] if each[3] is not None) < 100


def test_under_an_orchestrator_being_ready_is_being_up() -> None:
    """Nobody enables there; a replica that comes was not there before."""
    steps = [step("begin", "", 1.0), step("start", "app-4", 1.2), step("ready", "app-4", 1.9), step("end", "", 2.0)]
    data = drawn(history(traffic(0.0, 3.0), rollout=steps))
    assert states(data, "app-4") == ["not there", "starting", "up"]


def test_requests_keep_what_is_told_of_them() -> None:
    """Due, sent, answered, visitor, path and detail come back as they were, to a tenth of a millisecond."""
    never = failed(2.0, error="refused", sent=None, visitor="somebody", detail="no route")
    data = drawn(history([op(1.0, latency=0.25, visitor="v12", path="/a"), never], scenario="s"))
    columns = data["columns"]
    assert columns["due"] == [0, 10_000]
    assert columns["waits"] == [0, -1]
    assert columns["took"] == [2500, -1]
    assert columns["visitor"][0] == 12
    assert data["texts"][-1 - columns["visitor"][1]] == "somebody"
    assert [data["texts"][number] for number in columns["detail"]] == ["", "no route"]


# -- logs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "at", "zoned"),
    [
        ("2026-11-23 14:12:01,250 INFO x", 1.25, False),
        ("2026-11-23T14:12:01.25Z x", 1.25, True),
        ("2026-11-23 14:12:01.250 UTC [7] LOG: x", 1.25, True),
        ("2026-11-23T15:12:01+01:00 x", 1.0, True),
        ("2026/11/23 14:12:01 [notice] 7#7: x", 1.0, False),
        ("7:M 23 Nov 2026 14:12:01.250 * x", 1.25, False),
        ("127.0.0.1:5 [23/Nov/2026:14:12:01.250] x", 1.25, False),
        ('{"at":1795443121.25,"m":"x"}', 1.25, True),
        ('127.0.0.1 - - [23/Nov/2026:14:12:01 +0000] "GET"', 1.0, True),
    ],
)
def test_the_time_of_a_line_is_found(line: str, at: float, zoned: bool) -> None:
    """In the forms of the servers the harness runs, and of most others."""
    told = moment_of(line)
    assert told is not None
    assert told[0] - UNIX == pytest.approx(at, abs=0.001)
    assert told[1] is zoned


@pytest.mark.parametrize("line", ["  File x, line 2", "", "2026-99-99 14:12:01 x", "x" * 200 + "2026-11-23 14:12:01"])
def test_a_line_may_tell_no_time(line: str) -> None:
    """Then it belongs to the one before it."""
    assert moment_of(line) is None


def test_the_zone_of_a_log_follows_from_the_end_of_the_run(tmp_path: Path) -> None:
    """A machine east of Greenwich writes later hours. The page is the same wherever it is made."""
    (tmp_path / "a.log").write_text("2026-11-23 19:42:01 up\n  and more\n2026-11-23 19:42:07 down\n")
    lines, left_out = read_logs(tmp_path, ends=UNIX + 8, redactor=Redactor()).around(UNIX, UNIX + 8, at_most=10)
    assert [(round(at - UNIX), line.split()[-1]) for at, _, line in lines] == [(1, "up"), (1, "more"), (7, "down")]
    assert not left_out


def test_no_node_crowds_out_the_others(tmp_path: Path) -> None:
    """A log of thousands leaves room for one of two; what warns goes first, and what is left out is counted."""
    (tmp_path / "loud.log").write_text(
        "".join(f"2026-11-23T14:12:0{n // 500}Z {'ERROR' if n == 1500 else 'debug'} {n}\n" for n in range(4000))
    )
    (tmp_path / "quiet.log").write_text("2026-11-23T14:12:01Z one\n2026-11-23T14:12:02Z two\n")
    lines, left_out = read_logs(tmp_path, ends=UNIX + 8, redactor=Redactor()).around(UNIX, UNIX + 9, at_most=40)
    assert sum(node == "quiet" for _, node, _ in lines) == 2
    assert len(lines) == 40
    assert left_out == 4002 - 40


# -- evidence and the setup -------------------------------------------------------------------------------------------


def test_a_matrix_marks_what_was_not_recognised() -> None:
    """Rows and columns in one order; a pair that nobody asked is a dash."""
    cells = {"app-10": {"app-2": {"asked": 4, "recognised": 1}}, "app-2": {"app-10": {"asked": 3, "recognised": 3}}}
    (matrix,) = matrices_of({"sessions": {"matrix": cells}})
    assert matrix.columns == ["app-2", "app-10"]
    assert [(name, [(cell.text, cell.is_bad) for cell in row]) for name, row in matrix.rows] == [
        ("app-2", [("–", False), ("3 of 3", False)]),
        ("app-10", [("1 of 4", True), ("–", False)]),
    ]


@pytest.mark.parametrize(
    ("facts", "band", "bad"),
    [
        ({"algorithm": "round_robin", "counts": {"a": 50, "b": 50}, "allowed": 1}, (0.49, 0.51), []),
        ({"algorithm": "round_robin", "counts": {"a": 60, "b": 40}, "allowed": 1}, (0.49, 0.51), ["a", "b"]),
        ({"algorithm": "random", "counts": {"a": 500, "b": 500}, "alpha": 0.001}, (0.448, 0.552), []),
        ({"algorithm": "least_conn", "counts": {"a": 90, "b": 10}, "choices": 100}, None, []),
        ({"by_instance": {"a": 10, "b": 0}}, None, ["b"]),
    ],
)
def test_bars_show_the_band_that_the_algorithm_promises(facts: Any, band: Any, bad: list[str]) -> None:
    """Exactly for round robin, by chance for random, none for least_conn, which promises nothing about counts."""
    bars = bars_of(facts)
    assert bars is not None
    assert bars.band is None if band is None else bars.band == pytest.approx(band, abs=0.001)
    assert [bar.name for bar in bars.bars if bar.is_bad] == bad


def test_the_gap_is_the_one_that_was_judged() -> None:
    """Not one that the page makes up."""
    assert gap_of({"RequestsSurviveLoss": {"longest_gap_seconds": 0.4, "gap_begins_seconds": -0.1}}) == (-0.1, 0.4)
    assert gap_of({"RequestsSurviveLoss": {"longest_gap_seconds": 0.0, "gap_begins_seconds": 0.0}}) is None
    assert gap_of({"VictimRejoins": {}}) is None


def test_evidence_is_told_in_words() -> None:
    """With units; numbers as people write them."""
    assert in_words(0.0123, key="slowest_seconds") == "12 ms"
    assert in_words({"app-1": 1204, "app-2": [1, True]}) == "app-1 1,204, app-2 1, yes"
    assert in_words(list(range(14))).endswith("11 and 2 more")


def test_the_setup_marks_where_it_hurt(tmp_path: Path) -> None:
    """A request without an answer counts for whom the balancer tried last, or for the balancer."""
    operations = [
        failed(1.0, attempts=("app-2",)),
        failed(1.1, attempts=()),
        failed(1.2, attempts=("app-1", "app-2")),
        op(1.3),
    ]
    trouble = trouble_by_node(operations)
    assert trouble == {("app-2", "http-502"): 2, ("(balancer)", "http-502"): 1}
    drawing = draw_setup(a_run(tmp_path), instances=APPS, trouble=trouble)
    assert [(box.name, box.told) for box in drawing.boxes if box.is_bad] == [
        ("nginx", "1 http-502"),
        ("app-2", "2 http-502"),
    ]
    assert "app-2 (2 http-502)" in drawing.words
    assert [box.told for box in drawing.boxes if box.name in ("postgres", "redis")] == ["data", "sessions"]


def test_many_instances_still_fit(tmp_path: Path) -> None:
    """Six are drawn, those that hurt among them, and the others counted."""
    names = [f"app-{number}" for number in range(1, 51)]
    drawing = draw_setup(a_run(tmp_path), instances=names, trouble={("app-44", "reset"): 3})
    shown = [box.name for box in drawing.boxes]
    assert "app-44" in shown
    assert "and 44 more" in shown


@pytest.mark.parametrize("name", ["reference", "session-in-memory"])
def test_the_sample_tells_nothing_of_a_machine(name: str) -> None:
    """What is kept to look at holds no folder of whoever made it, and no credential; it is small."""
    folder = Path(__file__).parents[1] / "reports" / "sample" / name
    page = Page(folder)
    told = page.source + json.dumps(page.histories) + (folder / "summary.md").read_text()
    assert not re.search(r"/(home|root|work|tmp|dev/shm|Users|var|opt)/", told)
    assert not re.search(r"(postgres|postgresql|redis)://[^:/\s]*:[^*@\s\[]+@", told)
    assert len(page.source) < 400_000
