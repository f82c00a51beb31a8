"""A checklist beside a run: what is proven, contradicted, signed and open; files of one's own and their mistakes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from harness import assets, cli
from harness.checklist import ChecklistResult, State, as_lines, as_markdown, as_page, hold_against, sign, withdraw
from harness.errors import BadInput, SetupError
from harness.model import Finding, Status, Verdict
from harness.promises import CATALOGUE, matching
from harness.reporting import RunResult, from_json, read_results
from harness.setup import (
    SignOff,
    SignOffs,
    load_checklist,
    load_sign_offs,
    parse_checklist,
    parse_sign_offs,
    sign_offs_text,
)

STORED = Path(__file__).parent / "data" / "verdicts-v1.json"
TODAY = date(2026, 11, 30)
GUIDE = load_checklist(assets.path("fixtures/checklists/guide.toml"), known_promises=tuple(CATALOGUE))
HOSTILE = "\x1b[31m<script>alert(1)</script> `x` @team #1 https://evil.example [a](b)"

ONE_OF_EACH = """
title = "Before a release"
valid_days = 30
[group.a]
title = "A"
[group.a.item.kill]
text = "Somebody may die"
promises = ["failover.kill"]
[group.a.item.both]
text = "Stops cost nothing"
promises = ["failover.stop"]
sign = "the stop signal is the right one"
[group.a.item.person]
text = "Somebody is on call"
sign = "a name is on the list"
"""


def own(text: str = ONE_OF_EACH) -> object:
    return parse_checklist(tomllib.loads(text), source="own.toml", known_promises=tuple(CATALOGUE))


def run_with(statuses: Mapping[str, Status], **changes: object) -> RunResult:
    stored = from_json(STORED.read_text(), results=Path("reports/a-run"))
    findings = tuple(
        Finding(promise=promise, scenario="s", verdict=Verdict(status, f"{promise} was measured"))
        for promise, status in statuses.items()
    )
    promises = tuple(CATALOGUE[promise] for promise in statuses)
    return replace(stored, findings=findings, promises=promises, planned={}, waived={}, left_out={}, **changes)  # type: ignore[arg-type]


def signed_for(*names: str, of: object, when: date = TODAY, words: str = "") -> SignOffs:
    items = of.items  # type: ignore[attr-defined]
    return SignOffs(
        signed={
            name: SignOff(who="Ada", when=when, evidence="https://wiki.example/x", words=words or items[name].words)
            for name in names
        }
    )


def states(run: RunResult | None, sign_offs: SignOffs = SignOffs(), *, of: object = None) -> dict[str, str]:  # noqa: B008
    checklist = of if of is not None else own()
    result = hold_against(checklist, run=run, sign_offs=sign_offs, on=TODAY)  # type: ignore[arg-type]
    return {item.id.partition(".")[2]: item.state.value for item in result.items}


# -- the guide's ------------------------------------------------------------------------------------------------------


def test_the_guide_s_checklist_is_whole() -> None:
    """Thirteen items, ten DOs and seven DON'Ts; each is bound to promises or to a person."""
    assert {name: len(group.item) for name, group in GUIDE.group.items()} == {"scaling": 13, "do": 10, "dont": 7}
    assert all(item.promises or item.sign for item in GUIDE.items.values())


def test_every_promise_of_the_guide_s_checklist_can_be_judged_natively() -> None:
    """Whoever has no container engine can verify everything in it that a run can see."""
    of_platforms = {"failover.partition", "failover.new-address", "rollout.bad-version"}
    bound = {promise for item in GUIDE.items.values() for promise in item.promises}
    assert bound <= set(CATALOGUE) - of_platforms
    assert not {promise for promise in bound if promise.startswith("orchestrator.")}


def test_a_run_that_keeps_everything_leaves_what_a_person_must_look_at() -> None:
    """No item is verified by a run that it says a person must see; everything else is."""
    run = run_with(dict.fromkeys(CATALOGUE, Status.PASS))
    result = hold_against(GUIDE, run=run, sign_offs=SignOffs(), on=TODAY)
    assert {item.id for item in result.items if item.state is State.OPEN} == {
        name for name, item in GUIDE.items.items() if item.sign
    }
    assert {item.state for item in result.items} == {State.VERIFIED, State.OPEN}
    assert result.exit_code == 1


