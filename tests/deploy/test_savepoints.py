"""Which savepoints a job starts from."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from deploy import savepoints
from deploy.processes import StartError


def test_a_savepoint_is_of_its_own_job_and_partitions(tmp_path: Path) -> None:
    savepoints.note(tmp_path.as_uri(), "books", 4)
    savepoints.check(tmp_path.as_uri(), "books", 4)
    savepoints.check(str(tmp_path), "books", 4)
    with pytest.raises(StartError, match="its job is books, this code reads positions"):
        savepoints.check(tmp_path.as_uri(), "positions", 4)
    with pytest.raises(StartError, match="its partitions is 4, this code reads 8"):
        savepoints.check(tmp_path.as_uri(), "books", 8)


@pytest.mark.parametrize(("what", "value"), [("kernel version", 99), ("kernel version", None), ("execution mode", "process")])
def test_a_savepoint_of_state_that_this_code_cannot_read_is_refused(what: str, value: object, tmp_path: Path) -> None:
    savepoints.note(str(tmp_path), "positions", 4)
    note = tmp_path / savepoints.FILE
    note.write_text(json.dumps({**json.loads(note.read_text()), what: value}))
    with pytest.raises(StartError, match=f"job positions was not started from .*: its {what} is {value}"):
        savepoints.check(str(tmp_path), "positions", 4)


@pytest.mark.parametrize("job", ["books", "book_depth", "liquidations"])
def test_a_job_with_a_kernel_has_its_version(job: str) -> None:
    assert savepoints.contract(job, 4)["kernel version"] == import_module(f"kernels.{job}").VERSION


def test_a_job_of_sql_alone_has_no_kernel_version(tmp_path: Path) -> None:
    savepoints.note(str(tmp_path), "bars", 4)
    assert json.loads((tmp_path / savepoints.FILE).read_text())["kernel version"] is None
    savepoints.check(str(tmp_path), "bars", 4)


@pytest.mark.parametrize("path", ["s3://bucket/savepoint-1", "hdfs:///savepoint-1"])
def test_one_without_a_note_or_out_of_reach_is_let_pass(path: str, tmp_path: Path) -> None:
    savepoints.check(str(tmp_path), "books", 4)
    savepoints.note(path, "books", 4)
    savepoints.check(path, "books", 4)
