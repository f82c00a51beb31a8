"""`junit.xml`: the run for tools that know tests. A promise is a test case, or one for each of its scenarios.

Only *pass*, and what the setup waives, is no failure there: *fail* is a `failure`, *inconclusive* and *rig-error* are
an `error`, since neither may show green. Must not: hold anything that `verdicts.json` does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as Xml

from harness.model import Finding, Status
from harness.reporting.run import PromiseResult, RunResult
from harness.reporting.text import without_controls

__all__ = ["to_junit"]

# What XML 1.0 has no way to say, also not as an entity. Controls are taken out before; these are what remains.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(result: RunResult) -> str:
    """The document, valid XML 1.0 whatever an application sent."""
    root = Xml.Element("testsuites", name=_text(result.setup))
    groups: dict[str, list[PromiseResult]] = {}
    for each in result.results_by_promise:
        groups.setdefault(each.group, []).append(each)
    for group, promises in groups.items():
        suite = Xml.SubElement(root, "testsuite", name=_text(group), timestamp=_text(result.started))
        _properties(
            suite,
            run=result.run_id,
            setup=result.setup,
            platform=result.platform,
            balancer=result.balancer,
            instances=str(result.instances),
            sessions=result.sessions,
            seed=str(result.seed),
            harness=result.version,
            command=result.command,
        )
        suite.extend(case for promise in promises for case in _cases(promise, result))
        _count(suite, suite)
        suite.set("time", f"{sum(float(case.get('time', '0')) for case in suite.iter('testcase')):.3f}")
    _count(root, root)
    root.set("time", f"{result.seconds:.3f}")
    Xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _cases(result: PromiseResult, run: RunResult) -> Iterator[Xml.Element]:
    for finding in result.findings:
        yield _case(result, finding, run)
    if result.untried:
        case = Xml.Element(
            "testcase", classname=_text(result.group), name=_text(f"{result.id} (not tried)"), time="0.000"
        )
        _outcome(case, result, Status.INCONCLUSIVE, "the run ended before it was tried", "")
        yield case


def _case(result: PromiseResult, finding: Finding, run: RunResult) -> Xml.Element:
    name = result.id if len(result.findings) == 1 else f"{result.id} ({finding.scenario})"
    case = Xml.Element("testcase", classname=_text(result.group), name=_text(name), time=f"{finding.seconds:.3f}")
    verdict = finding.verdict
    # What is of the whole run stands here as well: many services show the properties of a case alone.
    told = {
        "promise": result.id,
        "scenario": finding.scenario,
        "setup": run.setup,
        "platform": run.platform,
        "seed": str(run.seed),
        "verdict": verdict.status.value,
        "measured": verdict.measured,
        "repeat": run.command_for(result.id),
    }
    if result.promise is not None:
        told["bound"] = result.promise.bound
    if result.waived:
        told["waived"] = result.waived
    if finding.causes and verdict.status is not Status.PASS:
        likeliest = finding.causes[0]
        told |= {"cause": f"{likeliest.sentence} ({likeliest.confidence})", "remedy": likeliest.remedy}
    _properties(case, **told)
    causes = "".join(
        f"cause   {cause.sentence} ({cause.confidence})\nremedy  {cause.remedy}\n" for cause in finding.causes
    )
    _outcome(case, result, verdict.status, verdict.measured, causes)
    return case


def _outcome(case: Xml.Element, result: PromiseResult, status: Status, measured: str, causes: str) -> None:
    if status is Status.PASS:
        return
    if result.waived:
        Xml.SubElement(case, "skipped", message=_text(f"waived: {result.waived} ({status}: {measured})"))
        return
    kind = "failure" if status is Status.FAIL else "error"
    outcome = Xml.SubElement(case, kind, type=status.value, message=_text(measured))
    sentence = f"{result.promise.sentence}\n" if result.promise is not None else ""
    outcome.text = _text(f"{sentence}seen    {measured}\n{causes}")


def _properties(parent: Xml.Element, **values: str) -> None:
    properties = Xml.SubElement(parent, "properties")
    for name, value in values.items():
        Xml.SubElement(properties, "property", name=name, value=_text(value))


def _count(element: Xml.Element, of: Xml.Element) -> None:
    for name, tag in {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        element.set(name, str(sum(1 for _ in of.iter(tag))))


def _text(text: str) -> str:
    return _NOT_IN_XML.sub("", without_controls(text))
