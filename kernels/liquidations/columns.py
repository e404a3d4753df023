"""Numbers by key, in arrays that grow."""

import math
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Key = TypeVar("Key", bound=Hashable)


class Columns(Generic[Key]):
    """Numbers by key, one array a column, growing as keys come.  A freed row holds the blanks until it is reused."""

    def __init__(self, **blanks: float) -> None:
        self.rows: dict[Key, int] = {}
        self._free: list[int] = []
        self._end = 0
        self._blanks = blanks
        self._arrays = {name: np.full(16, blank) for name, blank in blanks.items()}

    def row(self, key: Key) -> int:
        """The row of a key, made blank if it is new."""
        if (row := self.rows.get(key)) is None:
            row = self.rows[key] = self._free.pop() if self._free else self._end
            if row == self._end:
                self._end += 1
                if self._end > len(next(iter(self._arrays.values()))):
                    for name, array in self._arrays.items():
                        self._arrays[name] = np.concatenate([array, np.full_like(array, self._blanks[name])])
        return row

    def put(self, key: Key, **numbers: float) -> None:
        """Set numbers of a key."""
        row = self.row(key)
        for name, number in numbers.items():
            self._arrays[name][row] = number

    def free(self, key: Key) -> None:
        """Blank the row of a key, if it has one."""
        if (row := self.rows.pop(key, None)) is not None:
            for name, array in self._arrays.items():
                array[row] = self._blanks[name]
            self._free.append(row)

    def __getitem__(self, name: str) -> Array:
        """A column, as a view: it does not grow with the rows that come after."""
        return self._arrays[name][: self._end]


def or_nan(number: float | None) -> float:
    """The number; NaN for None."""
    return math.nan if number is None else number
