"""The views: what a person sees of a run while it runs and at its end.

Whatever comes from an application, a setup file or a node is shown as text without any power over the terminal.
Must not: judge, or write to anything but its stream.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Mapping
from json import dumps, loads
from types import TracebackType
from typing import Protocol, Self, TextIO, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from harness import clock
from harness.reporting.closing import ID_CHARACTERS, boot_line, closing_texts, id_characters, promise_line, result_line
from harness.reporting.redaction import Redactor
from harness.reporting.run import PromiseResult, RunHeader, RunResult
from harness.reporting.text import one_line, plural, without_controls
from harness.reporting.verdicts import to_json

__all__ = ["JsonView", "Line", "LiveView", "PlainView", "QuietView", "View", "choose_view", "progress_text", "show"]

Line: TypeAlias = Text | str
"""A line to show, with styles or without."""
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND = 10
_PENDING = "·"
# What is printed where the stream's encoding has no such character.
_PLAIN_LETTERS = str.maketrans({"·": "-", "…": "..."})


class View(Protocol):
    """Told what happens, in this order. A context manager: leaving it gives the terminal back, whatever happened.

    `progress` and `node_ready` may be called from any thread; everything else from one.
    """

    def hide(self, *secrets: str) -> None:
        """Never show these from now on."""

    def begin(self, header: RunHeader) -> None: ...

    def preparing(self, text: str) -> None:
        """What takes long before the first node can be started, such as an image that is pulled."""

    def node_ready(self, name: str, seconds: float) -> None:
        """A node became ready, so many seconds after it was started."""

    def up(self, seconds: float) -> None:
        """Everything is ready, so many seconds after the first node was started."""

    def promise_running(self, promise_id: str, note: str = "") -> None:
        """A scenario of this promise begins. May be told several times before the promise is done."""

    def progress(self, text: str) -> None:
        """How what runs now is getting on; of a scenario see `progress_text`."""

    def line(self, text: str) -> None:
        """A line that stays, such as what begins now."""

    def promise_done(self, result: PromiseResult) -> None:
        """All scenarios of a promise have been judged."""

    def end(self, result: RunResult) -> None:
        """The run is over. Promises that were judged and not told to be done show now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress_text(*, requests: int, failed: int, longest_gap_ms: float, note: str = "") -> str:
    """Such as `app-2 of 3 replaced · 1,204 requests · 0 failed · longest gap 12 ms`."""
    parts = [note] if note else []
    if requests:
        parts += [plural(requests, "request"), f"{failed:,} failed"]
    if longest_gap_ms >= 0.5:
        parts.append(f"longest gap {longest_gap_ms:,.0f} ms")
    return " · ".join(parts)


def choose_view(
    stream: TextIO,
    *,
    quiet: bool = False,
    json: bool = False,
    color: bool | None = None,
    environ: Mapping[str, str] | None = None,
) -> View:
    """The view that suits a stream: live on a terminal that can be drawn on, plain lines elsewhere.

    The view takes hold of the stream's file for itself until it is left: pytest puts another in its place while
    scenarios run, and catches what they print; that must neither catch the view's lines nor spoil its drawing.

    `color`: None colours a terminal unless NO_COLOR is set. `environ`: where NO_COLOR and TERM are looked up; the
    process's environment when it is None.
    """
    stream = _held(stream)
    if json:
        return JsonView(stream)
    if quiet:
        return QuietView(stream, color=color, environ=environ)
    console = _console(stream, color=color, environ=environ)
    can_draw = stream.isatty() and not console.is_dumb_terminal and _encodes(stream, _FRAMES)
    view = LiveView if can_draw else PlainView
    return view(stream, color=color, environ=environ)


def show(
    lines: Iterable[Line], *, stream: TextIO, color: bool | None = None, environ: Mapping[str, str] | None = None
) -> None:
    """Lines that are final, as a view would print them, for who has no single run to show. Options as `choose_view`."""
    console = _console(stream, color=color, environ=environ)
    for line in lines:
        _print(console, Text(without_controls(line)) if isinstance(line, str) else line)
    stream.flush()


class _Held(io.TextIOWrapper):
    """A stream of our own to the same open file."""


