"""What a client makes of a job does not depend on what else it has submitted, nor on how it was started."""

import json
import os
import subprocess
import sys
from typing import Any

from deploy import cluster


def told(module: str, *arguments: str) -> Any:
    """What a script prints in its last line, run in a client that needs no cluster."""
    opened = " ".join(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.util", "java.lang"))
    env = os.environ | {"GAMMAFLOW_KAFKA": "broker.example:9092", "GAMMAFLOW_PARTITIONS": "4", "JDK_JAVA_OPTIONS": opened}
    command = [sys.executable, "-m", "deploy.java", module, *arguments]
    done = subprocess.run(command, env=env, cwd=cluster.ROOT, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_job_has_the_same_uids_alone_and_behind_others_and_a_group_one_source_and_one_operator() -> None:
    bars, liquidations, again, group = told("tests.jobs.uids", "bars", "liquidations", "bars", "chains+option_greeks")
    assert bars == again
    # The kernels of a group share one source and one operator.
    assert sum(uid.endswith("_kafka") for uid in group) == 1
    assert [uid for uid in group if uid.endswith("/kernel")] == ["chains+option_greeks/kernel"]
    assert told("tests.jobs.uids", "liquidations") == [liquidations]
    assert len(set(liquidations)) == len(liquidations) > 5
    assert "liquidations/kernel" in liquidations


def test_the_jar_that_every_cluster_has_does_not_travel_with_a_job_and_others_do() -> None:
    assert told("tests.jobs.jars", "file:///opt/flink/opt/flink-python-2.3.0.jar", "file:///opt/own.jar") == [
        "file:///opt/own.jar"
    ]
    assert told("tests.jobs.jars", "file:///opt/flink/opt/flink-python-2.3.0.jar") == []
