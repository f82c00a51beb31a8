"""The journal: what is written is read back the same, a cut last line is forgiven, any other damage is told."""

from __future__ import annotations

import json
import threading
from dataclasses import FrozenInstanceError, fields, replace

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
    named="app-1",
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
    def test_an_operation_is_what_the_constructor_makes(self, journal, path):
        """It is filled in past the constructor; nobody can tell, and nobody can change it either."""
        journal.append(begun())
        journal.append_fact("s", OPERATION)
        (read,) = read_history(path, "s").operations
        assert type(read) is Operation
        assert repr(read) == repr(OPERATION)
        assert hash(read) == hash(OPERATION)
        with pytest.raises(FrozenInstanceError):
            read.due = 1.0

    @pytest.mark.parametrize("text", ["\ud800", "\udfff!", "é\U0001f600", '"\\/\b\f\n\r\t', "\x00\x7f"])
    def test_any_text_comes_back(self, journal, path, text):
        """Also half a surrogate, as a file name or a header may hold: no reader of JSON that is faster may lose it."""
        journal.append(begun())
        journal.append_fact("s", replace(OPERATION, detail=text, path=text))
        (read,) = read_history(path, "s").operations
        assert (read.detail, read.path) == (text, text)

    @pytest.mark.parametrize("number", [0.1 + 0.2, 1e-300, 123456789.123456789, 5e-324, 962.3237140000001, 2.0**53 + 2])
    def test_any_number_comes_back(self, journal, path, number):
        """To its last bit: what is judged again is judged alike."""
        journal.append(begun())
        journal.append_fact("s", replace(OPERATION, due=number))
        (read,) = read_history(path, "s").operations
        assert read.due == number

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
            {"record": None, "version": None, "named": None, "error": None, "detail": ""},
            {"outcome": Outcome.OK, "answer": Answer.DONE, "error": None, "detail": "", "answered": 3.0, "status": 200},
            {"sent": None, "attempts": (), "status": None, "instance": "app-1", "visitor": "v12", "named": ""},
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
        tail = op_tail(judgement, op.final, op.instance, op.attempts, op.status, op.version, op.named)
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

    def test_whoever_orders_a_line_in_another_way_is_read_alike(self, journal, path):
        """The reader knows the lines of the traffic process by heart; any other order of the same says the same."""
        journal.append(begun())
        record = fact_record("s", OPERATION)
        usual = ["path", "record", "visitor", "due", "sent", "answered", "final"]
        usual = [key for key in record if key not in usual][:8] + usual
        orders = [usual + [key for key in record if key not in usual]]
        orders += [[*order[shift:], *order[:shift]] for order in (orders[0], list(record)) for shift in range(1, 12)]
        for order in orders:
            journal.append({"t": "op", "scenario": "s"} | {key: record[key] for key in order})
        assert read_history(path, "s").operations == (OPERATION,) * len(orders)
        assert read_journal(path).scenarios["s"].history.operations == (OPERATION,) * len(orders)

    @pytest.mark.parametrize("key", ["error", "detail", "version", "named", "record"])
    @pytest.mark.parametrize("before", ["stream", "visitor", "outcome"])
    def test_what_need_not_be_said_is_heard_wherever_it_stands(self, journal, path, key, before):
        """Nothing tells that it is missing where it was expected."""
        op = replace(OPERATION, error=None, detail="", version=None, named=None, record=None, outcome=Outcome.OK)
        line = op_head(
            scenario="s",
            stream=op.stream,
            kind=op.kind,
            step=op.step,
            method=op.method,
            path=op.path,
            via=op.via,
            connection=op.connection,
        )
        judgement = Judgement(op.answer, op.outcome, None, "")
        line += f'"visitor":"{op.visitor}","due":2.5,"sent":2.500125,"answered":null,'
        line += op_tail(judgement, True, op.instance, op.attempts, op.status, None, None)
        line = line.replace('"version":null,', "")
        journal.append(begun())
        recorder = Recorder(path)
        recorder.write(line)
        recorder.write(line.replace(f'"{before}":', f'"{key}":"told","{before}":'))
        recorder.close()
        assert read_history(path, "s").operations == (op, replace(op, **{key: "told"}))

    def test_beginnings_and_ends_beyond_number_are_read_alike(self, journal, path, monkeypatch):
        """Those that repeat are remembered, and a journal in which none does is no reason to remember them all."""
        monkeypatch.setattr("harness.traffic.journal._MOST_KNOWN", 2)
        journal.append(begun())
        recorder = Recorder(path)
        ops = []
        for number in range(7):
            op = replace(OPERATION, step=number, status=500 + number, due=float(number), sent=None)
            head = op_head(
                scenario="s",
                stream=op.stream,
                kind=op.kind,
                step=number,
                method=op.method,
                path=op.path,
                via=op.via,
                connection=op.connection,
            )
            judgement = Judgement(op.answer, op.outcome, op.error, op.detail)
            tail = op_tail(judgement, True, op.instance, op.attempts, op.status, op.version, op.named)
            recorder.write(f'{head}"record":"r-1","visitor":"v1","due":{number}.0,"sent":null,"answered":null,{tail}')
            ops.append(op)
        recorder.close()
        assert read_history(path, "s").operations == tuple(ops)

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
