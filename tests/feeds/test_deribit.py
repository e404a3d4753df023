"""Deribit messages: what each becomes, and which field is named when one cannot be used."""

from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.capture import Converted, Converter, Line
from feeds.checks import MAX_BEHIND_MS, NO_EXPIRY_MS
from feeds.deribit import describe, parse
from schemas.rows import fault, instant_ms
from tests.feeds.conftest import CheckSamples

NOW_MS = 1_700_000_000_000
RECEIVED = Received(NOW_MS * 1000, None, None)

SNAPSHOT = {
    "type": "snapshot",
    "timestamp": NOW_MS,
    "instrument_name": "BTC-29DEC23-40000-C",
    "change_id": 7,
    "bids": [["new", 0.05, 2.0], ["new", 0.04, 1]],
    "asks": [["new", 0.06, 3.0]],
}
CHANGE = {
    **SNAPSHOT,
    "type": "change",
    "change_id": 8,
    "prev_change_id": 7,
    "bids": [["delete", 0.05, 0.0], ["change", 0.04, 5.0]],
    "asks": [],
}
TICKER = {
    "timestamp": NOW_MS,
    "instrument_name": "BTC-29DEC23-40000-C",
    "best_bid_price": 0.05,
    "best_bid_amount": 2.0,
    "best_ask_price": 0.06,
    "best_ask_amount": 3.0,
    "last_price": None,
    "mark_price": 0.055,
    "mark_iv": 55.5,
    "bid_iv": 54.0,
    "ask_iv": 0.0,
    "underlying_price": 37_000.5,
    "index_price": 36_900,
    "interest_rate": 0.0,
    "open_interest": 12.5,
    "min_price": 0.01,
    "max_price": 0.1,
}
TRADE = {
    "timestamp": NOW_MS,
    "instrument_name": "BTC-PERPETUAL",
    "trade_id": "123",
    "direction": "sell",
    "price": 37_000.5,
    "amount": 10,
}
QUOTE = {
    "timestamp": NOW_MS,
    "instrument_name": "BTC-PERPETUAL",
    "best_bid_price": 37_000.0,
    "best_bid_amount": 10.0,
    "best_ask_price": 37_000.5,
    "best_ask_amount": 20.0,
}
INDEX = {"timestamp": NOW_MS, "index_name": "btc_usd", "price": 36_900.1}
OPTION = {
    "instrument_name": "BTC-29DEC23-40000-C",
    "kind": "option",
    "base_currency": "BTC",
    "quote_currency": "BTC",
    "settlement_period": "month",
    "expiration_timestamp": 1_703_836_800_000,
    "option_type": "call",
    "strike": 40_000.0,
    "contract_size": 1.0,
    "tick_size": 0.0005,
}
CHANNELS: dict[str, tuple[str, Any]] = {
    "book": ("book.BTC-29DEC23-40000-C.raw", CHANGE),
    "snapshot": ("book.BTC-29DEC23-40000-C.raw", SNAPSHOT),
    "ticker": ("ticker.BTC-29DEC23-40000-C.raw", TICKER),
    "quote": ("quote.BTC-PERPETUAL", QUOTE),
    "trades": ("trades.BTC-PERPETUAL.raw", [TRADE]),
    "index": ("deribit_price_index.btc_usd", INDEX),
}


def pushed(channel: str, data: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}


def sent(channel: str, data: Any) -> list[Record]:
    return cast(list[Record], parse(orjson.dumps(pushed(channel, data)), RECEIVED))


def answered(result: Any, url: str | None = None) -> list[Record]:
    message = {"jsonrpc": "2.0", "id": 1, "result": result, "usIn": NOW_MS * 1000, "usOut": NOW_MS * 1000 + 900}
    return cast(list[Record], parse(orjson.dumps(message), RECEIVED._replace(url=url)))


