"""One version of the suite in a process of its own, told what to do line by line: `bench.versus` starts it.

It is run with the package path of its version, and uses no more than what both versions have.  On standard output it says in
one line of JSON where its runtime is.  Then each line of standard input, the JSON of an object of Flink options, submits the
books job with these at parallelism 2, and is answered by a line.  It stops its runtime when its input ends.
"""

import json
import signal
import sys
from collections.abc import Mapping
from typing import Any

import jobs
from deploy import cluster, runtime

# So that one that is told to stop stops what it has started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
PARALLELISM = 2
MARK = "> "
"""Lines that are answers begin so."""


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by their whole names."""
    result: dict[str, str] = {}
    for name, value in settings.items():
        whole = f"{prefix}{name}"
        result |= flat(value, f"{whole}.") if isinstance(value, dict) else {whole: str(value)}
    return result


def read_tables() -> list[str]:
    """The tables that the books job reads; the catalogue of earlier versions has another name for it."""
    tables: list[str] = jobs.job("books").reads if hasattr(jobs, "job") else jobs.sources("books")  # type: ignore[attr-defined]
    return tables


def answer(value: Any) -> None:
    """Say something to who started this."""
    sys.stdout.write(f"{MARK}{json.dumps(value)}\n")
    sys.stdout.flush()


def main() -> None:
    """Start the runtime, and do what the lines say until there are no more."""
    with runtime.temporary() as up:
        where = {"kafka": up.kafka, "flink": up.flink, "home": up.home, "started": up.started}
        answer({**where, "reads": read_tables(), "settings": flat(cluster.layered(["config", "local"]))})
        for line in sys.stdin:
            runtime.submit(up, ["books"], PARALLELISM, json.loads(line))
            answer("submitted")


if __name__ == "__main__":
    main()
