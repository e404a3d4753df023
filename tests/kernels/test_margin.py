import random
from base64 import b64decode
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import Message, Output, margin
from schemas.rows import fault, instant_ms, instant_us
from udfs.standard_margin import futures_schedule

T0 = 1_700_000_000_000
DAY = 86_400_000
EXPIRY = T0 + 30 * DAY
COIN_OPTION = {"kind": "option", "settlement_currency": "BTC", "contract_size": 1.0, "is_inverse": True}
TERMS: dict[str, dict[str, Any]] = {
    "LINEAR": {"kind": "perpetual", "settlement_currency": "USDC", "contract_size": 0.1},
    "SOL": {"kind": "future", "settlement_currency": "USDT", "contract_size": 1.0, "underlying": "SOL"},
    "INVERSE": {"kind": "perpetual", "settlement_currency": "BTC", "contract_size": 10.0, "is_inverse": True},
    "CALL": COIN_OPTION | {"option_type": "call"},
    "PUT": COIN_OPTION | {"option_type": "put"},
    "USDC-PUT": {"kind": "option", "settlement_currency": "USDC", "contract_size": 0.1, "option_type": "put"},
}
PRICES: dict[str, dict[str, Any]] = {
    "LINEAR": {"mark_price": 60_000.0},
    "SOL": {"bid_price": 199.0, "ask_price": 201.0},
    "INVERSE": {"last_price": 60_000.0},
    "CALL": {"mark_price": 0.05, "forward_usd": 61_000.0},
    "PUT": {"mark_price": 0.03, "forward_usd": 61_000.0},
    "USDC-PUT": {"mark_price": 1_800.0, "forward_usd": 61_000.0},
}


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000 + 7)}


def instrument(name: str, ms: int = T0, **changed: Any) -> Message:
    terms = {"underlying": "BTC", "quote_currency": "USD", "is_inverse": False} | TERMS.get(name, {}) | changed
    if terms["kind"] == "option":
        terms = {"strike_usd": 60_000.0} | terms
    if terms["kind"] in ("option", "future"):
        terms["expiry_at"] = instant_ms(EXPIRY)
    return Message("instruments", 0, 0, {"venue": "v", "instrument": name, **at(ms), **terms})


def ticker(name: str, ms: int = T0, **prices: Any) -> Message:
    return Message("tickers", 0, 0, {"venue": "v", "instrument": name, **at(ms), **prices})


def index(currency: str, usd: float, ms: int = T0) -> Message:
    return Message("index_prices", 0, 0, {"venue": "v", "underlying": currency, **at(ms), "price_usd": usd})


def position(name: str, size: str, average: str | None, ms: int = T0, account: str = "a", offset: int = 0) -> Message:
    row = {
        "account": account,
        "venue": "v",
        "instrument": name,
        **at(ms),
        "size": size,
        "average_price": average,
        "realised_pnl": "0",
        "settlement_currency": "USDC",
        "fill_id": "f",
    }
    return Message("positions", 0, offset, row)


def balance(currency: str, amount: str, ms: int = T0, account: str = "a", offset: int = 0) -> Message:
    row = {"account": account, "currency": currency, **at(ms), "amount": amount, "cause_id": "t"}
    return Message("balances", 0, offset, row)


def step(state: margin.State, *messages: Message, until_ms: int | None = T0 + 20) -> list[Output]:
    outputs = margin.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return outputs


def market() -> list[Message]:
    return [
        *(instrument(name) for name in TERMS),
        *(ticker(name, **prices) for name, prices in PRICES.items()),
        index("BTC", 60_500.0),
    ]


def begun() -> margin.State:
    state = margin.new()
    assert step(state, *market()) == []
    return state


def rows(outputs: list[Output], table: str = "account_margin") -> list[Any]:
    return [output.row for output in outputs if output.table == table]