def converted(message: Any, url: str | None = None) -> Converted:
    return Converter().convert(Line("deribit", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message", url=url))


def letters(message: Any) -> list[str | None]:
    """The fields that the dead letters of a message name."""
    return [record.row["field"] for record in converted(message).records if record.table == "dead_letters"]


def rejected_field(kind: str, field: str, value: Any) -> str | None:
    """The field that is blamed when `field` of a good message becomes `value`; `...` removes it."""
    channel, data = CHANNELS[kind]
    data = deepcopy(data)
    target: Any = data[0] if isinstance(data, list) else data
    if value is ...:
        del target[field]
    else:
        target[field] = value
    with pytest.raises(Rejected) as rejected:
        sent(channel, data)
    return rejected.value.fault.field


def test_a_book_keeps_its_sequence_and_a_deleted_level_has_size_0() -> None:
    (snapshot,), (change,) = sent(*CHANNELS["snapshot"]), sent(*CHANNELS["book"])
    assert (snapshot.row["kind"], snapshot.row["sequence"], snapshot.row["prev_sequence"]) == ("snapshot", 7, None)
    assert (change.row["kind"], change.row["sequence"], change.row["prev_sequence"]) == ("change", 8, 7)
    assert change.row["bids"] == [[0.05, 0.0], [0.04, 5.0]]
    assert change.event_ms == NOW_MS
    assert change.row["event_at"] == instant_ms(NOW_MS)


def test_a_grouped_book_is_a_snapshot_of_plain_levels() -> None:
    data = {**SNAPSHOT, "bids": [[0.05, 2.0]], "asks": []}
    del data["type"]
    (record,) = sent("book.BTC-29DEC23-40000-C.none.20.100ms", data)
    assert (record.row["kind"], record.row["bids"], record.row["asks"]) == ("snapshot", [[0.05, 2.0]], [])


@pytest.mark.parametrize("depth", [1, 10, 20])
def test_a_grouped_book_says_how_deep_it_is(depth: int) -> None:
    data = {**SNAPSHOT, "bids": [[0.05, 2.0]], "asks": []}
    (record,) = sent(f"book.BTC-29DEC23-40000-C.none.{depth}.100ms", data)
    assert (record.row["kind"], record.row["depth"], record.row["prev_sequence"]) == ("snapshot", depth, None)
    assert fault("order_books", record.row) is None


@pytest.mark.parametrize("interval", ["raw", "100ms", "agg2"])
def test_a_channel_of_changes_speaks_of_the_whole_book(interval: str) -> None:
    for data in (SNAPSHOT, CHANGE):
        (record,) = sent(f"book.BTC-29DEC23-40000-C.{interval}", data)
        assert (record.row["kind"], record.row["depth"]) == (data["type"], None)


@pytest.mark.parametrize("group", ["1", "5", "10", "100", "250", "0", ""])
def test_rounded_prices_are_no_book(group: str) -> None:
    with pytest.raises(Rejected, match="rounded prices are no book") as rejected:
        sent(f"book.BTC-PERPETUAL.{group}.20.100ms", {**SNAPSHOT, "bids": [[0.05, 2.0]], "asks": []})
    assert rejected.value.fault.field == "channel"


@pytest.mark.parametrize(
    "channel", ["book.X", "book.X.none.10", "book.X.none.0.100ms", "book.X.none.-1.100ms", "book.X.none.x.raw"]
)
def test_a_book_of_an_unknown_form_is_named(channel: str) -> None:
    with pytest.raises(Rejected) as rejected:
        sent(channel, SNAPSHOT)
    assert rejected.value.fault.field == "channel"


def test_a_quote_speaks_of_bid_and_ask_alone() -> None:
    row = sent(*CHANNELS["quote"])[0].row
    told = {name for name, value in row.items() if value is not None}
    assert told == {
        *("venue", "instrument", "event_at", "received_at"),
        *("bid_price", "bid_size", "ask_price", "ask_size", "has_quote"),
    }
    assert row["has_quote"] is True
    assert fault("tickers", row) is None


@pytest.mark.parametrize("none", [0.0, None])
def test_a_quote_of_an_empty_side_says_that_there_is_none(none: float | None) -> None:
    row = sent("quote.BTC-PERPETUAL", {**QUOTE, "best_ask_price": none, "best_ask_amount": none})[0].row
    assert (row["ask_price"], row["ask_size"], row["bid_price"], row["has_quote"]) == (None, None, 37_000.0, True)


def test_a_ticker_has_fractions_for_percent_and_null_for_what_is_not_there() -> None:
    row = sent("ticker.BTC-29DEC23-40000-C.raw", {**TICKER, "best_bid_price": 0.0, "best_bid_amount": 0.0})[0].row
    assert row["mark_iv"] == pytest.approx(0.555)
    assert row["bid_iv"] == pytest.approx(0.54)
    assert row["ask_iv"] is None
    assert (row["bid_price"], row["bid_size"], row["ask_price"]) == (None, None, 0.06)
    assert (row["forward_usd"], row["sequence"], row["interest_rate"]) == (37_000.5, None, 0.0)
    assert fault("tickers", row) is None


def test_a_mark_volatility_of_0_stays_a_number() -> None:
    assert sent("ticker.X.raw", {**TICKER, "mark_iv": 0.0})[0].row["mark_iv"] == 0.0


def test_a_ticker_of_a_dead_option_may_be_hours_old() -> None:
    old_ms = NOW_MS - 20 * 3_600_000
    assert sent("ticker.X.raw", {**TICKER, "timestamp": old_ms})[0].event_ms == old_ms


def test_each_trade_is_a_record() -> None:
    first, second = sent("trades.BTC-PERPETUAL.raw", [TRADE, {**TRADE, "trade_id": "124", "direction": "buy"}])
    assert (first.row["trade_id"], first.row["side"], first.row["size"]) == ("123", "sell", 10)
    assert (second.row["trade_id"], second.row["side"]) == ("124", "buy")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"block_trade_id": "154", "block_trade_leg_count": 2}, "block"),
        ({"block_trade_id": "BLOCK-154", "block_rfq_id": 7}, "rfq"),
        ({"block_rfq_id": 7}, "rfq"),
        ({"block_trade_id": None, "block_rfq_id": None}, None),
        ({"liquidation": "M"}, None),
        ({"combo_id": "BTC-FS-25DEC26_PERP", "combo_trade_id": "244343034"}, None),
    ],
)
def test_a_block_is_no_trade_of_the_market(fields: dict[str, Any], reason: str | None) -> None:
    (record,) = sent("trades.BTC-PERPETUAL.raw", [{**TRADE, **fields}])
    assert record.row["off_market"] == reason
    assert fault("trades", record.row) is None


