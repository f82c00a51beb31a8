"""A first setup file: what is seen is in it, what is guessed is marked, and it can be read as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import Script, ScriptedServer, Talk

from harness import cli
from harness.initial import Field, Form, Here, forms_in, setup_text
from harness.setup import Setup, load_setup

LOGIN = b"""
<form method="get" action="/search"><input name="q"></form>
<form method="post"><input type="hidden" name="csrf-token" value="x">
<input name="username"><input type="password" name="password"><input type="checkbox" name="remember_me" value="yes">
<button name="go">in</button></form>
"""
REGISTER = b"""
<FORM METHOD=POST ACTION=create><input type=email name="user[email]"><input name=nick>
<input type=password name=pw><input type=password name=pw2></FORM>
"""


@pytest.fixture
def site() -> Iterator[ScriptedServer]:
    scripts = {
        "/": lambda talk: talk.answer(headers="X-Served-By: web-1\r\n"),
        "/login": lambda talk: talk.answer(LOGIN),
        "/signup": lambda talk: talk.answer(REGISTER),
        "/healthz": lambda talk: talk.answer(),
        "/readyz": lambda talk: talk.answer(),
        "/account": lambda talk: talk.answer(status="302 Found", headers="Location: /login?next=/account\r\n"),
    }

    def nothing(talk: Talk) -> None:
        talk.answer(status="404 Not Found")

    others = ("/health", "/register", "/register/", "/dashboard", "/ready", "/profile")
    with closing(ScriptedServer(dict.fromkeys(others, nothing) | scripts)) as server:
        yield server


def written(tmp_path: Path) -> str:
    return (tmp_path / "harness.toml").read_text(encoding="utf-8")


def test_a_site_that_runs(site: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its forms become journeys, fields by name and kind; nothing is sent to it but GET."""
    host, port = site.address
    assert cli.main(["init", str(tmp_path), "--host", f"http://{host}:{port}"]) == 0
    setup = load_setup(tmp_path / "harness.toml")
    assert (setup.app.health, setup.app.ready, setup.app.instance_header) == ("/healthz", "/readyz", "X-Served-By")
    get, post = setup.journey["login"].steps
    assert (get.get, get.take["csrf_token"].field) == ("/login", "csrf-token")
    assert post.form == {
        "csrf-token": "{csrf_token}",
        "username": "{user.email}",
        "password": "{user.password}",
        "remember_me": "yes",
    }
    (register,) = setup.journey["register"].steps
    assert register.post == "/create"
    assert register.form == {
        "user[email]": "{user.email}",
        "nick": "{user.name}",
        "pw": "{user.password}",
        "pw2": "{user.password}",
    }
    (whoami,) = setup.journey["whoami"].steps
    assert whoami.get == "/account"
    assert whoami.logged_out is not None
    assert whoami.logged_out.location == "/login*"
    assert {seen.method for seen in site.seen} == {"GET"}
    out = capsys.readouterr().out
    assert "saw    " in out
    assert f"harness journey {tmp_path / 'harness.toml'} --try --host http://{host}:{port}" in out


def test_a_site_that_ends_its_paths_with_a_slash(tmp_path: Path) -> None:
    """As Django does: whoever asks without it is sent there, and the file has the path that answers. A version is JSON."""

    def to(where: str, status: str = "301 Moved Permanently") -> Script:
        return lambda talk: talk.answer(status=status, headers=f"Location: {where}\r\n")

    def nothing(talk: Talk) -> None:
        talk.answer(status="404 Not Found")

    there = {path: to(f"{path}/") for path in ("/health", "/ready", "/login", "/register", "/dashboard", "/version")}
    scripts: dict[str, Script] = {
        **there,
        "/login/": lambda talk: talk.answer(LOGIN),
        "/register/": lambda talk: talk.answer(LOGIN),
        "/dashboard/": to("/login/?next=/dashboard/", "302 Found"),
        "/version/": lambda talk: talk.answer(b'{"version": "1"}'),
    }
    for version, answers in (("/version/", scripts), (None, scripts | {"/version/": nothing})):
        folder = tmp_path / str(version).strip("/")
        folder.mkdir()
        with closing(ScriptedServer(answers)) as server:
            host, port = server.address
            assert cli.main(["init", str(folder), "--host", f"http://{host}:{port}"]) == 0
        setup = load_setup(folder / "harness.toml")
        assert (setup.app.health, setup.app.ready, setup.app.version) == ("/health/", "/ready/", version)
        assert [setup.journey[name].steps[0].get for name in ("register", "login", "whoami")] == [
            "/register/",
            "/login/",
            "/dashboard/",
        ]


