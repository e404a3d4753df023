"""Every setting that we write is one that Flink has, with a value that it can read."""

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
"""A name that does not exist, a value that cannot be read, and the former name of an option."""


def settings() -> dict[str, dict[str, str]]:
    """What is set, by where it stands."""
    found = {name: manifests.flat(cluster.layered([name])) for name in PLACES}
    compose = YAML(typ="safe").load((cluster.ROOT / "deploy/docker/compose.yaml").read_text())
    properties = compose["services"]["jobmanager"]["environment"]["FLINK_PROPERTIES"]
    return {**found, "compose": dict(line.split(": ", 1) for line in properties.splitlines())}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What Flink does not take of the settings of each place."""
    home = tmp_path_factory.mktemp("flink") / "home"
    cluster.write_conf(home, ["config"])
    # Not Flink's own: the autoscaler is a part of the operator, Hadoop's are handed on as they are, and the port is the
    # Prometheus reporter's.
    foreign = (AUTOSCALER, "fs.s3a.", f"{REPORTER}port")
    asked = {
        place: {key.removeprefix(REPORTER): value for key, value in told.items() if not key.startswith(foreign)}
        for place, told in {**settings(), "wrong": WRONG}.items()
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


@pytest.mark.parametrize("place", [*PLACES, "compose"])
def test_flink_knows_every_option_and_reads_its_value(place: str, refused: dict[str, list[str]]) -> None:
    assert refused[place] == []


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
    # Its class puts a prefix before each name.  A name stands in the class file behind its length.
    assert [name for name in asked if b"\x01" + len(name).to_bytes(2) + name.encode() not in data] == []


def test_a_place_says_only_what_is_its_own() -> None:
    common = settings()["config"]
    for place in PLACES:
        if place != "config":
            assert [key for key, value in settings()[place].items() if common.get(key) == value] == []
