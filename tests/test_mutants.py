"""Setups broken on purpose: each says truly what it breaks, and the score counts what happened, not what was hoped."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import assets
from harness.diagnosis import RULES
from harness.errors import BadInput, HarnessError
from harness.mutants import Mutant, Score, Trial, _toml, load_mutants, run_mutants, score
from harness.promises import CATALOGUE
from harness.setup import Setup, load_setup, parse_override
from reference_app.known_bad import SWITCHES

FOLDER = assets.path("fixtures/mutants")
REFERENCE = assets.path("fixtures/setups/reference.toml")
MUTANTS = load_mutants()
each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)


def setup_of(changes: Mapping[str, Any]) -> Setup:
    return load_setup(REFERENCE, overrides=changes, known_promises=tuple(CATALOGUE))


# -- those that are shipped -------------------------------------------------------------------------------------------


@each_mutant
def test_a_mutant_and_its_twin_are_setups(mutant: Mutant) -> None:
    """Both load as the reference setup with changes; the mutation is one change, and it does change something."""
    assert len(mutant.mutation) == 1
    assert setup_of({**mutant.base, **mutant.mutation}) != setup_of(mutant.base)


@each_mutant
def test_what_a_mutant_expects_can_happen(mutant: Mutant) -> None:
    """It breaks promises there are, which its own setup does not waive, and names a cause that a rule can give."""
    assert mutant.fails
    assert mutant.cause in RULES
    assert set(mutant.fails) <= set(CATALOGUE)
    assert not set(mutant.fails) & set(mutant.inconclusive)
    twin = setup_of(mutant.base)
    assert not [promise for promise in mutant.fails if twin.promises.why_waived(promise)]


@each_mutant
def test_a_switch_exists_and_is_off_in_the_twin(mutant: Mutant) -> None:
    """A fault of the application is switched on by the mutation alone, under a name the application knows."""
    switches = [name for name in mutant.mutation.get("app.env.KNOWN_BAD", "").split(",") if name]
    assert set(switches) <= set(SWITCHES)
    assert bool(switches) is (mutant.where == "application")
    assert "KNOWN_BAD" not in setup_of(mutant.base).app.env


def test_every_switch_of_the_reference_app_has_its_mutant() -> None:
    """A fault nobody looks for proves nothing."""
    tried = {mutant.mutation.get("app.env.KNOWN_BAD") for mutant in MUTANTS}
    assert set(SWITCHES) <= tried


def test_files_are_named_after_what_they_hold() -> None:
    """`28-listener-closed-early.toml` is number 28, listener-closed-early; both are unique, and the order is theirs."""
    assert [f"{mutant.number:02}-{mutant.id}.toml" for mutant in MUTANTS] == sorted(
        path.name for path in FOLDER.iterdir()
    )
    assert len({mutant.id for mutant in MUTANTS}) == len({mutant.number for mutant in MUTANTS}) == len(MUTANTS)


# -- loading ----------------------------------------------------------------------------------------------------------


def test_mutants_are_chosen_by_name_or_glob() -> None:
    """Some by a glob, one by its name, in the order of their numbers; a name that fits none lists those there are."""
    assert [mutant.id for mutant in load_mutants(["secret-*", "session-in-memory"])] == [
        "session-in-memory",
        "secret-per-instance",
        "secret-at-boot",
    ]
    with pytest.raises(BadInput, match=r"no mutant matches sesion-\*: known are session-in-memory, secret-per"):
        load_mutants(["sesion-*"])


def test_a_promise_nobody_knows_is_our_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixture that expects what cannot be is refused by the name of its file, before anything is started."""
    text = (FOLDER / "46-no-retry.toml").read_text().replace("failover.kill", "failover.kil")
    (tmp_path / "46-no-retry.toml").write_text(text)
    monkeypatch.setattr(assets, "path", lambda relative: tmp_path)
    with pytest.raises(HarnessError, match=r"46-no-retry.toml expects promises that do not exist: failover.kil"):
        load_mutants()


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_reaches_the_setup_as_it_is(value: object) -> None:
    """Every value goes through --set key=value unchanged: lists, tables, quotes, emoji, control characters."""
    assert parse_override(f"app.env.X={_toml(value)}") == ("app.env.X", value)


@each_mutant
def test_changes_reach_the_setup_as_they_are(mutant: Mutant) -> None:
    """What a file says is what the command line of its trial says."""
    changes = {**mutant.base, **mutant.mutation}
    assert dict(parse_override(f"{key}={_toml(value)}") for key, value in changes.items()) == changes


# -- scoring ----------------------------------------------------------------------------------------------------------

MUTANT = Mutant(
    number=1,
    id="m",
    broken="b",
    where="application",
    base={},
    mutation={"x": 1},
    cause="no-retry",
    fails=("failover.kill", "failover.stop"),
    inconclusive=("session.logout-everywhere",),
)
KEPT = dict.fromkeys(CATALOGUE, "pass")
RIGHT = ("no-retry", "no-health-check")
FOUND = {"failover.kill": RIGHT, "failover.stop": RIGHT}


def trial(causes: Mapping[str, tuple[str, ...]] = FOUND, **statuses: str) -> Trial:
    """A run of the mutant: everything as it must be, but for what is given (`failover_kill="pass"`)."""
    told = {key.replace("_", ".", 1).replace("_", "-"): status for key, status in statuses.items()}
    return Trial(name="m", statuses=KEPT | {"failover.kill": "fail", "failover.stop": "fail"} | told, causes=causes)


