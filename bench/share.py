"""A limit on the processor time of a process and its children, by a control group, as for a container."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from deploy import processes

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 20_000
"""Short, so that a process at its limit waits for milliseconds, not for a tenth of a second."""
_numbers = count()


class Share:
    """A control group with a limit."""

    def __init__(self, group: Path) -> None:
        self.group = group

    def take(self, pid: int) -> None:
        """Move a process into it, with its children."""
        for process in processes.family(pid):
            with suppress(ProcessLookupError):  # it has ended
                (self.group / "cgroup.procs").write_text(str(process.pid))


@contextmanager
def share(cores: float) -> Iterator[Share | None]:
    """A share of this many cores, whose processes must end before the block; None if no control group can be made."""
    group = _made(f"gammaflow-bench-{os.getpid()}-{next(_numbers)}", round(cores * PERIOD_US))
    try:
        yield None if group is None else Share(group)
    finally:
        if group is not None:
            group.rmdir()


def bind(pid: int, core: int) -> None:
    """Bind a process and its children to one core: all present threads, from which new threads inherit it."""
    for process in processes.family(pid):
        for thread in process.threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, {core})


def _made(name: str, quota_us: int) -> Path | None:
    second = ROOT / name, {"cpu.max": f"{quota_us} {PERIOD_US}"}
    first = ROOT / "cpu" / name, {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
    for group, bounds in (second, first):
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for file, bound in bounds.items():
                # Without creating the file: if the kernel has not, the group has no such limit.
                with os.fdopen(os.open(group / file, os.O_WRONLY), "w") as opened:
                    opened.write(bound)
            return group
        except OSError:
            group.rmdir()
    return None
