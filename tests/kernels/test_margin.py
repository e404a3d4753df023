import random
from base64 import b64decode
from itertools import chain, pairwise
from typing import Any
from unittest import mock

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import FIELD, RECORD, run
from engine.contract import Message, Output
from kernels import liquidations
from kernels.liquidations import margin, probability
from kernels.liquidations import portfolios as arrangement
from kernels.liquidations.market import NO_PRICES
from kernels.liquidations.stage import Batch
from kernels.market.tickers import NO_READING, Prices
from schemas.records import TABLES
from schemas.rows import fault, instant_ms, instant_us
from tests.kernels.stored import Stored
from udfs import liquidation_probability, margin_parameters, portfolio_margin, portfolio_positions, portfolio_values
from udfs.margin_parameters import Parameters
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


def step(state: liquidations.State, *messages: Message, until_ms: int | None = T0 + 20) -> list[Output]:
    """The rows of the margin stage, and dead letters."""
    outputs = liquidations.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return [output for output in outputs if not output.table.startswith("liquidation_")]


def market() -> list[Message]:
    return [
        *(instrument(name) for name in TERMS),
        *(ticker(name, **prices) for name, prices in PRICES.items()),
        index("BTC", 60_500.0),
    ]


def begun() -> liquidations.State:
    state = liquidations.new()
    assert step(state, *market()) == []
    return state


def rows(outputs: list[Output], table: str = "account_margin") -> list[Any]:
    return [output.row for output in outputs if output.table == table]


def test_what_comes_once_more_is_no_news() -> None:
    """As when the job that writes it has recovered: it comes late, and nobody is told again."""
    state = begun()
    once = [
        position("LINEAR", "1", "60000", ms=T0 + 5),
        position("LINEAR", "2", "60000", ms=T0 + 10),
        balance("USDC", "90", ms=T0 + 10, offset=1),  # the fee of a fill, and what it has realised
        balance("USDC", "100", ms=T0 + 10, offset=2),
    ]
    assert len(rows(step(state, *once, until_ms=T0 + 20))) == 1
    stored = state.encode("account/a")
    step(state, *once, until_ms=None)
    assert step(state, until_ms=T0 + 30) == []
    assert state.encode("account/a") == stored
    step(state, position("LINEAR", "3", "60000", ms=T0 + 10, offset=3), until_ms=None)  # a fill that came late was before it
    assert [row["size"] for row in rows(step(state, until_ms=T0 + 40), "position_margin")] == [3.0]


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


@settings(max_examples=150)
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
        parts = [part for part in rows(outputs, "position_margin") if part["account"] == name]
        assert [part["instrument"] for part in parts] == sorted(of for of, size in sizes.items() if size)
        for part in parts:
            of = part["instrument"]
            _, alone_im, alone_mm = naive({of: (sizes[of], AVERAGES[of])}, {})
            assert (part["venue"], part["size"]) == ("v", sizes[of])
            assert part["initial_margin_usd"] == pytest.approx(alone_im, rel=1e-9, abs=1e-5)
            assert part["maintenance_margin_usd"] == part["contribution_usd"] == pytest.approx(alone_mm, rel=1e-9, abs=1e-5)
        assert sum(part["contribution_usd"] for part in parts) == pytest.approx(got[2], abs=1e-4)


def test_a_row_says_what_there_is_and_why_it_is_not_healthy() -> None:
    state = begun()
    output, part = step(state, position("LINEAR", "10", "60000"), balance("USDC", "1000"))
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
        "worst_scenario": None,
        "worst_loss_usd": None,
        "liquidation_probability_1h": None,  # no option, no vol
        "liquidation_probability_24h": None,
        "liquidation_probability_7d": None,
        "liquidation_probability_1h_error": None,
        "liquidation_probability_24h_error": None,
        "liquidation_probability_7d_error": None,
    }
    assert part.event_ms == T0 + 19
    assert part.row == {
        "account": "a",
        "venue": "v",
        "instrument": "LINEAR",
        "event_at": instant_ms(T0 + 19),
        "size": 10.0,
        "mark_price": 60_000.0,
        "initial_margin_usd": 1_203.0,
        "maintenance_margin_usd": 603.0,
        "contribution_usd": 603.0,
        "worst_scenario": None,
        "worst_loss_usd": None,
    }
    fallen, _ = step(state, ticker("LINEAR", T0 + 21, mark_price=59_500.0), until_ms=T0 + 40)
    assert fallen.row["status"] == "liquidation"
    assert fallen.row["reason"] == "maintenance margin 597.98 USD exceeds equity 500.00 USD"


def test_rows_come_on_a_change_and_once_a_second() -> None:
    state = begun()
    both = [balance("USDC", "9000"), position("LINEAR", "1", "60000"), balance("USDC", "1", account="cash")]
    assert [output.table for output in step(state, *both)] == ["account_margin", "account_margin", "position_margin"]
    assert step(state, ticker("LINEAR", T0 + 20, mark_price=60_001.0), until_ms=T0 + 40) == []
    assert step(state, until_ms=T0 + 999) == []
    second = step(state, until_ms=T0 + 1000)
    assert [(one.table, one.row["account"], one.row["event_at"]) for one in second] == [
        ("account_margin", "a", instant_ms(T0 + 999)),
        ("position_margin", "a", instant_ms(T0 + 999)),
    ]
    assert step(state, until_ms=T0 + 1001) == []
    (changed,) = rows(step(state, balance("USDC", "8000", T0 + 1001), until_ms=T0 + 1002))
    assert changed["equity_usd"] == 8000.1
    assert len(rows(step(state, until_ms=T0 + 5000))) == 1