@pytest.mark.parametrize(
    ("seen", "caught", "named", "accused"),
    [
        (trial(), 1, 1, 0),
        (trial(failover_stop="pass"), 0, 0, 0),
        (trial(failover_stop="inconclusive"), 0, 0, 0),
        (trial(failover_stop="rig-error"), 0, 0, 0),
        (trial(failover_stop="waived"), 0, 0, 0),
        (trial(FOUND | {"failover.stop": ()}), 1, 0, 0),
        (trial(FOUND | {"failover.stop": RIGHT[::-1]}), 1, 0, 0),
        (trial(failover_hang="fail"), 1, 1, 1),
        (trial(failover_hang="fail", rollout_rolling="inconclusive", instances_agree="rig-error"), 1, 1, 3),
        (trial(failover_hang="waived"), 1, 1, 0),
        (trial(session_logout_everywhere="inconclusive"), 1, 1, 0),
        (trial(session_logout_everywhere="fail"), 1, 1, 1),
        (Trial(name="m", statuses={}, causes={}, trouble="nginx is missing"), 0, 0, 0),
    ],
)
def test_one_mutant_is_scored(seen: Trial, caught: int, named: int, accused: int) -> None:
    """Caught: all it breaks failed. Named: the first cause of each is right. Accused: anything else that is not green."""
    assert score([MUTANT], {"m": seen}, []) == Score(
        seeded=1, caught=caught, named=named, wrongly_accused=accused, healthy_runs=0, false_alarms=0
    )


@pytest.mark.parametrize(
    ("statuses", "alarms"),
    [
        (KEPT, 0),
        (KEPT | {"failover.kill": "waived"}, 0),
        (KEPT | {"failover.kill": "fail"}, 1),
        (KEPT | {"failover.kill": "inconclusive"}, 1),
        (KEPT | {"failover.kill": "rig-error", "failover.stop": "fail"}, 1),
        ({}, 1),
    ],
)
def test_a_healthy_run_is_scored(statuses: Mapping[str, str], alarms: int) -> None:
    """Anything but pass in a healthy run is one false alarm, also when the run came to nothing at all."""
    total = score([], {}, [Trial(name="twin", statuses=statuses, causes={})])
    assert (total.healthy_runs, total.false_alarms) == (1, alarms)


# -- the whole --------------------------------------------------------------------------------------------------------


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Trials that go as they must, without any server; what each was given is kept."""
    given: list[Mapping[str, Any]] = []
    known = {mutant.id: mutant for mutant in MUTANTS}

    def verify(name: str, changes: Mapping[str, Any], *, seed: int | None, reports: Path) -> Trial:
        given.append(changes)
        mutant = known.get(name, replace(MUTANT, fails=()))
        fails, causes = mutant.fails, dict.fromkeys(mutant.fails, (mutant.cause,))
        return Trial(name=name, statuses=KEPT | dict.fromkeys(fails, "fail"), causes=causes)

    monkeypatch.setattr("harness.mutants._verify", verify)
    return given


def run(*, only: tuple[str, ...] = (), as_json: bool = False) -> tuple[int, str]:
    to = io.StringIO()
    code = run_mutants(only=only, seed=7, reports=Path("reports"), as_json=as_json, to=to)
    return code, to.getvalue()


def test_all_caught_and_named_is_code_0(verified: list[Mapping[str, Any]]) -> None:
    """A perfect score is one line and code 0; mutants that start from the same setup share one healthy run."""
    code, said = run()
    bases = {json.dumps(mutant.base) for mutant in MUTANTS}
    assert code == 0
    assert len(verified) == len(MUTANTS) + len(bases)
    assert said.splitlines()[-1].strip() == (
        f"{len(MUTANTS)} seeded, {len(MUTANTS)} caught, {len(MUTANTS)} named, 0 wrongly accused; "
        f"0 false alarms in {len(bases)} healthy runs"
    )


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("no-retry", {"statuses": KEPT}, "NO      NO     expected failover.kill, failover.stop, failover.hang"),
        ("no-retry", {"causes": {}}, "expected cause no-retry, got"),
        ("no-retry", {"statuses": {}, "trouble": "nginx is missing"}, "nginx is missing"),
        (
            "all-at-once",
            {"statuses": KEPT | {"rollout.rolling": "fail", "failover.kill": "fail"}},
            "wrongly accused: fail",
        ),
        ("twin reference", {"statuses": KEPT | {"failover.kill": "fail"}}, "twin reference: NOT GREEN"),
    ],
)
def test_anything_else_is_code_1_and_says_what(
    name: str, change: dict[str, Any], said: str, verified: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missed, misnamed, no verdict, wrongly accused, a false alarm: each is told, and none is a success."""
    from harness import mutants

    right = mutants._verify

    def spoilt(which: str, changes: Mapping[str, Any], **more: Any) -> Trial:
        done = right(which, changes, **more)
        return replace(done, **change) if which == name else done

    monkeypatch.setattr("harness.mutants._verify", spoilt)
    code, told = run(only=("no-retry", "all-at-once"))
    assert code == 1
    assert said in told


def test_json_is_the_score_and_every_trial(verified: list[Mapping[str, Any]]) -> None:
    """For programs: one document, nothing else on the way."""
    code, said = run(only=("no-retry", "no-health-check"), as_json=True)
    told = json.loads(said)
    assert (code, told["version"], told["score"]["caught"]) == (0, 1, 2)
    assert [(each["id"], each["caught"], each["named"]) for each in told["mutants"]] == [
        ("no-retry", True, True),
        ("no-health-check", True, True),
    ]
    assert {each["name"] for each in told["twins"]} == {
        "twin reference",
        'twin reference, balancer.algorithm="round_robin"',
    }
