"""A headless Chromium that tests look at pages with, driven by its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Chromium reads from descriptor 3 and writes to 4.
START = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(reads, 3), os.dup2(writes, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PATIENCE = 60.0


def executable():
    """Return the path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with its own empty profile.

    Args:
        profile: A directory for it.
    """

    def __init__(self, profile):
        child_reads, self._writes = os.pipe()
        self._reads, child_writes = os.pipe()
        command = [
            *(sys.executable, "-c", START, str(child_reads), str(child_writes), executable()),
            *ARGUMENTS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, pass_fds=(child_reads, child_writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(child_reads)
        os.close(child_writes)
        self._buffer = b""
        self._number = 0
        self.events = []
        self.shown = None

    def close(self):
        with contextlib.suppress(OSError, TimeoutError, AssertionError):
            self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._reads)
        os.close(self._writes)

    def call(self, method, session=None, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def pump(self, seconds):
        """Take what the browser tells for so long."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while True:
                self.events.append(self._receive(deadline))

    def _receive(self, deadline):
        while b"\0" not in self._buffer:
            if not select.select([self._reads], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._reads, 1 << 20)
            if not data:
                raise OSError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


class Page:
    """The page that a browser shows, in the place of the former one, of a size in CSS pixels."""

    def __init__(self, browser, url, width, height=900):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        if browser.shown is not None:
            browser.call("Target.closeTarget", targetId=browser.shown)
        browser.shown = target
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        browser.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def call(self, method, **params):
        return self.browser.call(method, self._session, **params)

    def evaluate(self, expression):
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, condition):
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"this never became true: {condition}"
            self.browser.pump(0.05)

    def place(self, selector, number=0):
        """Scroll an element into view, and return the place of its middle, and its width and height."""
        script = f"""(function () {{
            const found = document.querySelectorAll({json.dumps(selector)})[{number}];
            found.scrollIntoView({{block: 'center'}});
            const box = found.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2, box.width, box.height];
        }})()"""
        return self.evaluate(script)

    def click(self, selector, number=0):
        x, y, *_ = self.place(selector, number)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def drag(self, start, end):
        """Drag with the mouse from one place to another."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start)
        for part in range(1, 6):
            x, y = (first + (last - first) * part / 5 for first, last in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, button="left")
        self.mouse("mouseReleased", *end)

    def mouse(self, kind, x, y, button=None):
        button = button or ("none" if kind == "mouseMoved" else "left")
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=0, clickCount=1)

    def requests(self):
        """Return the addresses of what was asked for, but for what stands in the page itself."""
        sent = [each["params"]["request"]["url"] for each in self._told("Network.requestWillBeSent")]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]

    def complaints(self):
        """Return what the page has said of errors: exceptions, the console, and what its policy has refused."""
        said = [each["params"]["exceptionDetails"] for each in self._told("Runtime.exceptionThrown")]
        said += [each["params"] for each in self._told("Runtime.consoleAPICalled") if each["params"]["type"] == "error"]
        return said + [
            each["params"]["entry"]
            for each in self._told("Log.entryAdded")
            if each["params"]["entry"]["level"] == "error"
        ]

    def _told(self, method):
        return [event for event in self.browser.events if event.get("method") == method]

    def screenshot(self, path, whole=True):
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        Path(path).write_bytes(base64.b64decode(picture["data"]))

    def _clip(self, whole):
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
