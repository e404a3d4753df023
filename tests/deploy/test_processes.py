"""Free ports, errors that name the holder of a port, and process trees that end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy import processes
from deploy.processes import StartError


def test_a_preferred_port_is_given_where_it_is_free_and_another_where_it_is_not() -> None:
    free = processes.free_port(0)
    assert processes.free_port(free) == free
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free))
        holder.listen()
        other = processes.free_port(free)
        assert other != free
        assert not processes.accepts(other)
        assert processes.accepts(free)


def test_no_free_port_is_told_twice() -> None:
    """The broker's own two ports were the same once in thousands of starts."""
    ports = [processes.free_port(0) for _ in range(2_000)]
    assert len(set(ports)) == len(ports)


def test_a_pinned_port_that_is_taken_is_named_with_its_holder() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(StartError, match=rf"port {port} is taken by process {os.getpid()} \("):
            processes.free_port(9092, str(port))
    assert processes.free_port(9092, str(port)) == port


def test_stop_ends_a_whole_tree_even_where_one_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    parent = (
        "import subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-c', {stubborn!r}]); print(child.pid, flush=True); child.wait()"
    )
    log = tmp_path / "logs" / "tree.log"
    pid = processes.start([sys.executable, "-c", parent], log)
    try:
        processes.wait_until(lambda: "deaf" in log.read_text() and len(log.read_text().split()) == 2, "the tree", pid, log)
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        assert len(family) == 2
    finally:
        processes.stop([pid], grace_s=1)
    assert not any(processes.is_alive(process.pid) for process in family)


def test_stop_lets_a_process_end_by_itself_first(tmp_path: Path) -> None:
    polite = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye', flush=True))); "
    log = tmp_path / "polite.log"
    pid = processes.start([sys.executable, "-c", polite + "print('up', flush=True); time.sleep(600)"], log)
    try:
        processes.wait_until(lambda: "up" in log.read_text(), "the process", pid, log)
    finally:
        processes.stop([pid])
    assert log.read_text().split() == ["up", "bye"]
    assert not processes.is_alive(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_cleaned_up_is_not_left_for_a_second_signal(number: signal.Signals) -> None:
    def handler(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(number, handler)
    try:
        with processes.uninterrupted():
            os.kill(os.getpid(), number)
            done = True
        assert done
        with pytest.raises(InterruptedError):
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)


def test_stop_passes_over_what_is_gone() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    processes.stop([done.pid])


def test_a_process_that_dies_while_starting_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "short.log"
    pid = processes.start([sys.executable, "-c", "print('no such setting'); raise SystemExit(3)"], log)
    with pytest.raises(StartError, match=r"the broker stopped while starting; the end of .*short\.log:\nno such setting"):
        processes.wait_until(lambda: False, "the broker", pid, log)


def test_a_process_that_is_never_ready_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "slow.log"
    pid = processes.start([sys.executable, "-c", "import time; time.sleep(600)"], log)
    try:
        with pytest.raises(StartError, match=r"the broker was not ready after 0 s; the end of .*slow\.log"):
            processes.wait_until(lambda: False, "the broker", pid, log, timeout_s=0.2)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_log_that_is_not_there_is_said_to_be_none(tmp_path: Path) -> None:
    assert processes.tail(tmp_path / "none.log") == "(no log)"
