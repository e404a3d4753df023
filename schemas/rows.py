"""Checks of rows against their DDL, in plain Python; and how rows and instants are written."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from schemas.records import TABLES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Fault(NamedTuple):
    """What is wrong with an input: the field (None for the whole input), what was expected there, and what was there."""

    field: str | None
    expected: str
    got: str | None


@lru_cache(maxsize=4096)
def instant_ms(ms: int) -> str:
    """Milliseconds since 1970 as ISO-8601 text in UTC, always with three decimals, so that text order is time order."""
    seconds, part = divmod(ms, 1000)
    return f"{_second(seconds)}.{part:03d}Z"


def instant_us(us: int) -> str:
    """Microseconds since 1970 as ISO-8601 text in UTC, always with six decimals."""
    seconds, part = divmod(us, 1_000_000)
    return f"{_second(seconds)}.{part:06d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    # Cached, for most rows of a moment are of the same second.
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=4096)
def to_us(instant: str) -> int:
    """Microseconds since 1970 of ISO-8601 text.  Raises `ValueError` for any other text."""
    # Cached, for a row is checked, sorted and applied, each with its instant.
    return (datetime.fromisoformat(instant) - EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def to_ms(instant: str) -> int:
    """Milliseconds since 1970 of ISO-8601 text.  Raises `ValueError` for any other text."""
    return to_us(instant) // 1000


def key(table: str, row: Mapping[str, Any]) -> str:
    """The Kafka key of a row; a part that is NULL is empty."""
    columns = TABLES[table].key
    if table in _OPEN_KEYS:
        return ":".join(["" if row.get(column) is None else str(row[column]) for column in columns])
    return str(row[columns[0]]) if len(columns) == 1 else ":".join([str(row[column]) for column in columns])


_OPEN_KEYS = {name for name, table in TABLES.items() if any(table.columns[column].nullable for column in table.key)}
"""The tables whose key has a part that may be NULL."""


def encoded(row: Mapping[str, Any]) -> bytes:
    """A row as JSON.  A `Decimal` is written as a number with all its digits, also trailing zeros.

    Raises `TypeError` for a value that JSON cannot express, such as a `Decimal` that is not finite.
    """
    return orjson.dumps(row, default=_digits)


def _digits(value: object) -> orjson.Fragment:
    if type(value) is not Decimal or not value.is_finite():
        raise TypeError
    text = str(value)  # twice as fast as `format`, but with an exponent where the number is small
    return orjson.Fragment(format(value, "f") if "E" in text else text)


_SPACE = b" \t\n\r"
_PARTING = re.compile(rb'"(?:[^"\\\x1e]|\\[^\x1e])*"|[{}"\x1e]')
"""The tokens that decide where a JSON object ends: texts and braces.  There is no end after an open text or U+001E."""


def parted(value: bytes) -> list[bytes]:
    """The rows in the value of a record, unchanged: one row, or a JSON array of rows.

    The rest of an invalid array is one row: decoding it will report the error.
    """
    rows: list[bytes] = []
    at = _behind_space(value, 1)
    if value[:1] != b"[" or value[at : at + 1] != b"{":
        return [value]
    while True:
        end = _object_end(value, at)
        if end < 0:
            return [*rows, value[at:]]
        rows.append(value[at:end])
        at = _behind_space(value, end)
        parting = value[at : at + 1]
        if parting == b"]" and at + 1 == len(value):
            return rows
        if parting != b",":
            return [*rows, value[at:]]
        at = _behind_space(value, at + 1)


def _behind_space(value: bytes, at: int) -> int:
    while at < len(value) and value[at] in _SPACE:
        at += 1
    return at


def _object_end(value: bytes, start: int) -> int:
    """Where the JSON object that begins here ends; -1 if it does not end."""
    if value[start : start + 1] != b"{":
        return -1
    depth = 0
    for match in _PARTING.finditer(value, start):
        token = match[0]
        if token == b"{":
            depth += 1
        elif token == b"}":
            depth -= 1
            if depth == 0:
                return match.end()
        elif len(token) == 1:
            return -1
    return -1


def shown(value: object, limit: int = 80) -> str:
    """A value for an error message, shortened."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deep to show"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fault(table: str, row: object) -> Fault | None:
    """The first column that breaks the table's DDL, or None.

    Numbers must be finite, instants ISO-8601 in UTC, decimals text or whole numbers; a level may have `Decimal`s.  Columns
    that the DDL does not have are accepted: a newer writer may send them.
    """
    if not isinstance(row, Mapping):
        return Fault(None, f"a row of {table}", shown(row))
    names, known = _good(table)
    values = tuple(map(row.get, names))
    types = tuple(map(type, values))
    checks = known.get(types)
    if checks is None:
        if (checks := _left(table, types)) is None:
            return _found(table, row)
        if len(known) < _MOST_KNOWN:
            known[types] = checks
    for at, check in checks:
        if not check(values[at]):
            return _found(table, row)
    return None


