"""A job of SQL alone as one script, to edit by hand: `python -m deploy.java deploy.sql bars > bars.sql`.

It contains all that the runner adds to the job's file: the topics, with their addresses, and the rows of its inputs.  Flink has
planned the printed statements.  A job with a kernel has no such script, for it needs Python.
"""

import sys
from typing import Any

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

import jobs
from engine import run


class Script:
    """A table environment that records its statements and settings."""

    def __init__(self, tables: StreamTableEnvironment) -> None:
        self.tables = tables
        self._j_tenv = tables._j_tenv  # for `run.setting`
        self.statements: list[str] = []

    def execute_sql(self, statement: str) -> None:
        """Execute and record a statement."""
        self.tables.execute_sql(statement)
        self.statements.append(statement)

    def get_config(self) -> Any:
        """The object with the method `set`, as in a table environment."""
        return self

    def set(self, key: str, value: str) -> None:
        """Set and record a setting."""
        self.tables.get_config().set(key, value)
        self.statements.append(f"SET '{key}' = '{value}'")


def script(name: str) -> str:
    """The statements of a job.  Raises `KeyError` for an unknown one, `ValueError` for one with a kernel."""
    jobs.job(name)
    if jobs.job(name).kernels:
        alone = ", ".join(job for job in jobs.FLOW if jobs.job(job).kernel is None)
        raise ValueError(f"job {name} has a kernel, which SQL alone cannot run; of SQL alone are {alone}")
    tables = StreamTableEnvironment.create(StreamExecutionEnvironment.get_execution_environment())
    recorded = Script(tables)
    recorded.set("pipeline.name", name)
    inserts = run.sql_inserts(recorded, name, jobs.job(name))
    planned = tables.create_statement_set()
    for insert in inserts:
        planned.add_insert_sql(insert)
    planned.explain()
    together = "\n".join(["EXECUTE STATEMENT SET BEGIN", *(f"{insert};" for insert in inserts), "END"])
    return "".join(f"{statement};\n\n" for statement in (*recorded.statements, together))


if __name__ == "__main__":
    try:
        print(script(sys.argv[1]), end="")
    except (KeyError, ValueError) as error:
        raise SystemExit(error.args[0]) from None