def naive(account: dict[str, tuple[float, float]], cash: dict[str, float]) -> tuple[float, float, float]:
    """Equity, initial and maintenance margin in USD of one account in `market`, position by position."""
    usd = {"USD": 1.0, "USDC": 1.0, "USDT": 1.0, "BTC": 60_500.0}
    equity, im, mm = sum(amount * usd[currency] for currency, amount in cash.items()), 0.0, 0.0
    for name, (size, average) in account.items():
        terms, prices = TERMS[name], PRICES[name]
        each, rate = terms["contract_size"], usd[terms["settlement_currency"]]
        if terms["kind"] == "option":
            forward, mark = prices["forward_usd"], prices["mark_price"]
            equity += size * each * mark * rate
            if size < 0:
                is_call, coin = terms["option_type"] == "call", mark if terms.get("is_inverse") else mark / forward
                otm = max(60_000 - forward if is_call else forward - 60_000, 0)
                need_mm = 0.075 + coin if is_call else max(0.075, 0.075 * coin) + coin
                need_im = max(0.15 - otm / forward, 0.1) + coin
                unit = -size * each * (rate if terms.get("is_inverse") else rate * forward)
                im += unit * (need_im if is_call else max(need_im, need_mm))
                mm += unit * need_mm
            continue
        mark = {"LINEAR": 60_000.0, "SOL": 200.0, "INVERSE": 60_000.0}[name]
        schedule = futures_schedule(terms.get("underlying", "BTC"))
        if terms.get("is_inverse"):
            equity += size * each * (1 / average - 1 / mark) * rate
            coins, notional = abs(size) * each / mark, abs(size) * each / mark * rate
        else:
            equity += size * each * (mark - average) * rate
            coins, notional = abs(size) * each, abs(size) * each * mark * rate
        im += (schedule.initial + schedule.per_coin * coins) * notional
        mm += (schedule.maintenance + schedule.per_coin * coins) * notional
    return equity, im, mm


AVERAGES = {"LINEAR": 50_000.0, "SOL": 150.0, "INVERSE": 55_000.0, "CALL": 0.04, "PUT": 0.02, "USDC-PUT": 1_500.0}
books = st.dictionaries(
    st.sampled_from("abcd"),
    st.tuples(
        st.dictionaries(st.sampled_from(sorted(TERMS)), st.floats(-40, 40).map(lambda x: round(x, 2)), max_size=6),
        st.dictionaries(st.sampled_from(["USD", "USDC", "BTC"]), st.integers(-5, 40), max_size=3),
    ),
    min_size=1,
)


@settings(max_examples=150, deadline=None)
@given(books, st.randoms(use_true_random=False))
def test_all_accounts_at_once_are_each_account_by_itself(book: Any, chance: random.Random) -> None:
    messages = []
    for name, (sizes, cash) in book.items():
        messages += [position(of, str(size), str(AVERAGES[of]), account=name) for of, size in sizes.items()]
        messages += [balance(currency, str(amount * 100), account=name) for currency, amount in cash.items()]
    outputs = step(begun(), *chance.sample(messages, len(messages)))
    found = {row["account"]: row for row in rows(outputs)}
    assert list(found) == sorted(name for name, (sizes, cash) in book.items() if sizes or cash)
    for name, row in found.items():
        sizes, cash = book[name]
        equity, im, mm = naive(
            {of: (size, AVERAGES[of]) for of, size in sizes.items() if size},
            {currency: amount * 100.0 for currency, amount in cash.items()},
        )
        got = row["equity_usd"], row["initial_margin_usd"], row["maintenance_margin_usd"]
        assert got == pytest.approx((equity, im, mm), rel=1e-9, abs=1e-4)
        close = abs(mm - equity) < 1e-3 or abs(im - equity) < 1e-3
        status = "liquidation" if mm > 0 and mm > equity else "margin_call" if im > equity else "healthy"
        assert row["status"] == status or close
        assert row["margin_ratio"] == (None if got[0] <= 0 else got[2] / got[0])

        # The orders are what the definition says: the fewest of the largest that leave it above maintenance.
        orders = [order for order in rows(outputs, "liquidation_orders") if order["account"] == name]
        assert bool(orders) == (row["status"] == "liquidation")
        needs = {of: naive({of: (size, AVERAGES[of])}, {})[2] for of, size in sizes.items() if size}
        left = row["maintenance_margin_usd"]
        for n, order in enumerate(orders, start=1):
            of, size = order["instrument"], sizes[order["instrument"]]
            assert left > max(row["equity_usd"], 0) - 1e-4
            assert order["order_id"] == f"{name}/{row['event_at']}/{n}"
            assert (order["side"], order["size"]) == ("sell" if size > 0 else "buy", abs(size))
            assert order["maintenance_margin_usd"] == pytest.approx(left, abs=1e-4)
            assert needs[of] == pytest.approx(max(needs.values()), abs=1e-4)
            left -= needs.pop(of)
        if orders:
            assert left <= max(row["equity_usd"], 0) + 1e-4