COMBOS = [
    "BTC-FS-25DEC26_PERP",
    "BTC-CS-19MAY26-70000_75000",
    "BTC-STRD-29MAY26-77000",
    "BTC_USDC-FS-25DEC26_PERP",
    "BTC-COMBO-1",
]


@pytest.mark.parametrize("combo", COMBOS)
@pytest.mark.parametrize("price", [-12.5, 0.0, 12.5])
def test_what_is_said_of_a_combo_is_no_row_whatever_its_price(combo: str, price: float) -> None:
    head = {"timestamp": NOW_MS, "instrument_name": combo}
    book = {**SNAPSHOT, **head, "bids": [["new", price, 1.0]], "asks": []}
    quote = {**QUOTE, **head, "best_bid_price": price}
    ticker = {**TICKER, **head, "best_bid_price": price, "mark_price": price}
    trade = {**TRADE, **head, "price": price, "legs": []}
    summary = {
        "instrument_name": combo,
        "bid_price": price,
        "ask_price": None,
        "mark_price": price,
        "creation_timestamp": NOW_MS,
    }
    for message in (
        pushed(f"book.{combo}.raw", book),
        pushed(f"book.{combo}.raw", {**book, "type": "change", "prev_change_id": 6}),
        pushed(f"book.{combo}.none.10.100ms", {**book, "bids": [[price, 1.0]]}),
        pushed(f"quote.{combo}", quote),
        pushed(f"ticker.{combo}.raw", ticker),
        pushed(f"trades.{combo}.raw", [trade]),
        {"result": {**ticker, "bids": [[price, 1.0]], "asks": [], "change_id": 5}},
        {"result": {"trades": [trade], "has_more": False}},
        {"result": [summary]},
    ):
        result = converted(message)
        assert {record.table for record in result.records} == {"dead_letters"}
        assert set(letters(message)) == {"instrument_name"}
        assert result.fault is not None
        assert "combo" in result.fault.expected


def test_a_combo_among_other_trades_costs_them_nothing() -> None:
    message = pushed("trades.future.BTC.raw", [TRADE, {**TRADE, "instrument_name": COMBOS[0], "price": -5.0}, TRADE])
    assert Counter(record.table for record in converted(message).records) == {"instruments": 1, "trades": 2, "dead_letters": 1}


def test_an_index_is_a_price_of_its_base_in_usd() -> None:
    (record,) = sent(*CHANNELS["index"])
    assert (record.table, record.row["underlying"], record.row["price_usd"]) == ("index_prices", "BTC", 36_900.1)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({}, {"kind": "option", "is_inverse": True, "settlement_currency": "BTC", "strike_usd": 40_000.0}),
        (
            {"quote_currency": "USDC", "settlement_currency": "USDC", "instrument_type": "linear"},
            {"kind": "option", "is_inverse": False, "settlement_currency": "USDC", "option_type": "call"},
        ),
        (
            {"kind": "future", "quote_currency": "USD", "settlement_period": "perpetual", "contract_size": 10},
            {"kind": "perpetual", "is_inverse": True, "expiry_at": None, "contract_size": 10, "strike_usd": None},
        ),
        (
            {"kind": "future", "quote_currency": "USD", "settlement_currency": "BTC", "instrument_type": "reversed"},
            {"kind": "future", "is_inverse": True, "expiry_at": "2023-12-29T08:00:00.000Z", "option_type": None},
        ),
        (
            {"kind": "spot", "quote_currency": "USDC"},
            {"kind": "spot", "is_inverse": False, "settlement_currency": "USDC", "expiry_at": None},
        ),
    ],
)
def test_a_listing_gives_the_terms_of_each_contract(terms: dict[str, Any], expected: dict[str, Any]) -> None:
    (record,) = answered([{**OPTION, **terms}])
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in expected} == expected
    assert record.event_ms == NOW_MS - MAX_BEHIND_MS


