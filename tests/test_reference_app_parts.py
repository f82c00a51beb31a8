"""The reference app's settings, secrets, stop and known faults, each on its own: no server, no socket listens."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from reference_app import known_bad, server
from reference_app.__main__ import main
from reference_app.errors import SettingsError, UnavailableError
from reference_app.forwarding import addresses, believed_address, believed_scheme
from reference_app.security import Passwords, Signer
from reference_app.server import GracefulServer, Parts
from reference_app.sessions import RedisSessions
from reference_app.settings import Settings
from reference_app.site import Site

ENVIRON = {
    "PORT": "8000",
    "DATABASE_URL": "postgres://app:hidden@db/app",
    "REDIS_URL": "redis://:hidden@store",
    "SECRET_KEY": "s" * 32,
    "INSTANCE": "app-1",
}


def read(**changes: str) -> Settings:
    return Settings.from_environ({**ENVIRON, **changes})


def test_settings_have_the_documented_defaults() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.session_store) == ("127.0.0.1", 8000, "redis")
    assert (settings.app_version, settings.drain_seconds, settings.password_cost) == ("1", 0.3, 14)
    assert (settings.cookie_secure, settings.known_bad) == (False, ())


def test_redis_is_needed_only_for_its_sessions() -> None:
    assert read(REDIS_URL="", SESSION_STORE="postgres").redis_url == ""
    with pytest.raises(SettingsError, match="REDIS_URL"):
        read(REDIS_URL="")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", ""),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("DATABASE_URL", "mysql://app:hidden@db"),
        ("REDIS_URL", "http://hidden"),
        ("SECRET_KEY", "hidden"),
        ("SESSION_STORE", "mongo"),
        ("APP_VERSION", "1\r\nSet-Cookie: x"),
        ("INSTANCE", "app 1"),
        ("DRAIN_SECONDS", "nan"),
        ("DRAIN_SECONDS", "-1"),
        ("PASSWORD_COST", "14.5"),
        ("WARM_UP_SECONDS", "soon"),
        ("COOKIE_SECURE", "yes"),
        ("PROXY_HOPS", "-1"),
    ],
)
def test_a_wrong_setting_is_named_and_its_secrets_are_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as told:
        read(**{name: value})
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize(
    ("forwarded_for", "hops", "client"),
    [
        ([], 0, "10.0.0.9"),
        ([], 1, "10.0.0.9"),
        (["1.1.1.1"], 0, "10.0.0.9"),
        (["1.1.1.1"], 1, "1.1.1.1"),
        (["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),
        (["6.6.6.6", "1.1.1.1"], 1, "1.1.1.1"),  # HAProxy adds a line of its own
        (["6.6.6.6, 1.1.1.1, 2.2.2.2"], 2, "1.1.1.1"),
        (["1.1.1.1"], 5, "1.1.1.1"),
        ([" , "], 1, "10.0.0.9"),
    ],
)
def test_the_end_of_the_list_is_believed(forwarded_for: list[str], hops: int, client: str) -> None:
    """As many addresses as there are balancers of our own; all before is anybody's word."""
    assert believed_address(addresses(forwarded_for, peer="10.0.0.9"), hops=hops) == client


@pytest.mark.parametrize(
    ("said", "hops", "scheme"),
    [
        ([], 1, "http"),
        (["https"], 1, "https"),
        (["HTTPS"], 1, "https"),
        (["https"], 0, "http"),
        (["http, https"], 1, "https"),
        (["http", "https"], 1, "https"),
        (["gopher"], 1, "http"),
    ],
)
def test_the_scheme_is_the_balancer_s_word(said: list[str], hops: int, scheme: str) -> None:
    """Where there is one; what is neither is nothing."""
    assert believed_scheme(said, scheme="http", hops=hops) == scheme


def test_all_wrong_settings_are_told_at_once_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"PORT": "x"}) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in ("PORT", "DATABASE_URL", "REDIS_URL", "SECRET_KEY"))


def test_settings_do_not_show_secrets_when_printed() -> None:
    assert "hidden" not in repr(read())
    assert "ssss" not in repr(read())


def test_a_switch_that_does_not_exist_is_refused_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {**ENVIRON, "KNOWN_BAD": "session-in-memory, exit-at-onec"}) == 2
    assert "'exit-at-once'" in capsys.readouterr().err


def test_switches_are_listed_with_a_sentence_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--switches"], {}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(known_bad.SWITCHES)
    assert all(line.endswith(".") for line in lines)


def test_an_argument_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help-me"], ENVIRON) == 2
    assert "usage" in capsys.readouterr().err


def test_passwords_are_salted_and_carry_their_own_cost() -> None:
    async def check() -> None:
        passwords, dearer = Passwords(4), Passwords(5)
        one, other = await passwords.hash("a password"), await passwords.hash("a password")
        assert one != other
        assert await dearer.verify("a password", one)
        assert not await passwords.verify("another", one)
        assert not await passwords.verify("a password", None)
        passwords.close()
        dearer.close()

    asyncio.run(check())