def test_a_row_says_what_there_is_and_why_it_is_not_healthy() -> None:
    state = begun()
    (output,) = step(state, position("LINEAR", "10", "60000"), balance("USDC", "1000"))
    assert output.event_ms == T0 + 19
    assert output.row == {
        "account": "a",
        "event_at": instant_ms(T0 + 19),
        "model": "standard",
        "equity_usd": 1_000.0,
        "initial_margin_usd": 1_203.0,  # 1 BTC: 2.005 % of 60,000
        "maintenance_margin_usd": 603.0,
        "margin_ratio": 0.603,
        "status": "margin_call",
        "reason": "initial margin 1203.00 USD exceeds equity 1000.00 USD",
    }
    fallen, order = step(state, ticker("LINEAR", T0 + 21, mark_price=59_500.0), until_ms=T0 + 40)
    assert fallen.row["status"] == "liquidation"
    assert order.row == {
        "order_id": f"a/{instant_ms(T0 + 39)}/1",
        "account": "a",
        "event_at": instant_ms(T0 + 39),
        "venue": "v",
        "instrument": "LINEAR",
        "side": "sell",
        "size": 10.0,
        "mark_price": 59_500.0,
        "equity_usd": 500.0,
        "maintenance_margin_usd": 597.975,
        "reason": "maintenance margin 597.98 USD exceeds equity 500.00 USD; closes LINEAR, the largest requirement",
    }


def test_rows_come_on_a_change_and_once_a_second() -> None:
    state = begun()
    both = [balance("USDC", "9000"), position("LINEAR", "1", "60000"), balance("USDC", "1", account="cash")]
    assert len(step(state, *both)) == 2
    assert step(state, ticker("LINEAR", T0 + 20, mark_price=60_001.0), until_ms=T0 + 40) == []
    assert step(state, until_ms=T0 + 999) == []
    (second,) = step(state, until_ms=T0 + 1000)
    assert (second.row["account"], second.row["event_at"]) == ("a", instant_ms(T0 + 999))
    assert step(state, until_ms=T0 + 1001) == []
    (changed,) = step(state, balance("USDC", "8000", T0 + 1001), until_ms=T0 + 1002)
    assert changed.row["equity_usd"] == 8000.1
    assert len(step(state, until_ms=T0 + 5000)) == 1


