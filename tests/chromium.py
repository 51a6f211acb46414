"""A page in headless Chromium, driven over its DevTools pipe: no package, no port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-pipe",
]
PATIENCE_S = 120


class Tab:
    """One tab and everything it said since it was opened."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write, self._read = write_fd, read_fd
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one DevTools command; events that arrive before it are kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("chromium closed its pipe")
            self._buffer += more
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def open(self, path: Path, until: str) -> None:
        """Load a file and wait until an expression is true in it."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait(until)

    def wait(self, until: str) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + PATIENCE_S
        while not self.value(until):
            if time.monotonic() > end:
                raise TimeoutError(f"{until} was not true in {PATIENCE_S} s; said: {self.complaints()}")
            time.sleep(0.05)

    def click(self, x: float, y: float) -> None:
        """Press and release the left button at a place in the window [css px]."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, refusals of the content policy, exceptions."""
        return [
            json.dumps(event["params"])
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (
                event["method"] == "Log.entryAdded"
                and event["params"]["entry"]["level"] in ("warning", "error")
            )
            or (
                event["method"] == "Runtime.consoleAPICalled"
                and event["params"]["type"] in ("warning", "error")
            )
        ]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, the first 80 letters of each."""
        return [
            event["params"]["request"]["url"][:80]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A tab of a browser with an empty profile; the browser ends with the block."""
    child_read, write_fd = os.pipe()
    read_fd, child_write = os.pipe()
    # DevTools' pipe is file descriptors 3 and 4, which only a shell can name
    command = [
        "bash",
        "-c",
        f'exec 3<&{child_read} 4>&{child_write}; exec "$@"',
        "-",
        str(EXECUTABLE),
        *FLAGS,
    ]
    command.append(f"--user-data-dir={profile}")
    with subprocess.Popen(
        command, pass_fds=(child_read, child_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as browser:
        os.close(child_read)
        os.close(child_write)
        try:
            yield Tab(write_fd, read_fd)
        finally:
            os.close(write_fd)
            os.close(read_fd)
            try:
                browser.wait(timeout=10)
            except subprocess.TimeoutExpired:
                browser.kill()
