"""What a run came to, and the files that tell of it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from urllib.parse import quote, quote_plus
from xml.etree import ElementTree as Xml

import pytest

from harness.errors import JournalError, MissingPrerequisite
from harness.model import (
    Answer,
    Cause,
    Confidence,
    Connection,
    FaultWindow,
    Finding,
    Look,
    Operation,
    Outcome,
    Pace,
    Promise,
    RolloutStep,
    Status,
    Verdict,
)
from harness.reporting import (
    Redactor,
    RunResult,
    closing_lines,
    from_json,
    merge,
    promise_lines,
    read_results,
    redact,
    to_json,
    to_junit,
    to_markdown,
    write_results,
)
from harness.reporting.text import duration, for_markdown, one_line, without_controls

STORED = Path(__file__).parent / "data" / "verdicts-v1.json"
HOSTILE = "\x1b[31mred\x1b[0m\x07\x9b2J\x1b]0;title\x07 [bold]x[/] | `code` <img src=x onerror=y> @team #12 https://evil.example\r\nline\ttwo\u202e\ud800\x00"


@pytest.fixture
def run() -> RunResult:
    """A made-up run with a fail, an inconclusive, a waiver and promises of several scenarios."""
    return from_json(STORED.read_text(), results=Path("reports/a-run"))


def finding(status: Status, measured: str = "told", *, scenario: str = "s", causes: tuple[Cause, ...] = ()) -> Finding:
    return Finding(promise="failover.rejoin", scenario=scenario, verdict=Verdict(status, measured), causes=causes)


def cause(name: str, confidence: Confidence, *evidence: str) -> Cause:
    return Cause(
        id=name, sentence=f"because of {name}", confidence=confidence, evidence=evidence, remedy="mend it", guide=""
    )


def promise(number: int) -> Promise:
    return Promise(
        id=f"group.promise-{number}", sentence=HOSTILE, measured="m", bound="b", broken_by="x", remedy="r", guide="g"
    )


# -- gathering --------------------------------------------------------------------------------------------------------


class TestMerge:
    @pytest.mark.parametrize(
        ("statuses", "status", "measured"),
        [
            ([("pass", "3 of 3", "loss-by-kill")], "pass", "3 of 3"),
            ([("pass", "3 of 3", "x[kill]"), ("pass", "3 of 3", "x[hang]")], "pass", "all 2 (kill, hang): 3 of 3"),
            (
                [("pass", "after 1 s", "loss-by-kill"), ("pass", "after 2 s", "loss-by-stop")],
                "pass",
                "all 2 (kill, stop); kill: after 1 s",
            ),
            (
                [
                    ("pass", "ok", "loss-by-kill"),
                    ("inconclusive", "thin", "loss-by-stop"),
                    ("fail", "lost", "loss-by-hang"),
                ],
                "fail",
                "hang: lost · stop: thin (1 of 3 fail, 1 of 3 inconclusive)",
            ),
            (
                [("rig-error", "crash", "a"), ("inconclusive", "thin", "b")],
                "rig-error",
                "a: crash · b: thin (1 of 2 rig-error, 1 of 2 inconclusive)",
            ),
        ],
    )
    def test_the_worst_scenario_speaks_first(
        self, statuses: list[tuple[str, str, str]], status: str, measured: str
    ) -> None:
        """A promise is as good as its worst scenario, and its line begins with what went wrong."""
        merged = merge("failover.rejoin", [finding(Status(each), said, scenario=name) for each, said, name in statuses])

        assert (merged.status, merged.measured) == (status, measured)

    def test_a_scenario_that_is_tried_again_takes_nothing_back(self) -> None:
        """Whoever repeats a check until it is green repeats it until it errs: what was seen to fail has failed."""
        tries = [finding(Status(each), each, scenario="the-same") for each in ("fail", "inconclusive", "pass")]
        assert merge("failover.rejoin", tries).status is Status.FAIL
        assert merge("failover.rejoin", tries[1:]).status is Status.INCONCLUSIVE

    def test_what_was_planned_and_not_tried_is_never_a_pass(self) -> None:
        """One of three scenarios passed and the others never ran: nothing can be concluded."""
        merged = merge("failover.rejoin", [finding(Status.PASS, "3 of 3", scenario="kill")], planned=3)

        assert merged.status is Status.INCONCLUSIVE
        assert merged.measured == "kill: 3 of 3 (2 of 3 not tried)"
        assert merge("failover.rejoin", []).status is Status.INCONCLUSIVE

    def test_causes_of_all_scenarios_are_ordered_by_certainty(self) -> None:
        """A cause two scenarios name is told once, with the better evidence; those of passes are not told."""
        merged = merge(
            "failover.rejoin",
            [
                finding(
                    Status.FAIL,
                    scenario="a",
                    causes=(cause("x", Confidence.POSSIBLE, "weak"), cause("y", Confidence.LIKELY)),
                ),
                finding(Status.FAIL, scenario="b", causes=(cause("x", Confidence.CERTAIN, "strong"),)),
                finding(Status.PASS, scenario="c", causes=(cause("z", Confidence.CERTAIN),)),
            ],
        )

        assert [each.id for each in merged.causes] == ["x", "y"]
        assert merged.cause_lines == ("because of x (certain: strong)", "because of y (likely)")

    def test_seen_gives_an_example(self) -> None:
        """One real request is worth more than a count; checkers that judged together keep theirs one level down."""
        op = {"method": "GET", "path": "/me", "visitor": "v1", "error": "reset", "status": None, "instance": None}
        evidence = {"NoSessionLost": {"examples": [op]}}
        failed = Finding(promise="p.q", scenario="s", verdict=Verdict(Status.FAIL, "1 of 9 failed", evidence))

        assert merge("p.q", [failed]).seen == "1 of 9 failed; such as GET /me of v1: reset"

    def test_without_a_cause_the_usual_one_is_named_as_such(self) -> None:
        """A guess must not look like a finding."""
        merged = merge("failover.rejoin", [finding(Status.FAIL)], promise=promise(1))

        assert merged.cause_lines == ("no known cause fits what was recorded; usually: x",)
        assert merged.remedy == "usually: r; guide, g"

    @pytest.mark.parametrize(
        ("status", "word"), [(Status.RIG_ERROR, "nothing about the setup"), (Status.INCONCLUSIVE, "too little")]
    )
    def test_what_is_no_verdict_on_the_setup_says_so(self, status: Status, word: str) -> None:
        merged = merge("failover.rejoin", [finding(status)], promise=promise(1))

        assert word in merged.cause_lines[0]
        assert "usually" not in merged.remedy


class TestRunResult:
    @pytest.mark.parametrize(
        ("statuses", "waived", "complete", "status", "code"),
        [
            (["pass", "pass"], {}, True, Status.PASS, 0),
            (["pass", "fail", "rig-error"], {}, True, Status.FAIL, 1),
            (["pass", "inconclusive"], {}, True, Status.INCONCLUSIVE, 3),
            (["rig-error", "inconclusive"], {}, True, Status.RIG_ERROR, 4),
            (["pass", "fail"], {"*.p1": "why"}, True, Status.PASS, 0),
            (["fail"], {"g.p0": "why"}, True, Status.INCONCLUSIVE, 3),
            (["pass"], {"*": "why"}, True, Status.PASS, 0),
            (["pass", "pass"], {}, False, Status.INCONCLUSIVE, 3),
            (["fail"], {}, False, Status.FAIL, 1),
            ([], {}, True, Status.INCONCLUSIVE, 3),
        ],
    )
    def test_only_a_whole_run_of_passes_is_green(
        self, run: RunResult, statuses: list[str], waived: dict[str, str], complete: bool, status: Status, code: int
    ) -> None:
        """The worst of what the setup promises; a waived promise does not count, and an unfinished run never passes."""
        findings = tuple(
            Finding(promise=f"g.p{number}", scenario="s", verdict=Verdict(Status(each), "m"))
            for number, each in enumerate(statuses)
        )
        result = replace(run, findings=findings, promises=(), planned={}, waived=waived, complete=complete)

        assert (result.status, result.exit_code) == (status, code)

    def test_a_chosen_promise_without_a_finding_makes_it_inconclusive(self, run: RunResult) -> None:
        kept = tuple(each for each in run.findings if each.verdict.status is Status.PASS)
        result = replace(run, findings=kept, waived={})

        assert result.status is Status.INCONCLUSIVE
        assert "session.survives-restart" in result.untried_in_words
        assert not [each for each in result.not_green if not each.findings]

    def test_counts_and_headline(self, run: RunResult) -> None:
        assert dict(run.counts) == {"pass": 11, "fail": 1, "inconclusive": 1, "rig-error": 0, "waived": 1}
        assert run.headline == "1 of 14 promises is broken: session.survives-instance-loss"

    @pytest.mark.parametrize(
        ("statuses", "complete", "headline"),
        [
            (["pass", "pass"], True, "all 2 promises are kept"),
            (["pass"], True, "the one promise is kept"),
            (
                ["pass", "inconclusive"],
                True,
                "nothing was seen to break, but 1 of 2 promises could not be judged: g.p1",
            ),
            (["rig-error", "pass"], True, "the harness failed on 1 of 2 promises: g.p0"),
            (["fail"] * 5, True, "5 of 5 promises are broken: g.p0, g.p1 and 3 more"),
            (["pass"], False, "the run ended before its time; nothing was seen to break until then"),
            ([], True, "nothing was judged"),
        ],
    )
    def test_headline_answers_whether_we_may_ship(
        self, run: RunResult, statuses: list[str], complete: bool, headline: str
    ) -> None:
        findings = tuple(
            Finding(promise=f"g.p{number}", scenario="s", verdict=Verdict(Status(each), "m"))
            for number, each in enumerate(statuses)
        )

        assert (
            replace(run, findings=findings, promises=(), planned={}, waived={}, complete=complete).headline == headline
        )

    def test_one_cause_is_explained_once(self, run: RunResult) -> None:
        told = {each.result.id: each for each in replace(run, waived={}).explanations}

        again = told["session.survives-restart"]
        assert again.causes == ("as for session.survives-instance-loss: sessions live in the memory of one instance",)
        assert again.remedy == "as for session.survives-instance-loss"

    def test_a_thin_sample_beside_a_broken_promise_may_follow_from_it(self, run: RunResult) -> None:
        """Nobody should chase a sample that is thin because people were logged out."""
        beside = next(each for each in run.explanations if each.result.status is Status.INCONCLUSIVE)
        kept = tuple(each for each in run.findings if each.verdict.status is not Status.FAIL)
        alone = replace(run, findings=kept, promises=()).explanations[0]

        assert beside.remedy.startswith("mend what is broken first")
        assert alone.remedy.startswith("give it what was missing")

    @pytest.mark.parametrize(
        ("command", "narrowed"),
        [
            ("harness verify a.toml --seed 7", "harness verify a.toml --only x.y --seed 7"),
            ("harness verify --only 'x.*' --only=z.z --seed 7", "harness verify --only x.y --seed 7"),
            (
                "harness verify --set 'app.env.A=b c' --seed 7",
                "harness verify --set 'app.env.A=b c' --only x.y --seed 7",
            ),
            ("pytest scenarios -k failover", "pytest scenarios -k failover"),
            ("harness verify 'unbalanced", "harness verify 'unbalanced"),
        ],
    )
    def test_the_command_is_narrowed_to_what_is_not_green(self, run: RunResult, command: str, narrowed: str) -> None:
        assert replace(run, command=command).command_for("x.y") == narrowed

    def test_a_pass_repeats_the_whole_run(self, run: RunResult) -> None:
        passed = tuple(replace(each, verdict=Verdict.passed("m")) for each in run.findings)

        assert replace(run, findings=passed).repeat_command == run.command


# -- verdicts.json ----------------------------------------------------------------------------------------------------


class TestVerdictsJson:
    def test_a_stored_document_of_version_1_reads_and_writes_the_same(self, run: RunResult) -> None:
        """This file is the format: when this test fails, a version has to be added, not the file changed."""
        assert to_json(run) == STORED.read_text()

    def test_round_trip(self, run: RunResult) -> None:
        assert from_json(to_json(run), results=run.results) == run

    def test_unknown_keys_are_passed_over(self, run: RunResult) -> None:
        document = json.loads(to_json(run)) | {"added_later": [1]}

        assert from_json(json.dumps(document), results=run.results) == run

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"version": 2}, "version 2; this harness reads version 1"),
            ({"format": "other"}, "`format`"),
            ({"seed": "7"}, "verdicts.json.seed must be of kind int (got '7')"),
            ({"seed": True}, "seed must be of kind int"),
            ({"setup": None}, "verdicts.json.setup must be an object"),
            (
                {"promises": [{"id": "a.b", "findings": [{"scenario": "s", "status": "green", "measured": ""}]}]},
                "green",
            ),
            ({"waived": {"x": 1}}, "verdicts.json.waived.x must be of kind str"),
        ],
    )
    def test_damage_is_named_with_its_place(self, run: RunResult, change: dict[str, object], says: str) -> None:
        document = json.loads(to_json(run)) | change

        with pytest.raises(JournalError) as problem:
            from_json(json.dumps(document), results=Path("reports/a-run"))
        assert says in str(problem.value)

    def test_no_json(self) -> None:
        with pytest.raises(JournalError, match="is no JSON"):
            from_json('{"format":', results=Path("reports/a-run"))

    def test_evidence_of_any_kind_and_hostile_text_gives_valid_utf8(self, run: RunResult) -> None:
        """A document is written whatever is in the evidence, and showing it on a terminal does nothing to it."""
        odd = {"set": {"b", "a"}, "path": Path("x"), "text": HOSTILE, "status": Status.PASS}
        text = to_json(
            replace(run, findings=(Finding(promise="a.b", scenario="s", verdict=Verdict(Status.PASS, "m", odd)),))
        )

        evidence = next(each for each in json.loads(text)["promises"] if each["id"] == "a.b")["findings"][0]["evidence"]
        assert evidence == {"set": ["a", "b"], "path": "x", "text": HOSTILE, "status": "pass"}
        text.encode("utf-8")
        assert not {"\x1b", "\x9b", "\u202e", "\x00"} & set(text)


# -- summary.md -------------------------------------------------------------------------------------------------------


class TestSummary:
    def test_says_what_a_reviewer_needs(self, run: RunResult) -> None:
        text = to_markdown(run)

        assert text.startswith("### fail: 1 of 14 promises is broken: session.survives-instance-loss\n")
        assert "| promise | seen | cause | remedy |" in text
        assert "sessions live in the memory of one instance (certain: no key appeared in Redis at login)" in text
        assert "<details><summary>11 pass, 1 waived</summary>" in text
        assert "--only session.survives-instance-loss --only failover.hang --seed 41907" in text

    @pytest.mark.parametrize("count", [1, 14, 40, 300])
    @pytest.mark.parametrize("bad_every", [1, 2, 1000])
    def test_is_under_60_lines_whatever_happens(self, run: RunResult, count: int, bad_every: int) -> None:
        promises = tuple(promise(number) for number in range(count))
        findings = tuple(
            Finding(
                promise=each.id,
                scenario="s",
                verdict=Verdict(Status.FAIL if number % bad_every == 0 else Status.PASS, HOSTILE * 50),
                causes=(replace(cause("c", Confidence.LIKELY, HOSTILE), sentence=HOSTILE, remedy=HOSTILE),),
            )
            for number, each in enumerate(promises)
        )
        untried = promise(count)
        text = to_markdown(
            replace(
                run, promises=(*promises, untried), findings=findings, command=f"harness verify '{HOSTILE}'", waived={}
            )
        )

        assert text.count("\n") < 60
        # GitHub refuses longer comments.
        assert len(text) < 65_536
        assert "1 promise was not tried" in text
        if count > 100:
            assert "more promises in `verdicts.json`" in text

    def test_what_an_application_sent_is_shown_and_does_nothing(self) -> None:
        """No table cell, code, HTML, mention, reference, link or formatting comes from outside."""
        shown = for_markdown(HOSTILE + " *a* _b_ ![i](u) www.evil.example snake_case")

        assert "\\|" in shown
        assert "\\`code\\`" in shown
        assert "&lt;img" in shown
        assert "&#64;team" in shown
        assert "&#35;12" in shown
        assert "https&#58;//" in shown
        assert "www&#46;evil" in shown
        assert "\\_b\\_" in shown
        assert "snake_case" in shown
        assert "\n" not in shown


# -- junit.xml --------------------------------------------------------------------------------------------------------


class TestJunit:
    def test_a_case_for_each_promise_and_scenario(self, run: RunResult) -> None:
        root = Xml.fromstring(to_junit(run))
        cases = {case.get("name"): case for case in root.iter("testcase")}

        assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == (
            "18",
            "2",
            "1",
            "1",
        )
        failed = cases["session.survives-instance-loss (loss-by-kill)"]
        assert failed.get("classname") == "session"
        failure = failed.find("failure")
        assert failure is not None
        assert failure.get("message") == "14 of 20 people logged out when app-1 was killed"
        assert "remedy  give every instance the same store" in (failure.text or "")
        measured = {each.get("name"): each.get("value") for each in cases["instances.answer"].iter("property")}
        assert measured["measured"] == "3 of 3, slowest 4 ms"
        told = {each.get("name"): each.get("value") for each in failed.iter("property")}
        assert (told["setup"], told["platform"], told["seed"]) == ("reference", "native", "41907")
        assert told["cause"].startswith("sessions live in the memory of one instance")  # type: ignore[union-attr]
        assert told["remedy"].startswith("give every instance the same store")  # type: ignore[union-attr]
        assert told["repeat"].endswith("--only session.survives-instance-loss --seed 41907")  # type: ignore[union-attr]
        assert "cause" not in measured
        about = {each.get("name"): each.get("value") for each in root[0].find("properties") or ()}
        assert (about["seed"], about["platform"]) == ("41907", "native")

    def test_only_pass_is_green(self, run: RunResult) -> None:
        """Inconclusive and rig errors are errors; waived ones are skipped; what was not tried is there, and no pass."""
        statuses = [Status.INCONCLUSIVE, Status.RIG_ERROR, Status.FAIL]
        findings = tuple(
            Finding(promise=f"g.{status}", scenario="s", verdict=Verdict(status, "m")) for status in statuses
        )
        result = replace(run, findings=findings, promises=(promise(1),), planned={}, waived={"g.fail": "by choice"})
        cases = {case.get("name"): case for case in Xml.fromstring(to_junit(result)).iter("testcase")}

        kinds = {
            name: [(child.tag, child.get("type")) for child in case if child.tag != "properties"]
            for name, case in cases.items()
        }
        assert kinds == {
            "g.inconclusive": [("error", "inconclusive")],
            "g.rig-error": [("error", "rig-error")],
            "g.fail": [("skipped", None)],
            "group.promise-1 (not tried)": [("error", "inconclusive")],
        }

    def test_is_xml_whatever_an_application_sent(self, run: RunResult) -> None:
        everything = "".join(map(chr, range(0x3000))) + "\ud800\ufffe\uffff\U0001f600" + HOSTILE
        bad = Finding(promise="a.b", scenario=everything, verdict=Verdict.fail(everything), causes=())
        text = to_junit(replace(run, findings=(bad,), setup=everything))

        root = Xml.fromstring(text.encode("utf-8"))
        assert "\U0001f600" in str(root.get("name"))


# -- secrets ----------------------------------------------------------------------------------------------------------


class TestRedaction:
    SECRETS = ("p@ss/w:rd&<x>\"'ü", "plain-secret-123", "two words")

    @pytest.mark.parametrize("secret", SECRETS)
    def test_every_form_a_secret_travels_in_vanishes(self, secret: str) -> None:
        forms = [
            secret,
            quote(secret),
            quote(secret, safe=""),
            quote(secret, safe="").lower(),
            quote_plus(secret),
            json.dumps(secret),
        ]

        for form in forms:
            assert redact(f"before {form} after", self.SECRETS).replace('"', "") == "before [redacted] after"

    def test_longest_first(self) -> None:
        """A secret that begins like another leaves no tail."""
        assert redact("secret-and-more secret", ["secret", "secret-and-more"]) == "[redacted] [redacted]"

    def test_what_is_no_secret_stays(self) -> None:
        assert redact("a b", ["", "a"]) == "a b"

    def test_lines_of_a_key(self) -> None:
        assert redact("log: MIIEvQ", ["-----BEGIN-----\nMIIEvQ\n-----END-----"]) == "log: [redacted]"

    def test_secrets_are_learned_while_running(self) -> None:
        redactor = Redactor()
        redactor.add("secret-1")

        assert redactor("secret-1") == "[redacted]"

    def test_a_secret_hidden_by_terminal_sequences_is_found(self) -> None:
        assert Redactor(["secret-1"]).everything({"a": ["sec\x1b[0mret-1"]}) == {"a": ["[redacted]"]}

    @pytest.mark.parametrize("secret", SECRETS)
    def test_no_output_holds_a_secret(self, run: RunResult, tmp_path: Path, secret: str) -> None:
        """Wherever an application may have put it: in every text of a run, plain and percent-encoded."""
        leak = f"postgres://app:{quote(secret, safe='')}@127.0.0.1/app {secret} {quote_plus(secret)}"
        leaking = Finding(
            promise=leak,
            scenario=leak,
            verdict=Verdict(
                Status.FAIL, leak, {leak: [leak], "examples": [{"method": leak, "path": leak, "visitor": leak}]}
            ),
            causes=(
                Cause(id=leak, sentence=leak, confidence=Confidence.LIKELY, evidence=(leak,), remedy=leak, guide=leak),
            ),
        )
        result = replace(
            run, findings=(*run.findings, leaking), command=leak, setup=leak, waived={leak: leak}, results=tmp_path
        )
        redactor = Redactor([secret])

        write_results(result, redactor=redactor)

        shown = redactor.everything(result)
        written = [path.read_text() for path in tmp_path.iterdir()] + [*closing_lines(shown), *promise_lines(shown)]
        assert len(list(tmp_path.iterdir())) == 3
        for form in (
            secret,
            quote(secret, safe=""),
            quote_plus(secret),
            secret.replace("&", "&amp;").replace("<", "&lt;"),
        ):
            assert not [text for text in written if form in text]
        assert all("[redacted]" in text.replace("\\", "") for text in written[:3])

    @pytest.mark.parametrize("piece", [7, 16, 1 << 20])
    def test_a_log_is_copied_without_secrets_and_otherwise_as_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
    ) -> None:
        """Also where a piece of it ends within a secret, without line ends, and with bytes that are no text."""
        monkeypatch.setattr("harness.reporting.redaction._PIECE_CHARACTERS", piece)
        source, target = tmp_path / "raw", tmp_path / "logs" / "app-1.log"
        source.write_bytes(b"one secret-1\r\n\xff\xfe two secret-1secret-1 " + b"x" * 50 + b"secret-1 end")

        Redactor(["secret-1"]).copy_file(source, target)

        assert target.read_bytes() == (
            b"one [redacted]\r\n\xff\xfe two [redacted][redacted] " + b"x" * 50 + b"[redacted] end"
        )

    def test_no_part_of_a_secret_is_seen_wherever_a_piece_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file read in pieces reads as if it had been read at once, also with secrets that begin alike."""
        source, target = tmp_path / "source", tmp_path / "target"
        for seed in range(200):
            random = Random(seed)
            monkeypatch.setattr("harness.reporting.redaction._PIECE_CHARACTERS", random.randint(1, 40))
            secrets = ["SECRET" * random.randint(1, 2), "TOKEN", "SECR"][: random.randint(1, 3)]
            text = "".join(random.choice(["a", "b", "\n", *secrets]) for _ in range(random.randint(0, 60)))
            source.write_text(text)
            Redactor(secrets).copy_file(source, target)
            assert target.read_text() == redact(text, secrets), seed
            assert not set(target.read_text()) & set("SECRTOKN"), seed

    def test_a_file_can_be_cleaned_in_its_place(self, tmp_path: Path) -> None:
        journal = tmp_path / "history.jsonl"
        journal.write_text('{"detail":"secret-1"}\n')

        Redactor(["secret-1"]).copy_file(journal, journal)

        assert journal.read_text() == '{"detail":"[redacted]"}\n'
        assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


