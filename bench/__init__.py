"""Benchmarks: `make bench BENCH=<name>` runs one and writes `results/<name>.json`."""

import signal
import sys

# On SIGTERM, a benchmark stops the processes that it has started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
