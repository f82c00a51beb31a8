"""Faults of a new version beside the old one: it keeps sessions in another form, or has only its own files.

Wrong on purpose, as `known_bad` is, whose list these are part of; nothing else knows of them.
"""

from __future__ import annotations

from typing import Any

from reference_app.assets import Assets
from reference_app.security import new_token
from reference_app.sessions import Session, Sessions
from reference_app.settings import Settings
from reference_app.site import Site

__all__ = ["VERSION_SITES"]

_NEW = "-v2"


class _NewFormat:
    """Sessions are kept in another place, where a version that does not know of it finds nothing; old ones are not looked at."""

    def __init__(self, store: Sessions) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def begin(self, session: Session, *, token: str | None = None) -> str:
        token = token or new_token()
        await self._store.begin(session, token=token + _NEW)
        return token

    async def find(self, token: str) -> Session | None:
        return await self._store.find(token + _NEW)

    async def count(self, token: str) -> int | None:
        return await self._store.count(token + _NEW)

    async def keep(self, token: str, name: str, text: str) -> bool:
        return await self._store.keep(token + _NEW, name, text)

    async def kept(self, token: str, name: str) -> str | None:
        return await self._store.kept(token + _NEW, name)

    async def end(self, token: str) -> None:
        await self._store.end(token + _NEW)


class _Upgraded(_NewFormat):
    """The same, and an old session is turned into a new one when it is used."""

    async def find(self, token: str) -> Session | None:
        session = await super().find(token)
        if session is None and (session := await self._store.find(token)) is not None:
            await self.begin(session, token=token)
            await self._store.end(token)
        return session


class _SessionFormatNew(Site):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sessions = _NewFormat(self.sessions)


class _SessionFormatUpgraded(Site):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sessions = _Upgraded(self.sessions)


class _OfOwnBuild(Assets):
    async def find(self, name: str) -> str | None:
        return self.content if name == self.stylesheet else None


class _AssetsOfOwnBuild(Site):
    def make_assets(self) -> Assets:
        return _OfOwnBuild(self.database, version=self.settings.app_version)


VERSION_SITES: dict[str, tuple[str, type[Site]]] = {
    "session-format-new": (
        "Sessions are kept in another form than before, and those in the old form are not read.",
        _SessionFormatNew,
    ),
    "session-format-upgraded": (
        "Sessions are kept in another form than before, and old ones are turned into it when they are used.",
        _SessionFormatUpgraded,
    ),
    "assets-of-own-build": ("An instance has the files of its own build, and of no other.", _AssetsOfOwnBuild),
}