def test_where_there_are_many_accounts_each_is_told_of_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margin, "REPORTED", 3)
    shard, names = Stored(liquidations, begun()), [f"a{number}" for number in range(7)]
    step(shard.state, *(position("LINEAR", "1", "60000", account=name) for name in names))
    told = []
    for second in range(1, 8):
        told.append([row["account"] for row in rows(step(shard.state, until_ms=T0 + 1000 * second))])
        shard.store()
        shard.restart()
    assert told == [sorted((names * 3)[3 * turn : 3 * turn + 3]) for turn in range(7)]


def test_the_turns_of_many_accounts_are_spread_over_the_second_and_each_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margin, "AT_ONCE", 2)
    shard, names = Stored(liquidations, begun()), [f"a{number}" for number in range(7)]
    step(shard.state, *(position("LINEAR", "1", "60000", account=name) for name in names))
    step(shard.state, until_ms=T0 + 1000)
    portions = []
    for until in range(1100, 3001, 100):
        portions.append([row["account"] for row in rows(step(shard.state, until_ms=T0 + until))])
        shard.store()
        shard.restart()
    assert max(map(len, portions)) == 1
    assert sorted(chain(*portions[:10])) == sorted(chain(*portions[10:])) == names


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
    state = liquidations.new()
    broke = [position("LINEAR", "100", "90000"), position("CALL", "-9", "0.01"), balance("USDC", "1", account="sound")]
    outputs = step(state, *messages, *broke)
    row, sound = rows(outputs)
    assert (row["status"], row["reason"]) == ("unpriced", reason)
    unknown = {part["instrument"] for part in rows(outputs, "position_margin") if part["contribution_usd"] is None}
    assert unknown == {"CALL" if "CALL" in left_out or table == "index_prices" else "LINEAR"}
    assert {row[name] for name in row if name.endswith(("usd", "ratio"))} == {None}
    assert sound["status"] == "healthy"
    missing = [m for m in market() if m not in messages]
    outputs = step(state, *missing, until_ms=T0 + 40)
    assert rows(outputs)[0]["status"] == "liquidation"


def test_an_index_of_tickers_serves_where_there_is_no_other() -> None:
    state = liquidations.new()
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


def test_the_last_quote_stands_until_a_ticker_speaks_of_bid_and_ask_again() -> None:
    def equity(ms: int, **told: Any) -> float:
        step(state, ticker("SOL", T0 + ms, **told), until_ms=T0 + ms + 1)
        return float(rows(step(state, balance("USDT", "0", T0 + ms, offset=ms), until_ms=T0 + ms + 1))[0]["equity_usd"])

    state = begun()
    step(state, position("SOL", "1", "200"), balance("USDT", "1"))
    assert equity(20, has_quote=False, bid_price=None, ask_price=None, last_price=250.0) == 0.0
    assert equity(30, last_price=260.0) == 0.0
    assert equity(40, has_quote=True, bid_price=210.0, ask_price=212.0) == 11.0
    # No ask: there is no middle, and the last trade is the newest told.
    assert equity(50, has_quote=True, bid_price=210.0, ask_price=None) == 60.0
    assert equity(60, bid_price=220.0, ask_price=222.0) == 21.0
    assert equity(70, bid_price=None) == 60.0
    # A quote that is older than the one that stands changes nothing, however new the trade is.
    step(state, ticker("SOL", T0 + 65, has_quote=True, bid_price=1.0, ask_price=3.0), until_ms=T0 + 80)
    assert equity(80, mark_price=205.0) == 5.0


PARTS = {"mark_price": "mark", "last_price": "last", "forward_usd": "forward_usd", "mark_iv": "mark_iv"}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.dictionaries(st.sampled_from(sorted(PARTS)), st.one_of(st.none(), st.floats(0.01, 9.0)), max_size=4),
            st.one_of(st.none(), st.tuples(st.booleans(), st.sampled_from([None, 1.0]), st.sampled_from([None, 3.0, 5.0]))),
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 8), max_size=3),
)
def test_each_price_is_the_newest_that_was_told_whatever_else_tickers_say(told: list[Any], cuts: list[int]) -> None:
    """Against a search through all tickers, which are given in some batches."""
    shard, messages = Stored(liquidations), []
    step(shard.state, instrument("CALL"))
    for offset, (ms, values, quote) in enumerate(told):
        row: dict[str, Any] = dict(values)
        if quote is not None:
            row |= {"has_quote": quote[0], "bid_price": quote[1], "ask_price": quote[2]}
        messages.append(ticker("CALL", T0 + ms, **row)._replace(offset=offset))
    edges = [0, *sorted(cuts), len(messages)]
    for first, last in pairwise(edges):
        step(shard.state, *messages[first:last], until_ms=T0 + 20)
        shard.store()
        shard.restart()
    price = shard.state.accounts.prices.get("v:CALL", NO_PRICES)
    in_time = sorted(range(len(told)), key=lambda n: (told[n][0], n))

    for column, part in PARTS.items():
        newest = [n for n in in_time if told[n][1].get(column) is not None]
        expected = (T0 + told[newest[-1]][0], told[newest[-1]][1][column]) if newest else NO_READING
        assert getattr(price, part) == expected
    spoken = [n for n in in_time if told[n][2] is not None and told[n][2][0]]
    if spoken:
        _, bid, ask = told[spoken[-1]][2]
        assert price.middle == (T0 + told[spoken[-1]][0], (bid + ask) / 2 if bid and ask else None)
    else:
        assert price.middle == NO_READING


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


