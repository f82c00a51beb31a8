"""What a person sees of a run, on terminals of all sizes and where there is none."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.model import Finding, Status, Verdict
from harness.reporting import (
    JsonView,
    LiveView,
    PlainView,
    PromiseResult,
    QuietView,
    RunHeader,
    RunResult,
    choose_view,
    from_json,
    progress_text,
)

STORED = Path(__file__).parent / "data" / "verdicts-v1.json"

HEAD = """\
 reference · native · nginx least_conn · 3 instances · redis sessions · seed 41907
 up in 0.6 s   postgres 0.1  redis 0.0  nginx 0.0  app-1 0.5  app-2 0.5  app-3 0.5
"""

TABLE = """\
 pass          instances.answer                3 of 3, slowest 4 ms
 pass          instances.agree                 3 of 3 say 1.0, 6 of 6 notes read everywhere
 pass          session.every-instance          9 of 9 pairs, 60 visitors, 540 visits
 fail          session.survives-instance-loss  kill: 14 of 20 people logged out when app-1 …
 waived        session.survives-restart        fail: 9 of 9 people logged out by the restar…
 pass          session.logout-everywhere       9 of 9 people logged out on all 3 instances
 pass          distribution.complete           3 of 3 instances in 402 answers, 131 to 136 …
 pass          distribution.share              least_conn: 6 of 1,640 choices against a les…
 pass          failover.kill                   0 of 812 requests failed, longest gap 31 ms
 pass          failover.stop                   0 of 806 requests failed, longest gap 28 ms
 inconclusive  failover.hang                   only 3 requests were in flight on app-2: rai…
 pass          failover.rejoin                 all 3 (kill, stop, hang); kill: app-1 answer…
 pass          rollout.rolling                 0 of 2,310 requests failed, 20 of 20 session…
 pass          shutdown.inflight               8 of 8 slow requests answered completely
"""

END = """\
 session.survives-instance-loss
   seen    kill: 14 of 20 people logged out when app-1 was killed · stop: 12 of 20 people
           logged out when app-2 was stopped; such as GET /dashboard of v7: logged-out (303
           from app-2)
   cause   sessions live in the memory of one instance (certain: no key appeared in Redis at
           login)
           or: each instance signs cookies with a secret of its own (possible: cookies look
           signed)
   remedy  give every instance the same store: app.env.REDIS_URL = "{redis.url}"; guide,
           Step 2: Configure Persistent Session Storage

 failover.hang
   seen    only 3 requests were in flight on app-2: raise traffic.rate
   cause   too little was tested to say anything: the rig sent 4% of its requests late
   remedy  mend what is broken first; if it stays so, give it what was missing: only pass is
           green

 11 pass, 1 fail, 1 inconclusive, 1 waived in 38 s (boot 0.6, recovery of instances 6,
 drains 9, traffic 20, other 2.3)
 reports/a-run/summary.md
 harness verify fixtures/setups/reference.toml --only session.survives-instance-loss --only failover.hang --seed 41907
