"""Benchmarks: `make bench BENCH=<name>` runs one and writes `results/<name>.json`."""

import signal
import sys

# So that one that is told to stop stops what it has started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
