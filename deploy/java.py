"""Run a module of ours that talks to Flink's planner in this process' own JVM: `python -m deploy.java schemas.generate`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy import cluster


def run(arguments: list[str]) -> int:
    """Run `python -m` with the arguments in the environment of a Flink client; returns its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "flink"
        cluster.write_conf(home, ["config"])
        env = {**cluster.environment(home), "PYTHONPATH": str(cluster.ROOT)}
        return subprocess.run([sys.executable, "-m", *arguments], env=env).returncode


if __name__ == "__main__":
    os._exit(run(sys.argv[1:]))