def _held(stream: TextIO) -> TextIO:
    """A second way to the same file; the stream itself where there is no file behind it."""
    try:
        number = os.dup(stream.fileno())
    except (OSError, AttributeError):
        return stream
    stream.flush()
    return _Held(os.fdopen(number, "wb"), encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def _encodes(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _console(stream: TextIO, *, color: bool | None, environ: Mapping[str, str] | None) -> Console:
    """A console that shows text and nothing else: no markup, no emoji names, no guesses at what should be coloured."""
    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
        # Said outright: variables of CI services make rich take a file for a terminal.
        force_terminal=stream.isatty() or color is True,
        # Whoever asks for colours gets them, also where TERM is dumb, as in most CI services.
        color_system="standard" if color is True and not stream.isatty() else "auto",
        no_color={True: False, False: True, None: None}[color],
        _environ=environ,
    )


class _Silent:
    """A view that shows nothing."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._redactor = Redactor()
        self._stream = stream

    def hide(self, *secrets: str) -> None:
        self._redactor.add(*secrets)

    def begin(self, header: RunHeader) -> None:
        pass

    def preparing(self, text: str) -> None:
        pass

    def node_ready(self, name: str, seconds: float) -> None:
        pass

    def up(self, seconds: float) -> None:
        pass

    def promise_running(self, promise_id: str, note: str = "") -> None:
        pass

    def progress(self, text: str) -> None:
        pass

    def line(self, text: str) -> None:
        pass

    def promise_done(self, result: PromiseResult) -> None:
        pass

    def end(self, result: RunResult) -> None:
        pass

    def _leave(self) -> None:
        """What is to be shown when nothing more will come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave()
        finally:
            if isinstance(self._stream, _Held):
                self._stream.close()


class JsonView(_Silent):
    """Prints `verdicts.json` at the end, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._to = stream

    def end(self, result: RunResult) -> None:
        text = to_json(self._redactor.everything(result))
        if not _encodes(self._to, text):
            text = dumps(loads(text), indent=2) + "\n"
        self._to.write(text)
        self._to.flush()


class QuietView(_Silent):
    """Prints the end only; nothing at all without a stream, for a door that shows the end itself."""

    def __init__(
        self, stream: TextIO | None = None, *, color: bool | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(stream)
        self._console = None if stream is None else _console(stream, color=color, environ=environ)

    def end(self, result: RunResult) -> None:
        if self._console is not None:
            _print_end(self._console, self._redactor.everything(result))


class PlainView(_Silent):
    """Lines, each once and whole, for a file, a pipe or a CI log."""

    def __init__(self, stream: TextIO, *, color: bool | None = None, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(stream)
        self._console = _console(stream, color=color, environ=environ)
        self._lock = threading.Lock()
        self._nodes: dict[str, float | None] = {}
        self._id_characters = ID_CHARACTERS
        self._shown: set[str] = set()

    def begin(self, header: RunHeader) -> None:
        header = self._redactor.everything(header)
        self._id_characters = max([ID_CHARACTERS, *map(len, header.promises)])
        with self._lock:
            self._nodes = dict.fromkeys(header.nodes)
        _print(self._console, Text(f" {one_line(str(header))}", "bold"))
        if header.why_platform:
            _print(self._console, Text(f" {header.platform}: {one_line(header.why_platform)}", "dim"))
        for note in header.notes:
            _print(self._console, Text(f" {one_line(note)}", "dim"))

    def preparing(self, text: str) -> None:
        _print(self._console, Text(f" {one_line(text)}", "dim"))

    def node_ready(self, name: str, seconds: float) -> None:
        with self._lock:
            self._nodes[self._redactor.everything(name)] = seconds

    def up(self, seconds: float) -> None:
        with self._lock:
            line = boot_line(f"up in {seconds:.1f} s", self._nodes)
        _print(self._console, line)
        _print(self._console, Text())

    def line(self, text: str) -> None:
        _print(self._console, _own_line(self._redactor.everything(text)))

    def promise_done(self, result: PromiseResult) -> None:
        self._shown.add(result.id)
        _print(self._console, result_line(self._redactor.everything(result), id_characters=self._id_characters))

    def end(self, result: RunResult) -> None:
        for each in result.results_by_promise:
            if each.findings and each.id not in self._shown:
                self.promise_done(each)
        _print(self._console, Text())
        _print_end(self._console, self._redactor.everything(result))


class LiveView(_Silent):
    """A terminal: promises fill in, in order, and the one that runs says how it is getting on.

    Lines that are final are printed and scroll away like any output; only what may still change is drawn again, so that
    a low terminal is enough, and a narrow one cuts lines at its right edge.
    """

    def __init__(self, stream: TextIO, *, color: bool | None = None, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(stream)
        self._console = _console(stream, color=color, environ=environ)
        self._live: Live | None = None
        # Guards what follows. Never held while rich is called: its own lock is held when it asks for the region.
        self._lock = threading.Lock()
        self._nodes: dict[str, float | None] = {}
        self._is_up = False
        self._preparing = ""
        self._note = ""
        self._order: list[str] = []
        self._told: dict[str, str] = {}
        self._done: dict[str, PromiseResult] = {}
        self._printed: set[str] = set()
        self._running = ""
        self._id_characters = ID_CHARACTERS

    # -- what is told -----------------------------------------------------------------------------------------

    def begin(self, header: RunHeader) -> None:
        header = self._redactor.everything(header)
        with self._lock:
            self._order = list(header.promises)
            self._nodes = dict.fromkeys(header.nodes)
            self._id_characters = max([ID_CHARACTERS, *map(len, header.promises)])
        _print(self._console, Text(f" {one_line(str(header))}", "bold"), cut=True)
        if header.why_platform:
            _print(self._console, Text(f" {header.platform}: {one_line(header.why_platform)}", "dim"), cut=True)
        for note in header.notes:
            _print(self._console, Text(f" {one_line(note)}", "dim"), cut=True)
        self._live = Live(
            get_renderable=self._region,
            console=self._console,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            # Nothing of ours prints; what a library says on these streams must not be swallowed with the region.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def preparing(self, text: str) -> None:
        with self._lock:
            self._preparing = one_line(text)

    def node_ready(self, name: str, seconds: float) -> None:
        with self._lock:
            self._preparing = ""
            self._nodes[self._redactor.everything(name)] = seconds

    def up(self, seconds: float) -> None:
        with self._lock:
            self._is_up = True
            line = boot_line(f"up in {seconds:.1f} s", self._nodes)
        _print(self._console, line, cut=True)
        _print(self._console, Text())

    def promise_running(self, promise_id: str, note: str = "") -> None:
        with self._lock:
            if promise_id not in self._order:
                self._order.append(promise_id)
            self._running = promise_id
            self._told[promise_id] = self._redactor.everything(note)

    def progress(self, text: str) -> None:
        with self._lock:
            if self._running:
                self._told[self._running] = self._redactor.everything(text)
            else:
                self._note = one_line(self._redactor.everything(text))

    def line(self, text: str) -> None:
        _print(self._console, _own_line(self._redactor.everything(text)))

    def promise_done(self, result: PromiseResult) -> None:
        with self._lock:
            if result.id not in self._order:
                self._order.append(result.id)
            self._done[result.id] = self._redactor.everything(result)
            if self._running == result.id:
                self._running = ""
            final = []
            for promise_id in self._order:
                if promise_id not in self._done:
                    break
                if promise_id not in self._printed:
                    self._printed.add(promise_id)
                    final.append(self._line(promise_id))
        for line in final:
            _print(self._console, line, cut=True)

    def end(self, result: RunResult) -> None:
        self._stop()
        result = self._redactor.everything(result)
        for each in result.results_by_promise:
            if each.findings and each.id not in self._printed:
                self._printed.add(each.id)
                _print(self._console, result_line(each, id_characters=id_characters(result)), cut=True)
        _print(self._console, Text())
        _print_end(self._console, result)

    def _leave(self) -> None:
        """Give the terminal back; what was judged and what was running stays readable."""
        if not self._stop():
            return
        with self._lock:
            lines = [] if self._is_up else [boot_line("not up", self._nodes)]
            lines += [
                self._line(promise_id, running="interrupted")
                for promise_id in self._order
                if promise_id not in self._printed and (promise_id in self._done or promise_id == self._running)
            ]
        for line in lines:
            _print(self._console, line, cut=True)

    # -- what is drawn ----------------------------------------------------------------------------------------

    def _stop(self) -> bool:
        """Whether it was drawing until now."""
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            finally:
                # A second Ctrl-C may come while it stops.
                self._console.show_cursor(True)
        return live is not None

    def _line(self, promise_id: str, *, running: str = "") -> Text:
        if promise_id in self._done:
            return result_line(self._done[promise_id], id_characters=self._id_characters)
        word = running if promise_id == self._running else _PENDING
        line = promise_line(word, promise_id, self._told.get(promise_id, ""), id_characters=self._id_characters)
        if word == _PENDING:
            line.stylize("dim")
        return line

    def _region(self) -> RenderableType:
        """What may still change. Called by rich, from its own thread."""
        frame = _FRAMES[int(clock.now() * _FRAMES_PER_SECOND) % len(_FRAMES)]
        with self._lock:
            if not self._is_up and self._preparing:
                return Text(f" {frame} {self._preparing}", no_wrap=True, overflow="ellipsis")
            if not self._is_up:
                return boot_line(f"{frame} booting", self._nodes)
            if not self._order:
                return Text(f" {frame} {self._note}" if self._note else "", no_wrap=True, overflow="ellipsis")
            open_ids = [promise_id for promise_id in self._order if promise_id not in self._printed]
            room = max(self._console.height - 2, 1)
            if len(open_ids) > room:
                # Too low for all: what runs matters more than what is to come.
                busy = [each for each in open_ids if each in self._done or each in self._told]
                open_ids = busy[-room:]
            return Group(*(self._line(promise_id, running=frame) for promise_id in open_ids))


def _own_line(text: str) -> Text:
    """Columns in it stay as they are."""
    return Text(f" {' '.join(without_controls(text).splitlines())}".rstrip())


def _print(console: Console, line: Text, *, cut: bool = False) -> None:
    if not _encodes(console.file, line.plain):  # type: ignore[arg-type]  # rich calls any text stream IO[str]
        encoding = console.encoding
        plain = line.plain.translate(_PLAIN_LETTERS).encode(encoding, "replace").decode(encoding)
        line = Text(plain, line.style)
    console.print(line, no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut, soft_wrap=not cut)


def _print_end(console: Console, result: RunResult) -> None:
    for line in closing_texts(result, console=console if console.is_terminal else None):
        _print(console, line)
