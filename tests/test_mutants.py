"""Setups broken on purpose: each says truly what it breaks, and the score counts what happened, not what was hoped."""

from __future__ import annotations

import io
import json
import tomllib
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
from harness.mutants import (
    PLATFORMS,
    Expected,
    Mutant,
    Score,
    Trial,
    _toml,
    load_mutants,
    run_mutants,
    score,
    share_of,
)
from harness.promises import CATALOGUE
from harness.setup import Setup, load_setup, parse_override
from reference_app.known_bad import SWITCHES

FOLDER = assets.path("fixtures/mutants")
REFERENCE = assets.path("fixtures/setups/reference.toml")
MUTANTS = load_mutants()
NATIVE, DOCKER, SWARM = (load_mutants(platform=platform) for platform in PLATFORMS)
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
    assert mutant.on
    assert mutant.cause in RULES
    twin = setup_of(mutant.base)
    for expected in mutant.on.values():
        assert expected.fails
        assert set(expected.judged) <= set(CATALOGUE)
        assert not set(expected.fails) & set(expected.keeps)
        assert not [promise for promise in expected.fails if twin.promises.why_waived(promise)]


@each_mutant
def test_what_a_mutant_breaks_is_told_from_its_neighbours(mutant: Mutant) -> None:
    """It is judged by what it breaks, by something like it that it does not, and by what sees a setup that is not whole."""
    for platform, expected in mutant.on.items():
        assert ("distribution.complete" in expected.judged) or platform == "native"
        assert ("instances.answer" in expected.judged) is (platform != "swarm")
        assert {promise for promise in expected.keeps if not setup_of(mutant.base).promises.why_waived(promise)}


def switched_on(mutant: Mutant) -> str:
    """What is switched on in every version, or in the new one alone."""
    keys = ("app.env.KNOWN_BAD", "rollout.env.KNOWN_BAD")
    return ",".join(str(mutant.mutation[key]) for key in keys if key in mutant.mutation)


@each_mutant
def test_a_switch_exists_and_is_off_in_the_twin(mutant: Mutant) -> None:
    """A fault of the application is switched on by the mutation alone, under a name the application knows."""
    switches = [name for name in switched_on(mutant).split(",") if name]
    assert set(switches) <= set(SWITCHES)
    assert bool(switches) is (mutant.where == "application")
    assert "KNOWN_BAD" not in setup_of(mutant.base).app.env
    assert "KNOWN_BAD" not in setup_of(mutant.base).rollout.env


def test_every_switch_of_the_reference_app_has_its_mutant() -> None:
    """A fault nobody looks for proves nothing."""
    tried = {switched_on(mutant) for mutant in MUTANTS}
    # No setup is broken by a version that must not stay: it is what a whole one has to get rid of.
    tried.add(setup_of({}).rollout.bad_env["KNOWN_BAD"])
    assert set(SWITCHES) <= tried


def test_files_are_named_after_what_they_hold() -> None:
    """`28-listener-closed-early.toml` is number 28, listener-closed-early; the order is theirs. One number may be shown
    behind more than one balancer, each time under an id of its own."""
    assert [f"{mutant.number:02}-{mutant.id}.toml" for mutant in MUTANTS] == sorted(
        path.name for path in FOLDER.iterdir()
    )
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)


def test_haproxy_s_mutants_start_from_haproxy_s_reference() -> None:
    """Their table repeats it, because keys of nginx cannot be taken out one by one."""
    reference = load_setup(FOLDER.parent / "setups" / "reference-haproxy.toml").balancer
    for mutant in MUTANTS:
        if mutant.id.startswith("haproxy-"):
            assert setup_of(mutant.base).balancer == reference.model_copy(update={"algorithm": "round_robin"})


def test_mutants_of_the_way_in_start_from_its_reference() -> None:
    """Their table is that of reference-tls.toml, so that the healthy twin is the one CI judges as well."""
    reference = load_setup(FOLDER.parent / "setups" / "reference-tls.toml").balancer
    secure = [mutant for mutant in MUTANTS if "balancer.tls" in mutant.base]
    assert {mutant.number for mutant in secure} == {64, 65, 67, 68, 70, 71, 90}
    assert all(setup_of(mutant.base).balancer == reference for mutant in secure)


