"""A real browser without a window, spoken to in the DevTools protocol over a pipe.

It needs Chromium and nothing else: a driver would have to be of the browser's version.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """The browser's program: what SWAPMEM_CHROMIUM names, else the first that is installed."""
    named = os.environ.get("SWAPMEM_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One browser with one page; use it with `with`.

    Attributes:
        requested: URLs of everything that pages asked for.
        problems: errors of scripts, and what the console and the content security policy said.
    """

    def __init__(self, program: str, profile: Path) -> None:
        command_read, command_write = os.pipe()
        reply_read, reply_write = os.pipe()
        # The protocol is spoken on descriptors 3 and 4.
        shell = f'exec "$@" 3<&{command_read} 4>&{reply_write}'
        options = [
            "--headless",
            "--no-sandbox",  # which root, as containers are, may not use
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-component-update",
            # No name is resolved: a page that needs the network shows it.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--window-size=1400,1400",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", program, *options, "about:blank"],
            pass_fds=(command_read, reply_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(reply_write)
        self._commands = os.fdopen(command_write, "wb", buffering=0)
        self._replies = os.fdopen(reply_read, "rb")
        self._count = 0
        self._pending = b""
        self._session: str | None = None
        self._loads = 0
        self.requested: list[str] = []
        self.problems: list[str] = []
        self._attach()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *reason: object) -> None:
        self._commands.close()  # which ends it
        self._replies.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _attach(self) -> None:
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        arguments = {"targetId": page["targetId"], "flatten": True}
        self._session = self._call("Target.attachToTarget", **arguments)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, page: Path) -> None:
        """Opens a file and waits until it is loaded."""
        self.requested.clear()
        self.problems.clear()
        loads = self._loads
        self._call("Page.navigate", url=page.as_uri())
        self._until(lambda: self._loads > loads)

    def evaluate(self, expression: str) -> Any:
        """Evaluates JavaScript in the page; a promise is waited for."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of the first element that is found."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    def count(self, selector: str) -> int:
        """How many elements there are of a kind."""
        return int(self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def click(self, selector: str) -> None:
        """Scrolls to the first element that is found and clicks on its middle with the mouse."""
        box = self.evaluate(
            f"""(() => {{
                const element = document.querySelector({json.dumps(selector)});
                element.scrollIntoView({{ block: "center" }});
                const {{ x, y, width, height }} = element.getBoundingClientRect();
                return [x + width / 2, y + height / 2];
            }})()"""
        )
        self.mouse([box])

    def mouse(self, points: list[list[float]], clicks: int = 1) -> None:
        """Presses the button at the first point, moves over the others, and lets go."""
        first, last = points[0], points[-1]
        for x, y in points[:1]:
            self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for number in range(1, clicks + 1):
            press = {"button": "left", "clickCount": number}
            x, y = first
            self._call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **press)
            for x, y in points[1:]:
                self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, buttons=1)
            x, y = last
            self._call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **press)

    def hover(self, x: float, y: float) -> None:
        """Moves the mouse there."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def write(self, selector: str, text: str) -> None:
        """Writes into a field as from a keyboard."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self._call("Input.insertText", text=text)

    def key(self, key: str) -> None:
        """Presses a key that has the focus."""
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def set_scripts(self, on: bool) -> None:
        """Whether pages opened from now on may run scripts."""
        self._call("Emulation.setScriptExecutionDisabled", value=not on)

    def prefer(self, scheme: str) -> None:
        """Prefers a "dark" or a "light" scheme of colours from now on."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def resize(self, width: int, height: int) -> None:
        """Makes the window so large."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self) -> bytes:
        """What the window shows, as PNG."""
        answer = self._call("Page.captureScreenshot")
        return base64.b64decode(answer["data"])

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._until(lambda: bool(answers), number, answers)
        if "error" in answers[0]:
            raise AssertionError(f"{method}: {answers[0]['error']}")
        return dict(answers[0]["result"])

    def _until(
        self, done: Callable[[], bool], number: int = 0, answers: list[dict[str, Any]] | None = None
    ) -> None:
        while not done():
            message = self._receive()
            if answers is not None and message.get("id") == number:
                answers.append(message)
            self._note(message)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            more = os.read(self._replies.fileno(), 1 << 16)
            if not more:
                raise AssertionError(f"the browser ended: status {self._process.wait()}")
            self._pending += more
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        method, found = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loads += 1
        elif method == "Network.requestWillBeSent":
            self.requested.append(found["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(found["exceptionDetails"]))
        elif method == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
            self.problems.append(found["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.problems.append(str(found["args"]))
