"""OKX, API v5: public channels and the REST answers that say the same.

Every number comes as text.  The levels of a book keep its digits, for the checksum is over them; OKX has sent checksum 0,
which is none, since June 2026.  Messages of 2022 have no `seqId`: `sequence` is their time then, and no change names the one
before it.  Sizes of derivatives are in contracts.  Contracts expire at 08:00 UTC.  What no table holds, such as candles, is
rejected, so that it is kept as a dead letter.  What is read into which table, and what is not, stands in
docs/venues/okx.md.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from feeds import Received, Record, Rejected
from feeds.checks import (
    AMOUNT,
    BEST_PRICE,
    CHECKSUM,
    EVENT_TIME_TEXT,
    EXACT_LEVELS,
    NUMBERED,
    PRICE,
    SIZE,
    TEXT,
    Form,
    amount,
    asked,
    best,
    checksum,
    decoded,
    every,
    exact_side,
    expect,
    expiry,
    first_level,
    instants,
    listed,
    nullable,
    numbered,
    one_of,
    optional,
    optional_amount,
    price,
    push,
    quiet_ticker,
    text,
    uncrossed,
    whole,
)
from feeds.funding import PAID_AT, RATE, tell
from feeds.halts import with_status
from feeds.session import Ask, Limits, Request, Session, batches, object_in
from schemas.records import IndexPricesRow, OrderBooksRow, TickersRow, TradesRow
from schemas.rows import instant_ms, shown

VENUE = "okx"

_NOT_DATA = ("subscribe", "unsubscribe", "notice", "channel-conn-count", "login")
_KINDS = {"SPOT": "spot", "MARGIN": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}
_PLACEHOLDER = "LISTING-"  # in front of the name of an instrument that is not listed yet
_BOOK_LEVELS = 400  # levels a side of the channels that count as the whole book
_OF_A_LISTING = {"tickSz", "state", "listTime"}
_OF_AN_ACCOUNT = {"ordId", "algoId", "posId", "billId", "clOrdId"}
_STATES = ("live", "suspend", "rebase", "post_only", "preopen", "settling", "expired", "test")
_TRADING = ("live",)
_CONTRACT_TYPES = ("linear", "inverse")
_OPTION_TYPES = {"C": "call", "P": "put"}
_INDEX_QUOTES = ("USD", "USDT", "USDC")
_NAME = re.compile(
    r"(?P<base>[A-Z0-9]+)-(?P<quote>[A-Z0-9]+)"
    r"(?:-(?:(?P<swap>SWAP)|(?P<expiry>\d{6})(?:-(?P<strike>\d+(?:\.\d+)?)-(?P<type>[CP]))?))?"
)


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw OKX message; none for an acknowledgement, a notice or a pong.

    A REST book names no symbol and takes the one that it was asked for, or that of its connection.  A listing of instruments
    has no time of its own and takes one before all that could refer to it.  Raises `Rejected`.
    """
    if message == b"pong":
        return []
    envelope = decoded(message)
    if "arg" in envelope and "data" in envelope:
        channel, items, about = push(envelope, received)
        form = _CHANNELS.get(channel)
        if form is None:
            raise Rejected("channel", f"a channel that is read: {', '.join(_CHANNELS)}", shown(channel))
        return every(items, lambda item: _with_status(form.record(_merged(about, item), received), item, received))
    event = envelope.get("event")
    if event is not None:
        if event in _NOT_DATA:
            return []
        raise Rejected("event", f"one of {', '.join(_NOT_DATA)}", shown(envelope if event == "error" else event))
    if "code" not in envelope:
        raise Rejected("arg", "an arg with data, an event or the code of an answer", "missing")
    if envelope["code"] != "0":
        raise Rejected("code", "0", shown(envelope))
    answers = envelope.get("data")
    if type(answers) is not list:
        raise Rejected("data", "a list", shown(answers))
    if answers and not any(map(_answer_form, answers)):
        raise _unknown_answer(answers)
    return every(answers, lambda answer: _with_status(_answer(answer, received), answer, received))


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in an OKX name: `BTC-USDT`, `BTC-USD-SWAP`, `BTC-USDT-220527`, `BTC-USD-220527-30000-C`.

    The contract size of a linear contract or of an option is not in its name: NULL.  An inverse one is 100 USD on BTC and
    10 USD on all else.
    """
    name = _NAME.fullmatch(symbol)
    if name is None:
        return None
    base, quote, is_option = name["base"], name["quote"], name["strike"] is not None
    expiry_at = None
    if name["expiry"]:
        try:
            expiry = datetime.strptime(name["expiry"], "%y%m%d").replace(hour=8, tzinfo=UTC)
        except ValueError:
            return None
        expiry_at = instant_ms(int(expiry.timestamp()) * 1000)
    kind = "option" if is_option else "future" if expiry_at else "perpetual" if name["swap"] else "spot"
    is_inverse = kind != "spot" and quote == "USD"
    contract_size = None
    if kind == "spot":
        contract_size = 1.0
    elif is_inverse and not is_option:
        contract_size = 100.0 if base == "BTC" else 10.0
    return listed(
        VENUE,
        symbol,
        received,
        kind=kind,
        underlying=base,
        quote_currency=base if is_option and is_inverse else quote,
        settlement_currency=base if is_inverse else quote,
        is_inverse=is_inverse,
        option_type=_OPTION_TYPES[name["type"]] if is_option else None,
        strike_usd=float(name["strike"]) if is_option else None,
        expiry_at=expiry_at,
        contract_size=contract_size,
        amount_per_contract=1.0,
    )


def _with_status(record: Record, item: Any, received: Received) -> list[Record]:
    return with_status(record, item.get("state"), _TRADING, received)


def _merged(about: dict[str, Any], item: Any) -> dict[str, Any]:
    if type(item) is not dict:
        raise Rejected("data", "a list of JSON objects", shown(item))
    return {**about, **item}


def _answer(item: Any, received: Received) -> Record:
    form = _answer_form(item)
    if form is None:
        raise _unknown_answer(item)
    return form.record(item, received)


def _answer_form(item: Any) -> Form | None:
    """What one item of an answer is; None where no table holds it.  An answer does not say what was asked: its fields do."""
    if type(item) is not dict or not _OF_AN_ACCOUNT.isdisjoint(item):
        return None
    if "instType" in item and not _OF_A_LISTING.isdisjoint(item):
        return _INSTRUMENT
    return next((form for field, form in _ANSWERS.items() if field in item), None)


def _unknown_answer(value: Any) -> Rejected:
    return Rejected(
        "data", f"an answer that is read: a listing, or one with {' or '.join(_ANSWERS)}, and not of an account", shown(value)
    )


def _book_answer(data: Any, received: Received) -> Record:
    """The top of a book, as deep as it was asked for; where that is not known, as deep as it is shown.

    It is the whole book, which updates can join, where it is as deep as they are and is numbered.
    """
    request = asked(received)
    symbol = data.get("instId") or request.params.get("instId") or received.symbol
    if symbol is None:
        raise Rejected("instId", "a symbol in the address of a REST book, or the only one of its connection", "missing")
    size = request.params.get("sz", "1" if request.method else "")
    levels_shown = max(len(data["bids"]), len(data["asks"]))
    depth = max(1, int(size) if size.isdecimal() and len(size) < 7 else levels_shown)
    is_whole = depth >= _BOOK_LEVELS and "seqId" in data
    return _whole_book({**data, "instId": symbol}, received, None if is_whole else depth)


def _book(data: Any, received: Received, depth: int | None = None) -> Record:
    if data["action"] == "snapshot":
        return _whole_book(data, received, depth)
    if data["action"] != "update":
        raise ValueError
    previous = numbered(data["prevSeqId"]) if "seqId" in data else None
    row = _book_row(data, received, "change", previous, depth)
    return Record("order_books", whole(data["ts"]), row)


def _whole_book(data: Any, received: Received, depth: int | None = None) -> Record:
    row = _book_row(data, received, "snapshot", None, depth)
    uncrossed(row["bids"], row["asks"])
    return Record("order_books", whole(data["ts"]), row)


def _book_row(data: Any, received: Received, kind: str, previous: int | None, depth: int | None) -> OrderBooksRow:
    event_ms = whole(data["ts"])
    event_at, received_at = instants(event_ms, received.received_us)
    return {
        "venue": VENUE,
        "instrument": text(data["instId"]),
        "event_at": event_at,
        "received_at": received_at,
        "kind": kind,
        "sequence": numbered(data["seqId"]) if "seqId" in data else event_ms,
        "prev_sequence": previous,
        "bids": exact_side(data["bids"]),
        "asks": exact_side(data["asks"]),
        "checksum": checksum(data.get("checksum")),
        "depth": depth,
    }


def _quiet_ticker(data: Any, received: Received) -> tuple[int, TickersRow]:
    event_ms = whole(data["ts"])
    return event_ms, quiet_ticker(VENUE, text(data["instId"]), event_ms, received)


def _ticker(data: Any, received: Received) -> Record:
    event_ms, row = _quiet_ticker(data, received)
    row["has_quote"] = True
    row["bid_price"], row["bid_size"] = best(data, "bidPx", "bidSz")
    row["ask_price"], row["ask_size"] = best(data, "askPx", "askSz")
    row["last_price"] = optional_amount(data["last"])
    return Record("tickers", event_ms, row)


def _best_level(data: Any, received: Received) -> Record:
    event_ms, row = _quiet_ticker(data, received)
    row["sequence"] = numbered(data["seqId"]) if "seqId" in data else None
    row["has_quote"] = True
    row["bid_price"], row["bid_size"] = first_level(data["bids"])
    row["ask_price"], row["ask_size"] = first_level(data["asks"])
    return Record("tickers", event_ms, row)


def _mark(data: Any, received: Received) -> Record:
    event_ms, row = _quiet_ticker(data, received)
    row["mark_price"] = optional_amount(data["markPx"])
    return Record("tickers", event_ms, row)


def _summary(data: Any, received: Received) -> Record:
    event_ms, row = _quiet_ticker(data, received)
    row["mark_iv"] = optional_amount(data["markVol"])
    row["bid_iv"] = optional_amount(data["bidVol"]) or None
    row["ask_iv"] = optional_amount(data["askVol"]) or None
    row["forward_usd"] = optional_amount(data.get("fwdPx"))
    return Record("tickers", event_ms, row)


def _price_limits(data: Any, received: Received) -> Record:
    event_ms, row = _quiet_ticker(data, received)
    row["min_price"], row["max_price"] = optional_amount(data["sellLmt"]), optional_amount(data["buyLmt"])
    return Record("tickers", event_ms, row)


def _open_interest(data: Any, received: Received) -> Record:
    event_ms, row = _quiet_ticker(data, received)
    row["open_interest"] = amount(data["oi"])
    return Record("tickers", event_ms, row)


def _funding(data: Any, received: Received) -> Record:
    event_ms, row = _quiet_ticker(data, received)
    tell(row, data["fundingRate"], data["fundingTime"])
    return Record("tickers", event_ms, row)


def _trade(data: Any, received: Received) -> Record:
    event_ms = whole(data["ts"])
    event_at, received_at = instants(event_ms, received.received_us)
    side, size = data["side"], amount(data["sz"])
    if side not in ("buy", "sell") or not size:
        raise ValueError
    row: TradesRow = {
        "venue": VENUE,
        "instrument": text(data["instId"]),
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": text(data["tradeId"]),
        "side": side,
        "price": price(data["px"]),
        "size": size,
        "off_market": "block" if _is_block(data, received) else None,
    }
    return Record("trades", event_ms, row)


def _is_block(data: dict[str, Any], received: Received) -> bool:
    """Whether a trade was agreed beside the order book.

    Where neither channel nor request tell: as a trade of the options' own channel does, a block says what its instrument
    was worth, but not of which type it is.
    """
    if data.get("channel") == "public-block-trades" or asked(received).method == "block-trades":
        return True
    return ("fillVol" in data or "groupId" in data) and "optType" not in data


def _index_price(data: Any, received: Received) -> Record:
    event_ms = whole(data["ts"])
    event_at, received_at = instants(event_ms, received.received_us)
    underlying, _, quote = data["instId"].partition("-")
    if not underlying or quote not in _INDEX_QUOTES:
        raise ValueError
    row: IndexPricesRow = {
        "venue": VENUE,
        "underlying": underlying,
        "event_at": event_at,
        "received_at": received_at,
        "price_usd": price(data["idxPx"]),
        "confidence_usd": None,
        "quote_currency": quote,
    }
    return Record("index_prices", event_ms, row)


def _instrument(data: Any, received: Received) -> Record:
    return _TERMS[data["instType"]].record(data, received)


def _terms(data: Any, received: Received) -> Record:
    name, kind = text(data["instId"]), _KINDS[data["instType"]]
    if name.startswith(_PLACEHOLDER):
        raise Rejected("instId", "the name of an instrument that is listed, no placeholder", name)
    if data.get("state", "live") not in _STATES:
        raise Rejected("state", f"one of {', '.join(_STATES)}", shown(data["state"]))
    option_type, strike_usd, expiry_at, contract_size, is_inverse = None, None, None, None, False
    if kind == "spot":
        base, quote = text(data["baseCcy"]), text(data["quoteCcy"])
        settlement, contract_size = quote, 1.0
    else:
        base, quote = map(text, data["uly"].split("-"))
        settlement = text(data["settleCcy"])
        if kind != "option" and data["ctType"] not in _CONTRACT_TYPES:
            raise ValueError
        counts_usd = data["ctType"] == "inverse"  # options, which are of no such type, count coins
        is_inverse = counts_usd or (kind == "option" and settlement == base)
        value, multiplier = optional_amount(data["ctVal"]), optional_amount(data["ctMult"])
        if value and multiplier and data["ctValCcy"] == ("USD" if counts_usd else base):
            contract_size = value * multiplier
    if kind in ("future", "option"):
        expiry_at = expiry(whole(data["expTime"]))
    if kind == "option":
        option_type, strike_usd = _OPTION_TYPES[data["optType"]], price(data["stk"])
        quote = base if is_inverse else quote
    tick_size = optional_amount(data.get("tickSz"))
    if data.get("state") == "preopen" and None in (tick_size, contract_size):
        raise Rejected("state", "terms that are whole: a tickSz, and a ctVal of a contract", "preopen without them")
    return listed(
        VENUE,
        name,
        received,
        kind=kind,
        underlying=base,
        quote_currency=quote,
        settlement_currency=settlement,
        is_inverse=is_inverse,
        option_type=option_type,
        strike_usd=strike_usd,
        expiry_at=expiry_at,
        contract_size=contract_size,
        amount_per_contract=1.0,
        tick_size=tick_size,
    )


def _is_index(value: Any) -> bool:
    underlying, _, quote = value.partition("-")
    return underlying != "" and quote in _INDEX_QUOTES


_IS_NUMBERED = {"seqId": optional(NUMBERED)}
_LEVELS = {"bids": EXACT_LEVELS, "asks": EXACT_LEVELS}
_HEAD = {"ts": EVENT_TIME_TEXT, "instId": TEXT}
_WHOLE_BOOK = Form(_whole_book, {**_HEAD, **_IS_NUMBERED, **_LEVELS, "checksum": nullable(optional(CHECKSUM))})
_BOOK = Form(
    _book,
    {"action": one_of("snapshot", "update"), **_WHOLE_BOOK.fields, "prevSeqId": NUMBERED},
)
_SPOT = {"instId": TEXT, "tickSz": nullable(optional(AMOUNT))}
_OPTION = {
    **_SPOT,
    "uly": expect("an underlying, such as BTC-USD", lambda value: all(value.split("-", 1)) and value.count("-") == 1),
    "settleCcy": TEXT,
    "ctValCcy": expect("a text", lambda value: type(value) is str),
    "ctVal": AMOUNT,
    "ctMult": AMOUNT,
}
_SWAP = {**_OPTION, "ctType": one_of(*_CONTRACT_TYPES)}
_EXPIRY = {"expTime": expect("milliseconds since 1970, before 2100", lambda value: expiry(whole(value)))}
_TERMS = {
    **dict.fromkeys(("SPOT", "MARGIN"), Form(_terms, {**_SPOT, "baseCcy": TEXT, "quoteCcy": TEXT})),
    "SWAP": Form(_terms, _SWAP),
    "FUTURES": Form(_terms, {**_SWAP, **_EXPIRY}),
    "OPTION": Form(
        _terms,
        {
            **_OPTION,
            **_EXPIRY,
            "ctType": expect("a text", lambda value: type(value) is str),
            "optType": one_of(*_OPTION_TYPES),
            "stk": PRICE,
        },
    ),
}
_INSTRUMENT = Form(_instrument, {"instType": one_of(*_TERMS)})
_TICKER = Form(
    _ticker,
    {**_HEAD, "bidPx": BEST_PRICE, "bidSz": AMOUNT, "askPx": BEST_PRICE, "askSz": AMOUNT, "last": AMOUNT},
)
_MARK = Form(_mark, {**_HEAD, "markPx": AMOUNT})
_SUMMARY = Form(
    _summary,
    {**_HEAD, "markVol": AMOUNT, "bidVol": AMOUNT, "askVol": AMOUNT, "fwdPx": nullable(optional(AMOUNT))},
)
_PRICE_LIMITS = Form(_price_limits, {**_HEAD, "sellLmt": AMOUNT, "buyLmt": AMOUNT})
_OPEN_INTEREST = Form(_open_interest, {**_HEAD, "oi": SIZE})
_TRADE = Form(_trade, {**_HEAD, "tradeId": TEXT, "side": one_of("buy", "sell"), "px": PRICE, "sz": SIZE})
_INDEX_PRICE = Form(
    _index_price,
    {"ts": EVENT_TIME_TEXT, "instId": expect(f"an index in {', '.join(_INDEX_QUOTES)}", _is_index), "idxPx": PRICE},
)
_CHANNELS = {
    "books": _BOOK,
    "books-l2-tbt": _BOOK,
    "books50-l2-tbt": Form(partial(_book, depth=50), _BOOK.fields),
    "books5": Form(partial(_whole_book, depth=5), _WHOLE_BOOK.fields),
    "bbo-tbt": Form(_best_level, {**_HEAD, **_IS_NUMBERED, **_LEVELS}),
    "tickers": _TICKER,
    "mark-price": _MARK,
    "opt-summary": _SUMMARY,
    "price-limit": _PRICE_LIMITS,
    "open-interest": _OPEN_INTEREST,
    "funding-rate": Form(_funding, {**_HEAD, "fundingRate": RATE, "fundingTime": PAID_AT}),
    "trades": _TRADE,
    "trades-all": _TRADE,
    "option-trades": _TRADE,
    "public-block-trades": _TRADE,
    "index-tickers": _INDEX_PRICE,
    "instruments": _INSTRUMENT,
}
# By a field that only such an answer has; the first that is there decides.
_ANSWERS = {
    "tradeId": _TRADE,
    "markVol": _SUMMARY,
    "bidPx": _TICKER,
    "markPx": _MARK,
    "idxPx": _INDEX_PRICE,
    "bids": Form(_book_answer, _WHOLE_BOOK.fields),
    "buyLmt": _PRICE_LIMITS,
    "oi": _OPEN_INTEREST,
}


MARKETS = (VENUE,)
STREAM_URL, REST_URL = "wss://ws.okx.com:8443/ws/v5/public", "https://www.okx.com/api/v5"
_CHANNELS_PER_REQUEST = 100  # a request has some kilobytes at most
_LISTINGS = (
    "instType=SPOT",
    "instType=SWAP",
    "instType=FUTURES",
    "instType=OPTION&instFamily=BTC-USD",
    "instType=OPTION&instFamily=ETH-USD",
)


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is sent to OKX: books, tickers and trades of the symbols, their marks, indices, funding rates and volatilities.

    Whole books are asked for over HTTP: the stream sends none at its start.
    """
    if market != VENUE:
        raise KeyError(market)
    rest = rest_url or REST_URL

    def own(symbols: Sequence[str]) -> list[Request]:
        parts = {symbol: symbol.split("-") for symbol in symbols}
        channels: list[Request] = [
            {"channel": kind, "instId": symbol} for kind in ("books", "tickers", "trades") for symbol in symbols
        ]
        channels += [{"channel": "mark-price", "instId": symbol} for symbol in symbols if len(parts[symbol]) > 2]
        return channels + [{"channel": "funding-rate", "instId": symbol} for symbol in symbols if parts[symbol][-1] == "SWAP"]

    def shared(symbols: Sequence[str]) -> list[Request]:
        parts = [symbol.split("-") for symbol in symbols]
        pairs = sorted({"-".join(names[:2]) for names in parts})
        families = sorted({"-".join(names[:2]) for names in parts if len(names) == 5})
        kinds = sorted({_kind(names) for names in parts})
        channels: list[Request] = [
            {"channel": "index-tickers", "instId": pair} for pair in pairs if pair.endswith(("-USD", "-USDT", "-USDC"))
        ]
        channels += [{"channel": "opt-summary", "instFamily": family} for family in families]
        return channels + [{"channel": "instruments", "instType": kind} for kind in kinds]

    def requests(op: str, channels: Sequence[Request]) -> list[Request]:
        return [{"op": op, "args": batch} for batch in batches(channels, _CHANNELS_PER_REQUEST)]

    return Session(
        VENUE,
        market,
        url or STREAM_URL,
        subscribe=lambda symbols: requests("subscribe", own(symbols) + shared(symbols)),
        unsubscribe=lambda symbols: requests("unsubscribe", own(symbols)),
        listings=[Ask(f"{rest}/public/instruments?{query}") for query in _LISTINGS],
        snapshot=lambda symbol: Ask(f"{rest}/market/books?instId={symbol}&sz=400"),
        refusal=_refusal,
        ping="ping",
        limits=Limits(requests_per_s=2.0, symbols_per_connection=100),
    )


def _kind(names: Sequence[str]) -> str:
    return {2: "SPOT", 5: "OPTION"}.get(len(names), "SWAP" if names[-1] == "SWAP" else "FUTURES")


def _refusal(message: bytes) -> str | None:
    # Most messages are data: they need not be decoded for this.
    return str(object_in(message).get("msg")) if b'"event":"error"' in message else None