def test_a_portfolio_is_valued_when_contracts_before_it_have_been_freed() -> None:
    state = begun()
    call = instrument("CALL").row

    def option(name: str, expiry_ms: int) -> Message:
        return Message("instruments", 0, 0, call | {"instrument": name, "expiry_at": instant_ms(expiry_ms)})

    step(state, *(option(f"EARLY-{number}", T0 + DAY) for number in range(40)))
    step(state, option("LATE", EXPIRY + DAY), until_ms=T0 + 2 * DAY)
    assert state.encode("instrument/v:EARLY-0") is None
    now = T0 + 2 * DAY + 10
    held = [position("LATE", "-1", "0.05", now), balance("BTC", "1", now), chosen("a", "deribit_like", now)]
    quote = ticker("LATE", now, mark_price=0.05, mark_iv=0.6, forward_usd=61_000.0)
    (row,) = rows(step(state, quote, index("BTC", 60_500.0, now), *held, until_ms=now + 20))
    assert row["maintenance_margin_usd"] > 0


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
    with pytest.raises(ValueError, match="version 9, this code reads version 6"):
        liquidations.new().decode("clock", b"\x09[]")


def test_entries_of_version_2_are_read_as_if_this_version_had_stored_them() -> None:
    """As version 2 stored an account with a position at its first valuation."""
    stored = {
        "clock": b"\x02[1700000000]",
        "account/a": b'\x02[{"v:LINEAR":[1700000000000,1.0,60000.0]},{"USDC":[1700000000000,9000.0]},0,false,"standard",0]',
    }
    old, new = begun(), begun()
    for name, data in stored.items():
        old.decode(name, data)
    step(new, balance("USDC", "9000"), position("LINEAR", "1", "60000"))
    assert rows(step(old, until_ms=T0 + 1000)) == rows(step(new, until_ms=T0 + 1000)) != []


def test_prices_of_version_3_are_read_with_their_one_time_for_all_of_them() -> None:
    """Version 3 kept the middle of bid and ask, or the last trade, as one number."""
    old = liquidations.new()
    old.decode("price/v:SOL", b"\x03[1700000000000,null,150.5,null,null]")
    old.decode("price/v:CALL", b"\x03[1700000000000,0.05,0.06,61000.0,0.6]")
    assert old.accounts.prices["v:SOL"] == Prices(last=(T0, 150.5))
    assert old.accounts.prices["v:CALL"] == Prices((T0, 0.05), NO_READING, (T0, 0.06), (T0, 61_000.0), (T0, 0.6))


