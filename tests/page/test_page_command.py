"""`gammaflow page`: what it refuses, and how it ends; the flow from the catalogue; what is told of checkpoints."""

import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

import jobs
from cli import page as command
from deploy.processes import StartError
from page import flow
from page.flink import checkpoints
from page.generated import write_rows
from page.guard import names
from page.server import bound
from tests.page.given import trade


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"host": "0.0.0.0"}, "others may reach it; name --token-file, --certificate and --key"),
        ({"certificate": Path("cert.pem")}, "--certificate and --key belong together"),
        ({"certificate": Path("no.pem"), "key": Path("no.key")}, "no.pem: expected a PEM file that can be read"),
        ({"token_file": Path("no.token")}, "--token-file no.token: expected a file that can be read"),
        ({"folder": Path("nowhere")}, "nowhere: no such folder"),
    ],
)
def test_what_it_cannot_do_it_says(options: dict[str, object], expected: str) -> None:
    given = {
        "folder": None,
        "port": 0,
        "host": "127.0.0.1",
        "names": None,
        "token_file": None,
        "certificate": None,
        "key": None,
    }
    with pytest.raises(ValueError, match=expected):
        command.page(**given | options)  # type: ignore[arg-type]


def test_a_token_is_long_and_its_file_is_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    file.chmod(0o644)
    with pytest.raises(ValueError, match="chmod go= of it"):
        command.read_token(file)
    file.chmod(0o600)
    assert command.read_token(file) == "0123456789abcdef"
    file.write_text("short")
    with pytest.raises(ValueError, match="16 characters or more"):
        command.read_token(file)


def test_a_page_on_this_machine_goes_by_its_names_and_one_for_others_by_what_it_was_given() -> None:
    assert names("127.0.0.1", 8090) == {"127.0.0.1:8090", "localhost:8090", "[::1]:8090"}
    assert names("10.1.2.3", 443, ["Risk.example"]) == {"10.1.2.3:443", "10.1.2.3", "risk.example:443", "risk.example"}


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} of 127.0.0.1"):
            bound("127.0.0.1", port)


def test_ctrl_c_ends_it_at_once_though_a_browser_looks(tmp_path: Path) -> None:
    write_rows(tmp_path, "trades", [trade(1, 100.0)])
    arguments = [sys.executable, "-m", "cli.main", "page", "--from", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline()
        port = int(address.split()[1].rpartition(":")[2])
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/stream/trader")
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data: ")
        begun_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
        assert time.monotonic() - begun_s < 3.0  # 0.3 s on a quiet machine
        answer.close()
    finally:
        process.kill()
        process.wait()


def test_the_flow_has_every_job_behind_those_whose_rows_it_reads() -> None:
    told = {job["name"]: job for job in flow.catalogue()["jobs"]}
    assert list(told) == jobs.FLOW
    for job in map(jobs.job, jobs.FLOW):
        for writer in map(jobs.job, jobs.FLOW):
            tables = set(writer.writes) - set(writer.tells_ahead) - flow.HIDDEN
            if writer.name != job.name and tables & {*job.reads, *job.may_read}:
                assert told[writer.name]["layer"] < told[job.name]["layer"], (writer.name, job.name)


def test_of_checkpoints_the_newest_and_how_long_each_took_are_told() -> None:
    row = {"end_to_end_duration": 120, "state_size": 4_000, "latest_ack_timestamp": 99}
    history = [{"trigger_timestamp": n, "end_to_end_duration": 100 + n, "status": "COMPLETED"} for n in range(3)]
    told = checkpoints({"counts": {"completed": 3, "failed": 1}, "latest": {"completed": row}, "history": history})
    assert (told["done"], told["failed"], told["took_ms"], told["bytes"], told["ended_ms"]) == (3, 1, 120, 4_000, 99)
    assert told["history"] == [[n, 100 + n, "COMPLETED"] for n in range(3)]
    none = checkpoints({"counts": {"completed": 0, "failed": 0}, "latest": {"completed": None}})
    assert (none["took_ms"], none["history"]) == (None, [])
