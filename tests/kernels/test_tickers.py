"""What a ticker tells and what it does not: a NULL blanks nothing, in any kernel, however a venue cuts its messages."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import chains, option_greeks
from kernels.chains import chain_greeks, forwards, vol_surfaces
from kernels.chains.contracts import Underlying
from kernels.market import tickers
from kernels.market.quotes import has_quote
from schemas.records import TABLES
from schemas.rows import instant_ms
from tests.kernels.market import DAY, EXPIRY, T0, forward, index, instrument, ticker, top
from tests.kernels.stored import Stored
from udfs import black76

FORWARD, VOL = 70_000.0, 0.6
STRIKES = np.arange(62_000.0, 79_000.0, 2_000.0)
YEARS = (EXPIRY - T0) / black76.MS_PER_YEAR
QUOTE = ("bid_price", "bid_size", "ask_price", "ask_size")
PARTS = ("last_price", "mark_price", "mark_iv", "forward_usd", "index_price_usd", "interest_rate", "open_interest")
NOTHING = dict.fromkeys((*QUOTE, *PARTS, "bid_iv", "ask_iv", "min_price", "max_price"))


def name(strike: float, kind: str) -> str:
    return f"BTC-{strike:.0f}-{kind}"


LISTED = [instrument(name(strike, kind), strike_usd=float(strike)) for strike in STRIKES for kind in "CP"]


def told(of: str, ms: int = T0, **values: Any) -> Message:
    """A message as an adapter makes it: every column is there, and all that it does not tell is NULL."""
    columns: dict[str, Any] = NOTHING | {"has_quote": False} | values
    return ticker(of, ms, **columns)


def quoted(strike: float, kind: str, ms: int = T0, **changed: Any) -> Message:
    price = float(black76.price(FORWARD, strike, YEARS, VOL, kind == "C")) / FORWARD
    sides = {"bid_price": max(price - 0.0003, 0.0001), "bid_size": 10.0, "ask_price": price + 0.0003, "ask_size": 10.0}
    return told(name(strike, kind), ms, **{"has_quote": True} | sides | changed)


def everywhere(make: Any, **more: Any) -> list[Message]:
    return [make(strike, kind, **more) for strike in STRIKES for kind in "CP"]


def rows(outputs: list[Output], table: str) -> list[Any]:
    return [output.row for output in outputs if output.table == table]


# Whether a ticker speaks of the quote


@pytest.mark.parametrize(
    ("row", "speaks"),
    [
        ({"has_quote": True}, True),
        ({"has_quote": True, "bid_price": 1.0}, True),
        ({"has_quote": False, "bid_price": 1.0}, False),
        ({"has_quote": None, "bid_price": None}, True),
        ({"ask_price": 2.0}, True),
        ({"ask_price": None}, True),
        ({"mark_price": 1.0}, False),
        ({}, False),
    ],
)
def test_a_ticker_speaks_of_the_quote_if_it_says_so_or_has_its_fields(row: dict[str, Any], speaks: bool) -> None:
    assert has_quote(row) == speaks


def test_messages_of_one_instant_are_one_ticker_and_of_two_that_tell_a_column_the_later_stands() -> None:
    messages = [ticker("A", T0, 1, mark_iv=0.5), ticker("A", T0, 3, mark_iv=0.6), ticker("A", T0, 2, forward_usd=1.0)]
    for order in (messages, messages[::-1]):
        (found,) = tickers.by_instant([*order, instrument("A")])
        assert (found.event_ms, found.name) == (T0, "deribit:A")
        assert (found.row["mark_iv"], found.row["forward_usd"]) == (0.6, 1.0)
        assert sorted(message.offset for message in found.messages) == [1, 2, 3]
    assert [found.event_ms for found in tickers.by_instant([ticker("A", T0 + 1), ticker("B", T0)])] == [T0, T0 + 1]


# Quotes, forwards and surfaces


@pytest.mark.parametrize("part", PARTS)
def test_what_says_nothing_of_a_quote_leaves_it_and_its_time(part: str) -> None:
    state = forwards.new()
    before = forwards.step(state, [*LISTED, *everywhere(quoted)], T0 + 50)
    assert [(row["source"], row["strikes"]) for row in rows(before, "forwards")] == [("parity", len(STRIKES))]
    chain = state.quotes.chains[Underlying("deribit", "BTC")]
    known = str(chain.rows.tolist())
    later = everywhere(lambda strike, kind: told(name(strike, kind), T0 + 500, **{part: 70_000.0}))
    assert forwards.step(state, later, T0 + 550) == []
    assert str(chain.rows.tolist()) == known


def test_the_chain_of_a_venue_that_tells_quotes_marks_and_forwards_apart_keeps_its_surface() -> None:
    state = chains.new()
    quotes = chains.step(state, [*LISTED, *everywhere(quoted)], T0 + 50)
    (fitted,) = rows(quotes, "vol_surfaces")
    marks = everywhere(lambda strike, kind: told(name(strike, kind), T0 + 500, mark_price=0.01))
    summaries = everywhere(lambda strike, kind: told(name(strike, kind), T0 + 1000, mark_iv=VOL, forward_usd=FORWARD))
    assert chains.step(state, marks, T0 + 550) == []
    outputs = chains.step(state, summaries, T0 + 1050)
    assert {output.table for output in outputs} == {"chain_greeks"}  # the marks moved, and nothing else
    assert {row["mark_iv"] for row in rows(outputs, "chain_greeks")} == {VOL}
    aged = chains.step(state, [told(name(STRIKES[0], "C"), T0 + 61_000, mark_price=0.2)], T0 + 61_050)
    aged += chains.step(state, [quoted(STRIKES[0], "C", T0 + 61_100)], T0 + 61_150)
    (again,) = rows(aged, "vol_surfaces")
    assert (again["quotes"], again["one_sided"], again["reason"]) == (fitted["quotes"], 0, None)


def test_a_bid_that_is_gone_is_gone() -> None:
    state = vol_surfaces.new()
    gone = quoted(STRIKES[3], "C", T0 + 10, bid_price=None, bid_size=None)
    messages = [*LISTED, forward(FORWARD), *everywhere(quoted), gone, told(name(STRIKES[3], "C"), T0 + 20, mark_price=0.1)]
    (row,) = rows(vol_surfaces.step(state, messages, T0 + 50), "vol_surfaces")
    assert row["one_sided"] == 1


def test_a_row_of_old_without_has_quote_says_that_there_is_none_by_a_null() -> None:
    state = vol_surfaces.new()
    old = ticker(name(STRIKES[3], "C"), T0 + 10, bid_price=None, ask_price=0.1)
    other = ticker(name(STRIKES[4], "C"), T0 + 10, mark_price=0.1)
    (row,) = rows(
        vol_surfaces.step(state, [*LISTED, forward(FORWARD), *everywhere(quoted), old, other], T0 + 50), "vol_surfaces"
    )
    assert row["one_sided"] == 1


def test_an_older_quote_is_not_outranked_by_a_newer_mark() -> None:
    state = forwards.new()
    newer = everywhere(lambda strike, kind: told(name(strike, kind), T0 + 40, mark_price=0.01, mark_iv=VOL))
    forwards.step(state, [*LISTED, *newer], T0 + 50)
    (row,) = rows(forwards.step(state, everywhere(quoted, ms=T0 + 30), T0 + 60), "forwards")
    assert (row["source"], row["forward_usd"]) == ("parity", pytest.approx(FORWARD, rel=1e-5))


def test_a_book_top_stands_beside_a_ticker_that_says_nothing_of_the_quote() -> None:
    state = forwards.new()
    future = instrument("F", kind="future", option_type=None, strike_usd=None, quote_currency="USD")
    (row,) = rows(forwards.step(state, [future, top("F", 70_000.0, 70_010.0)], T0 + 50), "forwards")
    assert row["source"] == "future"
    assert forwards.step(state, [told("F", T0 + 60, mark_price=70_500.0)], T0 + 100) == []


# Greeks


def greeks(state: option_greeks.State, *messages: Message, until_ms: int | None = T0 + 1000) -> list[Any]:
    return rows(option_greeks.step(state, list(messages), until_ms), "option_greeks")


A = "BTC-60000-C"
NUMBERS = black76.DeribitGreeks._fields


def test_greeks_are_of_the_newest_of_each_part() -> None:
    state = option_greeks.new()
    greeks(state, instrument(A), told(A, T0, mark_iv=0.5, forward_usd=61_000.0))
    (quote,) = greeks(state, told(A, T0 + 10, has_quote=True, bid_price=0.03))
    (mark,) = greeks(state, told(A, T0 + 20, mark_iv=0.6))
    (both,) = greeks(state, told(A, T0 + 30, forward_usd=62_000.0, interest_rate=0.01))
    assert [(row["mark_iv"], row["forward_usd"], row["reason"]) for row in (quote, mark, both)] == [
        (0.5, 61_000.0, None),
        (0.6, 61_000.0, None),
        (0.6, 62_000.0, None),
    ]
    years = (EXPIRY - T0 - 30) / black76.MS_PER_YEAR
    expected = black76.deribit_greeks(62_000.0, 60_000.0, years, 0.6, True)
    assert {field: both[field] for field in NUMBERS} == {field: float(value) for field, value in expected._asdict().items()}


def test_an_older_part_is_answered_by_what_it_tells_and_does_not_stand() -> None:
    state = option_greeks.new()
    greeks(state, instrument(A), told(A, T0 + 10, mark_iv=0.5), told(A, T0 + 20, forward_usd=61_000.0))
    (late,) = greeks(state, told(A, T0 + 15, mark_iv=0.4, forward_usd=60_000.0), until_ms=None)
    assert (late["mark_iv"], late["forward_usd"]) == (0.4, 60_000.0)
    (newest,) = greeks(state, told(A, T0 + 30, last_price=0.1))
    # Of the late message the volatility was the newest that was told, and the forward was not.
    assert (newest["mark_iv"], newest["forward_usd"]) == (0.4, 61_000.0)


def test_a_mark_of_zero_is_told_and_a_null_is_not() -> None:
    state = chain_greeks.new()
    chain_greeks.step(state, [instrument(A), forward(), told(A, T0, mark_iv=0.5)], T0 + 50)
    assert chain_greeks.step(state, [told(A, T0 + 60, mark_price=0.01)], T0 + 100) == []
    (row,) = rows(chain_greeks.step(state, [told(A, T0 + 110, mark_iv=0.0)], T0 + 150), "chain_greeks")
    assert row["mark_iv"] is None


def test_what_is_told_of_an_option_is_freed_with_it() -> None:
    stored = Stored(option_greeks)
    greeks(stored.state, instrument(A), told(A, T0, mark_iv=0.5, forward_usd=61_000.0))
    stored.store()
    assert stored.entries.keys() == {f"deribit:{A}", f"told/deribit:{A}"}
    greeks(stored.state, until_ms=EXPIRY + DAY)
    stored.store()
    assert stored.entries == {}


def test_record_timestamps_do_not_go_beyond_the_batch_when_the_venues_clock_does() -> None:
    outputs = option_greeks.step(option_greeks.new(), [instrument(A), told(A, T0 + 1270, mark_iv=0.5)], T0 + 50)
    assert [(output.event_ms, output.row["event_at"]) for output in outputs] == [(T0 + 49, instant_ms(T0 + 1270))]


def test_options_that_version_1_stored_are_read() -> None:
    state = option_greeks.new()
    stored = f'[{T0},"BTC","call",60000.0,"{instant_ms(EXPIRY)}",{EXPIRY}]'
    state.decode(f"deribit:{A}", b"\x01" + stored.encode())
    (row,) = greeks(state, told(A, T0, mark_iv=0.5, forward_usd=61_000.0))
    assert row["reason"] is None


# However a venue cuts its messages


amounts = st.sampled_from([None, 0.01, 0.02, 0.03])
full = st.fixed_dictionaries(
    {
        "bid_price": amounts,
        "ask_price": amounts,
        "mark_price": amounts,
        "mark_iv": st.sampled_from([None, 0.0, 0.5, 0.7]),
        "forward_usd": st.sampled_from([None, 69_000.0, 70_000.0]),
        "index_price_usd": st.sampled_from([None, 68_000.0, 69_500.0]),
    }
)
CONTRACTS = [
    *(instrument(name(strike, kind), strike_usd=float(strike)) for strike in STRIKES[3:5] for kind in "CP"),
    instrument("L-C", quote_currency="USDC", settlement_currency="USDC", is_inverse=False, strike_usd=70_000.0),
    instrument("F", kind="future", option_type=None, strike_usd=None, quote_currency="USD", is_inverse=True),
]
batches = st.lists(
    st.dictionaries(st.sampled_from([message.row["instrument"] for message in CONTRACTS]), full, max_size=6), max_size=4
)


def split(message: Message, chance: random.Random) -> list[Message]:
    """The same as several messages, in any order: each tells some columns, one of them the quote."""
    row = message.row
    parts: list[dict[str, Any]] = [{} for _ in range(chance.randint(1, 4))]
    for column in PARTS:
        if row.get(column) is not None:
            chance.choice(parts)[column] = row[column]
    quote = {column: row[column] for column in ("bid_price", "ask_price")}
    parts.append(quote | ({"has_quote": True} if chance.random() < 0.5 else {}))
    silent: list[dict[str, Any]] = [{"has_quote": False, "bid_price": None, "ask_price": None}, {"has_quote": False}, {}]
    head = ticker(row["instrument"]).row | {"event_at": row["event_at"]}
    parts = [part if "bid_price" in part else chance.choice(silent) | part for part in parts]
    return [message._replace(row=head | part) for part in chance.sample(parts, len(parts))]


def numbered(messages: Sequence[Message]) -> list[Message]:
    return [message._replace(offset=n) for n, message in enumerate(messages)]


@pytest.mark.parametrize("kernel", [chains, option_greeks])
@settings(max_examples=60, deadline=None)
@given(batches=batches, chance=st.randoms(use_true_random=False))
def test_a_ticker_in_parts_is_the_ticker_as_a_whole(kernel: Any, batches: list[Any], chance: random.Random) -> None:
    whole, parted = kernel.new(), kernel.new()
    for n, batch in enumerate([{}, *batches]):
        ms, more = T0 + 50 * n, CONTRACTS if n == 0 else [index(69_800.0 + n, T0 + 50 * n, venue="deribit")]
        more = [message for message in more if kernel is chains or message.table == "instruments"]
        messages = [
            ticker(of, ms + place % 2, **values | {"has_quote": True} | ({"mark_iv": None} if of == "F" else {}))
            for place, (of, values) in enumerate(sorted(batch.items()))
        ]
        # One receipt for all parts: rows bear that of what they are made of.
        messages = [message._replace(row=message.row | {"received_at": ticker().row["received_at"]}) for message in messages]
        cut = [part for message in messages for part in split(message, chance)]
        one = kernel.step(whole, numbered([*more, *messages]), ms + 50)
        other = kernel.step(parted, numbered([*more, *chance.sample(cut, len(cut))]), ms + 50)
        assert one == other


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from((*PARTS, "quote")), st.integers(0, 40)), unique=True),
    st.randoms(),
)
def test_the_newest_of_each_part_stands_in_whatever_order_parts_come(parts: list[Any], chance: random.Random) -> None:
    def made(of: str, part: str, ms: int) -> Message:
        number = 0.1 + ms / 1000
        values = {"has_quote": True, "bid_price": number, "ask_price": number + 0.5} if part == "quote" else {part: number}
        return told(of, T0 + ms, **values)

    messages = [made(*part) for part in parts]
    quotes, known = vol_surfaces.new(), option_greeks.new()
    for kernel, state in ((vol_surfaces, quotes), (option_greeks, known)):
        step: Any = kernel.step
        step(state, [instrument("A"), instrument("B")], T0 + 50)
        for message in chance.sample(messages, len(messages)):
            step(state, [message], None if chance.random() < 0.3 else T0 + 50)
    for of in "AB":
        newest = {
            part: max((ms for name, kind, ms in parts if (name, kind) == (of, part)), default=None)
            for part in (*PARTS, "quote")
        }
        chain = quotes.quotes.chains[Underlying("deribit", "BTC")]
        row = chain.rows[chain.slots[f"deribit:{of}"]]
        if (ms := newest["quote"]) is None:
            assert row["quote_ms"] == 0 and np.isnan(row["bid"])
        else:
            assert (row["quote_ms"], row["bid"], row["ask"]) == (T0 + ms, 0.1 + ms / 1000, 0.1 + ms / 1000 + 0.5)
        told_of = known.marks.get(f"deribit:{of}", option_greeks.Marks())
        for part, when, value in (
            ("mark_iv", told_of.mark_ms, told_of.mark_iv),
            ("forward_usd", told_of.forward_ms, told_of.forward_usd),
        ):
            ms = newest[part]
            assert (when, value) == ((-1, None) if ms is None else (T0 + ms, 0.1 + ms / 1000))


def test_columns_that_parts_are_made_of_are_those_of_the_ddl() -> None:
    assert set(NOTHING) | {"has_quote"} <= set(TABLES["tickers"].columns)