def test_a_signature_is_good_for_one_secret_and_one_purpose() -> None:
    signer, other = Signer("a"), Signer("b")
    cookie = signer.sign("token")
    assert signer.unsign(cookie) == "token"
    assert other.unsign(cookie) is None
    assert signer.unsign(f"token.{signer.csrf('token')}") is None
    assert [signer.unsign(broken) for broken in ("", ".", "token", cookie[:-1], f"x{cookie}")] == [None] * 5
    assert signer.fingerprint() != other.fingerprint()


def test_a_session_store_that_is_not_there_is_unavailable() -> None:
    async def check(url: str) -> None:
        sessions = RedisSessions(url, 60)
        with pytest.raises(UnavailableError, match="redis"):
            await sessions.find("token")
        await sessions.close()

    with socket.socket() as bound:  # bound and not listening: refuses at once, and nobody else can take it
        bound.bind(("127.0.0.1", 0))
        asyncio.run(check(f"redis://127.0.0.1:{bound.getsockname()[1]}"))


# The stop


class Order(list[str]):
    """What happened, in order; stands in for the listener too."""

    def close(self) -> None:
        self.append("listener closed")


def stopping_server(order: Order, parts: Parts) -> GracefulServer:
    site = parts.site(parts.settings)
    stopping = parts.server(cast(Any, None), site)
    stopping.servers = [cast(Any, order)]
    return stopping


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Order:
    order = Order()
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds == 7:
            order.append("drained")
        await real_sleep(0)

    monkeypatch.setattr(server.asyncio, "sleep", sleep)
    return order


def told_to_stop(order: Order, *switches: str) -> GracefulServer:
    settings = read(SESSION_STORE="memory", DRAIN_SECONDS="7", KNOWN_BAD=",".join(switches))
    stopping = stopping_server(order, known_bad.spoil(Parts(settings)))

    async def stop() -> None:
        stopping.ask_to_stop()
        await stopping.main_loop()
        await stopping.shutdown()

    asyncio.run(stop())
    return stopping


def test_the_listener_is_closed_after_the_drain(order: Order) -> None:
    stopping = told_to_stop(order)
    assert order == ["drained", "listener closed"]
    assert stopping.site.draining


def test_told_twice_it_ends_at_once(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.os, "_exit", lambda code: order.append(f"exit {code}"))
    stopping = told_to_stop(order)
    stopping.ask_to_stop()
    assert order[-1] == "exit 1"


def test_listener_closed_early_closes_it_before_the_drain(order: Order) -> None:
    told_to_stop(order, "listener-closed-early")
    assert order == ["listener closed", "drained"]


def test_exit_at_once_does_not_wait(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    class EndedError(Exception):
        pass

    def end(code: int) -> None:
        assert code == 0
        raise EndedError

    monkeypatch.setattr(known_bad.os, "_exit", end)
    with pytest.raises(EndedError):
        told_to_stop(order, "exit-at-once")
    assert order == []


# The other known faults, as parts; `test_reference_app` shows that the good parts do better.


def spoiled(*switches: str, **changes: str) -> Parts:
    return known_bad.spoil(Parts(read(KNOWN_BAD=",".join(switches), **changes)))


def test_without_a_switch_nothing_is_replaced() -> None:
    settings = read()
    assert known_bad.spoil(Parts(settings)) == Parts(settings, Site, GracefulServer)


def test_session_in_memory_ignores_the_store_that_was_set() -> None:
    assert spoiled("session-in-memory").settings.session_store == "memory"


def test_secret_per_instance_differs_between_instances_and_not_between_starts() -> None:
    secrets = [spoiled("secret-per-instance", INSTANCE=name).settings.secret_key for name in ("a", "b", "a")]
    assert secrets[0] == secrets[2] != secrets[1]


def test_several_switches_can_be_on_at_once() -> None:
    parts = spoiled("logout-cookie-only", "ready-before-warm-up", "secret-at-boot", "listener-closed-early")
    assert [base.__name__ for base in parts.site.__mro__[:6:2]] == [
        "_SecretAtBoot",
        "_ReadyBeforeWarmUp",
        "_LogoutCookieOnly",
    ]
    assert issubclass(parts.server, GracefulServer)


def test_logout_cookie_only_leaves_the_session_in_the_store() -> None:
    class Untouched:
        async def end(self, token: str) -> None:
            raise AssertionError(token)

    parts = spoiled("logout-cookie-only", SESSION_STORE="memory")
    site = parts.site(parts.settings)
    site.sessions = cast(Any, Untouched())
    asyncio.run(site.log_out("token"))


def test_ready_before_warm_up_says_ready_and_answers_500_for_a_second() -> None:
    async def check() -> None:
        parts = spoiled("ready-before-warm-up", SESSION_STORE="memory", WARM_UP_SECONDS="0.5")
        site = parts.site(parts.settings)
        reached: list[str] = []
        statuses: list[int] = []

        async def page(scope: Any, _receive: Any, _send: Any) -> None:
            reached.append(scope["path"])

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        wrapped = site.wrap(page)
        site.opened_at = asyncio.get_running_loop().time()
        assert site.is_warm()
        for path in ("/ready", "/login"):
            await wrapped({"type": "http", "path": path}, cast(Any, None), send)
        assert (reached, statuses) == (["/ready"], [500])

        site.opened_at -= 1
        await wrapped({"type": "http", "path": "/login"}, cast(Any, None), send)
        assert (reached, statuses) == (["/ready", "/login"], [500])

    asyncio.run(check())