def test_what_is_not_built_is_not_built() -> None:
    """Each of those has its reason, and none of them a file of its own."""
    tables = tomllib.loads(assets.path("fixtures/mutants-not-built.toml").read_text())["mutant"]
    assert {table["number"] for table in tables}.isdisjoint(mutant.number for mutant in MUTANTS)
    assert all(table["why"] and table["broken"] for table in tables)


# -- loading ----------------------------------------------------------------------------------------------------------


def test_mutants_are_chosen_by_name_or_glob() -> None:
    """Some by a glob, one by its name, some left out, in the order of their numbers; a name that fits none lists those there are."""
    assert [mutant.id for mutant in load_mutants(["secret-*", "session-in-memory"])] == [
        "session-in-memory",
        "secret-per-instance",
        "secret-at-boot",
    ]
    assert [mutant.id for mutant in load_mutants(["secret-*", "!*-at-boot"])] == ["secret-per-instance"]
    assert {mutant.id for mutant in MUTANTS} - {mutant.id for mutant in load_mutants(["!secret-*"])} == {
        "secret-per-instance",
        "secret-at-boot",
    }
    with pytest.raises(BadInput, match=r"no mutant matches sesion-\*: known are session-in-memory, secret-per"):
        load_mutants(["sesion-*"])


def test_mutants_are_chosen_by_platform() -> None:
    """Where a mutant cannot be shown it is left out; asked for by name, it is told where it can be."""
    assert "stale-address" not in {mutant.id for mutant in NATIVE}
    assert {mutant.id for mutant in NATIVE} < {mutant.id for mutant in MUTANTS}
    assert "stale-address" in {mutant.id for mutant in DOCKER}
    with pytest.raises(BadInput, match="stale-address cannot be shown on native: use --platform docker"):
        load_mutants(["stale-address"], platform="native")


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
    on={
        "native": Expected(
            fails=("failover.kill", "failover.stop"), keeps=("failover.hang",), whole=("instances.answer",)
        ),
        "docker": Expected(fails=("failover.stop",), keeps=(), whole=("instances.answer",)),
    },
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
        (trial(session_logout_everywhere="inconclusive"), 1, 1, 1),
        (Trial(name="m", statuses={}, causes={}, trouble="nginx is missing"), 0, 0, 0),
    ],
)
def test_one_mutant_is_scored(seen: Trial, caught: int, named: int, accused: int) -> None:
    """Caught: all it breaks failed. Named: the first cause of each is right. Accused: anything else that is not green."""
    assert score([MUTANT], {"m": seen}, []) == Score(
        seeded=1,
        caught=caught,
        missed=1 - caught,
        named=named,
        wrongly_accused=accused,
        healthy_runs=0,
        false_alarms=0,
        false_alarms_at_most=1.0,
    )


@pytest.mark.parametrize(
    ("statuses", "caught", "accused"),
    [
        ({"failover.stop": "fail", "instances.answer": "pass"}, 1, 0),
        ({"failover.stop": "pass", "instances.answer": "pass"}, 0, 0),
        ({"failover.stop": "fail", "instances.answer": "fail"}, 1, 1),
    ],
)
def test_one_mutant_is_scored_by_what_is_expected_there(statuses: Mapping[str, str], caught: int, accused: int) -> None:
    """One platform may show less of a fault than another."""
    seen = Trial(name="m", statuses=statuses, causes=FOUND)
    total = score([MUTANT], {"m": seen}, [], platform="docker")
    assert (total.caught, total.named, total.wrongly_accused) == (caught, caught, accused)


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


@pytest.mark.parametrize(
    ("alarms", "runs", "at_most"), [(0, 1, 0.95), (0, 7, 0.348), (0, 100, 0.0295), (1, 100, 0.0466), (3, 3, 1.0)]
)
def test_what_healthy_runs_rule_out(alarms: int, runs: int, at_most: float) -> None:
    """No false alarm in M runs leaves about 3/M; each one leaves more."""
    told = [Trial(name="t", statuses={} if number < alarms else KEPT, causes={}) for number in range(runs)]
    assert score([], {}, told).false_alarms_at_most == pytest.approx(at_most, rel=0.01)