instants = st.integers(T0, T0 + 19)
names = st.sampled_from(sorted(TERMS))
messages = st.one_of(
    st.builds(instrument, names, instants, contract_size=st.sampled_from([0.1, 10.0, None])),
    st.builds(
        ticker,
        names,
        instants,
        mark_price=st.sampled_from([None, 0.05, 50_000.0, 61_000.3]),
        mark_iv=st.sampled_from([None, 0.5, 0.9, 0.95, 1.4]),
        forward_usd=st.sampled_from([None, 61_000.0]),
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


@settings(max_examples=150)
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
    straight, cut, until_ms = begun(), Stored(liquidations, begun()), T0 + 20
    for batch, passed, is_late, is_cut in batches:
        until_ms += passed
        until = None if is_late else until_ms
        batch = [message._replace(offset=n) for n, message in enumerate(batch)]
        assert liquidations.step(straight, batch, until) == liquidations.step(
            cut.state, chance.sample(batch, len(batch)), until
        )
        cut.store()
        if is_cut:
            cut.restart(chance)


def chosen(account: str, model: str, ms: int = T0) -> Message:
    message = balance("USDC", "1000", ms, account)
    return message._replace(row=message.row | {"margin_model": model})


def option_market() -> list[Message]:
    vols = {"CALL": 0.6, "PUT": 0.7, "USDC-PUT": 0.7}
    return [
        *(instrument(name) for name in TERMS),
        *(ticker(name, **prices, mark_iv=vols.get(name)) for name, prices in PRICES.items()),
        index("BTC", 60_500.0),
        index("SOL", 200.0),
    ]


def by_itself(sizes: dict[str, float], coins: float, parameters: Parameters) -> tuple[float, float, float]:
    """Initial and maintenance margin and worst loss of one account on BTC, straight from the formula's module."""
    options = [name for name in ("CALL", "PUT", "USDC-PUT") if name in sizes]
    futures = [name for name in ("LINEAR", "INVERSE") if name in sizes]
    seconds = np.array([EXPIRY / 1000 - T0 // 1000])
    made = portfolio_positions.Instruments(
        expiry=np.zeros(len(options), dtype=np.int64),
        strike=np.full(len(options), 60_000.0),
        is_call=np.array([name == "CALL" for name in options], dtype=np.bool_),
        expiries=1,
        futures=len(futures),
        collaterals=1,
    )
    one, haircut = np.ones(1), parameters.collaterals["BTC"]
    market = portfolio_values.Market(
        spot=60_500.0,
        spot_confidence=1.0,
        stable=1.0,
        expiry_s=seconds,
        forward=np.array([61_000.0]),
        rate=np.zeros(1),
        expiry_confidence=one,
        vol=np.array([0.6 if name == "CALL" else 0.7 for name in options]),
        # An inverse contract is 10 USD, paid in coins at the index.
        future_price=np.array([60_000.0 if name == "LINEAR" else 60_500.0 / 60_000.0 for name in futures]),
        future_confidence=np.ones(len(futures)),
        collateral_usd=60_500.0 * one,
        collateral_confidence=one,
        collateral_threshold=0 * one,
        mmhaircut=haircut.mmhaircut * one,
        imhaircut=haircut.imhaircut * one,
        is_risk_cancelling=np.array([haircut.is_risk_cancelling]),
    )
    amounts = [sizes[name] * TERMS[name]["contract_size"] for name in (*options, *futures)] + [coins]
    held = portfolio_positions.hold(made, np.zeros(len(amounts)), np.arange(len(amounts)), amounts)
    if not len(held.accounts):
        return 0.0, 0.0, 0.0
    required = portfolio_margin.requirements(parameters, market, held)
    return float(required.initial[0]), float(required.maintenance[0]), -float(required.worst_pnl[0])


portfolios = st.dictionaries(
    st.sampled_from("abcd"),
    st.tuples(
        st.dictionaries(
            st.sampled_from(["LINEAR", "INVERSE", "CALL", "PUT", "USDC-PUT"]),
            st.integers(-40, 40).filter(bool).map(float),
            max_size=5,
        ),
        st.sampled_from([0.0, 1.5, -0.25]),
    ),
    min_size=1,
)


@settings(max_examples=60)
@given(portfolios, st.sampled_from(["scenario_grid", "deribit_like"]), st.randoms(use_true_random=False))
def test_portfolios_at_once_are_each_portfolio_by_itself(book: Any, model: str, chance: random.Random) -> None:
    state, parameters = liquidations.new(), margin_parameters.parameter_set(model)
    step(state, *option_market())
    messages = []
    for name, (sizes, coins) in book.items():
        messages += [position(of, str(size), str(AVERAGES[of]), account=name) for of, size in sizes.items()]
        messages += [chosen(name, model), balance("BTC", str(coins), account=name)]
    messages += [position("LINEAR", "3", "60000", account="plain"), balance("USDC", "1000", account="plain")]
    outputs = step(state, *chance.sample(messages, len(messages)))
    found = {row["account"]: row for row in rows(outputs)}
    assert (found["plain"]["model"], found["plain"]["worst_scenario"]) == ("standard", None)
    for name, (sizes, coins) in book.items():
        parts = [part for part in rows(outputs, "position_margin") if part["account"] == name]
        assert {part["instrument"]: part["size"] for part in parts} == sizes
        if not coins:
            assert sum(part["contribution_usd"] for part in parts) == pytest.approx(
                found[name]["maintenance_margin_usd"], rel=1e-9, abs=1e-4
            )
            assert sum(part["worst_loss_usd"] for part in parts) == pytest.approx(
                found[name]["worst_loss_usd"], rel=1e-9, abs=1e-4
            )
        assert {part["worst_scenario"] for part in parts} in (set(), {found[name]["worst_scenario"]})
        row, (im, mm, loss) = found[name], by_itself(sizes, coins, parameters)
        assert row["model"] == model
        assert row["maintenance_margin_usd"] == pytest.approx(mm, rel=1e-9, abs=1e-5)
        assert row["initial_margin_usd"] == pytest.approx(im, rel=1e-9, abs=1e-5)
        assert row["worst_loss_usd"] == pytest.approx(loss, rel=1e-9, abs=1e-5)
        assert (row["worst_scenario"] is None) == (loss == 0)
        assert row["worst_scenario"] is None or row["worst_scenario"].startswith("BTC: ")

    # Only what moved is made again, and it comes to the same as if all were.
    moved = step(state, index("BTC", 55_000.0, T0 + 25), ticker("CALL", T0 + 25, mark_iv=0.9), until_ms=T0 + 30)
    fresh = liquidations.new()
    for entry in state.accounts.terms:
        state.touched.add(f"instrument/{entry}")
    names = [
        f"{kind}/{of}"
        for kind, among in (
            ("account", state.accounts.accounts),
            ("instrument", state.accounts.terms),
            ("price", state.accounts.prices),
            ("index", state.accounts.indices),
            ("scaling", state.accounts.factors),
        )
        for of in among
    ]
    for of in chance.sample([*names, "clock"], len(names) + 1):
        fresh.decode(of, state.encode(of) or b"")
    del moved
    more = [balance("USDC", "1001", T0 + 31, account=name) for name in book]
    assert step(state, *more, until_ms=T0 + 40) == step(fresh, *more, until_ms=T0 + 40)


trades = st.lists(
    st.one_of(
        st.builds(
            position,
            st.sampled_from(["LINEAR", "INVERSE", "CALL", "PUT", "USDC-PUT"]),
            st.integers(-40, 40).map(str),
            st.just("60000"),
            account=st.sampled_from("abcde"),
        ),
        st.builds(balance, st.sampled_from(["USDC", "BTC"]), st.integers(-3, 4000).map(str), account=st.sampled_from("abcde")),
        st.builds(chosen, st.sampled_from("abcde"), st.sampled_from(["standard", "scenario_grid", "deribit_like"])),
        st.builds(ticker, st.just("CALL"), mark_iv=st.sampled_from([0.5, 0.9])),
        st.builds(index, st.just("BTC"), st.sampled_from([55_000.0, 66_000.0])),
    ),
    max_size=4,
)


@settings(max_examples=60)
@given(portfolios, st.lists(trades, max_size=5))
def test_accounts_arranged_by_themselves_require_what_they_would_among_all(book: Any, batches: list[list[Message]]) -> None:
    apart, among = liquidations.new(), liquidations.new()
    opening = [*option_market()]
    for name, (sizes, coins) in book.items():
        opening += [position(of, str(size), str(AVERAGES[of]), account=name) for of, size in sizes.items()]
        opening += [chosen(name, "deribit_like"), balance("BTC", str(coins), account=name)]
    for number, batch in enumerate([opening, *batches]):
        came = [one._replace(row=one.row | {"event_at": instant_ms(T0 + 20 * number)}) for one in batch]
        outputs = []
        for state, share in ((apart, 1.0), (among, 0.0)):
            with mock.patch.object(arrangement, "RESTLESS", share):
                outputs.append(step(state, *came, until_ms=T0 + 20 * (number + 1)))
        assert outputs[0] == outputs[1]


@pytest.mark.parametrize("model", ["scenario_grid", "deribit_like"])
def test_what_a_position_adds_is_its_size_times_the_slope_of_the_requirement_along_it(model: str) -> None:
    state, parameters = liquidations.new(), margin_parameters.parameter_set(model)
    sizes, coins = {"LINEAR": 25.0, "CALL": -3.0, "PUT": -2.0, "USDC-PUT": -11.0}, 1.5
    held = [position(of, str(size), str(AVERAGES[of])) for of, size in sizes.items()]
    outputs = step(state, *option_market(), *held, chosen("a", model), balance("BTC", str(coins)))
    parts = {part["instrument"]: part for part in rows(outputs, "position_margin")}
    for of, size in sizes.items():
        (_, up, loss_up), (_, down, loss_down) = (
            by_itself(sizes | {of: size * (1 + bump)}, coins, parameters) for bump in (1e-5, -1e-5)
        )
        assert parts[of]["contribution_usd"] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-3)
        assert parts[of]["worst_loss_usd"] == pytest.approx((loss_up - loss_down) / 2e-5, rel=1e-6, abs=1e-3)
    assert min(part["contribution_usd"] for part in parts.values()) < 0


def quoted(vol: float, ms: int) -> Message:
    return ticker("CALL", ms, mark_price=0.05, forward_usd=61_000.0, mark_iv=vol)


def test_requirements_follow_the_short_vol_within_floor_and_cap_and_every_change_is_a_row() -> None:
    state = liquidations.new()
    held = (
        position("LINEAR", "10", "60000"),
        position("CALL", "-2", "0.05"),
        position("SOL", "5", "200"),
        balance("USDC", "90000"),
    )
    outputs = step(state, *option_market(), *held, until_ms=T0 + 20)
    (first,) = rows(outputs, "margin_scalings")
    assert first == {
        "underlying": "BTC",
        "event_at": instant_ms(T0 + 19),
        "vol": 0.6,
        "factor": 1.0,
        "previous_factor": None,
        "reason": "vol 0.6 over 0.6 is 1, within 1 and 2.5: 1",
    }
    calm = {part["instrument"]: part for part in rows(outputs, "position_margin")}
    factor = 1.0
    for n, (vol, now) in enumerate(
        [(0.9, 1.5), (0.98, 1.5), (0.82, 1.5), (1.0, 1.0 / 0.6), (9.0, 2.5), (1.4, 2.5), (0.1, 1.0)]
    ):
        ms = T0 + 100 * (n + 1)
        outputs = step(state, quoted(vol, ms), balance("USDC", "90000", ms), until_ms=ms + 20)
        changes = [(row["factor"], row["previous_factor"]) for row in rows(outputs, "margin_scalings")]
        assert changes == ([] if now == factor else [(pytest.approx(now), pytest.approx(factor))])
        factor = now
        for part in rows(outputs, "position_margin"):
            # SOL has no options, and stays as it was.
            of_it = 1.0 if part["instrument"] == "SOL" else factor
            for column in ("initial_margin_usd", "maintenance_margin_usd", "contribution_usd"):
                assert part[column] == pytest.approx(of_it * calm[part["instrument"]][column])
        (row,) = rows(outputs)
        assert row["maintenance_margin_usd"] == pytest.approx(
            sum(part["contribution_usd"] for part in rows(outputs, "position_margin"))
        )


def test_the_vol_is_that_of_the_nearest_expiry_nearest_to_the_money() -> None:
    state = liquidations.new()
    near = instrument("PUT").row | {"expiry_at": instant_ms(T0 + DAY), "strike_usd": 60_500.0, "instrument": "NEAR"}
    far = near | {"strike_usd": 50_000.0, "instrument": "FURTHER"}
    quotes = ticker("NEAR", mark_iv=1.2, forward_usd=61_000.0), ticker("FURTHER", mark_iv=1.5, forward_usd=61_000.0)
    terms = Message("instruments", 0, 0, near), Message("instruments", 0, 0, far)
    assert rows(step(state, *option_market(), *quotes), "margin_scalings")[0]["factor"] == 1.0
    # The terms make of a price that was there a vol.
    assert rows(step(state, *terms, until_ms=T0 + 40), "margin_scalings")[0]["factor"] == 2.0
    # Once it has expired the next expiry's vol counts, as soon as an option speaks.
    assert step(state, until_ms=T0 + DAY + 1000) == []
    assert rows(step(state, quoted(0.6, T0 + DAY + 1001), until_ms=T0 + DAY + 1050), "margin_scalings")[0]["factor"] == 1.0


@pytest.mark.parametrize(
    ("changed", "factor"),
    [
        ({"strike_usd": 67_000.0}, 2.0),
        ({"strike_usd": 67_500.0}, 1.0),  # more than a tenth from the forward, 61,000
        ({"strike_usd": 55_200.0}, 2.0),
        ({"strike_usd": 55_100.0}, 1.0),
        ({"expiry_at": instant_ms(T0 + 3_601_000)}, 2.0),
        ({"expiry_at": instant_ms(T0 + 3_600_000)}, 1.0),
    ],
)
def test_a_vol_far_from_the_money_or_of_the_last_hour_tells_nothing(changed: dict[str, Any], factor: float) -> None:
    state = liquidations.new()
    terms = instrument("PUT").row | {"expiry_at": instant_ms(T0 + DAY), "instrument": "NEAR"} | changed
    odd = Message("instruments", 0, 0, terms), ticker("NEAR", mark_iv=1.2, forward_usd=61_000.0)
    alone, beside = step(state, *odd), step(state, *option_market(), until_ms=T0 + 40)
    found = [[row["factor"] for row in rows(outputs, "margin_scalings")] for outputs in (alone, beside)]
    assert found == ([[2.0], []] if factor == 2.0 else [[], [1.0]])


@pytest.mark.parametrize("model", ["scenario_grid", "deribit_like"])
def test_the_shocks_of_a_portfolio_follow_the_vol_too(model: str) -> None:
    state, sizes = liquidations.new(), {"LINEAR": 25.0, "CALL": -3.0, "PUT": -2.0}
    held = [position(of, str(size), str(AVERAGES[of])) for of, size in sizes.items()]
    step(state, *option_market(), *held, chosen("a", model), until_ms=T0 + 20)
    # A nearer expiry, of which nothing is held, doubles the factor; the prices of what is held stay.
    terms = instrument("PUT").row | {"expiry_at": instant_ms(T0 + DAY), "instrument": "NEAR"}
    stormy = Message("instruments", 0, 0, terms), ticker("NEAR", mark_iv=1.2, forward_usd=61_000.0)
    (row,) = rows(step(state, *stormy, balance("USDC", "1001", T0 + 21), until_ms=T0 + 40))
    im, mm, loss = by_itself(sizes, 0.0, margin_parameters.parameter_set(model).scaled(2.0))
    assert (row["initial_margin_usd"], row["maintenance_margin_usd"]) == (pytest.approx(im), pytest.approx(mm))
    assert row["worst_loss_usd"] == pytest.approx(loss)


def test_only_the_first_shard_writes_what_all_shards_find_alike() -> None:
    def lines(silent: frozenset[str]) -> list[str]:
        data = RECORD.join(
            FIELD.join([TABLES[message.table].topic.encode(), b"0", b"%d" % n, orjson.dumps(message.row)])
            for n, message in enumerate([*option_market(), balance("USDC", "1")])
        )
        return sorted(one.table for one in run(liquidations.KERNEL, liquidations.new(), data, T0 + 20, silent))

    assert lines(frozenset()) == ["account_margin", "margin_scalings"]
    assert lines(frozenset({"tickers.v1"})) == ["account_margin"]


def test_an_account_chooses_its_model_and_an_unknown_one_is_a_dead_letter() -> None:
    state = liquidations.new()
    step(state, *option_market())
    assert rows(step(state, chosen("a", "deribit_like"), until_ms=T0 + 30))[0]["model"] == "deribit_like"
    (letter,) = step(state, chosen("a", "no_such", T0 + 31), until_ms=T0 + 40)
    assert letter.row["field"] == "margin_model"
    assert rows(step(state, chosen("a", "standard", T0 + 41), until_ms=T0 + 50))[0]["model"] == "standard"


def test_a_portfolio_without_a_vol_is_unpriced() -> None:
    state = liquidations.new()
    step(state, *market())
    outputs = step(state, chosen("a", "deribit_like"), position("CALL", "-1", "0.1"))
    (row,), (part,) = rows(outputs), rows(outputs, "position_margin")
    assert (row["status"], row["reason"]) == ("unpriced", "v:CALL has no mark volatility")
    assert (part["contribution_usd"], part["worst_scenario"], part["worst_loss_usd"]) == (None, None, None)


def test_the_probability_of_liquidation_is_the_first_passage_of_the_one_price_that_drives_it() -> None:
    state = liquidations.new()
    step(state, *option_market())
    held = [position("LINEAR", "10", "60500"), balance("USDC", "6000")]
    both = held_in_two("b", "9000")
    outputs = step(state, *held, *both, ticker("LINEAR", T0 + 10, mark_price=60_500.0), balance("USDC", "9", account="c"))
    row, other, idle = rows(outputs)
    excess = row["equity_usd"] - row["maintenance_margin_usd"]
    barrier = 60_500 - excess / (1 - row["maintenance_margin_usd"] / 60_500)
    for name, seconds in (("1h", 3600), ("24h", 86_400), ("7d", 7 * 86_400)):
        expected = liquidation_probability.first_passage(60_500, barrier, seconds / (365 * 86_400), 0.6)
        assert row[f"liquidation_probability_{name}"] == pytest.approx(float(expected))
        assert (other[f"liquidation_probability_{name}"], idle[f"liquidation_probability_{name}"]) == (None, 0.0)
    assert 0 < row["liquidation_probability_24h"] < row["liquidation_probability_7d"] < 1


def two_coins() -> list[Message]:
    """Options on SOL too, so that two underlyings have a vol."""
    call = instrument("CALL", underlying="SOL", strike_usd=200.0).row | {"instrument": "SOL-CALL"}
    return [Message("instruments", 0, 0, call), ticker("SOL-CALL", mark_price=0.05, mark_iv=0.6, forward_usd=200.0)]


def held_in_two(account: str, cash: str, ms: int = T0, sol: str = "100") -> list[Message]:
    held = [position("LINEAR", "10", "60500", ms, account), position("SOL", sol, "200", ms, account)]
    return [*held, balance("USDC", cash, ms, account)]


HORIZONS = ("1h", "24h", "7d")


def test_where_a_second_underlying_hardly_matters_the_estimate_is_the_first_passage_of_the_first() -> None:
    state = liquidations.new()
    at_index = ticker("LINEAR", T0 + 10, mark_price=60_500.0)
    alone = [position("LINEAR", "10", "60500"), balance("USDC", "6000")]
    both = held_in_two("b", "6000", sol="0.000001")
    exact, estimated = rows(step(state, *option_market(), *two_coins(), at_index, *alone, *both))
    for horizon in HORIZONS:
        name = f"liquidation_probability_{horizon}"
        assert exact[f"{name}_error"] is None
        assert abs(estimated[name] - exact[name]) <= 4 * estimated[f"{name}_error"] + 0.005
    assert 0 < estimated["liquidation_probability_7d_error"] < 0.5 / probability.PATHS**0.5


def test_an_estimate_depends_on_the_account_and_the_second_and_on_nobody_beside_it() -> None:
    def estimates(names: str, ms: int = T0) -> dict[str, list[float]]:
        state = liquidations.new()
        step(state, *option_market(), *two_coins(), until_ms=T0 + 20)
        given = [message for name in names for message in held_in_two(name, "6000", ms + 30)]
        found = rows(step(state, *given, until_ms=ms + 40))
        return {row["account"]: [row[f"liquidation_probability_{of}"] for of in HORIZONS] for row in found}

    both = estimates("ab")
    assert both == estimates("a") | estimates("b") == estimates("ab")
    assert both["a"] != both["b"]
    assert estimates("a", T0 + 1000)["a"] != both["a"]


def test_a_batch_estimates_for_the_few_that_are_nearest_to_liquidation() -> None:
    state = liquidations.new()
    step(state, *option_market(), *two_coins())
    given = [message for n in range(7) for message in held_in_two(f"acct-{n}", str(6000 + 100 * (n * 3 % 7)), T0 + 21)]
    lost = [*held_in_two("lost", "10", T0 + 21), *held_in_two("long", "1000000", T0 + 21, sol="1")]
    found = {row["account"]: row for row in rows(step(state, *given, *lost, until_ms=T0 + 40))}
    of = "liquidation_probability_24h"
    nearest = sorted((row["margin_ratio"] for name, row in found.items() if name != "lost"), reverse=True)[: margin.ESTIMATES]
    for name, row in found.items():
        if name == "lost":
            assert (row[of], row[f"{of}_error"]) == (1.0, None)
        else:
            assert (row[of] is not None) == (row[f"{of}_error"] is not None) == (row["margin_ratio"] in nearest)


def test_without_a_vol_of_each_underlying_there_is_no_estimate() -> None:
    state = liquidations.new()
    (row,) = rows(step(state, *option_market(), *held_in_two("a", "6000")))
    assert {row[f"liquidation_probability_{horizon}"] for horizon in HORIZONS} == {None}


def test_what_moves_by_an_unknown_delta_has_no_probability() -> None:
    state = liquidations.new()
    without_vol = ticker("PUT", T0 + 1, mark_price=0.03, forward_usd=61_000.0)
    listed = [
        message
        for message in [*option_market(), *two_coins()]
        if message.row.get("instrument") != "PUT" or message.table != "tickers"
    ]
    one = [position("LINEAR", "1", "60000"), position("PUT", "-0.1", "0.03"), balance("USDC", "9000")]
    two = [*held_in_two("b", "9000"), position("PUT", "-0.1", "0.03", account="b")]
    long = [position("PUT", "1", "0.03", account="c"), balance("USDC", "1", account="c")]
    found = {
        row["account"]: row["liquidation_probability_7d"] for row in rows(step(state, *listed, without_vol, *one, *two, *long))
    }
    # A long option requires nothing.
    assert found == {"a": None, "b": None, "c": 0.0}


def test_a_portfolio_too_large_for_a_number_is_unpriced_and_the_others_are_valued() -> None:
    state = liquidations.new()
    step(state, *option_market())
    huge = [ticker("LINEAR", T0 + 1, mark_price=1e300), position("LINEAR", "1e19", "1"), chosen("a", "deribit_like")]
    outputs = step(state, *huge, position("CALL", "-1", "0.05", account="b"), chosen("b", "deribit_like"))
    lost, sound = rows(outputs)
    assert (lost["status"], lost["reason"]) == ("unpriced", "its numbers are too large to be valued")
    assert sound["maintenance_margin_usd"] > 0
    assert [part["contribution_usd"] is None for part in rows(outputs, "position_margin")] == [True, False]


def test_gauges_tell_accounts_by_what_is_wrong_with_them() -> None:
    def wrong() -> dict[str, float]:
        numbers = liquidations.gauges(state)
        return {name: numbers[f"accounts{name}"] for name in ("", "_margin_call", "_liquidation", "_unpriced")}

    state = begun()
    step(state, *(balance("USDC", "1000", account=of) for of in "abcd"))
    assert wrong() == {"": 4, "_margin_call": 0, "_liquidation": 0, "_unpriced": 0}
    # 0.1 coin a contract at 60,000: 10 of them need 600 USD of maintenance margin, and 1,200 at first.
    held = [position("LINEAR", "10", "60000", account="b"), position("UNKNOWN", "1", "1", account="d")]
    step(state, *held, position("LINEAR", "10", "60900", account="c"), until_ms=T0 + 1_020)
    assert wrong() == {"": 4, "_margin_call": 1, "_liquidation": 1, "_unpriced": 1}


def test_a_state_that_stored_no_statuses_has_a_row_of_every_account_at_the_next_whole_second() -> None:
    """As the job liquidations stored accounts before it wrote rows of them."""
    holdings = {
        "a": b'{"v:LINEAR":[1700000000000,1.0,60000.0]},{"USDC":[1700000000000,9000.0]}',
        "b": b'{},{"USDC":[1700000000000,5.0]}',
    }
    shard = Stored(liquidations, begun())
    for name, stored in holdings.items():
        shard.state.decode(f"account/{name}", b"\x04[" + stored + b',-1,false,"standard",0]')
    shard.state.decode("clock", b'\x04[1700000000,"",0]')
    shard.state.touched |= {"account/a", "account/b", "clock", "index/BTC"}
    shard.state.touched |= {f"{kind}/{name}" for kind in ("instrument", "price") for name in shard.state.accounts.terms}
    assert step(shard.state, until_ms=T0 + 40) == []
    changed = step(shard.state, balance("USDC", "6", T0 + 50, account="c"), until_ms=T0 + 60)
    assert [row["account"] for row in rows(changed)] == ["c"]
    shard.store()
    shard.restart()
    found = rows(step(shard.state, ticker("LINEAR", T0 + 900, mark_price=60_010.0), until_ms=T0 + 1000))
    assert [(row["account"], row["equity_usd"], row["status"]) for row in found] == [
        ("a", 9_001.0, "healthy"),
        ("b", 5.0, "healthy"),
    ]
    shard.store()
    shard.restart()
    assert step(shard.state, until_ms=T0 + 1020) == []
    assert [row["account"] for row in rows(step(shard.state, until_ms=T0 + 2000))] == ["a"]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.lists(messages, max_size=5), st.sampled_from([20, 1000])), max_size=8))