"""


@pytest.fixture
def run() -> RunResult:
    return from_json(STORED.read_text(), results=Path("reports/a-run"))


class Terminal(io.StringIO):
    """A terminal as the live view uses one: it goes up, clears lines, hides the cursor, and lines leave at the top."""

    encoding = "utf-8"

    def __init__(self, *, columns: int = 92, lines: int = 60) -> None:
        super().__init__()
        self.environ = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines)}
        self.height = lines

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        """Everything that is to be read, scrolled away or not, without colours."""
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif part[0] != "\x1b":
                lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
                column += len(part)
            elif part[-1] == "A":
                row -= int(part[2:-1] or 1)
                assert row >= max(0, len(lines) - self.height), "it drew over what had scrolled away"
            elif part[-1] == "K":
                lines[row] = ""
            else:
                assert part[-1] in "mhl", f"an unexpected sequence {part!r}"
        return re.sub("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "⠙", "".join(f"{line.rstrip()}\n" for line in lines)).rstrip("\n") + "\n"

    @property
    def cursor_is_shown(self) -> bool:
        return self.getvalue().rfind("\x1b[?25h") > self.getvalue().rfind("\x1b[?25l")


def live(terminal: Terminal, environ: Mapping[str, str] = {}) -> LiveView:
    view = choose_view(terminal, environ=terminal.environ | dict(environ))
    assert isinstance(view, LiveView)
    return view


def refresh(view: LiveView) -> None:
    """Draw now, not at the next tick."""
    assert view._live is not None
    view._live.refresh()


def result_of(run: RunResult, promise_id: str) -> PromiseResult:
    return next(each for each in run.results_by_promise if each.id == promise_id)


def play(view: LiveView | PlainView | QuietView | JsonView, run: RunResult) -> None:
    with view:
        view.begin(run.header)
        for name, seconds in reversed(run.node_seconds.items()):
            view.node_ready(name, seconds)
        view.up(run.boot_seconds)
        for each in run.results_by_promise:
            view.promise_running(each.id)
            view.progress("1 request")
            view.promise_done(each)
        view.end(run)


# -- a terminal -------------------------------------------------------------------------------------------------------


class TestLiveView:
    def test_a_whole_run(self, run: RunResult) -> None:
        """The lines of the plan: header, boot, promises in order, and the end, folded to the width."""
        terminal = Terminal()

        play(live(terminal), run)

        assert terminal.shown == f"{HEAD}\n{TABLE}\n{END}"
        assert terminal.cursor_is_shown

    def test_while_it_boots(self, run: RunResult) -> None:
        terminal = Terminal()
        with live(terminal) as view:
            view.begin(run.header)
            view.node_ready("redis", 0.02)
            refresh(view)

            assert terminal.shown.splitlines()[1] == (
                " ⠙ booting     postgres …  redis 0.0  nginx …  app-1 …  app-2 …  app-3 …"
            )

    def test_while_it_runs(self, run: RunResult) -> None:
        """What is judged stands, what runs moves, what is to come is listed."""
        terminal = Terminal()
        with live(terminal) as view:
            view.begin(run.header)
            view.up(0.6)
            view.promise_running("instances.answer")
            view.promise_done(result_of(run, "instances.answer"))
            view.promise_running("instances.agree", "kill")
            view.progress(progress_text(requests=1204, failed=0, longest_gap_ms=12.4, note="app-2 of 3 replaced"))
            refresh(view)

            lines = terminal.shown.splitlines()
            assert lines[3:6] == [
                " pass          instances.answer                3 of 3, slowest 4 ms",
                " ⠙             instances.agree                 app-2 of 3 replaced · 1,204 requests · 0 fai…",
                " ·             session.every-instance",
            ]
            assert len(lines) == 3 + 14

    def test_promises_stay_in_order_when_one_is_done_early(self, run: RunResult) -> None:
        """A promise of several scenarios is open until all are done; a later one must not overtake it."""
        terminal = Terminal()
        with live(terminal) as view:
            view.begin(replace(run.header, promises=("failover.rejoin", "failover.kill")))
            view.up(0.6)
            view.promise_running("failover.rejoin", "kill")
            view.promise_running("failover.kill")
            view.promise_done(result_of(run, "failover.kill"))
            view.promise_running("failover.rejoin", "stop")
            refresh(view)
            during = terminal.shown.splitlines()[3:]
            view.promise_done(result_of(run, "failover.rejoin"))
        after = terminal.shown.splitlines()[3:]

        assert during == [
            " ⠙             failover.rejoin                 stop",
            " pass          failover.kill                   0 of 812 requests failed, longest gap 31 ms",
        ]
        assert [line.split()[1] for line in after] == ["failover.rejoin", "failover.kill"]

    def test_promises_nobody_announced_show_as_they_come(self, run: RunResult) -> None:
        terminal = Terminal()

        with live(terminal) as view:
            view.begin(replace(run.header, promises=(), nodes=()))
            view.node_ready("app-1", 0.5)
            view.up(0.6)
            for each in run.results_by_promise:
                view.promise_running(each.id)
                view.promise_done(each)

        lines = terminal.shown.splitlines()
        assert lines[1] == " up in 0.6 s   app-1 0.5"
        assert "".join(f"{line}\n" for line in lines[3:]) == TABLE

    @pytest.mark.parametrize(("columns", "lines"), [(40, 60), (20, 60), (60, 5), (92, 3)])
    def test_small_terminals(self, run: RunResult, columns: int, lines: int) -> None:
        """Nothing is wrapped while it runs and nothing is drawn over lines that have scrolled away."""
        terminal = Terminal(columns=columns, lines=lines)
        with live(terminal) as view:
            view.begin(run.header)
            refresh(view)
            view.up(0.6)
            for each in run.results_by_promise:
                view.promise_running(each.id)
                view.progress("x" * 300)
                refresh(view)
                assert all(len(line) <= columns for line in terminal.shown.splitlines())
                assert len([line for line in terminal.shown.splitlines() if "⠙" in line]) == 1
                view.promise_done(each)

        assert len(terminal.shown.splitlines()) == 2 + 1 + 14

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_the_terminal_is_given_back(self, run: RunResult, error: type[BaseException]) -> None:
        """After Ctrl-C the cursor is there, and so is what was judged and what was running."""
        terminal = Terminal()

        def interrupted() -> None:
            with live(terminal) as view:
                view.begin(run.header)
                view.up(0.6)
                view.promise_done(result_of(run, "instances.answer"))
                view.promise_running("session.every-instance", "17 requests")
                raise error

        with pytest.raises(error):
            interrupted()

        assert terminal.cursor_is_shown
        assert terminal.shown.splitlines()[3:] == [
            " pass          instances.answer                3 of 3, slowest 4 ms",
            " interrupted   session.every-instance          17 requests",
        ]

    def test_a_boot_that_failed_says_how_far_it_came(self, run: RunResult) -> None:
        terminal = Terminal()
        with live(terminal) as view:
            view.begin(run.header)
            view.node_ready("redis", 0.02)

        assert terminal.shown.splitlines()[1:] == [
            " not up        postgres …  redis 0.0  nginx …  app-1 …  app-2 …  app-3 …"
        ]

    def test_progress_comes_from_other_threads(self, run: RunResult) -> None:
        """Many threads report while promises are done and the region is drawn: no lock is ever waited for twice."""
        terminal = Terminal()
        over = threading.Event()

        def report() -> None:
            while not over.is_set():
                view.progress("going on")

        with live(terminal) as view:
            view.begin(run.header)
            threads = [threading.Thread(target=report) for _ in range(4)]
            for thread in threads:
                thread.start()
            view.up(0.6)
            for each in run.results_by_promise:
                view.promise_running(each.id)
                refresh(view)
                view.promise_done(each)
            over.set()
            for thread in threads:
                thread.join()
            view.end(run)

        assert f"\n{TABLE}\n" in terminal.shown

    def test_colour_is_for_words_of_the_verdict_and_can_be_switched_off(self, run: RunResult) -> None:
        with_colour, without = Terminal(), Terminal()

        play(live(with_colour), run)
        play(live(without, {"NO_COLOR": "1"}), run)

        assert "\x1b[1;31m fail" in with_colour.getvalue()
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]", without.getvalue())
        assert without.shown == with_colour.shown


class TestProgressText:
    @pytest.mark.parametrize(
        ("requests", "gap", "note", "text"),
        [
            (1204, 12.4, "app-2 of 3 replaced", "app-2 of 3 replaced · 1,204 requests · 0 failed · longest gap 12 ms"),
            (1, 0.0, "", "1 request · 0 failed"),
            (0, 0.0, "app-1 drained", "app-1 drained"),
            (0, 0.0, "", ""),
        ],
    )
    def test_says_what_there_is_to_say(self, requests: int, gap: float, note: str, text: str) -> None:
        """No gap is told where nothing arrives at a pace, and so none was measured."""
        assert progress_text(requests=requests, failed=0, longest_gap_ms=gap, note=note) == text


# -- no terminal ------------------------------------------------------------------------------------------------------


class TestPlainView:
    def test_every_line_once_and_whole(self, run: RunResult) -> None:
        """The same lines in the same order, uncut, without a single control character, whatever CI services set."""
        stream = io.StringIO()
        view = choose_view(stream, environ={"FORCE_COLOR": "1", "COLUMNS": "40", "TERM": "xterm"})

        play(view, run)  # type: ignore[arg-type]

        assert isinstance(view, PlainView)
        lines = stream.getvalue().splitlines()
        assert "".join(f"{line}\n" for line in lines[:2]) == HEAD
        assert [line[:40] for line in lines[3:17]] == [line[:40] for line in TABLE.splitlines()]
        assert lines[6].endswith("stop: 12 of 20 people logged out when app-2 was stopped (2 of 3 fail)")
        assert lines[19] == (
            "   seen    kill: 14 of 20 people logged out when app-1 was killed · stop: 12 of 20 people logged out when "
            "app-2 was stopped; such as GET /dashboard of v7: logged-out (303 from app-2)"
        )
        assert lines[-1] == END.splitlines()[-1]
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", stream.getvalue())

    def test_what_was_never_told_to_be_done_shows_at_the_end(self, run: RunResult) -> None:
        stream = io.StringIO()
        view = choose_view(stream, environ={})
        result = replace(run, findings=run.findings[:2], complete=False)

        view.begin(run.header)
        view.promise_done(result.results_by_promise[0])
        view.end(result)

        text = stream.getvalue()
        assert text.count(" instances.answer") == 1
        assert " pass          instances.agree " in text
        # Eleven times the same lines would hide what was seen.
        assert "not tried:" not in text.replace("were not tried:", "")
        assert "\n 2 pass, 1 waived, 11 not tried in" in text
        assert (
            "\n 11 promises were not tried: session.every-instance, session.survives-instance-loss and 9 more\n" in text
        )
        assert "   seen" not in text

    def test_a_stream_that_has_no_such_letters(self, run: RunResult) -> None:
        """A log in ASCII gets the nearest letters, not an error."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii")
        view = choose_view(stream, environ={})

        view.begin(replace(run.header, setup="größe"))
        stream.flush()

        assert raw.getvalue().startswith(b" gr??e - native - nginx least_conn - 3 instances")

    @pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "unknown"}])
    def test_a_terminal_that_cannot_be_drawn_on(self, environ: dict[str, str]) -> None:
        assert isinstance(choose_view(Terminal(), environ=environ), PlainView)

    def test_colour_can_be_asked_for(self, run: RunResult) -> None:
        stream = io.StringIO()

        view = choose_view(stream, color=True, environ={"TERM": "xterm-256color"})
        view.promise_done(result_of(run, "instances.answer"))

        assert "\x1b[32m pass" in stream.getvalue()

    @pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {}, {"NO_COLOR": "1"}], ids=str)
    def test_colour_that_is_asked_for_comes_whatever_the_environment_says(
        self, run: RunResult, environ: dict[str, str]
    ) -> None:
        """CI services set TERM to dumb, or nothing."""
        stream = io.StringIO()

        view = choose_view(stream, color=True, environ=environ)
        view.promise_done(result_of(run, "instances.answer"))

        assert "\x1b[32m pass" in stream.getvalue()


