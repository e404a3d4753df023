"""Sanity bounds that every venue shares, and the diagnosis of a message that breaks them.

A `Form` reads a message in straight-line code that lets anything odd raise.  Only then it goes through the fields one by
one to name the first that is at fault, so that a good message pays for no explanation.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

import orjson

from feeds import Received, Record, Rejected
from schemas.records import InstrumentsRow, TickersRow
from schemas.rows import instant_ms, shown

MAX_AHEAD_MS = 60_000  # of an exchange time, against the receiver's clock
MAX_BEHIND_MS = 86_400_000  # the last ticker of a dead option may be hours old
MAX_PRICE = 1e12
MAX_SIZE = 1e15
MAX_SEQUENCE = 2**63 - 1  # BIGINT
NO_EXPIRY_MS = 4_102_444_800_000  # the year 2100: venues write such an expiry where there is none

MISSING = object()
ODD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)

_DIGITS = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_WHOLE = re.compile(r"0|[1-9][0-9]*")

Levels: TypeAlias = list[list[float]]
Check: TypeAlias = Callable[[Any, Received], tuple[str, str] | None]  # what was expected and what stood there, or None
Fields: TypeAlias = Mapping[str, Check]


def decoded(message: bytes) -> dict[str, Any]:
    """The JSON object that a message is.  Raises `Rejected` without a field if it is none."""
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is not dict:
        raise Rejected(None, "a JSON message", shown(message))
    return value


def instants(event_ms: int, received_us: int) -> tuple[str, str]:
    """`event_at` (from exchange milliseconds) and `received_at` (from microseconds) as a row writes them.

    Raises one of `ODD` where the exchange time is no whole number or wild.
    """
    if event_ms.__class__ is not int or not -MAX_BEHIND_MS <= event_ms - received_us // 1000 <= MAX_AHEAD_MS:
        raise ValueError
    seconds, ms = divmod(event_ms, 1000)
    received_seconds, us = divmod(received_us, 1_000_000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z", f"{_to_the_second(received_seconds)}.{us:06d}Z"


class Asked(NamedTuple):
    """What an answer was asked with."""

    method: str  # last part of the path; empty where the request is not known
    params: Mapping[str, str]


def asked(received: Received) -> Asked:
    """The request that a message answers, as far as its address is known; that of a websocket asks for nothing."""
    return _asked(received.url) if received.url and received.url.startswith("http") else Asked("", {})


@lru_cache(1024)
def _asked(url: str) -> Asked:
    try:
        parts = urlsplit(url)
    except ValueError:
        return Asked("", {})
    return Asked(parts.path.rpartition("/")[2], dict(parse_qsl(parts.query)))


def expiry(ms: int) -> str:
    """The instant of an expiry (milliseconds), else raises one of `ODD`, also for one so far off that it stands for none."""
    if ms.__class__ is not int or not 0 < ms < NO_EXPIRY_MS:
        raise ValueError
    return instant_ms(ms)


def text(value: str) -> str:
    """`value` if it is text and not empty, else raises one of `ODD`."""
    if value.__class__ is not str or not value:
        raise TypeError
    return value


def exact(value: str) -> Decimal:
    """The number that a text of digits is, with every digit of the text.

    Raises one of `ODD` for all else: a sign, an exponent, zeros in front, NaN, a number that is no text.
    """
    return Decimal(_digits(value))


def _digits(value: str) -> str:
    if _DIGITS.fullmatch(value) is None:
        raise ValueError
    return value


def whole(value: Any) -> int:
    """The whole number that stands in JSON by itself or as a text of digits, else raises one of `ODD`."""
    if value.__class__ is not int and _WHOLE.fullmatch(value) is None:
        raise ValueError
    return int(value)


def numbered(value: Any) -> int:
    """A venue's sequence number, which stands in JSON by itself or as text, else raises one of `ODD`."""
    number = whole(value)
    if not 0 <= number <= MAX_SEQUENCE:
        raise ValueError
    return number


