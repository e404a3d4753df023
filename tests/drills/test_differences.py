"""The faults in rows that were written after a golden savepoint."""

import json
from collections import Counter
from pathlib import Path

import pytest

from drills.golden import WRITTEN, differences
from drills.rows import Row

A, B, C, D = (Row(b"key", number, b"{}") for number in range(4))


@pytest.mark.parametrize(
    ("after", "starts"),
    [
        ([B, C], []),
        ([C], ["bars: 2 rows did not come, of which 1 were written before"]),
        ([A, B, C], ["bars: 0 rows did not come, of which 1 were written before"]),
        ([B, C, D], ["bars: 1 rows that should not be, e.g. "]),
        ([B, C, C], ["bars: 1 rows that should not be, e.g. "]),
    ],
)
def test_rows_before_and_after_are_all_there_once(after: list[Row], starts: list[str], tmp_path: Path) -> None:
    (tmp_path / WRITTEN).write_text(json.dumps({"rows": {"bars": 1}}))
    faults = differences(tmp_path, {"bars": Counter([A, B, C])}, {"bars": Counter(after)})
    assert len(faults) == len(starts)
    assert all(fault.startswith(start) for fault, start in zip(faults, starts, strict=True))