def _found(table: str, row: Mapping[str, Any]) -> Fault | None:
    for name, is_good, expected, is_nullable in _checks(table):
        value = row.get(name)
        if value is None:
            if is_nullable:
                continue
            sql_type, _ = TABLES[table].columns[name]
            return Fault(name, f"{sql_type}, not NULL", "missing" if name not in row else "NULL")
        if not is_good(value):
            return Fault(name, expected, shown(value))
    return None


_Types = tuple[type, ...]
_Left = list[tuple[int, Callable[[Any], bool]]]
_MOST_KNOWN = 1_000


@cache
def _good(table: str) -> tuple[list[str], dict[_Types, _Left]]:
    """The columns of a table; and by the types of a row's values, of those seen so far, what is left to check."""
    # Rows of a table have few combinations of types, and most columns are text, of which the type is all that is checked.
    return list(TABLES[table].columns), {}


def _left(table: str, types: _Types) -> _Left | None:
    """What is left to check of a row with these types: which value, and how; None where a type is wrong."""
    left: _Left = []
    for at, ((_, is_good, _, is_nullable), kind) in enumerate(zip(_checks(table), types, strict=True)):
        if kind is type(None):
            if not is_nullable:
                return None
        elif (by_type := _BY_TYPE.get(is_good)) is None:
            left.append((at, is_good))
        elif kind is not by_type:
            return None
    return left


@cache
def _checks(table: str) -> list[tuple[str, Callable[[Any], bool], str, bool]]:
    """For each column of a table: its name, its check, what that expects, and whether it may be NULL."""
    checks = []
    for name, (sql_type, is_nullable) in TABLES[table].columns.items():
        base = sql_type.partition("(")[0]
        checks.append((name, _CHECKS[base], _EXPECTED.get(base, sql_type), is_nullable))
    return checks


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -math.inf < value < math.inf


def _is_levels(value: Any) -> bool:
    return type(value) is list and all(
        type(level) is list and len(level) == 2 and _is_digits(level[0]) and _is_digits(level[1]) for level in value
    )


def _is_digits(value: Any) -> bool:
    # A number with its digits as sent.
    return value.is_finite() if type(value) is Decimal else _is_number(value)


def _is_instant(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        to_us(value)
        return value[-1] == "Z" or datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except (ValueError, TypeError):  # a TypeError without an offset
        return False


def _is_decimal(value: Any) -> bool:
    return type(value) in (str, int) and _is_amount(value)


@lru_cache(maxsize=1 << 16)
def _is_amount(value: str | int) -> bool:
    # Cached, for prices and sizes repeat.
    try:
        number = Decimal(value)
    except InvalidOperation:
        return False
    # A power of ten alone makes a number of a million digits, or infinity of a float.
    return number.is_finite() and _LEAST_POWER <= number.adjusted() < _POWERS and len(str(value)) <= _MOST_LETTERS


def _is_int(value: Any) -> bool:
    return type(value) is int and -(2**31) <= value < 2**31


def _is_bigint(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_truth(value: Any) -> bool:
    return type(value) is bool


_POWERS, _LEAST_POWER, _MOST_LETTERS = 20, -60, 100
"""A DECIMAL(38, 18) has 20 digits before the point.  Of those after it more are taken, for whoever books them rounds."""
_BY_TYPE: dict[Callable[[Any], bool], type] = {_is_text: str, _is_truth: bool}
"""Checks that ask for a type alone."""
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "STRING": _is_text,
    "BYTES": _is_text,
    "BOOLEAN": _is_truth,
    "INT": _is_int,
    "BIGINT": _is_bigint,
    "DOUBLE": _is_number,
    "DECIMAL": _is_decimal,
    "TIMESTAMP_LTZ": _is_instant,
    "ARRAY<ARRAY<DOUBLE>>": _is_levels,
}
_EXPECTED = {
    "DOUBLE": "a finite number",
    "DECIMAL": "a decimal as text, below 1e20 and of up to 60 digits after the point",
    "TIMESTAMP_LTZ": "an ISO-8601 instant in UTC",
    "ARRAY<ARRAY<DOUBLE>>": "a list of [price, size] pairs of finite numbers",
}
