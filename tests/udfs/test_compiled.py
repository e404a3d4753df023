import fcntl
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import TypingError
from numpy.typing import NDArray

from udfs import compiled as module
from udfs.compiled import allocating, compiled, prefetch


# One for each decorator: machine code is kept by the function's place, whatever made it.
def length(size: int) -> int:
    return len(np.empty(size))


def same_length(size: int) -> int:
    return len(np.empty(size))


def first(array: NDArray[np.float64]) -> float:
    return float(array[0])


def second(array: NDArray[np.float64]) -> float:
    return float(array[1])


def fetched(array: NDArray[np.float64], place: int) -> float:
    prefetch(array, place)
    return float(array[0])


def test_to_fetch_what_is_not_there_does_nothing() -> None:
    assert [compiled(fetched)(np.array([7.0]), place) for place in (0, -1, 1, 2**40)] == [7.0] * 4


def test_a_compiled_loop_that_makes_arrays_is_refused() -> None:
    with pytest.raises(TypingError, match="empty"):
        compiled(length)(3)
    assert allocating(same_length)(3) == 3


def test_a_compiled_loop_leaves_the_references_to_an_array_as_they_were() -> None:
    array, loop = np.arange(3.0), compiled(first)
    references = sys.getrefcount(array)
    assert [loop(array) for _ in range(100)] == [0.0] * 100
    assert sys.getrefcount(array) == references


def test_while_one_process_compiles_a_module_others_wait(tmp_path: Path) -> None:
    path = tmp_path / "module.lock"
    with path.open("wb") as other:
        with module._alone(path), module._alone(path):  # the second is of a function that the first one calls
            pass
        with module._alone(path), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_where_no_lock_can_be_written_a_loop_is_compiled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with module._alone(tmp_path / "file" / "module.lock"):
        pass


def test_a_loop_is_compiled_under_the_lock_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Path] = []

    def noted(path: Path) -> Any:
        taken.append(path)
        return nullcontext()

    monkeypatch.setattr(module, "_alone", noted)
    assert compiled(second)(np.arange(3.0)) == 1.0
    assert [path.name for path in taken] == [f"{__name__}.lock"]