# -- files and words --------------------------------------------------------------------------------------------------


class TestFiles:
    def test_written_results_are_read_back(self, run: RunResult, tmp_path: Path) -> None:
        result = replace(run, results=tmp_path / "run")

        write_results(result, redactor=Redactor())

        assert sorted(path.name for path in result.results.iterdir()) == ["junit.xml", "summary.md", "verdicts.json"]
        assert read_results(result.results) == result

    def test_a_folder_without_results(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="cannot be read"):
            read_results(tmp_path)

    def test_a_full_disk_is_the_callers_to_mend(self, run: RunResult) -> None:
        """One clear message, and nothing half written."""
        with pytest.raises(MissingPrerequisite, match=r"make room there, or choose another folder with --report"):
            write_results(replace(run, results=Path("/dev/full")), redactor=Redactor())


class TestWords:
    def test_controls_are_taken_out(self) -> None:
        assert without_controls("a\x1b[2J\x1b]0;t\x07b\u200b\x9b1mc\x1b(Bd\x1b") == "abcd"
        assert one_line(" a\r\n b\u2028c\td ") == "a b c d"
        assert "[bold]" in one_line(HOSTILE)

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.61, "0.6 s"), (2.949, "2.9 s"), (2.96, "3 s"), (38.4, "38 s"), (134, "2 min 14 s"), (119.9, "2 min 0 s")],
    )
    def test_durations(self, value: float, text: str) -> None:
        assert duration(value) == text