def test_a_liquidation_is_ordered_once_until_a_position_changes() -> None:
    state = begun()
    outputs = step(state, position("LINEAR", "10", "70000"), position("SOL", "1", "200"), balance("USDC", "10500"))
    assert [order["instrument"] for order in rows(outputs, "liquidation_orders")] == ["LINEAR"]
    assert rows(step(state, until_ms=T0 + 1000), "liquidation_orders") == []
    assert rows(step(state, balance("USDC", "10400", T0 + 1000), until_ms=T0 + 1001), "liquidation_orders") == []
    again = step(state, position("LINEAR", "10.5", "70000", T0 + 1001), until_ms=T0 + 1002)
    assert [(order["instrument"], order["size"]) for order in rows(again, "liquidation_orders")] == [
        ("LINEAR", 10.5),
        ("SOL", 1.0),
    ]
    assert rows(step(state, balance("USDC", "90000", T0 + 1002), until_ms=T0 + 1003))[0]["status"] == "healthy"
    fallen_again = step(state, balance("USDC", "1", T0 + 1003), until_ms=T0 + 1004)
    assert len(rows(fallen_again, "liquidation_orders")) == 2


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        (("instruments", "LINEAR"), "the terms of v:LINEAR are not known"),
        (("tickers", "LINEAR"), "v:LINEAR has no mark price"),
        (("tickers", "CALL"), "v:CALL has no mark price"),
        (("index_prices", "BTC"), "BTC has no index price"),
    ],
)
def test_an_account_without_a_price_is_unpriced_and_not_liquidated(left_out: tuple[str, str], reason: str) -> None:
    table, name = left_out
    messages = [m for m in market() if m.table != table or name not in (m.row.get("instrument"), m.row.get("underlying"))]
    if table == "index_prices":
        messages = [m for m in market() if m.table != table]
    state = margin.new()
    broke = [position("LINEAR", "100", "90000"), position("CALL", "-9", "0.01"), balance("USDC", "1", account="sound")]
    outputs = step(state, *messages, *broke)
    assert rows(outputs, "liquidation_orders") == []
    row, sound = rows(outputs)
    assert (row["status"], row["reason"]) == ("unpriced", reason)
    assert {row[name] for name in row if name.endswith(("usd", "ratio"))} == {None}
    assert sound["status"] == "healthy"
    missing = [m for m in market() if m not in messages]
    outputs = step(state, *missing, until_ms=T0 + 40)
    assert rows(outputs)[0]["status"] == "liquidation"
    assert rows(outputs, "liquidation_orders")


def test_an_index_of_tickers_serves_where_there_is_no_other() -> None:
    state = margin.new()
    step(state, instrument("INVERSE"), ticker("INVERSE", mark_price=60_000.0, index_price_usd=50_000.0))
    assert rows(step(state, balance("BTC", "1")))[0]["equity_usd"] == 50_000.0
    step(state, index("BTC", 40_000.0), ticker("INVERSE", T0 + 20, index_price_usd=60_000.0), until_ms=T0 + 40)
    assert rows(step(state, balance("BTC", "2", T0 + 40), until_ms=T0 + 60))[0]["equity_usd"] == 80_000.0


def test_the_newest_of_each_key_stands() -> None:
    state = begun()
    step(state, position("LINEAR", "1", "60000", T0 + 9), balance("USDC", "1000", T0 + 9))
    step(
        state,
        ticker("LINEAR", T0 - 1, mark_price=1.0),
        index("BTC", 1.0, T0 - 1),
        position("LINEAR", "50", "1", T0 + 8),
        balance("USDC", "5", T0 + 8),
        until_ms=T0 + 40,
    )
    (row,) = rows(step(state, until_ms=T0 + 1000))
    assert (row["equity_usd"], row["maintenance_margin_usd"]) == (1000.0, 60.03)
    same = [balance("USDC", "2", T0 + 1000, offset=2), balance("USDC", "1", T0 + 1000, offset=1)]
    assert rows(step(state, *same, until_ms=T0 + 1001))[0]["equity_usd"] == 2.0


def test_late_messages_are_valued_with_the_next_batch() -> None:
    state = begun()
    assert step(state, balance("USDC", "7"), until_ms=None) == []
    assert rows(step(state, until_ms=T0 + 40))[0]["equity_usd"] == 7.0


