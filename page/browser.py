"""A headless Chromium over its DevTools protocol: for the page's pictures and its tests."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from websockets.sync.client import ClientConnection, connect

START_S = 60.0
ANSWER_S = 30.0
POLL_S = 0.02


class BrowserError(RuntimeError):
    """No browser, or it did not do what was asked."""


class Size(NamedTuple):
    """Of a window, in CSS pixels."""

    width: int
    height: int


WIDE, NARROW = Size(1280, 900), Size(390, 844)


def installed() -> str | None:
    """The browser's program; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tab:
    """One window."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.faults: list[str] = []
        """Errors of the page's scripts, refusals of its policy, and failed requests."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """The answer to one request.  Raises `BrowserError`."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer: dict[str, Any] = json.loads(self._connection.recv(timeout=ANSWER_S))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self._hear(answer)

    def _hear(self, event: Mapping[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.faults.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for.  Raises `BrowserError`."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    def open(self, address: str, size: Size = WIDE) -> None:
        """Open an address in a window of this size."""
        is_narrow = size.width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=size.width, height=size.height, deviceScaleFactor=1, mobile=is_narrow
        )
        self.ask("Page.navigate", url=address)

    def until(self, script: str, timeout_s: float = ANSWER_S) -> Any:
        """Wait for an expression to be true; returns its value.  Raises `BrowserError`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            with suppress(BrowserError):
                if value := self.run(script):
                    return value
            if time.monotonic() > deadline_s:
                raise BrowserError(f"not so after {timeout_s:g} s: {script}; {self.faults}")
            time.sleep(POLL_S)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"text": key} if len(key) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path, is_whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        if is_whole:
            high = self.run("document.documentElement.scrollHeight")
            wide = self.run("window.innerWidth")
            self.ask("Emulation.setDeviceMetricsOverride", width=wide, height=high, deviceScaleFactor=1, mobile=wide < 600)
            self.run("new Promise(done => setTimeout(done, 400))")  # what depends on the size is drawn again
        shot = self.ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


class Browser:
    """A running browser."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        """A new window, closed at the end."""
        with urlopen(Request(f"{self._address}/json/new?about:blank", method="PUT"), timeout=ANSWER_S) as answer:
            told = json.load(answer)
        try:
            with connect(told["webSocketDebuggerUrl"], max_size=None) as connection:
                yield Tab(connection)
        finally:
            with suppress(OSError), urlopen(f"{self._address}/json/close/{told['id']}", timeout=ANSWER_S):
                pass


@contextmanager
def running() -> Iterator[Browser]:
    """A headless browser with a profile of its own, ended at the end.  Raises `BrowserError`."""
    program = installed()
    if program is None:
        raise BrowserError("no Chromium is installed")
    with tempfile.TemporaryDirectory(prefix="gammaflow-browser-", ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-extensions",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={home}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Browser(_port(Path(home) / "DevToolsActivePort", process))
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(file: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline_s = time.monotonic() + START_S
    while not file.exists() or not file.read_text().strip():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise BrowserError("Chromium did not start")
        time.sleep(POLL_S)
    return int(file.read_text().splitlines()[0])
