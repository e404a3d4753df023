"""What an operator's state is found by does not depend on what else its client has submitted."""

import json
import os
import subprocess
import sys

from deploy import cluster


def planned(*names: str) -> list[list[str]]:
    opened = " ".join(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.util", "java.lang"))
    env = os.environ | {"GAMMAFLOW_KAFKA": "broker.example:9092", "GAMMAFLOW_PARTITIONS": "4", "JDK_JAVA_OPTIONS": opened}
    command = [sys.executable, "-m", "deploy.java", "tests.jobs.uids", *names]
    told = subprocess.run(command, env=env, cwd=cluster.ROOT, stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout
    return [list(uids) for uids in json.loads(told.splitlines()[-1])]


def test_a_job_has_the_same_uids_alone_and_behind_others() -> None:
    bars, margin, again = planned("bars", "margin", "bars")
    assert bars == again
    assert planned("margin") == [margin]
    assert len(set(margin)) == len(margin) > 5
    assert "margin/kernel" in margin
