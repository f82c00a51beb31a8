"""The journal: what is written is read back the same, a cut last line is forgiven, any other damage is told."""

from __future__ import annotations

import json
import threading
from dataclasses import fields, replace

import pytest

from harness.errors import JournalError
from harness.journeys import Judgement
from harness.model import (
    Answer,
    Connection,
    FaultWindow,
    Look,
    Operation,
    Outcome,
    Pace,
    RolloutStep,
)
from harness.traffic import Journal, fact_record, read_history, read_journal
from harness.traffic.recorder import Recorder, op_head, op_tail

OPERATION = Operation(
    stream="browse",
    kind="read",
    step=1,
    final=True,
    visitor="v1",
    method="GET",
    path='/notes/1?q="é',
    via="balancer",
    connection=Connection.REUSED,
    due=2.5,
    sent=2.500125,
    answered=None,
    instance=None,
    attempts=("app-1", "app-2"),
    status=502,
    outcome=Outcome.UNKNOWN,
    answer=Answer.FAILED,
    error="http-502",
    detail="<h1>Bad\nGateway</h1> \u2028 é",
    version="2",
    record="r-1",
)
FACTS = {
    "operations": OPERATION,
    "paces": Pace(stream="browse", rate=100.0, begin=1.0, end=2.0, planned=100, seed=7),
    "faults": FaultWindow(
        fault="kill", node="app-1", injected=1.0, effective=None, healing=2.0, healed=None, proof="p"
    ),
    "rollout": RolloutStep(step="stop", node="app-1", at=1.0, version="2", detail="d"),
    "looks": Look(what="health", node="app-1", at=1.0, status=200, value={"a": [1]}, seconds=0.1, error=""),
}


def begun(scenario="s", **changes):
    return {"t": "scenario", "scenario": scenario, "seed": 7, "instances": ["app-1"], "setup": {"a": 1}} | changes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.jsonl"


@pytest.fixture
def journal(path):
    with Journal(path, run="run-1") as journal:
        yield journal


class TestReadingBack:
    @pytest.mark.parametrize("part", FACTS)
    def test_every_fact_comes_back_as_it_was(self, journal, path, part):
        """Whatever is written of the model, the reader makes the same of it."""
        journal.append(begun())
        journal.append_fact("s", FACTS[part])
        assert getattr(read_history(path, "s"), part) == (FACTS[part],)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"record": None, "version": None, "error": None, "detail": ""},
            {"outcome": Outcome.OK, "answer": Answer.DONE, "error": None, "detail": "", "answered": 3.0, "status": 200},
            {"sent": None, "attempts": (), "status": None, "instance": "app-1", "visitor": "v12"},
        ],
    )
    def test_the_lines_put_together_by_hand_say_the_same(self, journal, path, changes):
        """The traffic process writes its lines piece by piece; they are what the reader expects, every field of them."""
        op = replace(OPERATION, **changes)
        head = op_head(
            scenario="s",
            stream=op.stream,
            kind=op.kind,
            step=op.step,
            method=op.method,
            path=op.path,
            via=op.via,
            connection=op.connection,
        )
        judgement = Judgement(op.answer, op.outcome, op.error, op.detail)
        tail = op_tail(judgement, op.final, op.instance, op.attempts, op.status, op.version)
        record = "" if op.record is None else f'"record":"{op.record}",'
        sent, answered = ("null" if moment is None else f"{moment:.6f}" for moment in (op.sent, op.answered))
        line = f'{head}{record}"visitor":"{op.visitor}","due":{op.due:.6f},"sent":{sent},"answered":{answered},{tail}'
        journal.append(begun())
        recorder = Recorder(path)
        recorder.write(line)
        recorder.close()
        assert read_history(path, "s").operations == (op,)
        if op.outcome is not Outcome.OK and op.record is not None:
            assert {field.name for field in fields(Operation)} <= json.loads(line).keys()

    def test_the_scenario_says_what_was_begun(self, journal, path):
        """Seed, instances and setup stand in its first record."""
        journal.append(begun())
        history = read_history(path, "s")
        assert (history.scenario, history.seed, history.instances, history.setup) == ("s", 7, ("app-1",), {"a": 1})

    def test_operations_come_in_the_order_in_which_they_were_due(self, journal, path):
        """They are written when they end."""
        journal.append(begun())
        for due in (3.0, 1.0, 2.0):
            journal.append_fact("s", replace(OPERATION, due=due))
        assert [op.due for op in read_history(path, "s").operations] == [1.0, 2.0, 3.0]

    def test_scenarios_are_kept_apart(self, journal, path):
        """Also where one is named in another's text."""
        for scenario in ("s", 't "s"', "u"):
            journal.append(begun(scenario))
            journal.append_fact(scenario, replace(OPERATION, detail=f'"scenario":"s" in {scenario}'))
        assert [op.detail for op in read_history(path, "s").operations] == ['"scenario":"s" in s']
        stored = read_journal(path)
        assert stored.run == "run-1"
        assert list(stored.scenarios) == ["s", 't "s"', "u"]
        assert all(scenario.history == read_history(path, name) for name, scenario in stored.scenarios.items())

    def test_what_was_judged_is_kept_as_it_is(self, journal, path):
        """The judging room has its own words."""
        judged = {"t": "judge", "scenario": "s", "checker": "NoSessionLost", "bounds": {"a": [1, None]}}
        journal.append(begun())
        journal.append(judged)
        assert read_journal(path).scenarios["s"].judged == (judged,)

    def test_more_than_the_model_keeps_is_no_damage(self, journal, path):
        """A later harness may write further keys and further kinds of records."""
        journal.append(begun(mood="good"))
        journal.append({**fact_record("s", FACTS["paces"]), "shares": {"whoami": 1}})
        journal.append({"t": "weather", "scenario": "s"})
        assert read_history(path, "s").paces == (FACTS["paces"],)
        assert read_journal(path).scenarios["s"].history.paces == (FACTS["paces"],)