def price(value: str) -> float:
    """A price above 0 from a text of digits, else raises one of `ODD`."""
    number = float(_digits(value))
    if not 0.0 < number <= MAX_PRICE:
        raise ValueError
    return number


def amount(value: str) -> float:
    """A size, or another amount from 0 on, from a text of digits, else raises one of `ODD`."""
    number = float(_digits(value))
    if not number <= MAX_SIZE:
        raise ValueError
    return number


def optional_amount(value: str | None) -> float | None:
    """The same; None where an empty text, a null or nothing stands."""
    return None if value is None or value == "" else amount(value)


def best(data: Any, price_field: str, size_field: str) -> tuple[float | None, float | None]:
    """A best price and its size, from texts; an empty text or 0 is how a venue says that there is none.

    The size may be missing.  Raises `Rejected` for a size at no price, else one of `ODD`.
    """
    best_price, size = optional_amount(data[price_field]), optional_amount(data.get(size_field))
    if best_price:
        if best_price > MAX_PRICE:
            raise ValueError
        return best_price, size
    if size:
        raise Rejected(price_field, f"a price above 0 beside a size of {size}", shown(data[price_field]))
    return None, None


def exact_side(raw: Any) -> Levels:
    """One side of a book whose levels begin with a price and a size as text: pairs of `Decimal`, every digit kept.

    A venue's checksum is over the digits that it sent.  Raises one of `ODD`.
    """
    if raw.__class__ is not list:
        raise TypeError
    return cast(Levels, [_exact_level(level) for level in raw])


def _exact_level(level: Any) -> list[Decimal]:
    if level.__class__ is not list:
        raise TypeError
    return [_exact_price(level[0]), _exact_size(level[1])]


# Kept, as all levels of a book are: most messages of a book have the prices, and many the sizes, of those before.
@lru_cache(maxsize=32_768)
def _exact_price(value: str) -> Decimal:
    number = exact(value)
    if not 0 < number <= MAX_PRICE:
        raise ValueError
    return number


@lru_cache(maxsize=32_768)
def _exact_size(value: str) -> Decimal:
    number = exact(value)
    if not number <= MAX_SIZE:
        raise ValueError
    return number


def first_level(raw: Any) -> tuple[float | None, float | None]:
    """The best price and size of a side of which only the best levels are sent; None twice for an empty one.

    Raises one of `ODD`.
    """
    side = exact_side(raw)
    return (float(side[0][0]), float(side[0][1])) if side else (None, None)


def quiet_ticker(venue: str, instrument: str, event_ms: int, received: Received) -> TickersRow:
    """A ticker that says nothing yet.  Raises one of `ODD` where the exchange time is wild."""
    event_at, received_at = instants(event_ms, received.received_us)
    return {
        "venue": venue,
        "instrument": instrument,
        "event_at": event_at,
        "received_at": received_at,
        "sequence": None,
        "bid_price": None,
        "bid_size": None,
        "ask_price": None,
        "ask_size": None,
        "last_price": None,
        "mark_price": None,
        "mark_iv": None,
        "bid_iv": None,
        "ask_iv": None,
        "forward_usd": None,
        "index_price_usd": None,
        "interest_rate": None,
        "open_interest": None,
        "min_price": None,
        "max_price": None,
        "has_quote": False,
        "funding_rate": None,
        "next_funding_at": None,
    }


def checksum(value: int | None) -> int | None:
    """A venue's signed CRC32 of a book, else raises one of `ODD`; None for 0, which is how a venue says that it gives none."""
    if value is not None and not (value.__class__ is int and -(2**31) <= value < 2**31):
        raise ValueError
    return value or None


@lru_cache(1024)
def _to_the_second(seconds: int) -> str:
    return instant_ms(seconds * 1000)[:19]


def uncrossed(bids: Levels, asks: Levels) -> None:
    """Raises `Rejected` on a snapshot whose best bid is not below its best ask; levels of size 0 do not count."""
    best_bid = max((price for price, size in bids if size), default=-inf)
    best_ask = min((price for price, size in asks if size), default=inf)
    if best_bid >= best_ask:
        raise Rejected("bids", f"a best bid below the best ask of {best_ask}", str(best_bid))


