"""A job of SQL alone as one script, for whoever edits it by hand: `python -m deploy.java deploy.sql bars > bars.sql`.

What the runner adds to a job's file stands in it: the topics, with their addresses, and the rows of its inputs.  Flink has
planned what is printed.  A job with a kernel has no such script: Python is a part of it.
"""

import sys
from typing import Any

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

import jobs
from engine import run


class Script:
    """Stands before a table environment, and keeps what is said to it."""

    def __init__(self, tables: StreamTableEnvironment) -> None:
        self.tables = tables
        self._j_tenv = tables._j_tenv  # the runner asks it for settings
        self.statements: list[str] = []

    def execute_sql(self, statement: str) -> None:
        """Execute and keep a statement."""
        self.tables.execute_sql(statement)
        self.statements.append(statement)

    def get_config(self) -> Any:
        """The settings, for the runner to set some."""
        return self

    def set(self, key: str, value: str) -> None:
        """Set and keep a setting."""
        self.tables.get_config().set(key, value)
        self.statements.append(f"SET '{key}' = '{value}'")


def script(name: str) -> str:
    """The statements of a job.  Raises `KeyError` for an unknown one, `ValueError` for one with a kernel."""
    jobs.job(name)
    if jobs.job(name).kernels:
        alone = ", ".join(job for job in jobs.FLOW if jobs.job(job).kernel is None)
        raise ValueError(f"job {name} has a kernel, which SQL alone cannot run; of SQL alone are {alone}")
    tables = StreamTableEnvironment.create(StreamExecutionEnvironment.get_execution_environment())
    said = Script(tables)
    said.set("pipeline.name", name)
    inserts = run.prepared(said, name, run.host_kernel)
    planned = tables.create_statement_set()
    for insert in inserts:
        planned.add_insert_sql(insert)
    planned.explain()
    together = "\n".join(["EXECUTE STATEMENT SET BEGIN", *(f"{insert};" for insert in inserts), "END"])
    return "".join(f"{statement};\n\n" for statement in (*said.statements, together))


if __name__ == "__main__":
    try:
        print(script(sys.argv[1]), end="")
    except (KeyError, ValueError) as error:
        raise SystemExit(error.args[0]) from None
