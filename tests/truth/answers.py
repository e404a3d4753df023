"""Cases with known answers, and what the product answers: by the kind of a case.

A module of this folder has `ANSWERS`: of each kind a function of a case's `inputs` that calls the product and returns what
the case expects, in the same form.  `WHOLE` has functions of whole cases, for kinds whose cases expect several forms.  Where
"equal" means another thing for a kind than below, `AGREES` has a function of what came and what was expected.
"""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
TRUTH = Path(__file__).resolve().parents[3] / "shared" / "truth"

Answer = Callable[[Any], Any]
Expectation = Callable[[Any], Any]
Agreement = Callable[[Any, Any], bool]


class Known(NamedTuple):
    """What all modules of this folder answer, by kind."""

    answers: dict[str, Answer]  # by functions of whole cases
    agreements: dict[str, Agreement]
    expectations: dict[str, Expectation]


class Verdict(NamedTuple):
    """A case with its answer."""

    id: str
    expected: Any
    got: Any
    ok: bool


def known() -> Known:
    """Every kind of case that is answered, by all modules of this folder.  Raises `ValueError` where two answer one."""
    every = Known({}, {}, {})
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem.startswith(("_", "test_")):
            continue
        module = import_module(f"tests.truth.{path.stem}")
        of_inputs: dict[str, Answer] = getattr(module, "ANSWERS", {})
        own = {kind: partial(_by_inputs, answer) for kind, answer in of_inputs.items()} | getattr(module, "WHOLE", {})
        if twice := sorted(every.answers.keys() & own.keys()):
            raise ValueError(f"{path.name}: {', '.join(twice)} is answered by another module too")
        every.answers.update(own)
        every.agreements.update(getattr(module, "AGREES", {}))
        every.expectations.update(getattr(module, "EXPECTED", {}))
    return every


def _by_inputs(answer: Answer, case: dict[str, Any]) -> Any:
    return answer(case.get("inputs", case))


def cases(path: Path) -> list[dict[str, Any]]:
    """The cases of a file.  Raises `ValueError` naming the file where it has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    found = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(found, list) or not all(isinstance(case, dict) for case in found):
        raise ValueError(f"{path}: expected a list of cases, or an object with `cases`")
    return found


def verdicts(path: Path) -> Iterator[Verdict]:
    """Each case of a file with the product's answer; one that fails is answered by its error."""
    answers, agreements, expectations = known()
    for number, case in enumerate(cases(path)):
        name = next((str(case[key]) for key in ("id", "name", "ref") if key in case), f"case {number}")
        kind = case.get("kind") or next((field for field in case if field in expectations), None)
        expected, answer = case.get("expected"), answers.get(str(kind))
        if answer is None:
            yield Verdict(name, expected, f"nothing answers cases of the kind {kind!r}", False)
            continue
        try:
            expected = expectations[str(kind)](case) if expected is None and kind in expectations else expected
            got = answer(case)
            alike = partial(agrees, tolerance=case.get("tolerance"), is_relative=case.get("relative", False))
            ok = agreements.get(str(kind), alike)(got, expected)
        except Exception as error:
            got, ok = f"{type(error).__name__}: {error}", False
        yield Verdict(name, expected, got, ok)


def agrees(got: Any, expected: Any, tolerance: float | None = None, is_relative: bool = False) -> bool:
    """Whether an answer is the expected one.

    Numbers agree to nine digits, or to the `tolerance` that stands beside them or beside the case, which may be relative; of an
    object the fields that are expected.
    """
    if isinstance(expected, dict):
        within = expected.get("tolerance", tolerance)
        fields = [name for name in expected if name != "tolerance"]
        return isinstance(got, dict) and all(
            name in got and agrees(got[name], expected[name], within, is_relative) for name in fields
        )
    if isinstance(expected, list):
        return (
            isinstance(got, list | tuple)
            and len(got) == len(expected)
            and all(agrees(mine, theirs, tolerance, is_relative) for mine, theirs in zip(got, expected, strict=True))
        )
    if is_number(expected):
        if not is_number(got):
            return False
        if tolerance is not None:
            return bool(abs(got - expected) <= tolerance * (abs(expected) if is_relative else 1.0))
        is_whole = isinstance(got, int) and isinstance(expected, int)
        return bool(got == expected) if is_whole else math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-12)
    return type(got) is type(expected) and bool(got == expected)


def is_number(value: Any) -> bool:
    """Whether it is one; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
