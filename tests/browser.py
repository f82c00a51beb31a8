"""Headless Chromium, driven over its own protocol (CDP), for tests that look at pages. Nothing but Debian's package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from websocket import WebSocket, create_connection

from harness.waiting import wait_until

__all__ = ["Browser", "find_chromium"]

_LOOK_EVERY_SECONDS = 0.02
_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--hide-scrollbars",
)


def find_chromium() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One window. What its pages say on the console, break of their policy, or fetch is kept in `complaints` and `fetched`."""

    def __init__(self, program: str, folder: Path) -> None:
        flags = [*_FLAGS, f"--user-data-dir={folder}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        self._process = subprocess.Popen(
            [program, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._number = 0
        self._socket: WebSocket | None = None
        self.complaints: list[str] = []
        self.fetched: list[str] = []
        try:
            told = folder / "DevToolsActivePort"
            wait_until(
                lambda: told.exists() and len(told.read_text().splitlines()) > 1,
                within_seconds=60,
                every_seconds=_LOOK_EVERY_SECONDS,
                because="the browser should say where it listens",
            )
            port = told.read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
                address = next(each["webSocketDebuggerUrl"] for each in json.load(answer) if each["type"] == "page")
            self._socket = create_connection(address, timeout=60)
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.ask(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)

    def ask(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, and its result."""
        assert self._socket is not None
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv())
            if told.get("id") == self._number:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self._hear(told)

    def _hear(self, told: dict[str, Any]) -> None:
        what, facts = told.get("method", ""), told.get("params", {})
        if what in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(facts)[:2000])
        elif what == "Network.requestWillBeSent":
            self.fetched.append(facts["request"]["url"])
        elif what == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {facts.get('message')}")
            self._socket.send(
                json.dumps({"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}})
            )

    def run(self, script: str) -> Any:
        """The value of an expression, or what it promises."""
        told = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script: str, *, within_seconds: float = 20) -> None:
        """Wait until an expression is true."""
        wait_until(
            lambda: bool(self.run(script)),
            within_seconds=within_seconds,
            every_seconds=_LOOK_EVERY_SECONDS,
            because=script,
        )

    def open(self, page: Path, *, at: str = "") -> None:
        """Open a file; with `at`, at this element."""
        self.ask("Page.navigate", url="about:blank")
        self.complaints.clear()
        self.fetched.clear()
        self.ask("Page.navigate", url=page.resolve().as_uri() + (f"#{at}" if at else ""))
        self.until("location.protocol === 'file:' && document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, *keys: str) -> None:
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            facts = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0)}
            self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **facts)

    def mouse(self, kind: str, x: float, y: float, *, held: bool = False) -> None:
        """`Pressed`, `Moved` or `Released`."""
        button = "left" if kind != "Moved" or held else "none"
        self.ask(
            "Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button=button, clickCount=1, buttons=int(held)
        )

    def screenshot(self) -> bytes:
        """What can be seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def printed(self) -> bytes:
        """What a printer would get, as PDF."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=False)["data"])
