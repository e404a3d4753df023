"""Prints the uids of each named job's operators, planned one after the other in one client: `python -m deploy.java …`."""

import json
import sys

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from engine import run


def uids(name: str) -> list[str]:
    """Those of one job, as `run.submit` plans it."""
    environment = StreamExecutionEnvironment.get_execution_environment()
    tables = StreamTableEnvironment.create(environment)
    tables.get_config().set("table.exec.uid.generation", "ALWAYS")  # as in flink-conf, which a client without a cluster ignores
    run.planned(tables, name).attach_as_datastream()
    graph = environment._j_stream_execution_environment.getStreamGraph()
    nodes = graph.getStreamNodes().iterator()
    found = []
    while nodes.hasNext():
        uid = nodes.next().getTransformationUID()
        if uid is not None:  # that of what only converts rows, and keeps nothing
            found.append(uid)
    return sorted(found)


if __name__ == "__main__":
    print(json.dumps([uids(name) for name in sys.argv[1:]]))