# -- parts ------------------------------------------------------------------------------------------------------------


def shares(mutants: tuple[Mutant, ...], parts: int) -> list[list[str]]:
    return [[mutant.id for mutant in share_of(mutants, f"{part}/{parts}")] for part in range(1, parts + 1)]


@pytest.mark.parametrize("mutants", [NATIVE, DOCKER, SWARM], ids=PLATFORMS)
@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5])
def test_parts_are_all_of_them(mutants: tuple[Mutant, ...], parts: int) -> None:
    """Each mutant is in one part, no part is empty, and a second look finds the same."""
    made = shares(mutants, parts)
    assert sorted(name for part in made for name in part) == sorted(mutant.id for mutant in mutants)
    assert all(made)
    assert shares(mutants, parts) == made
    order = [mutant.id for mutant in mutants]
    assert all(part == sorted(part, key=order.index) for part in made)


def test_parts_are_even_and_keep_together_what_shares_a_twin() -> None:
    """Counted in runs, of mutants and of their twins; a group is divided only where it is more than a part."""
    for parts in (2, 3, 4):
        made = [share_of(NATIVE, f"{part}/{parts}") for part in range(1, parts + 1)]
        runs = [len(part) + len({json.dumps(mutant.base) for mutant in part}) for part in made]
        assert max(runs) - min(runs) <= 4, runs
        fair = sum(runs) / parts
        for base in {json.dumps(mutant.base) for mutant in NATIVE}:
            group = [mutant for mutant in NATIVE if json.dumps(mutant.base) == base]
            within = sum(any(json.dumps(mutant.base) == base for mutant in part) for part in made)
            assert within == 1 or len(group) + 1 > fair - 1


def test_there_may_be_as_many_parts_as_mutants() -> None:
    """One in each."""
    few = load_mutants(["no-retry", "all-at-once", "exit-at-once"], platform="native")
    assert sorted(shares(few, 3)) == sorted([mutant.id] for mutant in few)


@pytest.mark.parametrize("shard", ["", "0/3", "4/3", "1", "1/0", "-1/3", "a/b", "1/3/5", "01/3"])
def test_what_is_no_part_is_refused(shard: str) -> None:
    """With how it is written."""
    with pytest.raises(BadInput, match=r"--shard must be I/N, part I of N, I from 1 to N"):
        share_of(NATIVE, shard)


def test_more_parts_than_mutants_are_refused() -> None:
    """A machine that has nothing to do would be green for nothing."""
    with pytest.raises(BadInput, match="is for 3 parts, and there are only 2 mutants"):
        share_of(NATIVE[:2], "1/3")


