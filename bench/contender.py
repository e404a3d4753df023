"""One version of the suite in its own process, which `bench.versus` starts and commands line by line.

It runs with the package path of its version, and uses only what both versions have.  First it writes one line of JSON about its
runtime to standard output.  Then each line of standard input, a JSON object of Flink options, submits the books job with these
options at parallelism 2, and is answered by a line.  It stops its runtime when its input ends.
"""

import json
import signal
import sys
from collections.abc import Mapping
from typing import Any

import jobs
from deploy import cluster, runtime

# On SIGTERM it stops the processes that it has started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
PARALLELISM = 2
MARK = "> "
"""The beginning of a line that is an answer."""


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by their full names."""
    result: dict[str, str] = {}
    for name, value in settings.items():
        full_name = f"{prefix}{name}"
        result |= flat(value, f"{full_name}.") if isinstance(value, dict) else {full_name: str(value)}
    return result


def read_tables() -> list[str]:
    """The tables that the books job reads; the catalogue of earlier versions has another name for them."""
    tables: list[str] = jobs.job("books").reads if hasattr(jobs, "job") else jobs.sources("books")  # type: ignore[attr-defined]
    return tables


def answer(value: Any) -> None:
    """Write an answer."""
    sys.stdout.write(f"{MARK}{json.dumps(value)}\n")
    sys.stdout.flush()


def main() -> None:
    """Start the runtime, and run the commands until the input ends."""
    with runtime.temporary() as up:
        fields = {"kafka": up.kafka, "flink": up.flink, "home": up.home, "started": up.started}
        answer({**fields, "reads": read_tables(), "settings": flat(cluster.layered(["config", "local"]))})
        for line in sys.stdin:
            runtime.submit(up, ["books"], PARALLELISM, json.loads(line))
            answer("submitted")


if __name__ == "__main__":
    main()
