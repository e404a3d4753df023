import sys

import numpy as np
import pytest
from numba import TypingError
from numpy.typing import NDArray

from udfs.compiled import allocating, compiled, prefetch


# One for each decorator: machine code is kept by the function's place, whatever made it.
def length(size: int) -> int:
    return len(np.empty(size))


def same_length(size: int) -> int:
    return len(np.empty(size))


def first(array: NDArray[np.float64]) -> float:
    return float(array[0])


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