def test_a_combo_has_no_terms_of_its_own() -> None:
    assert len(answered([OPTION, {**OPTION, "kind": "option_combo"}])) == 1
    assert answered({**OPTION, "kind": "future_combo"}) == []


PERPETUAL = {
    **OPTION,
    "instrument_name": "BTC-PERPETUAL",
    "kind": "future",
    "quote_currency": "USD",
    "settlement_currency": "BTC",
    "settlement_period": "perpetual",
    "expiration_timestamp": 32_503_708_800_000,
}


def test_one_instrument_is_listed_as_one_of_many_is() -> None:
    assert answered(OPTION) == answered([OPTION])
    assert answered(PERPETUAL)[0].row["expiry_at"] is None


@pytest.mark.parametrize("fields", [{"is_active": False}, *({"state": state} for state in ("open", "settling", "archivized"))])
def test_terms_hold_in_whatever_state_a_contract_is(fields: dict[str, Any]) -> None:
    terms, halt = answered([{**OPTION, **fields}])
    assert [terms] == answered([OPTION])
    is_halted = fields.get("state") != "open"
    reason = fields.get("state", "inactive") if is_halted else None
    assert (halt.row["instrument"], halt.row["is_halted"], halt.row["reason"]) == (OPTION["instrument_name"], is_halted, reason)


STATE = {"instrument_name": "BTC-PERPETUAL", "state": "deactivated", "timestamp": NOW_MS}


@pytest.mark.parametrize(
    ("state", "is_halted"),
    [("created", True), ("started", False), *((state, True) for state in ("settled", "closed", "deactivated", "terminated"))],
)
def test_what_becomes_of_an_instrument_is_a_halt_or_its_end(state: str, is_halted: bool) -> None:
    (record,) = sent("instrument.state.any.any", {**STATE, "state": state})
    assert (record.table, fault("trading_halts", record.row)) == ("trading_halts", None)
    assert (record.row["instrument"], record.row["is_halted"]) == ("BTC-PERPETUAL", is_halted)
    assert (record.row["event_at"], record.row["reason"]) == (instant_ms(NOW_MS), state if is_halted else None)


@pytest.mark.parametrize(
    ("data", "instrument", "is_halted", "reason"),
    [
        ({"maintenance": True}, None, True, "maintenance"),
        ({"maintenance": False}, None, False, None),
        ({"price_index": "sol_usdc", "locked": True}, "SOL_USDC*", True, "index sol_usdc locked"),
        ({"price_index": "btc_usd", "locked": False}, "BTC-*", False, None),
    ],
)
def test_the_state_of_the_platform_halts_it_whole_or_all_instruments_of_an_index(
    data: dict[str, Any], instrument: str | None, is_halted: bool, reason: str | None
) -> None:
    (record,) = sent("platform_state", data)
    assert fault("trading_halts", record.row) is None
    assert (record.row["instrument"], record.row["is_halted"], record.row["reason"]) == (instrument, is_halted, reason)
    assert sent("platform_state", {"allow_unauthenticated_public_requests": True}) == []


@pytest.mark.parametrize(
    ("channel", "data", "field"),
    [
        ("platform_state", {"maintenance": "yes"}, "maintenance"),
        ("platform_state", {}, "maintenance"),
        ("platform_state", [], "data"),
        ("platform_state", {"price_index": "btc_usd"}, "locked"),
        ("platform_state", {"price_index": "btc", "locked": True}, "price_index"),
        ("platform_state", {"price_index": None, "locked": True}, "price_index"),
        ("instrument.state.any.any", {**STATE, "state": "asleep"}, "state"),
        ("instrument.state.any.any", {**STATE, "timestamp": NOW_MS + 61_000}, "timestamp"),
        ("instrument.state.any.any", {**STATE, "instrument_name": ""}, "instrument_name"),
    ],
)
def test_a_state_that_cannot_be_used_is_named(channel: str, data: Any, field: str) -> None:
    with pytest.raises(Rejected) as rejected:
        sent(channel, data)
    assert rejected.value.fault.field == field


@pytest.mark.parametrize(
    ("odd", "field"),
    [
        ({**OPTION, "kind": "prediction"}, "kind"),
        ({**OPTION, "kind": None}, "kind"),
        ({name: value for name, value in OPTION.items() if name != "kind"}, "kind"),
        ({**PERPETUAL, "settlement_period": "month"}, "expiration_timestamp"),
        ({**PERPETUAL, "settlement_period": "month", "expiration_timestamp": NO_EXPIRY_MS}, "expiration_timestamp"),
        ({**OPTION, "expiration_timestamp": 0}, "expiration_timestamp"),
        ({**OPTION, "strike": 0}, "strike"),
        ({**OPTION, "instrument_type": "quanto"}, "instrument_type"),
        ({**OPTION, "instrument_type": "linear"}, None),
        (7, None),
    ],
)
def test_an_odd_instrument_is_one_dead_letter_and_the_others_are_listed(odd: Any, field: str | None) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "result": [OPTION, odd, PERPETUAL]}
    records = converted(message).records
    assert [record.row["instrument"] for record in records if record.table == "instruments"] == [
        OPTION["instrument_name"],
        "BTC-PERPETUAL",
    ]
    assert letters(message) == [field]


