"""How answers of a cluster's REST interface are read."""

from typing import Any

import pytest

from deploy.rest import Flink, FlinkError, Job

JOB = Job("1", "books", "RUNNING", 1, 1, 0.0)
READER = "Source__inputs[1].KafkaSourceReader.topic.order_books_v1.partition"
METRICS = "/jobs/1/vertices/2/subtasks/metrics"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The answer to each request."""
    answers: dict[str, Any] = {}

    def call(_: Flink, method: str, path: str, body: Any = None) -> Any:
        if isinstance(answer := answers[f"{method} {path}"], Exception):
            raise answer
        return answer

    monkeypatch.setattr(Flink, "_call", call)
    return answers


@pytest.mark.parametrize(
    ("status", "durations", "is_believed"),
    [
        ("INITIALIZING", {"INITIALIZING": 9_000, "RUNNING": -1}, False),
        ("RUNNING", {"RUNNING": 500}, False),
        ("RUNNING", {"RUNNING": 9_000}, True),
    ],
)
def test_metrics_of_a_job_that_has_gone_on_from_a_checkpoint_are_believed_once_they_are_of_its_tasks(
    status: str, durations: dict[str, int], is_believed: bool, answers: dict[str, Any]
) -> None:
    name = f"{READER}.0.currentOffset"
    answers["GET /jobs/1/checkpoints"] = {"latest": {"restored": {"id": 5, "is_savepoint": False}}}
    answers["GET /jobs/1"] = {"vertices": [{"id": "2", "name": "Source: inputs[1]"}, {"id": "3", "name": "kernels.books"}]}
    answers["GET /jobs/1/vertices/2"] = {"subtasks": [{"status": status, "status-duration": durations}]}
    answers[f"GET {METRICS}"] = [{"id": name}]
    answers[f"GET {METRICS}?get={name}&agg=max"] = [{"id": name, "max": 41.0}]
    assert Flink("nowhere").read(JOB) == ({("order_books_v1", 0): 42} if is_believed else {})


@pytest.mark.parametrize("restored", [None, {"id": 5, "is_savepoint": True}])
def test_a_job_is_behind_the_newest_record_that_it_has_taken_of_a_partition(restored: Any, answers: dict[str, Any]) -> None:
    newest = {f"{READER}.0.currentOffset": 41.0, f"{READER}.1.currentOffset": -1.0}
    answers["GET /jobs/1/checkpoints"] = {"latest": {"restored": restored}}
    answers["GET /jobs/1"] = {"vertices": [{"id": "2", "name": "Source: inputs[1]"}]}
    answers[f"GET {METRICS}"] = [{"id": name} for name in [*newest, f"{READER}.0.committedOffset", "0.numRecordsIn"]]
    answers[f"GET {METRICS}?get={','.join(newest)}&agg=max"] = [{"id": name, "max": value} for name, value in newest.items()]
    assert Flink("nowhere").read(JOB) == {("order_books_v1", 0): 42}


def test_a_job_has_reached_what_all_its_tasks_have_and_nothing_before_one_of_them_has_a_time(answers: dict[str, Any]) -> None:
    answers["GET /jobs/1"] = {"vertices": [{"id": "2"}, {"id": "3"}]}
    answers["GET /jobs/1/vertices/2/watermarks"] = [{"value": "1700"}, {"value": "1600"}]
    answers["GET /jobs/1/vertices/3/watermarks"] = [{"value": str(2**63 - 1)}, {"value": str(-(2**63))}]
    assert Flink("nowhere").watermark_ms(JOB) == 1_600
    answers["GET /jobs/1"] = {"vertices": [{"id": "3"}]}
    assert Flink("nowhere").watermark_ms(JOB) is None


@pytest.mark.parametrize(
    ("answer", "is_made"),
    [
        ({"status": {"id": "COMPLETED"}, "operation": {"checkpointId": 6}}, True),
        ({"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"stack-trace": "a task has ended"}}}, False),
        (FlinkError("no answer"), False),
    ],
)
def test_a_checkpoint_that_cannot_be_made_is_no_error(answer: Any, is_made: bool, answers: dict[str, Any]) -> None:
    answers["POST /jobs/1/checkpoints"] = {"request-id": "7"}
    answers["GET /jobs/1/checkpoints/7"] = answer
    assert Flink("nowhere").checkpoint(JOB) is is_made


def test_however_many_partitions_are_read_no_address_is_longer_than_the_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        f"{READER.replace('order_books_v1', f'a_topic_with_a_long_name_v{part}')}.{part}.currentOffset" for part in range(128)
    ]
    asked: list[str] = []

    def get(self: Flink, path: str) -> Any:
        if path.endswith("/checkpoints"):
            return {"latest": {"restored": None}}
        if "?" not in path:
            return (
                {"vertices": [{"id": "v", "name": "Source: inputs[1]"}]}
                if path == f"/jobs/{JOB.id}"
                else [{"id": name} for name in names]
            )
        asked.extend(path.partition("?get=")[2].partition("&")[0].split(","))
        assert len(path) < 4096
        return [{"id": name, "max": 6} for name in path.partition("?get=")[2].partition("&")[0].split(",")]

    monkeypatch.setattr(Flink, "get", get)
    assert set(Flink("nowhere").read(JOB).values()) == {7}
    assert asked == names
