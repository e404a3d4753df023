"""The other side of a session, as a plain socket: it says what it is told to, right or wrong."""

import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from gateway import Message, parsed

WAIT_S = 15.0


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Wait for a condition.  Raises `AssertionError` that says what has not come."""
    end_s = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {wait_s:g} s: {what}"
        time.sleep(0.005)


def framed(begin: str, fields: list[tuple[int, str]], checksum: int | None = None) -> bytes:
    """A message as bytes, with its length and checksum, or a wrong one."""
    body = "".join(f"{tag}={value}\x01" for tag, value in fields).encode()
    text = f"8={begin}\x019={len(body)}\x01".encode() + body
    return text + f"10={(sum(text) if checksum is None else checksum) % 256:03d}\x01".encode()


class Peer:
    """Counts its own numbers, and answers nothing by itself."""

    def __init__(self, sender: str, target: str, begin: str = "FIX.4.4") -> None:
        self.sender, self.target, self.begin = sender, target, begin
        self.number = 1
        self.heard = Message("", ())
        self._listener: socket.socket | None = None
        self._socket: socket.socket | None = None
        self._rest = b""

    def connect(self, port: int) -> Self:
        """Connect, as often as it needs until somebody listens."""
        end_s = time.monotonic() + WAIT_S
        while True:
            try:
                self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end_s, f"nobody listens on {port}"
                time.sleep(0.02)
        self._rest = b""
        return self

    def listen(self, port: int) -> Self:
        """Listen; `accept` takes the connection."""
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(WAIT_S)
        return self

    def accept(self) -> Self:
        """Take the next connection."""
        assert self._listener is not None
        self._socket, _ = self._listener.accept()
        self._socket.settimeout(WAIT_S)
        self._rest = b""
        return self

    def send(
        self,
        kind: str,
        fields: Mapping[int, str] | None = None,
        *,
        number: int | None = None,
        header: Mapping[int, str] | None = None,
        checksum: int | None = None,
    ) -> None:
        """Send a message with the next number, or with another one, which then does not count."""
        assert self._socket is not None
        now = f"{datetime.now(UTC):%Y%m%d-%H:%M:%S.%f}"[:-3]
        head = {35: kind, 34: str(self.number if number is None else number), 49: self.sender, 52: now, 56: self.target}
        pairs = [*(head | dict(header or {})).items(), *(fields or {}).items()]
        self._socket.sendall(framed(self.begin, pairs, checksum))
        if number is None and checksum is None:
            self.number += 1

    def logon(self, fields: Mapping[int, str] | None = None, heartbeat_s: int = 30) -> Message:
        """Send a Logon and return the answer."""
        default = {1137: "9"} if self.begin == "FIXT.1.1" else {}
        self.send("A", {98: "0", 108: str(heartbeat_s), **default, **(fields or {})})
        return self.expect("A")

    def answer_logon(self, fields: Mapping[int, str] | None = None) -> Message:
        """Wait for a Logon and answer it."""
        found = self.expect("A")
        self.send("A", {98: "0", 108: found.get(108) or "30", **(fields or {})})
        return found

    def poll(self, wait_s: float) -> Message | None:
        """The next message, also as `heard`; None where none comes for so long."""
        assert self._socket is not None
        self._socket.settimeout(wait_s)
        try:
            found = self.read()
        except TimeoutError:
            return None
        finally:
            self._socket.settimeout(WAIT_S)
        assert found is not None, "closed"
        self.heard = found
        return found

    def read(self) -> Message | None:
        """The next message; None once the other side has closed."""
        assert self._socket is not None
        while True:
            end = self._rest.find(b"\x0110=")
            if end >= 0 and (stop := self._rest.find(b"\x01", end + 1)) >= 0:
                text, self._rest = self._rest[: stop + 1], self._rest[stop + 1 :]
                return parsed(text.decode())
            try:
                part = self._socket.recv(65_536)
            except ConnectionResetError:
                part = b""
            if not part:
                return None
            self._rest += part

    def expect(self, *kinds: str) -> Message:
        """The next message of these kinds; heartbeats and test requests may come before it."""
        while True:
            found = self.read()
            assert found is not None, f"closed instead of {kinds}"
            if found.kind in kinds:
                return found
            assert found.kind in ("0", "1"), f"{found} instead of {kinds}"

    def expect_close(self) -> list[Message]:
        """What comes before the other side closes."""
        found: list[Message] = []
        while (message := self.read()) is not None:
            found.append(message)
        return found

    def close(self) -> None:
        """Cut the connection."""
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
        if self._listener is not None:
            self._listener.close()
