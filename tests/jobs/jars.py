"""Prints which of the jars that a client was given travel with its jobs: `python -m deploy.java tests.jobs.jars <URLs>`."""

import json
import sys

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from engine import run

if __name__ == "__main__":
    environment = StreamExecutionEnvironment.get_execution_environment()
    environment.add_jars(*sys.argv[1:])
    run.leave_pyflink(environment)
    settings = environment._j_stream_execution_environment.getConfiguration()
    print(json.dumps(Configuration.parse_list_value(settings.toMap().get("pipeline.jars"))))