# -- the page that tells of the formats -------------------------------------------------------------------------------


class TestDocumentation:
    PAGE = Path(__file__).parents[1] / "docs" / "results.md"

    def test_every_key_of_verdicts_json_is_told(self, run: RunResult) -> None:
        """A key nobody can look up is no documented format."""
        document = json.loads(to_json(run))
        told = self.PAGE.read_text()

        a_promise = next(each for each in document["promises"] if each["status"] == "fail")
        a_finding = a_promise["findings"][0]
        objects = [document, a_promise, a_finding, a_finding["causes"][0]]
        objects += [document[key] for key in ("setup", "counts", "seconds")] + [a_promise["promise"]]
        assert not [key for each in objects for key in each if f"`{key}`" not in told]

    @pytest.mark.parametrize("fact", [Operation, Pace, FaultWindow, RolloutStep, Look], ids=lambda fact: fact.__name__)
    def test_every_field_of_a_record_is_told(self, fact: type[Operation]) -> None:
        told = self.PAGE.read_text()

        assert not [field.name for field in fields(fact) if f"`{field.name}`" not in told]

    def test_every_word_a_field_may_hold_is_told(self) -> None:
        told = self.PAGE.read_text()

        words = [*Status, *Confidence, *Outcome, *Answer, *Connection]
        assert not [word for word in words if f"`{word}`" not in told]