ORDER_BOOK = {
    **{name: value for name, value in TICKER.items() if name != "timestamp"},
    "timestamp": NOW_MS,
    "state": "open",
    "change_id": 77,
    "bids": [[0.05, 2.0], [0.04, 1.0]],
    "asks": [[0.06, 3.0]],
}
REST = "https://www.deribit.com/api/v2/public/"


@pytest.mark.parametrize(
    ("url", "depth"),
    [
        (None, 5),
        (f"{REST}get_order_book?instrument_name=X", 5),
        (f"{REST}get_order_book?instrument_name=X&depth=1", 1),
        (f"{REST}get_order_book?depth=20&instrument_name=X", 20),
        (f"{REST}get_order_book_by_instrument_id?instrument_id=4&depth=10000", 10_000),
        ("https://[", 5),
        ("wss://www.deribit.com/ws/api/v2", 5),
    ],
)
def test_an_order_book_that_was_asked_for_is_the_top_of_a_book_and_a_ticker(url: str | None, depth: int) -> None:
    book, ticker = answered(ORDER_BOOK, url)
    assert [book.row[name] for name in ("kind", "sequence", "prev_sequence", "depth")] == ["snapshot", 77, None, depth]
    assert (book.row["bids"], book.row["asks"]) == ([[0.05, 2.0], [0.04, 1.0]], [[0.06, 3.0]])
    assert ticker.row == sent("ticker.BTC-29DEC23-40000-C.raw", TICKER)[0].row
    assert all(fault(record.table, record.row) is None for record in (book, ticker))


@given(st.integers(1, 40))
def test_an_order_book_is_never_said_to_be_shallower_than_it_shows(count: int) -> None:
    bids = [[0.05 - i / 1000, 1.0] for i in range(count)]
    book = answered({**ORDER_BOOK, "bids": bids})[0]
    assert book.row["depth"] == max(5, count)


def test_an_odd_ticker_does_not_cost_the_book_that_it_came_with() -> None:
    result = converted({"result": {**ORDER_BOOK, "mark_iv": -1.0}})
    assert Counter(record.table for record in result.records) == {"instruments": 1, "order_books": 1, "dead_letters": 1}


def test_a_ticker_that_was_asked_for_is_a_ticker() -> None:
    assert answered(TICKER, f"{REST}ticker?instrument_name=X") == sent("ticker.BTC-29DEC23-40000-C.raw", TICKER)


def test_trades_that_were_asked_for_are_trades_each_by_itself() -> None:
    trades = [TRADE, {**TRADE, "trade_id": "124", "price": 0}, {**TRADE, "trade_id": "125"}]
    message = {"result": {"trades": trades, "has_more": True}}
    assert [record.row["trade_id"] for record in converted(message).records if record.table == "trades"] == ["123", "125"]
    assert letters(message) == ["price"]


def test_a_summary_is_a_ticker_of_prices_without_sizes() -> None:
    summary = {
        "instrument_name": "BTC-29DEC23-40000-C",
        "base_currency": "BTC",
        "quote_currency": "BTC",
        "bid_price": 0.05,
        "ask_price": None,
        "mark_price": 0.055,
        "mark_iv": 55.5,
        "mid_price": None,
        "last": 0.051,
        "underlying_price": 37_000.5,
        "open_interest": 12.5,
        "interest_rate": 0.0,
        "creation_timestamp": NOW_MS,
    }
    (record,) = answered([summary], f"{REST}get_book_summary_by_currency?currency=BTC&kind=option")
    names = (
        "bid_price",
        "bid_size",
        "ask_price",
        "has_quote",
        "mark_price",
        "mark_iv",
        "last_price",
        "forward_usd",
        "open_interest",
    )
    assert [record.row[name] for name in names] == [0.05, None, None, True, 0.055, 0.555, 0.051, 37_000.5, 12.5]
    assert (record.table, fault("tickers", record.row)) == ("tickers", None)


def test_an_index_that_was_asked_for_has_its_name_from_the_address() -> None:
    result = {"index_price": 36_900.1, "estimated_delivery_price": 36_900.1}
    (record,) = answered(result, f"{REST}get_index_price?index_name=btc_usdc")
    assert [record.row[name] for name in ("underlying", "quote_currency", "price_usd")] == ["BTC", "USDC", 36_900.1]
    assert record.event_ms == NOW_MS
    with pytest.raises(Rejected) as rejected:
        answered(result)
    assert rejected.value.fault.field == "index_name"


