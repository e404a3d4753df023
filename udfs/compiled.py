"""How loops over numbers are compiled, in one place, and where the machine code is kept.

numba keys it by the path of the source file.  A job's code has no fixed path: it is shipped in a zip file and unpacked into a
new folder each time.  So here the key is the source text, under `GAMMAFLOW_CACHE` or ~/.cache/gammaflow, where the tests and
every TaskManager of a machine find it again.  Processes that need the same function at the same time, as those of a job that
starts do, wait for the one that compiles it.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import caching, cgutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

F = TypeVar("F", bound=Callable[..., Any])
_COMPILED: list[Any] = []
"""Keeps the machine code of `elementwise` formulas alive."""

# Products may be fused into sums, which rounds once instead of twice.  Nothing is reordered: `normal.exp` rounds by adding
# and taking away.
_FLAGS: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}, "nogil": True}
# Counting references to arrays at each call took a fifth of the time of the books' loop.
_UNCOUNTED: dict[str, Any] = _FLAGS | {"_nrt": False}


def compiled(function: F) -> F:
    """A loop over arrays, compiled when it is first called with arguments of a type; it runs without the interpreter lock.

    It makes no arrays of its own, nor does what it calls: one that does is refused when it is compiled.  An index that may be
    below 0 is checked each time, and elements are loaded one by one instead of at once: so a loop over bytes first states that
    its index is not below 0.
    """
    return _compiled_once(function, _UNCOUNTED)


def allocating(function: F) -> F:
    """As `compiled`, for a loop that makes arrays of its own."""
    return _compiled_once(function, _FLAGS)


def inlined(function: F) -> F:
    """A function of numbers that becomes a part of the loops that call it."""
    return _compiled_once(function, _UNCOUNTED | {"forceinline": True})


def unfused(function: F) -> F:
    """As `inlined`, but every product is rounded before it is summed: the numbers of plain Python, to the last bit."""
    return _compiled_once(function, _UNCOUNTED | {"fastmath": False, "forceinline": True})


def _compiled_once(function: F, flags: dict[str, Any]) -> F:
    made: Any = numba.njit(**flags)(function)
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined] # for a debugger
        return cast(F, made)
    compile_it = made.compile

    def compile_alone(signature: Any) -> Any:
        # Threads first, as numba does it: a thread with only one of the two locks would stop the others for good.
        with global_compiler_lock, _alone(Path(made._cache.cache_path) / f"{function.__module__}.lock"):
            return compile_it(signature)

    made.compile = compile_alone
    return cast(F, made)


_held: set[Path] = set()
"""The locks that this process holds; who changes it holds numba's lock of threads."""


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process is in a block of this path until the block ends; where no file can be written, others may be."""
    if path in _held:  # a function that is compiled compiles what it calls
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError:
        yield
        return
    with file:
        # A module calls only those that it imports, so no two processes wait for each other.
        fcntl.flock(file, fcntl.LOCK_EX)
        _held.add(path)
        try:
            yield
        finally:
            _held.remove(path)


def _prefetch(_: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    def instruction(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        view = cast(Any, make_array)(signature.args[0])(context, builder, values[0])
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cast(Any, cgutils).get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        address = builder.bitcast(builder.gep(view.data, [values[1]]), pointer)
        is_read, locality, data = number(0), number(3), number(1)
        builder.call(function, [address, is_read, locality, data])
        return context.get_dummy_value()

    return types.void(array, index), instruction


prefetch: Any = intrinsic(_prefetch)
"""For compiled code, (array, index): start loading that element into the core's cache, and do not wait for it."""


def elementwise(function: Callable[..., float]) -> Callable[..., Any]:
    """A formula of numbers, compiled, as numpy's own: it takes numbers and arrays alike, and broadcasts them."""
    numbers = ", ".join(["float64"] * function.__code__.co_argcount)
    made = numba.vectorize([f"float64({numbers})"], cache=True)(function)  # type: ignore[no-untyped-call]
    # numba's own looks at each argument in Python first, which takes ten times as long as a formula of single numbers.
    _COMPILED.append(made)
    return cast(Callable[..., Any], made.ufunc)


class ByContent(caching._CacheLocator):
    """Where the machine code of a function is kept: a folder named by the text of all modules beside its own and this one."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._py_file = file
        self._line = function.__code__.co_firstlineno
        self._digest = _digest(Path(file).parent)

    def get_cache_path(self) -> str:
        """The folder."""
        home = os.environ.get("GAMMAFLOW_CACHE") or Path.home() / ".cache" / "gammaflow"
        return str(Path(home) / "numba" / self._digest)

    def get_source_stamp(self) -> str:
        """Machine code is used only where this is unchanged."""
        return self._digest

    def get_disambiguator(self) -> str:
        """Distinguishes functions of the same name."""
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> "ByContent":
        """The locator of any function."""
        return cls(function, file)


@cache
def _digest(folder: Path) -> str:
    # Of all modules: machine code contains that of the functions which it calls.
    files = sorted({*folder.glob("*.py"), *Path(__file__).parent.glob("*.py")})
    text = b"\0".join(file.name.encode() + file.read_bytes() for file in files)
    return hashlib.sha256(text).hexdigest()[:16]


numba.config.CACHE_LOCATOR_CLASSES = f"{ByContent.__module__}.{ByContent.__name__}"  # type: ignore[attr-defined]
