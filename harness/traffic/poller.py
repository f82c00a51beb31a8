"""Tells connections when they may read or write: one epoll for all of them, and that one watched by the event loop.

The loop's own readers cost an object, a context and a call each time; with a thousand short connections a second that is
more than the connections themselves. Must not: know what a connection is for.
"""

from __future__ import annotations

import select
from asyncio import AbstractEventLoop
from typing import Protocol

from harness.clock import now

__all__ = ["Poller", "Watcher"]

# A turn of the loop sees to this many at most, so that timers get theirs.
_MOST_AT_ONCE = 256
# What was asked of the system this long ago still holds: far less than it takes another process to notice anything.
_CURRENT_SECONDS = 0.0005


class Watcher(Protocol):
    """Who is told. Either may be called in vain: the answer of the system to a read or write is what counts."""

    def on_readable(self) -> None: ...
    def on_writable(self) -> None: ...


class Poller:
    """Watches descriptors, until they are closed."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._asked = 0.0
        """When the system was last asked for everything."""
        self._is_telling = False
        loop.add_reader(self._epoll.fileno(), self._dispatch)

    def watch(self, descriptor: int, watcher: Watcher, *, for_writing: bool) -> None:
        """Tell `watcher` from now on when it may read; and when it may write, if that is wanted."""
        events = select.EPOLLIN | select.EPOLLOUT if for_writing else select.EPOLLIN
        if descriptor in self._watchers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
            self._watchers[descriptor] = watcher

    def forget(self, descriptor: int) -> None:
        """To be called before the descriptor is closed, which is what ends the system's watch."""
        self._watchers.pop(descriptor, None)

    def catch_up(self, moment: float) -> bool:
        """Tell everybody what has happened by now, `moment`, unless that was just done. False when it cannot be done:
        when it is called by somebody who is being told.
        """
        if moment - self._asked < _CURRENT_SECONDS:
            return True
        if self._is_telling:
            return False
        self._dispatch()
        return True

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _dispatch(self) -> None:
        watchers = self._watchers
        asked = now()
        happened = self._epoll.poll(0, _MOST_AT_ONCE)
        if len(happened) < _MOST_AT_ONCE:
            self._asked = asked
        self._is_telling = True
        for descriptor, events in happened:
            if events & select.EPOLLOUT and (watcher := watchers.get(descriptor)) is not None:
                watcher.on_writable()
            # Errors and hang-ups are found by reading. Writing may have ended the watch.
            if events & ~select.EPOLLOUT and (watcher := watchers.get(descriptor)) is not None:
                watcher.on_readable()
        self._is_telling = False
