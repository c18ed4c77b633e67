"""Chromium without a window, spoken to over a pipe (the DevTools protocol): opens a page, tells what is wrong with its layout, takes pictures."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
LAYOUT = (Path(__file__).parent / "layout.js").read_text("utf-8")
DESKTOP, PHONE = (1280, 900), (360, 740)


class Browser:
    """One process for many pages.

    Args:
        profile: an empty folder of its own.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        read, self._in = os.pipe()
        self._out, write = os.pipe()
        flags = [
            *(
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
            ),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
            ),
        ]
        # the protocol is on the descriptors 3 (to the browser) and 4 (from it)
        script = f'exec 3<&{read} 4>&{write}; exec "$0" "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, PROGRAM, *flags, "about:blank"],
            pass_fds=(read, write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._number, self._buffer = 0, b""
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command; its events are kept in ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == self._number:
                assert "error" not in reply, f"{method}: {reply['error']}"
                result: dict[str, Any] = reply["result"]
                return result
            self.events.append(reply)

    def _read(self, seconds: float = 30.0) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._out, 1 << 20) if ready else b""
            assert chunk, "the browser has ended" if ready else f"the browser did not answer within {seconds:g} s"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, page: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False, touch: bool = False) -> None:
        """Show a page, and wait until it is loaded.

        Args:
            page: the file.
            size: of the window, in pixels.
            dark: whether the reader's system is dark.
            touch: whether it is a phone, with a finger and no mouse.
        """
        media = {
            "prefers-color-scheme": "dark" if dark else "light",
            "hover": "none" if touch else "hover",
            "pointer": "coarse" if touch else "fine",
        }
        self.call("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in media.items()])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=2 if touch else 1,
            mobile=touch,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def findings(self) -> list[str]:
        """What is wrong with the page that is open: its layout, errors of its scripts, and what it fetched."""
        found: list[str] = self.evaluate(LAYOUT)
        for event in self.events:
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(f"a script failed: {details.get('exception', {}).get('description', details['text'])}")
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"]["text"])
            if event["method"] == "Network.requestWillBeSent" and not params["request"]["url"].startswith(
                ("file:", "data:", "blob:")
            ):
                found.append(f"it fetches {params['request']['url']}")
        return found

    def tap(self, x: float, y: float) -> None:
        """Put a finger down, and lift it."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, path: Path) -> None:
        """The whole page as a .png, for people."""
        height = min(self.evaluate("document.documentElement.scrollHeight"), 6000)
        width = self.evaluate("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(AssertionError, OSError):
            self._session = ""
            self.call("Browser.close")
        os.close(self._in)
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
