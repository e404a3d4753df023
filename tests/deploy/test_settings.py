"""Flink knows every setting that we write, and can read its value."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from deploy import cluster, jars, manifests

PLACES = sorted(path.stem for path in (cluster.ROOT / "flink-conf").glob("*.yaml"))
AUTOSCALER = "job.autoscaler."
REPORTER = "metrics.reporter.prom."
"""Behind a reporter's name stand options of Flink's own that know nothing of it."""
WRONG = {
    "execution.checkpointing.intervall": "5 s",
    "execution.checkpointing.interval": "soon",
    "state.checkpoints.dir": "file:///a",
}
"""An unknown name, an invalid value, and the former name of an option."""


def settings() -> dict[str, dict[str, str]]:
    """All settings, by origin."""
    by_file = {name: manifests.flat(cluster.layered([name])) for name in PLACES}
    compose = YAML(typ="safe").load((cluster.ROOT / "deploy/docker/compose.yaml").read_text())
    properties = compose["services"]["jobmanager"]["environment"]["FLINK_PROPERTIES"]
    return {**by_file, "compose": dict(line.split(": ", 1) for line in properties.splitlines())}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The settings of each origin that Flink refuses."""
    home = tmp_path_factory.mktemp("flink") / "home"
    cluster.write_conf(home, ["config"])
    # Not options of Flink: the autoscaler is part of the operator, Hadoop's are passed on unchanged, and the port is that of
    # the Prometheus reporter.
    foreign = (AUTOSCALER, "fs.s3a.", f"{REPORTER}port")
    asked = {
        origin: {key.removeprefix(REPORTER): value for key, value in options.items() if not key.startswith(foreign)}
        for origin, options in {**settings(), "wrong": WRONG}.items()
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("known_options.py"), home / "lib"],
        input=json.dumps(asked),
        env=cluster.environment(home),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("origin", [*PLACES, "compose"])
def test_flink_knows_every_option_and_reads_its_value(origin: str, refused: dict[str, list[str]]) -> None:
    assert refused[origin] == []


def test_what_flink_would_not_take_is_seen(refused: dict[str, list[str]]) -> None:
    assert sorted(refused["wrong"]) == [
        "execution.checkpointing.interval=soon",
        "execution.checkpointing.intervall",
        "state.checkpoints.dir",
    ]


def test_the_autoscaler_knows_its_options() -> None:
    jar = next(jar for jar in jars.fetch("kubernetes")["kubernetes"] if "autoscaler" in jar.name)
    with zipfile.ZipFile(jar) as archive:
        data = archive.read("org/apache/flink/autoscaler/config/AutoScalerOptions.class")
    asked = [key.removeprefix(AUTOSCALER) for key in settings()["kubernetes"] if key.startswith(AUTOSCALER)]
    assert asked
    # Its class adds a prefix to each name.  In the class file a name follows its length.
    assert [name for name in asked if b"\x01" + len(name).to_bytes(2) + name.encode() not in data] == []


def test_a_place_says_only_what_is_its_own() -> None:
    common = settings()["config"]
    for origin in PLACES:
        if origin != "config":
            assert [key for key, value in settings()[origin].items() if common.get(key) == value] == []


@pytest.mark.parametrize("names", [["local"], ["local", "ci"]])
def test_each_slot_of_an_embedded_taskmanager_has_the_memory_that_a_group_of_sql_jobs_needs(names: list[str]) -> None:
    taskmanager = cluster.layered(names)["taskmanager"]
    managed = taskmanager["memory"]["managed"]["size"]
    assert managed.endswith("m")
    # Three such jobs in one group start with 32 MB a slot, and do not with 24.
    assert int(managed[:-1]) / taskmanager["numberOfTaskSlots"] >= 32
