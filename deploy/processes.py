"""Child processes that are always stopped, and free ports; an error names the process that holds a port."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil


class StartError(RuntimeError):
    """A process did not come up; the message says why and where its log is."""


def free_port(preferred: int, pinned: str | None = None) -> int:
    """`preferred` if it is free, or any free port; with `pinned` (a port as text) that port or an error.

    Raises `StartError` naming the pinned port and the process that holds it.
    """
    if pinned is not None:
        port = int(pinned)
        if not _is_free(port):
            raise StartError(f"port {port} is taken by {_holder(port)}; stop it or choose another port")
        return port
    if preferred and _is_free(preferred):
        return preferred
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _TOLD:
            _TOLD.add(port)
            return port


_TOLD: set[int] = set()
"""Free ports that were returned: the caller may not have opened them yet."""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            if connection.pid is None:
                break
            process = psutil.Process(connection.pid)
            return f"process {connection.pid} ({process.name()})"
    return "a process of another user"


def start(command: list[str], log: Path, env: dict[str, str] | None = None) -> int:
    """Start `command` in a session of its own, its output appended to `log`; returns the process id."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
        )
    return process.pid


def wait_until(ready: Callable[[], bool], what: str, pid: int, log: Path, timeout_s: float = 90.0) -> None:
    """Return once `ready()` holds; raise `StartError` with the log's last lines if the process dies or time runs out."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not is_alive(pid):
            raise StartError(f"{what} stopped while starting; the end of {log}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise StartError(f"{what} was not ready after {timeout_s:.0f} s; the end of {log}:\n{tail(log)}")
        time.sleep(0.1)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, or a text that says that there is none."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def is_alive(pid: int) -> bool:
    """Whether `pid` runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def accepts(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants.  Raises `psutil.NoSuchProcess` if it has ended."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def stop(pids: list[int], grace_s: float = 10.0) -> None:
    """End the processes and all their descendants: SIGTERM, then SIGKILL after `grace_s`."""
    members: list[psutil.Process] = []
    for pid in pids:
        try:
            members += family(pid)
        except psutil.NoSuchProcess:
            continue
    for process in members:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(members, timeout=grace_s)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=grace_s)
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def kill(pid: int) -> None:
    """Kill one process, like a crash, and wait until it is gone."""
    process = psutil.Process(pid)
    process.kill()
    process.wait(timeout=10)


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore signals while processes are stopped and folders removed: a second Ctrl-C must not leave half of them."""
    if threading.current_thread() is not threading.main_thread():  # other threads get no signals
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