def test_a_contract_is_freed_a_day_after_expiry_once_nobody_holds_it() -> None:
    state = begun()
    step(state, position("CALL", "1", "0.1"), balance("BTC", "1"))
    state.touched.clear()
    step(state, until_ms=EXPIRY + DAY)
    assert {"instrument/v:PUT", "price/v:PUT", "instrument/v:SOL"} <= state.touched
    assert state.encode("instrument/v:PUT") is state.encode("price/v:PUT") is None
    assert state.encode("instrument/v:CALL")
    step(state, position("CALL", "0", None, EXPIRY + DAY), until_ms=EXPIRY + DAY + 2000)
    assert state.encode("instrument/v:CALL") is None
    assert orjson.loads(state.encode("account/a")[1:])[0] == {}  # type: ignore[index]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (position("LINEAR", "1", None), "average_price"),
        (position("LINEAR", "1e400", "1"), "size"),
        (position("LINEAR", "much", "1"), "size"),
        (balance("USDC", "1e20"), "amount"),
        (index("BTC", 0.0), "price_usd"),
        (ticker("LINEAR", mark_price="1"), "mark_price"),
        (ticker("LINEAR", T0 + DAY, mark_price=1.0), "event_at"),
        (instrument("PUT", strike_usd=-1.0), "strike_usd"),
        (Message("balances", 0, 0, [1]), None),  # type: ignore[arg-type]
    ],
)
def test_a_bad_row_is_a_dead_letter_and_the_others_are_valued(message: Message, field: str | None) -> None:
    outputs = step(begun(), balance("USDC", "7", account="b"), message)
    (letter,) = rows(outputs, "dead_letters")
    assert letter["field"] == field
    assert orjson.loads(b64decode(letter["original"])) == message.row
    assert [(row["account"], row["equity_usd"]) for row in rows(outputs) if row["account"] == "b"] == [("b", 7.0)]


@pytest.mark.parametrize(("name", "price"), [("INVERSE", 0.0), ("INVERSE", -1.0), ("CALL", -0.1), ("INVERSE", 1e-320)])
def test_a_mark_without_sense_leaves_the_account_unpriced(name: str, price: float) -> None:
    outputs = step(begun(), position(name, "1", "60000"), balance("BTC", "1"), ticker(name, T0 + 1, mark_price=price))
    assert [row["status"] for row in rows(outputs)] == ["unpriced"]


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="version 9, this code reads version 1"):
        margin.new().decode("clock", b"\x09[]")


instants = st.integers(T0, T0 + 19)
names = st.sampled_from(sorted(TERMS))
messages = st.one_of(
    st.builds(instrument, names, instants, contract_size=st.sampled_from([0.1, 10.0, None])),
    st.builds(
        ticker,
        names,
        instants,
        mark_price=st.sampled_from([None, 0.05, 50_000.0, 61_000.3]),
        last_price=st.sampled_from([None, 200.7]),
        index_price_usd=st.sampled_from([None, 150.0, 60_000.7]),
    ),
    st.builds(index, st.sampled_from(["BTC", "SOL"]), st.sampled_from([99.9, 60_000.3]), instants),
    st.builds(
        position,
        names,
        st.sampled_from(["0", "1.3", "-2.7", "40"]),
        st.sampled_from(["0.07", "60123.4"]),
        instants,
        st.sampled_from("abc"),
    ),
    st.builds(
        balance,
        st.sampled_from(["USDC", "BTC", "SOL"]),
        st.sampled_from(["0.1", "-3", "4444.4"]),
        instants,
        st.sampled_from("abc"),
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(messages, max_size=8),
            st.sampled_from([20, 1000, 32 * DAY]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(
    batches: list[tuple[list[Message], int, bool, bool]], chance: random.Random
) -> None:
    straight, cut, until_ms = begun(), begun(), T0 + 20
    stored: dict[str, bytes | None] = {}
    for batch, passed, is_late, is_cut in batches:
        until_ms += passed
        until = None if is_late else until_ms
        batch = [message._replace(offset=n) for n, message in enumerate(batch)]
        assert margin.step(straight, batch, until) == margin.step(cut, chance.sample(batch, len(batch)), until)
        stored |= {name: cut.encode(name) for name in cut.touched}
        cut.touched.clear()
        if is_cut:
            cut = margin.new()
            for name, data in chance.sample(sorted(stored.items()), len(stored)):
                if data is not None:
                    cut.decode(name, data)