def test_everything_signed_and_kept_is_done() -> None:
    """Then, and only then, the exit code is 0."""
    run = run_with(dict.fromkeys(CATALOGUE, Status.PASS))
    by_hand = signed_for(*(name for name, item in GUIDE.items.items() if item.sign), of=GUIDE)
    result = hold_against(GUIDE, run=run, sign_offs=by_hand, on=TODAY)
    assert result.exit_code == 0
    assert result.counts[State.OPEN] == result.counts[State.CONTRADICTED] == 0
    assert result.headline.startswith("all 30 items are done")


# -- what an item comes to --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.INCONCLUSIVE, Status.RIG_ERROR])
def test_what_was_not_proven_is_not_verified(status: Status) -> None:
    """Only pass is green here as well."""
    assert states(run_with({"failover.kill": status, "failover.stop": status})) == dict.fromkeys(
        ("kill", "both", "person"), "open"
    )


def test_what_was_not_judged_is_not_verified() -> None:
    """Not asked for, left out on the platform, planned and never tried, or no run at all."""
    left_out = replace(run_with({}), left_out={"failover.kill": "native: no network of its own"})
    untried = replace(run_with({}), promises=(CATALOGUE["failover.kill"],))
    half = replace(run_with({"failover.kill": Status.PASS}), planned={"failover.kill": 2})
    for run in (run_with({}), left_out, untried, half, None):
        assert states(run)["kill"] == "open"


def test_a_waived_promise_is_not_verified() -> None:
    """Whatever is not kept and need not be: broken is broken, and too little is too little."""
    waived = {"failover.*": "our people are patient"}
    for status, state in ((Status.FAIL, "contradicted"), (Status.INCONCLUSIVE, "open"), (Status.PASS, "verified")):
        assert states(replace(run_with({"failover.kill": status}), waived=waived))["kill"] == state


def test_a_contradiction_outweighs_a_sign_off() -> None:
    """What was measured is not signed away."""
    of = own()
    run = run_with({"failover.kill": Status.FAIL, "failover.stop": Status.FAIL})
    assert states(run, signed_for("a.kill", "a.both", "a.person", of=of), of=of) == {
        "kill": "contradicted",
        "both": "contradicted",
        "person": "signed",
    }


def test_both_need_both() -> None:
    """An item with promises and something to look at is verified by the two together."""
    of = own()
    kept = run_with({"failover.kill": Status.PASS, "failover.stop": Status.PASS})
    assert states(kept, of=of) == {"kill": "verified", "both": "open", "person": "open"}
    assert states(kept, signed_for("a.both", of=of), of=of)["both"] == "verified"
    assert states(run_with({}), signed_for("a.both", of=of), of=of)["both"] == "signed"


def test_a_sign_off_goes_stale() -> None:
    """By age where the checklist says so, by other words of the item always, and never before its day."""
    of = own()
    for when, words, state in (
        (date(2026, 10, 31), "", "signed"),
        (date(2026, 10, 30), "", "open"),
        (date(2026, 12, 1), "", "signed"),  # somewhere it is tomorrow already
        (date(2026, 12, 2), "", "open"),
        (TODAY, "Somebody is on call: another list", "open"),
    ):
        assert states(None, signed_for("a.person", of=of, when=when, words=words), of=of)["person"] == state, when
    ageless = own(ONE_OF_EACH.replace("valid_days = 30\n", ""))
    assert states(None, signed_for("a.person", of=ageless, when=date(2001, 1, 1)), of=ageless)["person"] == "signed"


def test_a_glob_needs_all_it_stands_for() -> None:
    """One promise that was not judged leaves the item open."""
    of = own(ONE_OF_EACH.replace('["failover.kill"]', '["distribution.*"]'))
    assert states(run_with({"distribution.complete": Status.PASS}), of=of)["kill"] == "open"
    every = dict.fromkeys(matching("distribution.*"), Status.PASS)
    assert states(run_with(every), of=of)["kill"] == "verified"
    assert states(run_with({**every, "distribution.share": Status.FAIL}), of=of)["kill"] == "contradicted"


# -- signing ----------------------------------------------------------------------------------------------------------


