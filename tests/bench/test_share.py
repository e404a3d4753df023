"""A share of the processors: a control group that bounds who takes it, and is gone afterwards."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench import share


def test_who_takes_a_share_is_bounded_with_its_children_and_nothing_is_left() -> None:
    child = "import time; time.sleep(600)"
    parent = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True); {child}"
    with share.share(0.5) as own:
        if own is None:
            pytest.skip("no control group can be made here")
        with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            child_pid = int(process.stdout.readline())
            own.take(process.pid)
            assert {int(pid) for pid in (own.group / "cgroup.procs").read_text().split()} == {process.pid, child_pid}
            bounds = "".join(
                file.read_text() for file in own.group.glob("cpu.*") if file.name in ("cpu.max", "cpu.cfs_quota_us")
            )
            assert bounds.split()[0] == str(share.PERIOD_US // 2)
            both = [psutil.Process(child_pid), psutil.Process(process.pid)]
            for one in both:
                one.kill()
            process.wait()
            psutil.wait_procs(both, timeout=10)
    assert not own.group.exists()


def test_where_the_kernel_bounds_nothing_there_is_no_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "ROOT", tmp_path)
    (tmp_path / "cpu").mkdir()
    with share.share(0.5) as own:
        assert own is None
    assert list((tmp_path / "cpu").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["cpu"]