class TestDamage:
    def test_a_cut_last_line_is_left_out(self, journal, path):
        """The harness was killed while it wrote: what was whole before is worth reading."""
        journal.append(begun())
        journal.append_fact("s", OPERATION)
        whole = path.read_bytes()
        path.write_bytes(whole + whole.splitlines()[-1][:40])
        assert len(read_history(path, "s").operations) == 1
        assert len(read_journal(path).scenarios["s"].history.operations) == 1

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            (b'{"t":"op","scenario":"s","due":', "no JSON"),
            (b"", "no "),
            (b"[1]", "record"),
            (b'{"t":"op","scenario":"s"}', "no proper 'op' record"),
            (b'{"t":"pace","scenario":"s","stream":"x"}', "no proper 'pace' record"),
        ],
    )
    def test_a_broken_line_in_the_middle_is_told_with_its_number(self, journal, path, line, told):
        """It is never passed over: what it said may have been a failure."""
        journal.append(begun())
        with path.open("ab") as file:
            file.write(line + b"\n")
        journal.append_fact("s", OPERATION)
        for read in (lambda: read_journal(path), lambda: read_history(path, "s")):
            with pytest.raises(JournalError, match=rf"damaged in line 3: .*{told}"):
                read()

    def test_an_unknown_outcome_is_damage(self, journal, path):
        """A journal that speaks of outcomes nobody knows cannot be judged."""
        journal.append(begun())
        journal.append({**fact_record("s", OPERATION), "outcome": "maybe"})
        with pytest.raises(JournalError, match="maybe"):
            read_history(path, "s")

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (None, "cannot be read"),
            (b"", "is empty"),
            (b'{"t":"journal","ver', "is empty"),
            (b'{"t":"op"}\n', "must begin with its version"),
            (b'{"t":"journal","version":2,"run":"x"}\n', "version 2; this harness reads version 1"),
            (b'{"t":"journal","version":1,"run":"x"}\n', "holds no scenario 's'"),
        ],
    )
    def test_what_is_no_journal_of_ours_is_refused(self, path, content, told):
        """With a message that says what was found."""
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(JournalError, match=told):
            read_history(path, "s")

    def test_a_scenario_that_never_began_is_damage(self, journal, path):
        """Its operations would be judged without knowing of what."""
        journal.append_fact("s", OPERATION)
        with pytest.raises(JournalError, match="never began"):
            read_journal(path)


class TestWriting:
    def test_many_threads_write_whole_lines(self, journal, path):
        """Nobody's line is cut by another's."""
        journal.append(begun())

        def write():
            for _ in range(200):
                journal.append_fact("s", OPERATION)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(read_history(path, "s").operations) == 800

    def test_going_on_with_a_journal_does_not_begin_it_again(self, journal, path):
        """One version line, at the top."""
        journal.append(begun())
        with Journal(path, run="run-1") as again:
            again.append_fact("s", OPERATION)
        assert path.read_bytes().count(b'"t":"journal"') == 1

    def test_a_full_disk_is_told(self, path):
        """By name, and not swallowed."""
        path.symlink_to("/dev/full")
        with pytest.raises(JournalError, match=r"cannot be written: No space left"):
            Journal(path, run="run-1")

    def test_a_folder_that_is_not_there_is_told(self, tmp_path):
        """Before anything runs."""
        with pytest.raises(JournalError, match="cannot be opened"):
            Journal(tmp_path / "nowhere" / "history.jsonl", run="run-1")

    def test_nothing_is_written_after_its_end(self, journal):
        """A closed journal says so."""
        journal.close()
        journal.close()
        with pytest.raises(JournalError, match="is closed"):
            journal.append(begun())