class TestHoldOfTheStream:
    """pytest runs the scenarios in the same process and puts files of its own in the place of the output."""

    @pytest.mark.parametrize("options", [{}, {"quiet": True}, {"json": True}], ids=str)
    def test_a_view_writes_to_the_stream_it_was_chosen_for(
        self, run: RunResult, tmp_path: Path, options: dict[str, bool]
    ) -> None:
        out, caught = tmp_path / "out", tmp_path / "caught"
        with out.open("w", encoding="utf-8") as stream, caught.open("w") as elsewhere:
            stream.write("before\n")
            view = choose_view(stream, environ={}, **options)
            os.dup2(elsewhere.fileno(), stream.fileno())
            play(view, run)  # type: ignore[arg-type]

        assert caught.read_text() == ""
        assert out.read_text().startswith("before\n")
        assert "session.survives-instance-loss" in out.read_text()


class TestQuietAndJson:
    def test_quiet_says_the_end_only(self, run: RunResult) -> None:
        stream = io.StringIO()

        play(choose_view(stream, quiet=True, environ={}), run)  # type: ignore[arg-type]

        assert stream.getvalue().startswith(" session.survives-instance-loss\n   seen ")
        assert stream.getvalue().endswith(END.splitlines()[-1] + "\n")

    def test_quiet_without_a_stream_says_nothing(self, run: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
        play(QuietView(), run)

        assert capsys.readouterr() == ("", "")

    def test_json_is_the_document_and_nothing_else(self, run: RunResult) -> None:
        stream = io.StringIO()

        play(choose_view(stream, json=True), run)  # type: ignore[arg-type]

        assert json.loads(stream.getvalue())["status"] == "fail"
        assert stream.getvalue() == STORED.read_text()

    def test_json_in_ascii_is_the_same_document(self, run: RunResult) -> None:
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii")

        choose_view(stream, json=True).end(replace(run, setup="größe · 漢"))

        assert json.loads(raw.getvalue())["setup"]["name"] == "größe · 漢"


# -- what is shown ----------------------------------------------------------------------------------------------------


class TestTheEnd:
    def test_one_cause_is_told_once(self, run: RunResult) -> None:
        """One mistake breaks many promises; its cause and remedy are told at the first."""
        text = self.end(replace(run, waived={}))

        assert "   cause   as for session.survives-instance-loss: sessions live in the memory of one instance" in text
        assert "   remedy  as for session.survives-instance-loss\n" in text
        assert text.count("app.env.REDIS_URL") == 1

    def test_a_pass_is_three_lines(self, run: RunResult) -> None:
        text = self.end(
            replace(run, findings=tuple(replace(each, verdict=Verdict.passed("m")) for each in run.findings))
        )

        assert text.splitlines() == [
            " 14 pass in 38 s (boot 0.6, recovery of instances 6, drains 9, traffic 20, other 2.3)",
            " reports/a-run/summary.md",
            " harness verify fixtures/setups/reference.toml --seed 41907",
        ]

    def test_a_rig_error_blames_nobody(self, run: RunResult) -> None:
        crashed = Finding(promise="a.b", scenario="s", verdict=Verdict.rig_error("ValueError: no such thing"))
        text = self.end(replace(run, findings=(crashed,), promises=()))

        assert "   cause   the harness or this machine failed: this says nothing about the setup\n" in text
        assert " 1 rig-error in" in text

    @pytest.mark.parametrize("below", [True, False])
    def test_the_page_is_named_as_one_would_type_it(
        self, run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: bool
    ) -> None:
        monkeypatch.chdir(tmp_path if below else "/")
        text = self.end(replace(run, results=tmp_path / "reports" / "a", page="index.html"))

        shown = next(line for line in text.splitlines() if "index.html" in line)
        assert shown == (" reports/a/index.html" if below else f" {str(tmp_path).lstrip('/')}/reports/a/index.html")

    @staticmethod
    def end(run: RunResult) -> str:
        stream = io.StringIO()
        choose_view(stream, quiet=True, environ={}).end(run)
        return stream.getvalue()


class TestWhatComesFromOutside:
    HOSTILE = "\x1b[2J\x9b31m[bold red]x[/] :smile: \x07\r\nnext\u202e secret-1"

    def test_has_no_power_over_the_terminal(self, run: RunResult) -> None:
        """No sequence, no markup, no second line, no secret, from any text of a setup, a node or an application."""
        words = self.HOSTILE
        found = Finding(promise="a.b", scenario=words, verdict=Verdict(Status.FAIL, words))
        result = replace(
            run,
            setup=words,
            findings=(found,),
            promises=(),
            command=words,
            node_seconds={words: 1.0},
            timings={words: 9.0},
        )
        terminal = Terminal(columns=200)
        with live(terminal) as view:
            view.hide("secret-1")
            view.begin(replace(result.header, promises=()))
            view.node_ready(words, 1.0)
            refresh(view)
            view.up(1.0)
            view.promise_running("a.b", words)
            view.progress(words)
            refresh(view)
            view.promise_done(result.results_by_promise[0])
            view.end(result)

        text = terminal.shown
        assert "secret-1" not in terminal.getvalue()
        assert "\x1b[2J" not in terminal.getvalue()
        assert not {"\x9b", "\x07", "\u202e"} & set(terminal.getvalue())
        assert " fail          a.b                             [bold red]x[/] :smile: next [redacted]" in text

    def test_width_counts_cells(self, run: RunResult) -> None:
        """Letters two cells wide are cut where the terminal ends, not where as many letters would."""
        wide = Finding(promise="a.b", scenario="s", verdict=Verdict.passed("漢" * 60))
        terminal = Terminal(columns=60)
        with live(terminal) as view:
            view.begin(RunHeader(setup="s", platform="p", balancer="b", instances=1, sessions="redis", seed=1))
            view.promise_done(replace(run, findings=(wide,), promises=()).results_by_promise[0])

        line = next(line for line in terminal.shown.splitlines() if "漢" in line)
        assert len(line) + line.count("漢") <= 60
        assert line.endswith("…")
