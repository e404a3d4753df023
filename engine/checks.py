"""Which messages of a batch can be used, and the dead letters of the rest."""

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from engine.contract import Message, Output
from schemas.records import TABLES
from schemas.rows import Fault, fault, instant_ms, shown, to_ms

FUTURE_MS = 60_000
"""How far after the end of its batch an event time may lie.  A later one would outrank every following row of its key, and
would advance the watermark of the jobs that read the outputs."""

LEAST, MOST = 1e-18, 1e20
"""The smallest number above zero that a DECIMAL(38, 18) has, and its limit."""

PAST_MS = 24 * 60 * 60 * 1000
"""How far before its receipt an event time may lie."""


def checked(messages: list[Message], event_ms: int | None) -> tuple[list[Message], list[Output]]:
    """The messages that satisfy their DDL and its comments, in the given order; and dead letters for the rest.

    `event_ms` is the instant of the batch: its end, or just before it.  It is None or 0 for late messages, which have no batch.
    """
    good: list[Message] = []
    letters: list[Output] = []
    for message in messages:
        wrong = fault(message.table, message.row) or _wild_time(message.row, event_ms)
        if wrong is None and (prose := _PROSE.get(message.table)):
            wrong = prose(message.row)
        if wrong is None:
            good.append(message)
        else:
            letters.append(dead_letter(message, wrong, event_ms))
    return good, letters


def in_common_time(outputs: list[Output], until_ms: int | None) -> list[Output]:
    """The outputs, with no record timestamp after the batch.

    The clock of a venue may be ahead of the common time, by which batches end and readers keep their watermark.  A timestamp
    after the batch would make the next rows of other venues late.  Rows of late messages, where `until_ms` is None, stay as
    they are; so do dead letters, which have the instant of their batch.
    """
    if until_ms is None:
        return outputs
    if not any(_is_ahead(output, until_ms) for output in outputs):
        return outputs
    return [output._replace(event_ms=until_ms - 1) if _is_ahead(output, until_ms) else output for output in outputs]


def _is_ahead(output: Output, until_ms: int) -> bool:
    return output.event_ms >= until_ms and output.table != "dead_letters"


def dead_letter(message: Message, fault: Fault, event_ms: int | None) -> Output:
    """The dead letter of a message, with the whole message.

    Its time is `event_ms`, the instant of the batch.  If that is None or 0, it is the message's time of receipt, or else 1970.
    """
    if not event_ms:
        event_ms = _received_ms(message.row)
    row = {
        "source": message.topic or TABLES[message.table].topic,
        "partition": message.partition,
        "offset": message.offset,
        "event_at": instant_ms(event_ms),
        "field": fault.field,
        "expected": fault.expected,
        "got": fault.got,
        "original": b64encode(message.value or _text(message.row).encode()).decode(),
    }
    return Output("dead_letters", event_ms, row)


def _text(row: object) -> str:
    # Not orjson, which refuses integers of more than 64 bits and turns NaN into null.
    try:
        return json.dumps(row, separators=(",", ":"), default=repr)
    except RecursionError:
        return shown(row)


def _wild_time(row: Mapping[str, Any], event_ms: int | None) -> Fault | None:
    at_ms = to_ms(row["event_at"])
    if event_ms and at_ms > event_ms + FUTURE_MS:
        return Fault("event_at", f"at most a minute after its batch, {instant_ms(event_ms)}", shown(row["event_at"]))
    if "received_at" in row and not -PAST_MS <= at_ms - to_ms(row["received_at"]) <= FUTURE_MS:
        expected = f"from a day before to a minute after received_at, {row['received_at']}"
        return Fault("event_at", expected, shown(row["event_at"]))
    return None


def _received_ms(row: object) -> int:
    try:
        return to_ms(row["received_at"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return 0


def _instrument(row: Mapping[str, Any]) -> Fault | None:
    if row["kind"] not in ("spot", "perpetual", "future", "option"):
        return Fault("kind", "spot, perpetual, future or option", shown(row["kind"]))
    if (size := row.get("contract_size")) is not None and size <= 0:
        return Fault("contract_size", "above zero", shown(size))
    for column in ("contract_size", "tick_size", "lot_size"):
        if (size := row.get(column)) and not LEAST <= size < MOST:
            return Fault(column, f"from {LEAST:g} on, below {MOST:g}", shown(size))
    if row["kind"] == "option":
        if row.get("option_type") not in ("call", "put"):
            return Fault("option_type", "call or put", shown(row.get("option_type")))
        if (strike := row.get("strike_usd")) is None or strike <= 0:
            return Fault("strike_usd", "above zero", shown(strike))
    if row["kind"] in ("option", "future") and row.get("expiry_at") is None:
        return Fault("expiry_at", "an instant", "NULL")
    return None


def _index_price(row: Mapping[str, Any]) -> Fault | None:
    if not LEAST <= row["price_usd"] < MOST:
        return Fault("price_usd", f"from {LEAST:g} on, below {MOST:g}", shown(row["price_usd"]))
    quote = row.get("quote_currency")
    if quote is not None and not (quote.isalnum() and quote.isupper()):
        return Fault("quote_currency", "a currency in capital letters, like USD, or NULL", shown(quote))
    return None


def _oracle_update(row: Mapping[str, Any]) -> Fault | None:
    if not row["price"] > 0:
        return Fault("price", "above zero", shown(row["price"]))
    if (confidence := row.get("confidence")) is not None and confidence < 0:
        return Fault("confidence", "zero or above, or NULL", shown(confidence))
    if not ((quote := row["quote_currency"]).isalnum() and quote.isupper()):
        return Fault("quote_currency", "a currency in capital letters, like USD", shown(quote))
    return None


_PROSE = {"instruments": _instrument, "index_prices": _index_price, "oracle_updates": _oracle_update}
