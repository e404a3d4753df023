"""Bybit, API v5: public streams of spot, linear, inverse and option, and the REST answers that say the same.

One symbol is traded on several markets, so each is a venue; a message does not name it, but its address does: the path of a
stream, the category of a question, or the category that an answer gives.  Numbers come as text.  Books have no checksum; `u`
counts the messages of one depth of one book, so that a change follows the one before.  What no table holds, such as candles,
and all that is about an account is rejected, so that it is kept as a dead letter.  What is read into which table, and what is
not, stands in docs/venues/bybit.md.
"""

import re
from collections.abc import Sequence
from typing import Any

from feeds import Received, Record, Rejected
from feeds.bybit.names import CATEGORIES, INVERSE, LINEAR, OPTIONS, SPOT, describe, market
from feeds.bybit.rows import (
    BOOK,
    BOOK_ANSWER,
    OPTION_TICKER,
    OPTION_TICKER_ANSWER,
    TICKER,
    TRADE,
    TRADE_ANSWER,
    halt,
    index_of,
    listed_market,
    listing,
)
from feeds.bybit.sessions import refused, session
from feeds.checks import Form, decoded, each
from schemas.rows import shown

__all__ = ["MARKETS", "describe", "parse", "session"]

MARKETS = (SPOT, LINEAR, INVERSE, OPTIONS)

_TOPIC = re.compile(
    r"(?P<kind>orderbook|publicTrade|tickers)\.(?:(?P<depth>(?<=orderbook\.)[1-9]\d{0,3})\.)?(?P<symbol>.+)", re.ASCII
)
_READ = ("orderbook.{depth}.{symbol}", "publicTrade.{symbol}", "tickers.{symbol}")
_NOT_DATA = ("subscribe", "unsubscribe", "ping", "pong")
_OF_AN_ACCOUNT = frozenset({"orderId", "orderLinkId", "accountType", "positionIdx", "uid"})
_ANSWERS = ("a book", "execId of trades", "lastPrice of tickers", "priceFilter of a listing")


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw Bybit message; none for an acknowledgement or a pong.

    A ticker with an index gives that as a record of its own, and a listed contract whether it is halted.  A listing has no
    time of its own and takes one before all that could refer to it.  Raises `Rejected`.
    """
    envelope = decoded(message)
    if "topic" in envelope:
        return _pushed(envelope, received)
    if "op" not in envelope and "retCode" in envelope:
        return _answered(envelope, received)
    reason = refused(envelope)
    if reason is not None:
        raise Rejected("success", "true, and no failTopics", shown(reason))
    op, is_command = envelope.get("op"), envelope.get("type") == "COMMAND_RESP"
    if is_command or op in _NOT_DATA:
        return []
    if op is None:
        raise Rejected("topic", "a topic with data, an op or the retCode of an answer", "missing")
    raise Rejected("op", f"one of {', '.join(_NOT_DATA)}", shown(op))


def _pushed(envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    topic = envelope["topic"]
    match = _TOPIC.fullmatch(topic) if topic.__class__ is str else None
    if match is None or (match["kind"] == "orderbook") != (match["depth"] is not None):
        raise Rejected("topic", f"a topic that is read: {', '.join(_READ)}", shown(topic))
    venue, kind = _known(market(received), received), match["kind"]
    about: dict[str, Any] = {name: envelope[name] for name in ("ts", "type") if name in envelope}
    about |= {"venue": venue, "depth": int(match["depth"] or 0)}
    data = envelope.get("data")
    if kind == "publicTrade":
        if type(data) is not list:
            raise Rejected("data", "a list of trades", shown(data))
        return each(data, lambda item: TRADE.record(_merged(item, about), received))
    if kind == "orderbook":
        return [BOOK.record(_merged(data, about), received)]
    form = OPTION_TICKER if venue == OPTIONS else TICKER
    return _with_indices([form.record(_merged(data, about), received)])


def _answered(envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    if envelope["retCode"] != 0:
        raise Rejected("retCode", "0", shown({name: envelope[name] for name in ("retCode", "retMsg") if name in envelope}))
    result, at_ms = envelope.get("result"), envelope.get("time")
    if type(result) is not dict:
        raise Rejected("result", "a JSON object", shown(result))
    named = result.get("category")
    if named is not None and (named.__class__ is not str or named not in CATEGORIES):
        raise Rejected("category", f"one of {', '.join(CATEGORIES)}", shown(named))
    venue = CATEGORIES[named] if named is not None else market(received)
    if "b" in result and "a" in result:
        return [BOOK_ANSWER.record({**result, "venue": _known(venue, received)}, received)]
    items = result.get("list")
    if type(items) is not list:
        raise Rejected("result", f"an answer that is read: {', '.join(_ANSWERS)}", shown(result))
    if items and not any(map(_is_read, items)):
        raise Rejected("result", f"an answer that is read: {', '.join(_ANSWERS)}", shown(items))
    records = each(items, lambda item: _item(item, venue, at_ms, received))
    return [*_with_indices(records), *_halts(items, records, at_ms, received)]


def _is_read(item: Any) -> bool:
    return (
        type(item) is dict and _OF_AN_ACCOUNT.isdisjoint(item) and not {"execId", "lastPrice", "priceFilter"}.isdisjoint(item)
    )


def _item(item: Any, venue: str | None, at_ms: Any, received: Received) -> Record:
    if not _is_read(item):
        raise Rejected("result", f"an item of an answer that is read: {', '.join(_ANSWERS)}", shown(item))
    if "priceFilter" in item:
        listed_at = listed_market(item)
        if venue not in (None, listed_at):
            raise Rejected("category", f"that of the item, {listed_at}", str(venue))
        return listing(item).record({**item, "venue": listed_at}, received)
    venue = _known(venue, received)
    if "execId" in item:
        return TRADE_ANSWER.record({**item, "venue": venue}, received)
    form: Form = OPTION_TICKER_ANSWER if venue == OPTIONS else TICKER
    return form.record({**item, "venue": venue, "ts": at_ms}, received)


def _halts(items: list[Any], records: list[Record | Rejected], at_ms: Any, received: Received) -> list[Record | Rejected]:
    """The halts that a listing tells of beside the terms."""
    halts: list[Record | Rejected] = []
    for item, record in zip(items, records, strict=True):
        if isinstance(record, Record) and record.table == "instruments":
            try:
                stopped = halt(record, item["status"], at_ms, received)
            except Rejected as rejected:
                return [rejected]
            halts += [stopped] if stopped else []
    return halts


def _with_indices(records: list[Record | Rejected]) -> list[Record | Rejected]:
    """The records of a message, and each index that its tickers show, once."""
    indices = {}
    for record in records:
        if isinstance(record, Record) and record.table == "tickers" and (shown_index := index_of(record)) is not None:
            indices[shown_index.row["venue"], shown_index.row["underlying"], shown_index.row["quote_currency"]] = shown_index
    return [*records, *indices.values()]


def _known(venue: str | None, received: Received) -> str:
    if venue is None:
        expected = f"a market in the address, such as /v5/public/linear or ?category=linear: {', '.join(CATEGORIES)}"
        raise Rejected("category", expected, shown(received.url))
    return venue


def _merged(item: Any, about: dict[str, Any]) -> dict[str, Any]:
    if type(item) is not dict:
        raise Rejected("data", "a JSON object, or a list of them", shown(item))
    return {**item, **about}