def test_sign_offs_survive_their_file() -> None:
    """What is written is what is read, whatever a person typed; one change is a change of few lines."""
    of = own()
    before = SignOffs(signed={"b.x": SignOff(who="Eve", when=TODAY, evidence="here", words="w")})
    after = sign(
        before, ["a.kill"], checklist=of, who='Ada "the first" \\', evidence="ü – 日本", when=TODAY, today=TODAY
    )  # type: ignore[arg-type]
    text = sign_offs_text(after)
    assert parse_sign_offs(tomllib.loads(text), source="f") == after
    assert set(sign_offs_text(before).splitlines()) <= set(text.splitlines())
    assert withdraw(after, ["a.kill"]) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"who": " "}, "--who"),
        ({"evidence": "a\nb"}, "--evidence"),
        ({"when": date(2027, 1, 1)}, "after today"),
        ({"names": ["a.kil"]}, "did you mean a.kill?"),
    ],
)
def test_a_sign_off_that_says_too_little(change: dict[str, object], words: str) -> None:
    """Who, when and where the evidence is; for an item that exists."""
    given = {"names": ["a.kill"], "who": "Ada", "evidence": "here", "when": TODAY, **change}
    names = given.pop("names")
    with pytest.raises(BadInput, match="(?s)" + words.replace("?", r"\?")):
        sign(SignOffs(), names, checklist=own(), today=TODAY, **given)  # type: ignore[arg-type]


def test_nobody_s_sign_off_cannot_be_withdrawn() -> None:
    """The nearest that there is, is named."""
    with pytest.raises(BadInput, match=r"did you mean a\.kill\?"):
        withdraw(signed_for("a.kill", of=own()), ["a.kil"])


# -- mistakes ---------------------------------------------------------------------------------------------------------


def test_every_mistake_of_a_checklist_is_told_at_once() -> None:
    """Each with its key, what was seen and what to do; what follows from another mistake is not told."""
    text = """
title = 3
valid_days = 0
extra = 1
[group.a]
[group.a.item."b c"]
text = "x"
sign = "y"
[group.a.item.d]
txt = "y"
promises = ["failover.kil", "nothing"]
[group.a.item.e]
text = "e"
promises = "failover.kill"
[group.a.item.f]
text = "f"
"""
    with pytest.raises(SetupError) as refused:
        own(text)
    assert list(refused.value.mistakes) == [
        'title must be text in quotes (got 3): write title = "3"',
        "valid_days must be 1 or more (got 0): leave it out where a sign-off never goes stale by its age",
        "group.a.item.d.txt is not a known key: did you mean group.a.item.d.text?",
        'group.a.item.e.promises must be a list (got "failover.kill"): write promises = ["failover.kill"]',
        "extra is not a known key: known here are title, valid_days, group",
        'group.a.title is missing: say what the group is called, such as title = "a"',
        'group.a.item."b c" must be named by letters, digits, dashes and underscores alone: what it means belongs in its text',
        'group.a.item.d.promises[0] is no promise (got "failover.kil"): did you mean failover.kill?',
        'group.a.item.d.promises[1] is no promise (got "nothing"): `harness promises` lists all',
        'group.a.item.f must name what proves it: write promises = ["failover.kill"], or sign = "..." for what a person must look at',
    ]


def test_every_mistake_of_sign_offs_is_told_at_once() -> None:
    """They are written by hand as well."""
    with pytest.raises(SetupError) as refused:
        parse_sign_offs(tomllib.loads('[signed.a]\nwho = "Ada"\nwhen = "2026-11-30"\nwords = "w"'), source="f")
    assert list(refused.value.mistakes) == [
        'signed.a.when must be a day (got "2026-11-30"): write when = 2026-11-30, without quotes',
        'signed.a.evidence is missing: say where it can be seen, such as evidence = "https://wiki.example/page"',
    ]


def test_no_file_of_sign_offs_is_none_yet(tmp_path: Path) -> None:
    """A folder that is not there is a mistake."""
    assert load_sign_offs(tmp_path / "none.toml") == SignOffs()
    with pytest.raises(SetupError, match="no folder"):
        load_sign_offs(tmp_path / "nowhere" / "none.toml")


# -- what is shown ----------------------------------------------------------------------------------------------------


def hostile() -> ChecklistResult:
    of = own(ONE_OF_EACH.replace('"Somebody is on call"', json.dumps(HOSTILE.lstrip("\x1b"))))
    run = run_with({"failover.kill": Status.FAIL})
    finding = replace(run.findings[0], verdict=Verdict.fail(HOSTILE))
    named = {"a.person": SignOff.model_construct(who=HOSTILE, when=TODAY, evidence=HOSTILE, words="other")}
    return hold_against(
        of,  # type: ignore[arg-type]
        run=replace(run, findings=(finding,), setup=HOSTILE),
        sign_offs=SignOffs.model_construct(signed=named),
        on=TODAY,
    )