# -- the whole --------------------------------------------------------------------------------------------------------


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Trials that go as they must, without any server; what each was given is kept."""
    given: list[dict[str, Any]] = []
    known = {mutant.id: mutant for mutant in MUTANTS}

    def verify(name: str, changes: Mapping[str, Any], **more: Any) -> Trial:
        given.append({"name": name, "changes": changes, **more})
        fails = known[name].on[more["platform"]].fails if name in known else ()
        kept = dict.fromkeys(more["only"], "pass")
        causes = dict.fromkeys(fails, (known[name].cause,)) if name in known else {}
        return Trial(name=name, statuses=kept | dict.fromkeys(fails, "fail"), causes=causes)

    monkeypatch.setattr("harness.mutants._verify", verify)
    return given


def run(*, only: tuple[str, ...] = (), as_json: bool = False, platform: str = "native", **more: Any) -> tuple[int, str]:
    to = io.StringIO()
    given: dict[str, Any] = {"seed": 7, **more}
    code = run_mutants(only=only, platform=platform, reports=Path("reports"), as_json=as_json, to=to, **given)
    return code, to.getvalue()


@pytest.mark.parametrize(("platform", "mutants"), [("native", NATIVE), ("docker", DOCKER), ("swarm", SWARM)])
def test_all_caught_and_named_is_code_0(
    platform: str, mutants: tuple[Mutant, ...], verified: list[dict[str, Any]]
) -> None:
    """A perfect score is one line and code 0; mutants that start from the same setup share one healthy run."""
    code, said = run(platform=platform)
    bases = {json.dumps(mutant.base) for mutant in mutants}
    count = len(mutants)
    assert code == 0
    assert len(verified) == count + len(bases)
    assert {each["platform"] for each in verified} == {platform}
    assert said.startswith(f"{platform}: {count} mutants and {len(bases)} healthy twins")
    assert said.splitlines()[-1].strip() == (
        f"{count} seeded, {count} caught, 0 missed, {count} named, 0 wrongly accused; 0 false alarms in {len(bases)} "
        f"healthy runs, which rules out more than {1 - 0.05 ** (1 / len(bases)):.1%} of them (95 %)"
    )


def test_twins_are_verified_as_often_as_asked(verified: list[dict[str, Any]]) -> None:
    """Each under a name of its own, and on a schedule of its own where a seed is given; a mutant only once."""
    code, said = run(only=("no-retry", "no-health-check"), twins_each=3, as_json=True)
    told = json.loads(said)
    assert (code, told["score"]["healthy_runs"], told["score"]["missed"]) == (0, 6, 0)
    assert told["score"]["false_alarms_at_most"] == pytest.approx(1 - 0.05 ** (1 / 6))
    assert [each["name"] for each in told["twins"]][::2] == [f"twin reference, {number} of 3" for number in (1, 2, 3)]
    seeds = [(each["name"].startswith("twin"), each["seed"]) for each in verified]
    assert sorted(seeds) == [(False, 7)] * 2 + [(True, seed) for seed in (7, 7, 8, 8, 9, 9)]


def test_without_a_seed_each_run_draws_its_own(verified: list[dict[str, Any]]) -> None:
    """Nobody's schedule is repeated unasked."""
    run(only=("no-retry",), twins_each=2, seed=None)
    assert [each["seed"] for each in verified] == [None] * 3


def test_no_healthy_run_is_refused(verified: list[dict[str, Any]]) -> None:
    """Before anything is started: a score without one says nothing of false alarms."""
    with pytest.raises(BadInput, match=r"--twins must be 1 or more \(got 0\)"):
        run(twins_each=0)
    assert verified == []


def test_a_part_is_scored_by_itself(verified: list[dict[str, Any]]) -> None:
    """With the twins of its own mutants and no others; all parts together are the whole."""
    for part in (1, 2, 3):
        code, said = run(shard=f"{part}/3")
        assert code == 0
        assert f"(part {part}/3)" in said.splitlines()[0]
    tried = [each["name"] for each in verified if not each["name"].startswith("twin")]
    assert sorted(tried) == sorted(mutant.id for mutant in NATIVE)


def test_a_twin_is_judged_by_all_that_its_mutants_are(verified: list[dict[str, Any]]) -> None:
    """A mutant is judged by a few promises, and its twin by those of all that start from it."""
    run(only=("exit-at-once", "all-at-once"))
    judged = {each["name"]: set(each["only"]) for each in verified}
    assert judged["twin reference"] == judged["exit-at-once"] | judged["all-at-once"]
    assert judged["exit-at-once"] == {"shutdown.inflight", "failover.stop", "instances.answer"}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("no-retry", {"statuses": KEPT}, "NO      NO     expected failover.kill, failover.hang"),
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
    name: str, change: dict[str, Any], said: str, verified: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
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


def test_json_is_the_score_and_every_trial(verified: list[dict[str, Any]]) -> None:
    """For programs: one document, nothing else on the way."""
    code, said = run(only=("no-retry", "no-health-check"), as_json=True)
    told = json.loads(said)
    assert (code, told["version"], told["platform"], told["score"]["caught"]) == (0, 1, "native", 2)
    assert [(each["id"], each["caught"], each["named"]) for each in told["mutants"]] == [
        ("no-retry", True, True),
        ("no-health-check", True, True),
    ]
    assert {each["name"] for each in told["twins"]} == {
        "twin reference",
        'twin reference, balancer.algorithm="round_robin"',
    }