ACCOUNT_TRADE = {**TRADE, "order_id": "5", "fee": 0.1, "state": "filled"}


@pytest.mark.parametrize(
    "result",
    [
        {"order": {"order_id": "5", "price": 1.0}, "trades": []},
        {"order_id": "5", "instrument_name": "BTC-PERPETUAL", "price": 1.0, "best_bid_price": 1.0},
        {"trades": [ACCOUNT_TRADE], "has_more": False},
        [{"instrument_name": "BTC-PERPETUAL", "kind": "future", "average_price": 1.0, "size": 5}],
    ],
)
def test_what_is_of_an_account_is_not_read(result: Any) -> None:
    with pytest.raises(Rejected, match="of an account are not read"):
        answered(result)


@pytest.mark.parametrize(
    "result",
    [
        [{"id": "BTC-FS-25DEC26_PERP", "state": "active", "legs": []}],
        {"settlements": [], "continuation": "x"},
        {"ticks": [1], "close": [1.0], "status": "ok"},
        {"funding_8h": 0.1},
        [[1, 0.5], [2, 0.6]],
        ["btc_usd", "eth_usd"],
        {},
        "en",
        0.5,
        True,
    ],
)
def test_an_answer_that_is_not_known_is_a_dead_letter_and_no_control(result: Any) -> None:
    assert letters({"jsonrpc": "2.0", "id": 1, "result": result}) == ["result"]


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 1, "result": ["book.BTC-PERPETUAL.raw"]},
        {"jsonrpc": "2.0", "id": 1, "result": "ok"},
        {"jsonrpc": "2.0", "id": 1, "result": {"version": "1.2.26"}},
        {"jsonrpc": "2.0", "id": 1, "result": []},
        {"jsonrpc": "2.0", "id": 1, "result": ["deribit_price_index.btc_usd", "platform_state"]},
        {"jsonrpc": "2.0", "id": 1, "result": {"access_token": "x", "expires_in": 900, "scope": "session"}},
        {"jsonrpc": "2.0", "id": 1, "result": NOW_MS},
        {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}},
        {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}},
    ],
)
def test_an_acknowledgement_or_heartbeat_is_no_data(message: dict[str, Any]) -> None:
    assert parse(orjson.dumps(message), RECEIVED) == []


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"7", b'"x"', b"\xff", b"null", b'{"a": NaN}'])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, RECEIVED)
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": 13778, "message": "raw_subscriptions_not_available"}}, "error"),
        ({"method": "subscription", "params": {"channel": "perpetual.BTC-PERPETUAL.raw", "data": {}}}, "channel"),
        ({"method": "subscription", "params": {"data": {}}}, "channel"),
        ({"method": "subscription", "params": {"channel": "book.X.raw"}}, "data"),
        ({"method": "subscription", "params": {"channel": "trades.X.raw", "data": {}}}, "data"),
        ({"method": "subscription", "params": {"channel": "ticker.X.raw", "data": [1]}}, None),
        ({"method": "subscription"}, None),
        ({"method": "order"}, "method"),
        ({}, "method"),
    ],
)
def test_an_error_or_an_unknown_message_is_rejected(message: dict[str, Any], field: str | None) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(orjson.dumps(message), RECEIVED)
    assert rejected.value.fault.field == field


@pytest.mark.parametrize(
    "channel",
    [
        "user.trades.BTC-PERPETUAL.raw",
        "user.orders.any.any.raw",
        "user.portfolio.btc",
        "incremental_ticker.BTC-PERPETUAL",
        "deribit_volatility_index.btc_usd",
        "markprice.options.btc_usd",
        "perpetual.BTC-PERPETUAL.raw",
        "chart.trades.BTC-PERPETUAL.1",
        "instrument.any",
        "block_rfq.trades.any",
    ],
)
@pytest.mark.parametrize("data", [{}, [TRADE], TICKER])
def test_a_channel_that_is_not_read_is_named(channel: str, data: Any) -> None:
    with pytest.raises(Rejected) as rejected:
        sent(channel, data)
    assert rejected.value.fault.field == "channel"
    assert rejected.value.fault.got == repr(channel)


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind, (_, data) in CHANNELS.items() for field in (data[0] if isinstance(data, list) else data)],
)
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    optional = {*["last_price", "mark_iv", "bid_iv", "ask_iv", "underlying_price", "index_price", "interest_rate"]}
    optional |= {"open_interest", "min_price", "max_price"}
    if field in optional:
        channel, data = CHANNELS[kind]
        assert isinstance(data, dict)
        (record,) = sent(channel, {name: value for name, value in data.items() if name != field})
        assert fault(record.table, record.row) is None
    else:
        assert rejected_field(kind, field, ...) == field


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("ahead_ms", [60_001, -86_400_001, 10**15, "soon", 1.5, None, True])
def test_a_wild_event_time_is_named(kind: str, ahead_ms: Any) -> None:
    value = NOW_MS + ahead_ms if type(ahead_ms) is int else ahead_ms
    assert rejected_field(kind, "timestamp", value) == "timestamp"


