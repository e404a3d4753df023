"""The savepoints from which a job starts."""

import json
from pathlib import Path

import pytest

from deploy import savepoints
from deploy.processes import StartError
from engine.contract import kernel


def test_a_savepoint_is_of_its_own_job_and_partitions(tmp_path: Path) -> None:
    savepoints.note(tmp_path.as_uri(), "books", 4)
    savepoints.check(tmp_path.as_uri(), "books", 4)
    savepoints.check(str(tmp_path), "books", 4)
    with pytest.raises(StartError, match="its job is books, this code reads positions"):
        savepoints.check(tmp_path.as_uri(), "positions", 4)
    with pytest.raises(StartError, match="its partitions is 4, this code reads 8"):
        savepoints.check(tmp_path.as_uri(), "books", 8)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (
            "kernels",
            {"liquidations": 1, "margin": 99},
            "version of kernel margin is 99, this code reads 7 or 6 or 5 or 4 or 3 or 2",
        ),
        ("kernels", {"liquidations": 1}, "version of kernel margin is None"),
        ("kernels", None, "version of kernel liquidations is None, this code reads 5 or 4 or 3 or 2 or 1"),
        ("kernels", {"liquidations": 1, "margin": 3, "gone": 1}, "version of kernel gone is 1, this code reads none"),
        ("execution mode", "process", "execution mode is process, this code reads thread"),
    ],
)
def test_a_savepoint_of_state_that_this_code_cannot_read_is_refused(
    key: str, value: object, reason: str, tmp_path: Path
) -> None:
    savepoints.note(str(tmp_path), "liquidations", 4)
    note = tmp_path / savepoints.FILE
    note.write_text(json.dumps({**json.loads(note.read_text()), key: value}))
    with pytest.raises(StartError, match=f"job liquidations was not started from .*: its {reason}"):
        savepoints.check(str(tmp_path), "liquidations", 4)


def test_a_savepoint_of_an_older_version_that_can_be_migrated_is_taken(tmp_path: Path) -> None:
    savepoints.note(str(tmp_path), "liquidations", 4)
    note = tmp_path / savepoints.FILE
    note.write_text(json.dumps({**json.loads(note.read_text()), "kernels": {"liquidations": 1, "margin": 2}}))
    savepoints.check(str(tmp_path), "liquidations", 4)


@pytest.mark.parametrize("job", ["books", "chains", "liquidations"])
def test_a_job_with_a_kernel_has_its_version_and_those_of_its_parts(job: str) -> None:
    own = kernel(job)
    expected = {part.name: part.version for part in (own, *own.parts)}
    assert savepoints.contract(job, 4)["kernels"].items() >= expected.items()


def test_a_job_of_sql_alone_has_no_kernel(tmp_path: Path) -> None:
    savepoints.note(str(tmp_path), "bars", 4)
    assert json.loads((tmp_path / savepoints.FILE).read_text())["kernels"] == {}
    savepoints.check(str(tmp_path), "bars", 4)


@pytest.mark.parametrize("path", ["s3://bucket/savepoint-1", "hdfs:///savepoint-1"])
def test_one_without_a_note_or_out_of_reach_is_let_pass(path: str, tmp_path: Path) -> None:
    savepoints.check(str(tmp_path), "books", 4)
    savepoints.note(path, "books", 4)
    savepoints.check(path, "books", 4)