def test_what_anybody_wrote_is_text() -> None:
    """No control reaches a terminal, and Markdown makes no link, mention or element of it."""
    shown = "\n".join(as_lines(hostile(), width=100))
    assert "\x1b" not in shown
    page = as_markdown(hostile())
    assert "<script" not in page
    assert "\x1b" not in page
    assert "https://" not in page
    assert " @" not in page


def test_the_page_shows_text_and_nothing_else() -> None:
    """What is in it came from files and from a run: no element is made of it, and no control left."""
    page = as_page(hostile())
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert '<span class="word contradicted">contradicted</span>' in page
    assert page.count("<tr id=") == 3


def test_a_checklist_in_markdown_ticks_what_is_done() -> None:
    """One box for each item, ticked only when it is verified or signed, with the evidence below."""
    of = own()
    run = run_with({"failover.kill": Status.PASS, "failover.stop": Status.FAIL})
    page = as_markdown(hold_against(of, run=run, sign_offs=signed_for("a.person", of=of), on=TODAY))  # type: ignore[arg-type]
    assert [line[:5] for line in page.splitlines() if line.startswith("- [")] == ["- [x]", "- [ ]", "- [x]"]
    assert "`failover.kill` kept: failover.kill was measured" in page
    assert "`failover.stop` broken: failover.stop was measured" in page
    assert "signed by Ada on 2026-11-30" in page


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stored run in reports/latest and a checklist of one's own."""
    run = tmp_path / "reports" / "a-run"
    run.mkdir(parents=True)
    (run / "verdicts.json").write_text(STORED.read_text())
    (tmp_path / "reports" / "latest").symlink_to("a-run")
    (tmp_path / "own.toml").write_text(ONE_OF_EACH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SIGN = ["--who", "Ada", "--evidence", "https://wiki.example/on-call"]


def test_signing_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sign, list, withdraw: each writes the file that people keep, and nothing of a run."""
    own_list = ["checklist", "--checklist", "own.toml"]
    assert cli.main([*own_list, "--sign", "a.person", "--sign", "a.both", *SIGN, "--when", "2026-11-30"]) == 0
    kept = tomllib.loads((folder / "checklist-signed.toml").read_text())["signed"]
    assert kept["a.person"]["who"] == "Ada"
    assert kept["a.person"]["when"] == TODAY
    assert cli.main([*own_list, "--list"]) == 0
    assert "a.both" in capsys.readouterr().out
    assert cli.main([*own_list, "--withdraw", "a.both"]) == 0
    assert cli.main([*own_list, "--list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["a.person"]
    assert not (folder / "reports/latest/checklist.md").exists()


def test_the_exit_code_of_a_checklist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 while something is open, 0 when everything is done, 2 when the input is bad."""
    own_list = ["checklist", "--checklist", "own.toml"]
    assert cli.main(own_list) == 1
    assert cli.main([*own_list, "--sign", "a.person", "--sign", "a.both", *SIGN, "--run", "reports/a-run"]) == 0
    capsys.readouterr()
    assert cli.main([*own_list, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["exit_code"], told["run"]) == ("harness-checklist", 0, "2026-11-23-1412-41907")
    assert (folder / "reports/a-run/checklist.md").read_text().startswith("# Before a release")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "nowhere"], "nowhere"),
        (["--checklist", "nowhere.toml"], "did you mean"),
        (["--sign", "scaling.runbooks"], "--who"),
        (["--who", "Ada"], "--sign"),
        (["--sign", "scaling.runbooks", *SIGN, "--when", "yesterday"], "2026-11-30"),
        (["--sign", "scaling.runbook", *SIGN], "scaling.runbooks"),
        (["--withdraw", "scaling.runbooks"], "somebody signed"),
        (["--signoffs", "own.toml"], "signed"),
    ],
)
def test_bad_input_of_a_checklist(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """One message, exit code 2, nothing written."""
    if arguments[0] == "--checklist":
        (folder / "nowhere2.toml").write_text("")
    assert cli.main(["checklist", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (folder / "checklist-signed.toml").exists()
    assert not (folder / "reports/a-run/checklist.md").exists()


def test_a_checklist_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is proven; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["checklist"]) == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Exception, match="cannot be read"):
        read_results(tmp_path)