@pytest.mark.parametrize("ahead_ms", [60_000, 0, -1280, -86_400_000])
def test_an_event_time_within_bounds_is_taken_as_it_is(ahead_ms: int) -> None:
    assert sent("ticker.X.raw", {**TICKER, "timestamp": NOW_MS + ahead_ms})[0].event_ms == NOW_MS + ahead_ms


BAD_PRICES = ["NaN", "Infinity", 0, 0.0, -1.0, 1e300, None, [], "1.0"]
BAD_SIZES = ["NaN", "Infinity", -0.1, -1, 1e300, None, {}]


@pytest.mark.parametrize("side", ["bids", "asks"])
@pytest.mark.parametrize(
    "level",
    [
        *[["new", price, 1.0] for price in BAD_PRICES],
        *[["new", 0.05, size] for size in BAD_SIZES],
        *[["insert", 0.05, 1.0], ["new", 0.05], [], [1, 2, 3, 4], 5, None, "new"],
    ],
)
def test_a_bad_level_names_its_side(side: str, level: Any) -> None:
    assert rejected_field("book", side, [["new", 0.07, 1.0], level]) == side


@pytest.mark.parametrize("price", BAD_PRICES)
def test_a_bad_price_is_named(price: Any) -> None:
    assert rejected_field("trades", "price", price) == "price"
    assert rejected_field("index", "price", price) == "price"
    if price is not None:
        assert rejected_field("ticker", "best_bid_price", price) == "best_bid_price"


@pytest.mark.parametrize("size", BAD_SIZES)
def test_a_bad_size_is_named(size: Any) -> None:
    assert rejected_field("trades", "amount", size) == "amount"
    if size not in (None, {}):
        assert rejected_field("ticker", "best_ask_amount", size) == "best_ask_amount"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("ticker", "mark_iv", -1.0),
        ("ticker", "mark_price", "NaN"),
        ("ticker", "open_interest", -1),
        ("ticker", "interest_rate", "low"),
        ("ticker", "instrument_name", ""),
        ("trades", "direction", "up"),
        ("trades", "trade_id", 5),
        ("trades", "amount", 0),
        ("book", "type", "update"),
        ("book", "change_id", 2.5),
        ("book", "change_id", -1),
        ("book", "prev_change_id", None),
        ("index", "index_name", "eth_btc"),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field(kind, field, value) == field


@pytest.mark.parametrize("bid", [0.06, 0.07])
def test_a_crossed_snapshot_is_rejected(bid: float) -> None:
    assert rejected_field("snapshot", "bids", [["new", 0.01, 1.0], ["new", bid, 1.0]]) == "bids"


PRICES = st.floats(1e-9, 1e12)
SIZES = st.floats(0, 1e15)
LEVELS = st.lists(st.tuples(st.sampled_from(["new", "change", "delete"]), PRICES, SIZES).map(list))


@given(LEVELS, LEVELS)
def test_every_level_is_kept_in_order(bids: list[list[Any]], asks: list[list[Any]]) -> None:
    (record,) = sent("book.X.raw", {**CHANGE, "bids": bids, "asks": asks})
    for levels, given_levels in ((record.row["bids"], bids), (record.row["asks"], asks)):
        assert levels == [[price, 0.0 if action == "delete" else size] for action, price, size in given_levels]
    assert fault("order_books", record.row) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(CHANNELS)), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(kind: str, data: st.DataObject) -> None:
    channel, good = CHANNELS[kind]
    item = good[0] if isinstance(good, list) else good
    bad = {**item, data.draw(st.sampled_from(sorted(item))): data.draw(JSON)}
    try:
        records = sent(channel, [bad] if isinstance(good, list) else bad)
    except Rejected:
        return
    assert all(fault(record.table, record.row) is None for record in records)