def test_a_compose_project(tmp_path: Path) -> None:
    """It is named, and what cannot be seen in it is guessed and marked."""
    (tmp_path / "docker-compose.yml").write_text("services: {}", encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 0
    setup = load_setup(tmp_path / "harness.toml")
    assert setup.compose is not None
    assert [str(file) for file in setup.compose.file] == ["docker-compose.yml"]
    assert "CHECK: no such form was seen" in written(tmp_path)


def test_a_dockerfile(tmp_path: Path) -> None:
    """Its port and the path of its health check are taken."""
    text = "FROM x\nEXPOSE 8080\nHEALTHCHECK --interval=5s \\\n  CMD curl -f http://localhost:8080/alive || exit 1\n"
    (tmp_path / "Dockerfile").write_text(text, encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 0
    setup = load_setup(tmp_path / "harness.toml")
    assert (setup.app.port, setup.app.health) == (8080, "/alive")


def wrote(folder: Path, files: Mapping[str, str]) -> Setup:
    """The setup file that is made of a folder with these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    assert cli.main(["init", str(folder)]) == 0
    return load_setup(folder / "harness.toml")


DJANGO = {"manage.py": 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")', "shop/wsgi.py": ""}
GUNICORN = ("gunicorn", "--bind", "{host}:{port}")
UVICORN = ("uvicorn", "main:api", "--host", "{host}", "--port", "{port}")
MIGRATED = (".venv/bin/gunicorn", "--bind", "{host}:{port}", "shop.wsgi")
IN_MEMORY = '{"scripts": {"start": "node server.js"}, "dependencies": {"express-session": "1"}}'
FACTORY = "from flask import Flask\n\n\ndef create_app(test=None):\n"


@pytest.mark.parametrize(
    ("files", "command", "store"),
    [
        (DJANGO | {".venv/bin/gunicorn": ""}, MIGRATED, "postgres"),
        ({"requirements.txt": "", "app.py": "app = Flask(__name__)"}, (*GUNICORN, "app:app"), "other"),
        ({"pyproject.toml": "", "shop/__init__.py": FACTORY}, (*GUNICORN, "shop:create_app()"), "other"),
        ({"requirements.txt": "", "main.py": "api: FastAPI = fastapi.FastAPI()"}, UVICORN, "redis"),
        ({"package.json": IN_MEMORY}, ("node", "server.js"), "memory"),
        ({"package.json": '{"scripts": {"start": "next start"}}', "index.js": ""}, ("node", "index.js"), "redis"),
        ({"package.json": "{}"}, ("npm", "start"), "redis"),
        ({"go.mod": "module example.org/shop/v2\n"}, ("./shop",), "redis"),
        ({"Procfile": "release: x\nweb: puma -b tcp://h:${PORT:-3000}\n"}, ("puma", "-b", "tcp://h:{port}"), "redis"),
    ],
    ids=["django", "flask", "flask factory", "fastapi", "node", "script", "npm", "go", "procfile"],
)
def test_a_framework(tmp_path: Path, files: dict[str, str], command: tuple[str, ...], store: str) -> None:
    """Its command is what its own documentation has, with the programs of the project's own environment; all of it is marked."""
    setup = wrote(tmp_path, files)
    assert (setup.app.command, setup.app.image, setup.sessions.store) == (command, None, store)
    assert re.search(r"^command = .*# CHECK: ", written(tmp_path), re.MULTILINE)
    # The one whose framework has a command of its own for that.
    assert setup.app.migrate == ((".venv/bin/python", "manage.py", "migrate") if "manage.py" in files else None)


@pytest.mark.parametrize(
    "files",
    [
        {"Procfile": "web: cd x && ./run $PORT"},
        {"Procfile": "web: ./run '"},
        {"Procfile": "web: ./run $OTHER"},
        {"Procfile": "web: A=1 ./run"},
        {"package.json": "[]"},
        {"package.json": '{"scripts": []}'},
        {"package.json": "no"},
        {"requirements.txt": "numpy", "app.py": "print()"},
        {"manage.py": "print()"},
    ],
)
def test_no_framework(tmp_path: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be told is not guessed."""
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 2
    assert "no project of a known framework" in capsys.readouterr().err


def test_a_file_beside_the_project_finds_it(tmp_path: Path) -> None:
    """Paths in a setup file begin at its own folder."""
    for name, file in (("shop", "go.mod"), ("stack", "compose.yml")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("module shop", encoding="utf-8")
        assert cli.main(["init", str(tmp_path / name), "--output", str(tmp_path / f"{name}.toml")]) == 0
    shop, stack = load_setup(tmp_path / "shop.toml"), load_setup(tmp_path / "stack.toml")
    assert shop.app.directory == "shop"
    assert stack.compose is not None
    assert [str(file) for file in stack.compose.file] == ["stack/compose.yml"]


def test_what_the_sources_read_is_given_to_them(tmp_path: Path) -> None:
    """By the names of the variables; what they do not read is not there, and what nobody can guess is left to its author."""
    sources = {
        "go.mod": "module shop",
        "main.go": 'os.Getenv("LISTEN"); os.Getenv("DATABASE_URL"); os.LookupEnv("PGHOST")',
        "app.py": 'os.environ["DB_NAME"], os.getenv("SMTP"), "DEBUG" in os.environ',
        "web/server.js": "process.env.SESSION_SECRET",
        "web/node_modules/x.js": "process.env.REDIS_URL",
        ".hidden/x.py": 'os.environ["REDIS_URL"]',
    }
    setup = wrote(tmp_path, sources)
    assert setup.app.env == {
        "LISTEN": "{host}:{port}",
        "DATABASE_URL": "{postgres.url}",
        "PGHOST": "{postgres.host}",
        "DB_NAME": "{postgres.database}",
        "SESSION_SECRET": "{secret}",
    }
    assert (setup.redis, setup.sessions.store) == (None, "other")
    assert {'# SMTP = ""', '# DEBUG = ""'} <= set(written(tmp_path).splitlines())


def test_who_registers_with_a_name_logs_in_by_it() -> None:
    """Where both forms have a field of that name; without that a name that logs in is most often the address."""
    password, name = Field(name="password", kind="password"), Field(name="username", kind="text")
    register = Form(page="/join", action="/join", fields=(name, Field(name="email", kind="email"), password))
    login = Form(page="/login", action="/login", fields=(name, password))
    text = setup_text(Here(name="shop", login=login, register=register), file="harness.toml")
    assert text.count('username = "{user.name}"') == 2
    alone = setup_text(Here(name="shop", login=login), file="harness.toml")
    assert 'username = "{user.email}"' in alone


def test_what_somebody_wrote_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "harness.toml").write_text("mine", encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 2
    assert "is there already, and what you wrote is not overwritten" in capsys.readouterr().err
    assert written(tmp_path) == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no compose file, no Dockerfile, and no project of a known framework in"),
        (["--host", "http://127.0.0.1:1"], "nobody answers at http://127.0.0.1:1"),
        (["--host", "shop"], "URL is the address of a site"),
    ],
)
def test_nothing_to_begin_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """One message, and nothing is written."""
    assert cli.main(["init", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("page", "actions"),
    [
        ('<form method="post" action="https://elsewhere/x"><input type="password" name="p"></form>', []),
        ('<form method="post" action="//elsewhere/x"><input type="password" name="p"></form>', []),
        ('<form method="post" action="http://[broken"><input type="password" name="p"></form>', []),
        ('<form><input type="password" name="p"></form>', []),
        ('<form method="post"><input name="p"></form>', []),
        ('<form method="post" action="?a=1"><input type="password" name="p">', ["/in?a=1"]),
        ("<input type=password name=p>" * 1000, []),
        ('<form method="post">' * 1000 + '<input type="password" name="p">', ["/in"]),
    ],
)
def test_forms(page: str, actions: list[str]) -> None:
    """Those that are posted to the same site and ask for a password, however the page is written."""
    assert [form.action for form in forms_in(page, at="/in")] == actions


@given(name=st.text(max_size=20), value=st.text(max_size=20), action=st.text(max_size=20))
def test_whatever_a_page_says_the_file_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str, action: str
) -> None:
    """Names, values and paths of somebody else's page neither break the file nor become part of it."""
    password = Field(name="password", kind="password")
    page = Form(
        page="/login",
        action="/" + re.sub(r"[^\w?&=/-]", "", action).lstrip("/"),
        fields=(Field(name=name or "x", kind="hidden"), Field(name=f"{name}2", kind="checkbox", value=value), password),
    )
    file = tmp_path_factory.mktemp("initial") / "harness.toml"
    file.write_text(setup_text(Here(name="shop", login=page, register=page), file="harness.toml"), encoding="utf-8")
    setup = load_setup(file)
    assert (setup.journey["login"].steps[-1].form or {})["password"] == "{user.password}"