class Form(NamedTuple):
    """One kind of message: how it becomes a record, and what each of its fields must be."""

    build: Callable[[Any, Received], Record]  # raises `Rejected`, or one of `ODD` where a field is not as it must be
    fields: Fields

    def record(self, message: Any, received: Received) -> Record:
        """The record of a message.  Raises `Rejected`, naming the field."""
        try:
            return self.build(message, received)
        except Rejected:
            raise
        except ODD:
            raise diagnosis(message, self.fields, received) from None


def diagnosis(message: Any, fields: Fields, received: Received) -> Rejected:
    """Why a message is odd: the first of `fields` that is missing or breaks its check."""
    if type(message) is not dict:
        return Rejected(None, "a JSON object", shown(message))
    for name, check in fields.items():
        fault = check(message.get(name, MISSING), received)
        if fault is not None:
            expected, got = fault
            return Rejected(name, expected, got if name in message else "missing")
    return Rejected(None, f"a consistent message of {', '.join(fields)}", shown(message))


def each(items: Iterable[Any], record: Callable[[Any], Record]) -> list[Record | Rejected]:
    """The record of each item of a message; where an item cannot be used, its `Rejected`, with the item's own JSON.

    Raises `Rejected` where the only item cannot be used: then the message as a whole cannot.
    """
    return every(items, lambda item: (record(item),))


def every(items: Iterable[Any], records: Callable[[Any], Iterable[Record]]) -> list[Record | Rejected]:
    """As `each`, of items that become several records each."""
    results: list[Record | Rejected] = []
    for item in items:
        try:
            results += records(item)
        except Rejected as rejected:
            rejected.item = orjson.dumps(item)
            results.append(rejected)
    if len(results) == 1 and isinstance(results[0], Rejected):
        results[0].item = None
        raise results[0]
    return results


def expect(expected: str, holds: Callable[[Any], object]) -> Check:
    """A check of one value on its own; one of `ODD` from `holds` means no."""

    def check(value: Any, _: Received) -> tuple[str, str] | None:
        return None if _holds(holds, value) else (expected, shown(value))

    return check


def nullable(check: Check) -> Check:
    """The same check, for a field that may be null."""
    return lambda value, received: None if value is None else check(value, received)


def optional(check: Check) -> Check:
    """The same check, for a field that may be missing."""
    return lambda value, received: None if value is MISSING else check(value, received)


def levels(is_level: Callable[[Any], object]) -> Check:
    """A check of one side of a book, level by level."""

    def check(value: Any, _: Received) -> tuple[str, str] | None:
        if type(value) is not list:
            return "a list of levels", shown(value)
        for level in value:
            if not _holds(is_level, level):
                return f"levels of a price above 0, up to {MAX_PRICE:g}, and a size from 0 to {MAX_SIZE:g}", shown(level)
        return None

    return check


def _holds(holds: Callable[[Any], object], value: Any) -> bool:
    try:
        return bool(holds(value))
    except ODD:
        return False


def one_of(*values: object) -> Check:
    """A check that a value is one of a few."""
    return expect(" or ".join(map(str, values)), lambda value: value in values)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return type(value) in (int, float) and -inf < value < inf


def is_text(value: Any) -> bool:
    """Whether a value is text that says something."""
    return type(value) is str and value != ""


def is_sequence(value: Any) -> bool:
    """Whether a value can be a venue's sequence number."""
    return type(value) is int and 0 <= value <= MAX_SEQUENCE


def _event_time(value: Any, received: Received) -> tuple[str, str] | None:
    if type(value) is not int:
        return "milliseconds since 1970", shown(value)
    ahead = value - received.received_us // 1000
    if ahead > MAX_AHEAD_MS:
        return f"a time at most {MAX_AHEAD_MS // 1000} s ahead of the receiver", f"{value}, {ahead / 1000:.0f} s ahead"
    if ahead < -MAX_BEHIND_MS:
        return f"a time at most {MAX_BEHIND_MS // 1000} s behind the receiver", f"{value}, {-ahead / 1000:.0f} s behind"
    return None