@pytest.mark.parametrize(
    ("symbol", "terms"),
    [
        (
            "BTC-24SEP21-8000-P",
            {
                "kind": "option",
                "underlying": "BTC",
                "quote_currency": "BTC",
                "settlement_currency": "BTC",
                "is_inverse": True,
                "option_type": "put",
                "strike_usd": 8000.0,
                "expiry_at": "2021-09-24T08:00:00.000Z",
                "last_trading_at": "2021-09-24T08:00:00.000Z",
                "contract_size": 1.0,
                "tick_size": None,
            },
        ),
        ("BTC-PERPETUAL", {"kind": "perpetual", "quote_currency": "USD", "is_inverse": True, "contract_size": 10.0}),
        ("ETH-PERPETUAL", {"kind": "perpetual", "settlement_currency": "ETH", "expiry_at": None, "contract_size": 1.0}),
        ("BTC-6AUG21", {"kind": "future", "expiry_at": "2021-08-06T08:00:00.000Z", "contract_size": 10.0}),
        (
            "BTC_USDC-24SEP21-8000-C",
            {
                "kind": "option",
                "underlying": "BTC",
                "quote_currency": "USDC",
                "settlement_currency": "USDC",
                "is_inverse": False,
                "option_type": "call",
                "contract_size": 1.0,
            },
        ),
        ("BTC_USDC-PERPETUAL", {"kind": "perpetual", "is_inverse": False, "settlement_currency": "USDC"}),
        ("XRP_USDC-27DEC24-0d625-C", {"kind": "option", "underlying": "XRP", "strike_usd": 0.625}),
        ("ETH_USDC", {"kind": "spot", "underlying": "ETH", "quote_currency": "USDC", "is_inverse": False}),
    ],
)
def test_a_name_tells_its_terms(symbol: str, terms: dict[str, Any]) -> None:
    record = describe("deribit", symbol, RECEIVED)
    assert record is not None
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in terms} == terms
    assert record.row["instrument"] == symbol


@pytest.mark.parametrize("symbol", ["", "BTC", "BTC-31FEB21", "BTC-1FOO21-5-C", "BTC-24SEP21-8000-X", "BTC-FS-24SEP21_PERP"])
def test_a_name_that_tells_nothing_is_described_by_nothing(symbol: str) -> None:
    assert describe("deribit", symbol, RECEIVED) is None


RESULTS: list[Any] = [
    ORDER_BOOK,
    TICKER,
    OPTION,
    [OPTION],
    [PERPETUAL],
    {"trades": [TRADE], "has_more": True},
    {"index_price": 5.0},
]


@given(st.sampled_from(RESULTS), st.data(), st.none() | st.text().map("https://x/y?".__add__))
def test_an_answer_with_anything_in_it_gives_good_rows_and_dead_letters(
    result: Any, data: st.DataObject, url: str | None
) -> None:
    odd = deepcopy(result)
    target = odd[0] if isinstance(odd, list) else odd
    if "trades" in target:
        target = target["trades"][0]
    target[data.draw(st.sampled_from([*sorted(target), "kind", "order_id", "block_trade_id"]))] = data.draw(JSON)
    if isinstance(odd, list):
        odd.append(data.draw(JSON))
    records = converted({"result": data.draw(st.just(odd) | JSON)}, url).records
    assert all(fault(record.table, record.row) is None for record in records)


ROOT = Path(__file__).resolve().parents[2]


def test_every_channel_that_is_read_is_documented() -> None:
    with pytest.raises(Rejected) as rejected:
        sent("no_such_channel", {})
    documented = (ROOT / "docs" / "venues" / "deribit.md").read_text()
    for channel in rejected.value.fault.expected.removeprefix("a channel that is read: ").split(", "):
        assert f"`{channel}" in documented


READ = {
    "http_get_instrument.json": {"instruments": 1, "trading_halts": 1},
    "http_get_instrument_option.json": {"instruments": 1, "trading_halts": 1},
    "http_get_instruments.json": {"instruments": 3, "trading_halts": 3},
    "http_get_instruments_future_combo.json": {},
    "http_get_instruments_option_combo.json": {},
    "http_get_last_trades.json": {"instruments": 1, "trades": 10},
    "http_get_last_trades_perpetual_with_combo_tags.json": {"instruments": 1, "trades": 7},
    "http_get_order_book.json": {"instruments": 1, "order_books": 1, "tickers": 1},
    "ws_book_delta.json": {"instruments": 1, "order_books": 1},
    "ws_book_grouped_snapshot.json": {"instruments": 1, "order_books": 1},
    "ws_book_snapshot.json": {"instruments": 1, "order_books": 1},
    "ws_quote.json": {"instruments": 1, "tickers": 1},
    "ws_subscribe_response.json": {},
    "ws_test_request.json": {},
    "ws_ticker.json": {"instruments": 1, "tickers": 1},
    "ws_trades.json": {"instruments": 1, "trades": 2},
}


def test_every_sample_gives_what_its_name_says_or_dead_letters_alone(check_samples: CheckSamples) -> None:
    check_samples("deribit", READ, newest_ms, {})


def newest_ms(value: Any) -> int:
    """The newest of the times that a message tells."""
    if isinstance(value, dict):
        own = [value[name] for name in ("timestamp", "creation_timestamp") if type(value.get(name)) is int]
        return max([*own, *map(newest_ms, value.values())], default=0) or NOW_MS
    return max(map(newest_ms, value), default=0) if isinstance(value, list) else 0
