"""Own orders and fills of every venue: what a message becomes, and what is said of one that is odd."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.private import binance, bybit, deribit, okx
from schemas.rows import fault
from tests.feeds import private_messages as messages
from tests.feeds.private_messages import NOW_MS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "venues"
RECEIVED = Received(NOW_MS * 1000 + 123, None, None)
VENUES: dict[str, ModuleType] = {"binance": binance, "bybit": bybit, "deribit": deribit, "okx": okx}
Wrap = Callable[[Any], Any]


def _subscription(channel: str) -> Wrap:
    return lambda data: {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}


KINDS: dict[str, tuple[ModuleType, Wrap, dict[str, Any], list[str]]] = {
    "deribit order": (
        deribit,
        _subscription("user.orders.BTC-PERPETUAL.raw"),
        messages.DERIBIT_ORDER,
        ["instrument_name", "order_id", "direction", "amount", "order_state", "last_update_timestamp"],
    ),
    "deribit trade": (
        deribit,
        lambda trade: _subscription("user.trades.BTC-PERPETUAL.raw")([trade]),
        messages.DERIBIT_TRADE,
        [
            *("instrument_name", "order_id", "direction", "amount", "trade_id", "timestamp", "price", "fee", "fee_currency"),
            "liquidity",
        ],
    ),
    "okx fill": (
        okx,
        lambda item: {"arg": {"channel": "orders", "instType": "ANY"}, "data": [item]},
        messages.OKX_FILL,
        ["instId", "ordId", "state", "side", "sz", "accFillSz", "fillTime", "fillPx", "fillSz"],
    ),
    "okx order": (
        okx,
        lambda item: {"arg": {"channel": "orders", "instType": "ANY"}, "data": [item]},
        messages.OKX_ORDER,
        ["instId", "ordId", "state", "side", "uTime", "sz", "accFillSz"],
    ),
    "bybit execution": (
        bybit,
        lambda item: {"topic": "execution", "id": "1", "creationTime": NOW_MS, "data": [item]},
        messages.BYBIT_EXECUTION,
        [
            *("execType", "category", "symbol", "orderId", "side", "execId", "execTime", "execPrice", "execQty", "isMaker"),
            "execFee",
        ],
    ),
    "bybit fast execution": (
        bybit,
        lambda item: {"topic": "execution.fast", "creationTime": NOW_MS, "data": [item]},
        messages.BYBIT_FAST,
        ["category", "symbol", "orderId", "side", "execId", "execTime", "execPrice", "execQty", "isMaker"],
    ),
    "bybit order": (
        bybit,
        lambda item: {"topic": "order", "id": "1", "creationTime": NOW_MS, "data": [item]},
        messages.BYBIT_ORDER,
        ["category", "symbol", "orderId", "side", "orderStatus", "updatedTime", "qty", "cumExecQty"],
    ),
    "binance futures": (
        binance,
        lambda order: {"e": "ORDER_TRADE_UPDATE", "E": NOW_MS, "T": NOW_MS - 60, "o": order},
        messages.BINANCE_FUTURES,
        ["s", "c", "S", "q", "x", "X", "i", "l", "z", "L", "T", "t", "m"],
    ),
    "binance lite": (
        binance,
        lambda item: item,
        messages.BINANCE_LITE,
        ["s", "c", "S", "q", "i", "l", "L", "T", "t", "m"],
    ),
    "binance spot": (
        binance,
        lambda item: {"subscriptionId": 0, "event": item},
        messages.BINANCE_SPOT,
        ["s", "c", "S", "q", "x", "X", "i", "l", "z", "L", "T", "t", "m"],
    ),
}
FIELDS = [(kind, name) for kind, (*_, needed) in KINDS.items() for name in needed]
TIMES = {
    "deribit order": "last_update_timestamp",
    "deribit trade": "timestamp",
    "okx fill": "fillTime",
    "okx order": "uTime",
    "bybit execution": "execTime",
    "bybit fast execution": "execTime",
    "bybit order": "updatedTime",
    "binance futures": "T",
    "binance lite": "T",
    "binance spot": "T",
}


def _parsed(kind: str, received: Received = RECEIVED, **changes: Any) -> list[Record | Rejected]:
    venue, wrap, item, _ = KINDS[kind]
    return list(venue.parse(orjson.dumps(wrap({**item, **changes})), received, "desk"))


def _rows(results: list[Record | Rejected]) -> dict[str, dict[str, Any]]:
    """The rows by their table; each must be as its DDL says."""
    rows = {}
    for result in results:
        assert isinstance(result, Record), result
        assert fault(result.table, result.row) is None
        assert result.table not in rows
        rows[result.table] = dict(result.row)
    return rows


def _rejection(kind: str, item: dict[str, Any]) -> Rejected:
    venue, wrap, *_ = KINDS[kind]
    with pytest.raises(Rejected) as caught:
        venue.parse(orjson.dumps(wrap(item)), RECEIVED, "desk")
    return caught.value


def _shows(row: dict[str, Any], **expected: Any) -> None:
    assert {name: row[name] for name in expected} == expected


def test_a_deribit_trade_is_a_fill_in_contracts() -> None:
    rows = _rows(_parsed("deribit trade"))
    fill_id = "deribit:BTC-PERPETUAL:48079262:4008965646"
    assert rows["fills"] == {
        "account": "desk",
        "venue": "deribit",
        "instrument": "BTC-PERPETUAL",
        "event_at": "2025-05-11T07:09:59.950Z",
        "received_at": "2025-05-11T07:10:00.000123Z",
        "fill_id": fill_id,
        "side": "buy",
        "price": "8949.5",
        "size": "100.0",
        "fee": "0.00049961",
        "kind": None,
        "corrects_id": None,
    }
    _shows(
        rows["execution_reports"],
        exec_id=fill_id,
        exec_type="trade",
        order_status="partially_filled",
        client_order_id="mine-1",
        last_quantity="100.0",
        fee_currency="BTC",
        is_maker=False,
    )


def test_a_deribit_amount_is_counted_by_the_contract_that_the_name_tells() -> None:
    assert Decimal(_rows(_parsed("deribit trade", contracts=None))["fills"]["size"]) == 100
    assert "fills" in _rows(_parsed("deribit trade", instrument_name="BTC-26JUN26-90000-C", contracts=None))
    odd = {**messages.DERIBIT_TRADE, "instrument_name": "XRP_USDC-PERPETUAL", "contracts": None}
    assert _rejection("deribit trade", odd).fault.field == "contracts"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"exec_type": "status", "order_status": "partially_filled", "quantity": "500.0", "cum_quantity": "100"}),
        ({}, {"leaves_quantity": "400.0", "price": "8950.5", "average_price": "8949.5", "time_in_force": "gtc"}),
        ({"filled_amount": 0.0}, {"exec_type": "new", "order_status": "new", "leaves_quantity": "500.0"}),
        ({"filled_amount": 0.0, "replaced": True}, {"exec_type": "replaced", "order_status": "new"}),
        ({"order_state": "untriggered", "filled_amount": 0, "order_type": "stop_market"}, {"order_type": "stop"}),
        (
            {"order_state": "cancelled", "cancel_reason": "user_request"},
            {"exec_type": "cancelled", "leaves_quantity": "0", "cum_quantity": "100", "reason": "user_request"},
        ),
        ({"order_state": "filled", "filled_amount": 5000}, {"exec_type": "status", "order_status": "filled"}),
        ({"order_state": "rejected", "reject_reason": "no margin"}, {"exec_type": "rejected", "reason": "no margin"}),
        ({"price": "market_price", "order_type": "market"}, {"price": None, "order_type": "market"}),
        ({"post_only": True}, {"time_in_force": "post_only"}),
        ({"is_liquidation": True}, {"reason": "liquidation"}),
    ],
)
def test_a_deribit_order_says_how_it_stands(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    rows = _rows(_parsed("deribit order", **changes))
    assert set(rows) == {"execution_reports"}
    _shows(rows["execution_reports"], **expected)


def test_a_deribit_message_of_changes_gives_its_trades_and_orders_and_no_positions() -> None:
    data = {
        "instrument_name": "BTC-PERPETUAL",
        "trades": [messages.DERIBIT_TRADE, {**messages.DERIBIT_TRADE, "fee": None}],
        "orders": [messages.DERIBIT_ORDER, {}],
        "positions": [{"size": 5}],
    }
    message = orjson.dumps(_subscription("user.changes.any.any.raw")(data))
    results = deribit.parse(message, RECEIVED, "desk")
    assert [r.table for r in results if isinstance(r, Record)] == ["execution_reports", "fills", "execution_reports"]
    assert [r.fault.field for r in results if isinstance(r, Rejected)] == ["fee", "instrument_name"]


def test_an_answer_to_an_order_tells_the_same_change_as_its_channel() -> None:
    answer = orjson.dumps({"jsonrpc": "2.0", "id": 3, "result": {"order": messages.DERIBIT_ORDER, "trades": []}})
    (told,) = deribit.parse(answer, RECEIVED, "desk")
    assert [told] == _parsed("deribit order")


def test_a_combo_is_told_of_by_its_legs() -> None:
    odd = {**messages.DERIBIT_TRADE, "instrument_name": "BTC-FS-25DEC26_PERP"}
    assert _rejection("deribit trade", odd).fault.field == "instrument_name"


def test_a_login_leaves_nothing_behind_though_its_answer_holds_a_token() -> None:
    answer = {"jsonrpc": "2.0", "id": "public/auth", "result": {"access_token": "t0ken", "refresh_token": "t0ken2"}}
    assert list(deribit.parse(orjson.dumps(answer), RECEIVED, "desk")) == []


def test_an_okx_fill_costs_its_own_fee_and_not_that_of_all_fills() -> None:
    rows = _rows(_parsed("okx fill"))
    _shows(rows["fills"], price="58999.8", size="1", fee="0.021", fill_id="okx:BTC-USDT-SWAP:242589207:312269865356374016")
    _shows(rows["execution_reports"], exec_type="trade", cum_quantity="2", leaves_quantity="1", is_maker=False)


def test_an_okx_rebate_is_a_fee_below_zero() -> None:
    assert _rows(_parsed("okx fill", fillFee="0.005"))["fills"]["fee"] == "-0.005"


def test_an_older_okx_message_tells_the_fee_of_a_first_fill_alone() -> None:
    first = _parsed("okx fill", fillFee="", fillFeeCcy="", accFillSz="1", fee="-0.042", rebate="0.002")
    assert _rows(first)["fills"]["fee"] == "0.040"
    assert _rejection("okx fill", {**messages.OKX_FILL, "fillFee": ""}).fault.field == "fillFee"
    elsewhere = {**messages.OKX_FILL, "fillFee": "", "accFillSz": "1", "rebate": "0.002", "rebateCcy": "OKB"}
    assert _rejection("okx fill", elsewhere).fault.field == "fillFee"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"exec_type": "new", "order_status": "new", "leaves_quantity": "3", "average_price": None}),
        ({"amendResult": "0"}, {"exec_type": "replaced", "order_status": "new"}),
        ({"amendResult": "-1", "code": "51503"}, {"exec_type": "status", "reason": "the amendment failed: 51503"}),
        ({"state": "canceled", "cancelSource": "1"}, {"exec_type": "cancelled", "leaves_quantity": "0", "reason": "1"}),
        ({"state": "mmp_canceled"}, {"exec_type": "cancelled", "reason": "mmp_canceled"}),
        ({"ordType": "post_only"}, {"order_type": "limit", "time_in_force": "post_only"}),
        ({"ordType": "a_new_kind"}, {"order_type": "a_new_kind", "time_in_force": None}),
        ({"tgtCcy": "quote_ccy"}, {"quantity": None, "leaves_quantity": None}),
    ],
)
def test_an_okx_order_says_how_it_stands(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    rows = _rows(_parsed("okx order", **changes))
    assert set(rows) == {"execution_reports"}
    _shows(rows["execution_reports"], **expected)


def test_an_okx_order_that_is_amended_while_it_trades_tells_both() -> None:
    results = _parsed("okx fill", amendResult="0")
    assert [(r.table, r.row.get("exec_type")) for r in results if isinstance(r, Record)] == [
        ("execution_reports", "trade"),
        ("fills", None),
        ("execution_reports", "replaced"),
    ]


def test_a_delivery_is_told_and_booked_by_nobody_twice() -> None:
    assert set(_rows(_parsed("okx fill", category="delivery"))) == {"execution_reports"}
    assert set(_rows(_parsed("bybit execution", execType="Delivery"))) == {"execution_reports"}
    assert set(_rows(_parsed("binance futures", c="delivery_autoclose-1"))) == {"execution_reports"}


def test_a_bybit_execution_is_a_fill() -> None:
    rows = _rows(_parsed("bybit execution"))
    _shows(rows["fills"], venue="bybit_linear", instrument="BTCUSDT", side="sell", size="0.4", fee="26.3725275")
    _shows(rows["execution_reports"], order_status="partially_filled", leaves_quantity="0.1", fee_currency="USDT")


@pytest.mark.parametrize(("kind", "reason"), [("AdlTrade", "adl"), ("BustTrade", "liquidation"), ("BlockTrade", "block")])
def test_a_forced_bybit_trade_is_a_fill_with_a_reason(kind: str, reason: str) -> None:
    rows = _rows(_parsed("bybit execution", execType=kind))
    assert rows["execution_reports"]["reason"] == reason
    assert rows["fills"]["kind"] is None  # a BustTrade is a liquidation, and busts nothing


def test_bybit_funding_is_a_transfer() -> None:
    rows = _rows(_parsed("bybit execution", execType="Funding", execFee="-1.5"))
    assert set(rows) == {"transfers"}
    _shows(rows["transfers"], kind="funding", currency="USDT", amount="1.5")


def test_a_bybit_session_settlement_changes_nothing() -> None:
    assert _parsed("bybit execution", execType="Settle") == []


@pytest.mark.parametrize(
    ("category", "symbol", "side", "fee", "currency"),
    [
        ("spot", "BTCUSDT", "Buy", "0.001", "BTC"),
        ("spot", "BTCUSDT", "Sell", "0.1", "USDT"),
        ("spot", "BTCUSDT", "Buy", "-0.1", "USDT"),
        ("spot", "BTCUSDT", "Sell", "-0.001", "BTC"),
        ("linear", "BTCPERP", "Buy", "0.1", "USDC"),
        ("linear", "BTC-27DEC24", "Buy", "0.1", "USDC"),
        ("linear", "BTCUSDT-27DEC24", "Buy", "0.1", "USDT"),
        ("inverse", "BTCUSD", "Buy", "0.1", "BTC"),
        ("inverse", "BTCUSDH25", "Buy", "0.1", "BTC"),
        ("option", "BTC-27DEC24-90000-C", "Buy", "0.1", "USDC"),
        ("option", "BTC-27DEC24-90000-C-USDT", "Buy", "0.1", "USDT"),
    ],
)
def test_a_bybit_fee_is_in_the_currency_of_the_rules(category: str, symbol: str, side: str, fee: str, currency: str) -> None:
    rows = _rows(_parsed("bybit execution", category=category, symbol=symbol, side=side, execFee=fee))
    _shows(rows["execution_reports"], fee=fee, fee_currency=currency)
    if "transfers" in rows:
        _shows(rows["transfers"], kind="fee", currency=currency, amount=str(-Decimal(fee)))
        assert rows["fills"]["fee"] == "0"
    else:
        assert rows["fills"]["fee"] == fee


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"exec_type": "new", "order_status": "new", "leaves_quantity": "0.100", "reason": None}),
        ({"orderStatus": "PartiallyFilled", "cumExecQty": "0.04"}, {"exec_type": "status", "leaves_quantity": "0.060"}),
        ({"orderStatus": "Filled", "cumExecQty": "0.1"}, {"exec_type": "status", "order_status": "filled"}),
        ({"orderStatus": "Cancelled", "cancelType": "CancelByUser"}, {"exec_type": "cancelled", "reason": "CancelByUser"}),
        ({"orderStatus": "Rejected", "rejectReason": "EC_NoMoney"}, {"exec_type": "rejected", "reason": "EC_NoMoney"}),
        (
            {"orderStatus": "Rejected", "rejectReason": "EC_Others", "cumExecQty": "0.05"},
            {"exec_type": "cancelled", "order_status": "cancelled", "reason": "rejected after trades: EC_Others"},
        ),
        ({"timeInForce": "PostOnly"}, {"time_in_force": "post_only"}),
        ({"stopOrderType": "TakeProfit"}, {"order_type": "take_profit_limit"}),
        ({"marketUnit": "quoteCoin"}, {"quantity": None}),
    ],
)
def test_a_bybit_order_says_how_it_stands_and_adds_no_quantity(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    rows = _rows(_parsed("bybit order", **changes))
    assert set(rows) == {"execution_reports"}
    _shows(rows["execution_reports"], last_quantity=None, **expected)


def test_a_trade_that_comes_before_its_fee_is_known_by_its_id_and_is_no_fill() -> None:
    for fast, whole in (("bybit fast execution", "bybit execution"), ("binance lite", "binance futures")):
        rows = _rows(_parsed(fast))
        assert set(rows) == {"execution_reports"}
        assert rows["execution_reports"]["fee"] is None
        assert rows["execution_reports"]["exec_id"] == _rows(_parsed(whole))["fills"]["fill_id"]


@pytest.mark.parametrize(
    ("symbol", "fee_currency", "venue"),
    [
        ("BTCUSDT", "USDT", "binance_usdm"),
        ("BTCUSD_PERP", "BTC", "binance_coinm"),
        ("BTCUSD_250627", "BTC", "binance_coinm"),
        ("BTC-250627-90000-C", "USDT", "binance_options"),
    ],
)
def test_a_binance_order_is_of_the_market_that_its_symbol_tells(symbol: str, fee_currency: str, venue: str) -> None:
    rows = _rows(_parsed("binance futures", s=symbol, N=fee_currency))
    _shows(rows["fills"], venue=venue, instrument=symbol, side="sell", fee="-0.01000000", size="0.001")
    _shows(rows["execution_reports"], leaves_quantity="0.001", average_price="7100.40", is_maker=True)


def test_a_fee_in_another_currency_is_a_transfer_to_the_last_digit() -> None:
    rows = _rows(_parsed("binance spot"))
    fill_id = "binance_spot:ETHUSDT:98765432:12345678"
    _shows(rows["fills"], fill_id=fill_id, fee="0", size="0.40000000")
    _shows(rows["transfers"], transfer_id=f"fee:{fill_id}", currency="ETH", amount="-0.00040000", kind="fee")
    _shows(rows["execution_reports"], fee="0.00040000", fee_currency="ETH", average_price="2499.5")


def test_a_fee_that_may_be_in_the_currency_of_settlement_or_not_costs_the_fill_and_not_the_report() -> None:
    report, rejected = _parsed("binance spot", s="ETHXYZ")
    assert isinstance(report, Record)
    assert report.table == "execution_reports"
    assert isinstance(rejected, Rejected)
    assert rejected.fault.field == "s"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"x": "NEW", "X": "NEW", "l": "0", "z": "0", "t": -1}, {"exec_type": "new", "order_status": "new"}),
        ({"x": "CANCELED", "X": "CANCELED", "l": "0", "C": "mine-0"}, {"exec_type": "cancelled"}),
        ({"x": "CANCELED", "X": "CANCELED", "l": "0", "C": "mine-0"}, {"orig_client_order_id": "mine-0"}),
        ({"x": "REJECTED", "X": "REJECTED", "l": "0", "r": "NO_MONEY"}, {"exec_type": "rejected", "reason": "NO_MONEY"}),
        ({"x": "EXPIRED", "X": "EXPIRED", "l": "0", "eR": "LATE"}, {"exec_type": "expired", "reason": "LATE"}),
        ({"x": "TRADE_PREVENTION", "X": "EXPIRED_IN_MATCH", "l": "0"}, {"exec_type": "expired", "leaves_quantity": "0"}),
        ({"x": "NEW", "X": "NEW", "l": "0", "o": "LIMIT_MAKER"}, {"order_type": "limit", "time_in_force": "post_only"}),
        ({"x": "NEW", "X": "NEW", "l": "0", "z": "0", "q": "0.0"}, {"quantity": None, "leaves_quantity": None}),
    ],
)
def test_a_binance_spot_order_says_how_it_stands(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    rows = _rows(_parsed("binance spot", **changes))
    assert set(rows) == {"execution_reports"}
    _shows(rows["execution_reports"], **expected)


def test_more_traded_than_ordered_is_a_row_with_a_reason_and_leaves_nothing() -> None:
    rows = _rows(_parsed("okx fill", accFillSz="3.1"))
    _shows(rows["execution_reports"], leaves_quantity="0", cum_quantity="3.1", reason="traded 3.1 of 3")
    assert rows["fills"]["size"] == "1"


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_however_often_it_comes(kind: str) -> None:
    def without_receipt(results: list[Record | Rejected]) -> list[dict[str, Any]]:
        return [{**r.row, "received_at": None} for r in results if isinstance(r, Record)]

    later = Received(RECEIVED.received_us + 3_600_000_000, None, None)
    assert without_receipt(_parsed(kind)) == without_receipt(_parsed(kind, later))


def test_both_sides_of_a_trade_with_oneself_are_fills() -> None:
    bought = _rows(_parsed("binance futures", i=1, S="BUY"))["fills"]
    sold = _rows(_parsed("binance futures", i=2, S="SELL"))["fills"]
    assert bought["fill_id"] != sold["fill_id"]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_missing_field_of_an_own_order_is_named(kind: str, field: str) -> None:
    item = {name: value for name, value in KINDS[kind][2].items() if name != field}
    rejected = _rejection(kind, item)
    assert (rejected.fault.field, rejected.fault.got) == (field, "missing")


@pytest.mark.parametrize("wild", [None, [], {"a": 1}, True, "-", "1e400", -5])
@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_wild_field_of_an_own_order_is_named_or_gives_a_good_row(kind: str, field: str, wild: Any) -> None:
    results: list[Record | Rejected]
    try:
        results = _parsed(kind, **{field: wild})
    except Rejected as rejected:
        results = [rejected]
    # An id or a text may be anything; where a name tells no currency of settlement, its fill is rejected alone.
    assert {result.fault.field for result in results if isinstance(result, Rejected)} <= {field}
    _rows([result for result in results if isinstance(result, Record)])


@pytest.mark.parametrize("ahead_ms", [60_001, -7 * 86_400_000 - 1])
@pytest.mark.parametrize(("kind", "field"), TIMES.items())
def test_a_wild_time_of_an_own_order_is_named(kind: str, field: str, ahead_ms: int) -> None:
    item = KINDS[kind][2]
    event_ms = NOW_MS + ahead_ms
    wild = {**item, field: str(event_ms) if type(item[field]) is str else event_ms}
    assert _rejection(kind, wild).fault.field == field


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_an_own_order_with_anything_in_a_field_gives_good_rows_or_is_rejected(kind: str, data: st.DataObject) -> None:
    item = KINDS[kind][2]
    field = data.draw(st.sampled_from(sorted(item)))
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    texts = st.text() | st.decimals(allow_nan=False, allow_infinity=False).map(str) | st.just("9" * 60)
    value: Any = data.draw(scalars | texts | st.lists(scalars, max_size=2) | st.dictionaries(st.text(), scalars, max_size=2))
    try:
        results = _parsed(kind, **{field: value})
    except Rejected:
        return
    for result in results:
        if isinstance(result, Record):
            assert fault(result.table, result.row) is None


@pytest.mark.parametrize("event", [{"e": "something"}, {"e": "ORDER_TRADE_UPDATE"}, 5])
def test_a_listen_key_is_not_kept_with_a_message_that_is_rejected(event: Any) -> None:
    (rejected,) = binance.parse(orjson.dumps({"stream": "l1stenKey", "data": event}), RECEIVED, "desk")
    assert isinstance(rejected, Rejected)
    assert rejected.item == orjson.dumps({"data": event})
    assert "l1stenKey" not in str(rejected)


@pytest.mark.parametrize("name", VENUES)
@given(
    message=st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["e", "o", "event", "data", "topic", "op", "arg", "params", "result", "method", "channel"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(orjson.dumps)
)
def test_any_message_of_a_private_connection_is_read_or_rejected(name: str, message: bytes) -> None:
    try:
        results = VENUES[name].parse(message, RECEIVED, "desk")
    except Rejected:
        return
    for result in results:
        assert isinstance(result, Record | Rejected)


READ: dict[str, dict[str, tuple[str, ...]]] = {
    "binance": {
        **dict.fromkeys(
            (
                "futures/user_data_json/order_update_adl.json",
                "futures/user_data_json/order_update_calculated.json",
                "futures/user_data_json/order_update_insurance.json",
                "futures/user_data_json/order_update_settlement.json",
                "futures/user_data_json/order_update_trade.json",
                "futures/user_data_json/order_update_trade_partial.json",
            ),
            ("trade", "fills"),
        ),
        "futures/user_data_json/order_update_calculated_pending.json": ("status",),
        "futures/user_data_json/order_update_delivery.json": ("trade",),
        "futures/user_data_json/order_update_new.json": ("new",),
        "futures/user_data_json/trade_lite.json": ("trade",),
        "spot/user_data_json/execution_report_canceled.json": ("cancelled",),
        "spot/user_data_json/execution_report_expired.json": ("expired",),
        "spot/user_data_json/execution_report_new.json": ("new",),
        "spot/user_data_json/execution_report_trade.json": ("trade", "fills", "transfers"),
        "spot/user_data_json/execution_report_wrapped.json": ("new",),
    },
    "bybit": {
        "ws_account_execution.json": ("trade", "fills"),
        "ws_account_execution_adl.json": ("trade", "fills"),
        "ws_account_execution_fast.json": ("trade",),
        "ws_account_execution_fast_envelope_id.json": (),
        "ws_account_order.json": ("cancelled",),
        "ws_account_order_filled.json": ("status",),
        "ws_account_order_partially_filled_rejected.json": ("cancelled",),
        "ws_order_response.json": (),
        "ws_subscription_ack.json": (),
    },
    "deribit": {
        "ws_order_buy_response.json": ("new",),
        "ws_order_cancel_response.json": ("cancelled",),
        "ws_order_edit_response.json": ("replaced",),
        "ws_order_sell_response.json": ("new",),
        "ws_subscribe_response.json": (),
        "ws_test_request.json": (),
    },
    "okx": dict.fromkeys(
        (
            *("ws_orders.json", "ws_orders_adl.json", "ws_orders_fok.json", "ws_orders_ioc.json", "ws_orders_liquidation.json"),
            *("ws_orders_optimal_limit_ioc.json", "ws_orders_option.json", "ws_orders_trigger.json"),
        ),
        ("trade", "fills"),
    ),
}
"""What becomes of each sample: of a report its exec_type, else the table.  All others are of public channels, and rejected."""
MILLISECONDS = re.compile(rb"\b\d{13}\b")


@pytest.mark.parametrize("name", VENUES)
def test_every_private_sample_gives_what_its_name_says(name: str) -> None:
    path = Path(__file__).resolve().parents[3] / "shared" / "captures" / "samples" / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no samples at {path}")
    gave: dict[str, tuple[str, ...]] = {}
    for line in path.read_bytes().splitlines():
        sample = orjson.loads(line)
        newest_ms = max(map(int, MILLISECONDS.findall(line)), default=0)
        try:
            results = VENUES[name].parse(orjson.dumps(sample["message"]), Received(newest_ms * 1000, None, None), "desk")
        except Rejected:
            continue
        records = [result for result in results if isinstance(result, Record)]
        assert len(records) == len(results), sample["sample"]
        assert all(fault(record.table, record.row) is None for record in records), sample["sample"]
        gave[sample["sample"]] = tuple(record.row.get("exec_type", record.table) for record in records)
    assert gave == READ[name]


@pytest.mark.parametrize("name", VENUES)
def test_what_is_let_pass_has_a_reason_and_is_documented(name: str) -> None:
    control: dict[str, str] = VENUES[name].CONTROL
    assert all(control.values())
    text = (DOCS / f"{name}.md").read_text()
    own = text[text.index("## Own orders and fills") :]
    assert [kind for kind in control if f"`{kind}`" not in own] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("binance", {"e": "outboundAccountPosition", "E": NOW_MS, "B": []}),
        ("binance", {"subscriptionId": 0, "event": {"e": "balanceUpdate"}}),
        ("binance", {"stream": "key", "data": {"e": "ACCOUNT_UPDATE"}}),
        ("binance", {"id": "login", "status": 200, "result": {"subscriptionId": 0}}),
        ("bybit", {"topic": "wallet", "data": []}),
        ("bybit", {"op": "pong", "args": ["1675418560633"], "conn_id": "c"}),
        ("bybit", {"success": True, "ret_msg": "", "op": "auth", "conn_id": "c"}),
        ("deribit", {"method": "heartbeat", "params": {"type": "test_request"}}),
        ("deribit", {"method": "subscription", "params": {"channel": "user.portfolio.any", "data": {}}}),
        ("deribit", {"result": "ok"}),
        ("okx", {"arg": {"channel": "account"}, "data": [{}]}),
        ("okx", {"event": "login", "code": "0", "msg": ""}),
        ("okx", {"id": "1", "op": "order", "code": "0", "data": [{"ordId": "1"}]}),
    ],
)
def test_an_acknowledgement_or_a_balance_is_let_pass(name: str, message: dict[str, Any]) -> None:
    assert list(VENUES[name].parse(orjson.dumps(message), RECEIVED, "desk")) == []


@pytest.mark.parametrize(
    ("name", "message", "field"),
    [
        ("binance", {"id": "1", "status": 400, "error": {"code": -1022, "msg": "no"}}, "error"),
        ("binance", {"e": "something"}, "e"),
        ("binance", {"e": "ORDER_TRADE_UPDATE"}, "o"),
        ("bybit", {"success": False, "ret_msg": "no", "op": "auth"}, "success"),
        ("bybit", {"op": "order.create", "retCode": 10001}, "retCode"),
        ("bybit", {"topic": "order"}, "data"),
        ("bybit", {"topic": "orderbook.1.X", "data": []}, "topic"),
        ("deribit", {"error": {"code": 13004, "message": "invalid_credentials"}}, "error"),
        ("deribit", {"method": "subscription", "params": {"channel": "book.X.raw", "data": {}}}, "channel"),
        ("deribit", {"method": "subscription", "params": {"channel": "user.changes.any.any.raw", "data": []}}, "data"),
        ("okx", {"event": "error", "code": "60009", "msg": "Login failed."}, "event"),
        ("okx", {"id": "1", "op": "order", "code": "1", "data": []}, "code"),
        ("okx", {"arg": {"channel": "books"}, "data": []}, "channel"),
    ],
)
def test_a_refusal_or_another_channel_is_rejected_by_name(name: str, message: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as caught:
        VENUES[name].parse(orjson.dumps(message), RECEIVED, "desk")
    assert caught.value.fault.field == field