def _event_time_text(value: Any, received: Received) -> tuple[str, str] | None:
    try:
        return _event_time(whole(value), received)
    except ODD:
        return "milliseconds since 1970", shown(value)


EVENT_TIME: Check = _event_time
EVENT_TIME_TEXT: Check = _event_time_text
TEXT = expect("a text", is_text)
SEQUENCE = expect("a whole number from 0 to 2^63 - 1", is_sequence)
TRUTH = expect("true or false", lambda value: type(value) is bool)
OBJECT = expect("a JSON object", lambda value: type(value) is dict)


NUMBERED = expect("a whole number from 0 to 2^63 - 1", lambda value: [numbered(value)])
PRICE = expect(f"a price above 0, up to {MAX_PRICE:g}, as text", price)
SIZE = expect(f"a size above 0, up to {MAX_SIZE:g}, as text", amount)
BEST_PRICE = expect(
    f"a price from 0 to {MAX_PRICE:g}, as text, or an empty text", lambda value: (optional_amount(value) or 0.0) <= MAX_PRICE
)
AMOUNT = expect(f"a number from 0 to {MAX_SIZE:g}, as text, or an empty text", lambda value: [optional_amount(value)])
EXACT_LEVELS = levels(lambda level: [exact_side([level])])
CHECKSUM = expect("a signed number of 32 bits", lambda value: [checksum(value)])


class Push(NamedTuple):
    """A message of the framing that OKX and Bitget share: `{"arg": {"channel": …, …}, "action": …, "data": [ … ]}`."""

    channel: str
    items: list[Any]  # of `data`
    about: dict[str, Any]  # what holds for every item: the fields of `arg`, and `action`, None where there is none


def push(envelope: dict[str, Any], received: Received) -> Push:
    """The channel's data in a message.  Raises `Rejected`."""
    try:
        arg, items = envelope["arg"], envelope["data"]
        if items.__class__ is not list:
            raise TypeError
        return Push(text(arg["channel"]), items, {**arg, "action": envelope.get("action")})
    except ODD:
        fields = {"arg": OBJECT, "data": expect("a list", lambda value: type(value) is list)}
        if type(envelope.get("arg")) is dict and type(envelope.get("data")) is list:
            raise diagnosis(envelope["arg"], {"channel": TEXT}, received) from None
        raise diagnosis(envelope, fields, received) from None


def listed(
    venue: str,
    instrument: str,
    received: Received,
    *,
    kind: str,
    underlying: str,
    quote_currency: str,
    settlement_currency: str,
    is_inverse: bool,
    option_type: str | None = None,
    strike_usd: float | None = None,
    expiry_at: str | None = None,
    contract_size: float | None = None,
    tick_size: float | None = None,
    amount_per_contract: float | None,
) -> Record:
    """The terms of a contract, which come with no time of their own: before any message that could still refer to them.

    It is traded until it expires.  `amount_per_contract` is what one contract, of those that fills count, is in the sizes of
    books and trades; None where that is not known.  Raises one of `ODD` where the time of receipt is wild.
    """
    event_ms = received.received_us // 1000 - MAX_BEHIND_MS
    event_at, received_at = instants(event_ms, received.received_us)
    row: InstrumentsRow = {
        "venue": venue,
        "instrument": instrument,
        "event_at": event_at,
        "received_at": received_at,
        "kind": kind,
        "underlying": underlying,
        "quote_currency": quote_currency,
        "settlement_currency": settlement_currency,
        "is_inverse": is_inverse,
        "option_type": option_type,
        "strike_usd": strike_usd,
        "expiry_at": expiry_at,
        "last_trading_at": expiry_at,
        "contract_size": contract_size,
        "tick_size": tick_size,
        "amount_per_contract": amount_per_contract,
    }
    return Record("instruments", event_ms, row)