def test_a_valuation_that_stands_is_what_valuing_again_would_give(batches: list[tuple[list[Message], int]]) -> None:
    lazy, eager, until_ms = begun(), begun(), T0 + 20
    opening = [chosen("a", "deribit_like"), position("CALL", "-1", "0.05"), position("LINEAR", "1", "60000", account="b")]
    for batch, passed in [(opening, 20), *batches]:
        until_ms += passed
        batch = [message._replace(offset=number) for number, message in enumerate(batch)]
        eager.valuation = None
        assert liquidations.step(lazy, batch, until_ms) == liquidations.step(eager, batch, until_ms)


def test_a_stage_stands_alone() -> None:
    """The rows of accounts by a valuation that is given: nothing but that decides what they say."""
    state = begun()
    step(state, position("LINEAR", "1", "60000"), balance("USDC", "9000"))
    assert state.valuation is not None
    poor = state.valuation._replace(equity=np.array([40.0]))
    stage = margin.Margin(state.accounts)
    (row,) = rows(stage.rows(Batch(poor, T0 + 40, False, frozenset("a"), [])))
    assert (row["status"], row["equity_usd"], row["event_at"]) == ("liquidation", 40.0, instant_ms(T0 + 39))
    assert rows(stage.rows(Batch(poor, T0 + 60, False, frozenset(), []))) == []
