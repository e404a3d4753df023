"""The forwards kernel as plain Python."""

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels.chains import forwards
from schemas.rows import fault, instant_ms
from tests.kernels.market import DAY, EXPIRY, T0, future, index, instrument, ticker, top
from tests.kernels.stored import Stored


def step(state: forwards.State, *messages: Message, until_ms: int | None = T0 + 1000) -> list[Output]:
    outputs = forwards.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return outputs


def told(outputs: list[Output]) -> list[tuple[Any, str]]:
    return [(output.row["forward_usd"], output.row["source"]) for output in outputs]


PAIR = instrument("BTC-60-C"), instrument("BTC-60-P")
# c - p = 1 - K/F: at F = 62,000 it is 0.032258.
QUOTES = top("BTC-60-C", 0.0612, 0.0632), top("BTC-60-P", 0.0290, 0.0310)


def test_a_future_comes_before_parity_and_parity_before_the_index() -> None:
    state = forwards.new()
    (output,) = step(state, *PAIR, index(61_000.0))
    assert told([output]) == [(61_000.0, "index")]
    assert output.event_ms == T0 + 999 and output.row["event_at"] == instant_ms(T0 + 999)
    (output,) = step(state, *QUOTES)
    least, most = 60_000 / (1 - (0.0612 - 0.0310)), 60_000 / (1 - (0.0632 - 0.0290))
    assert output.row["source"] == "parity" and output.row["strikes"] == 1
    assert output.row["forward_usd"] == pytest.approx(0.5 * (least + most))
    assert output.row["half_width_usd"] == pytest.approx(0.5 * (most - least))
    assert told(step(state, future(), top("BTC-F", 62_000.0, 62_010.0))) == [(62_005.0, "future")]
    (output,) = step(state, top("BTC-F", 62_000.0, None, ms=T0 + 1))
    assert output.row["source"] == "parity"


def test_a_stale_book_gives_no_forward_and_a_newer_ticker_does() -> None:
    state = forwards.new()
    assert told(step(state, future(), top("BTC-F", 62_000.0, 62_010.0))) == [(62_005.0, "future")]
    (output,) = step(state, top("BTC-F", 62_000.0, 62_010.0, ms=T0 + 1, is_stale=True))
    assert told([output]) == [(None, "none")]
    assert output.row["reason"].startswith("There is neither a future")
    assert told(step(state, ticker("BTC-F", T0 + 2, bid_price=62_001.0, ask_price=62_003.0))) == [(62_002.0, "future")]


def test_the_venues_own_index_comes_before_others_and_of_those_the_newest() -> None:
    state = forwards.new()
    assert told(step(state, instrument("BTC-60-C"), index(61_000.0, T0 + 5), index(59_000.0, T0))) == [(61_000.0, "index")]
    assert told(step(state, ticker("BTC-60-C", index_price_usd=61_500.0))) == [(61_500.0, "index")]
    assert step(state, index(60_000.0, T0 + 9)) == []


def option(days: int, kind: str = "C") -> Message:
    return instrument(f"BTC-{days}-{kind}", expiry_at=instant_ms(T0 + days * DAY))


def test_the_forward_that_the_venue_marks_options_with_comes_before_the_index() -> None:
    state = forwards.new()
    contracts = [option(days) for days in (7, 90)]
    tickers = [ticker("BTC-7-C", forward_usd=60_100.0, index_price_usd=60_000.0), ticker("BTC-90-C", forward_usd=62_400.0)]
    outputs = step(state, *contracts, *tickers)
    assert told(outputs) == [(60_100.0, "venue"), (62_400.0, "venue")]
    assert {(output.row["half_width_usd"], output.row["index_usd"]) for output in outputs} == {(None, 60_000.0)}
    assert told(step(state, ticker("BTC-90-C", T0 + 1, forward_usd=62_500.0))) == [(62_500.0, "venue")]
    assert step(state, ticker("BTC-90-C", T0, forward_usd=1.0), until_ms=None) == []
    assert told(step(state, future(expiry_at=instant_ms(T0 + 7 * DAY)), top("BTC-F", 60_200.0, 60_210.0))) == [
        (60_205.0, "future")
    ]


def test_a_quoted_pair_comes_before_the_forward_of_the_venue_unless_it_is_wide() -> None:
    marked = [ticker(name, forward_usd=62_500.0) for name in ("BTC-60-C", "BTC-60-P")]
    assert [source for _, source in told(step(forwards.new(), *PAIR, *QUOTES, *marked))] == ["parity"]
    wide = top("BTC-60-C", 0.02, 0.12), top("BTC-60-P", 0.01, 0.11)
    assert told(step(forwards.new(), *PAIR, *wide, *marked)) == [(62_500.0, "venue")]
    assert [source for _, source in told(step(forwards.new(), *PAIR, *wide))] == ["parity"]
    assert told(step(forwards.new(), *PAIR, top("BTC-60-C", 0.06, None), *marked)) == [(62_500.0, "venue")]


def test_a_venues_forward_moves_with_its_index_as_long_as_it_is_not_told_anew() -> None:
    state = forwards.new()
    step(state, option(90), option(7), ticker("BTC-90-C", forward_usd=62_400.0, index_price_usd=60_000.0))
    moved = step(state, ticker("BTC-7-C", T0 + 5, index_price_usd=57_000.0))
    assert told(moved) == [(57_000.0, "index"), (pytest.approx(57_000.0 * 1.04), "venue")]
    assert told(step(state, index(54_000.0, T0 + 10, venue="deribit"))) == [
        (54_000.0, "index"),
        (pytest.approx(54_000.0 * 1.04), "venue"),
    ]
    # That of another venue says nothing of this one's basis.
    assert step(state, index(1_000.0, T0 + 20)) == []
    assert told(step(state, ticker("BTC-90-C", T0 + 30, forward_usd=60_000.0))) == [(60_000.0, "venue")]


def test_a_forward_that_is_told_without_an_index_moves_with_that_of_the_venue() -> None:
    state = forwards.new()
    told_now = ticker("BTC-90-C", T0 + 5, forward_usd=62_400.0)
    assert told(step(state, option(90), index(60_000.0, T0 + 4, venue="deribit"), told_now)) == [(62_400.0, "venue")]
    assert told(step(state, index(57_000.0, T0 + 10, venue="deribit"))) == [(pytest.approx(57_000.0 * 1.04), "venue")]


def test_contango_that_no_future_or_pair_shows_is_not_lost() -> None:
    """Each expiry is marked at its own forward, at a basis of 12 % a year, and only calls are quoted."""
    days = (1, 7, 30, 90, 180, 365)
    right = {n: 60_000.0 * math.exp(0.12 * n / 365) for n in days}
    state = forwards.new()
    messages = [
        ticker(f"BTC-{n}-C", bid_price=0.04, ask_price=0.05, forward_usd=right[n], index_price_usd=60_000.0) for n in days
    ]
    outputs = step(state, *(option(n) for n in days), *messages)
    assert told(outputs) == [(right[n], "venue") for n in days]


def test_two_currencies_of_one_expiry_are_not_mixed() -> None:
    """Options paid in USDC, in which the coin is 13.5 % dearer, beside those in coin."""
    linear: dict[str, Any] = {"quote_currency": "USDC", "settlement_currency": "USDC", "is_inverse": False}
    dear = [instrument(f"L{n}-{kind}", strike_usd=6e4 + 1e3 * n, **linear) for n in range(3) for kind in "CP"]
    F, tops = 62_000.0 * 1.135, []
    for n in range(3):
        strike = 6e4 + 1e3 * n
        tops += [top(f"L{n}-C", F - strike + 995.0, F - strike + 1005.0), top(f"L{n}-P", 995.0, 1005.0)]
    marks = ticker("L0-C", forward_usd=F, index_price_usd=F)
    alone = step(forwards.new(), *dear, *tops, marks)
    assert told(alone) == [(pytest.approx(F), "parity")] and alone[0].row["quote_currency"] == "USDC"
    both = step(forwards.new(), *PAIR, *QUOTES, *dear, *tops, marks)
    assert told(both) == [(pytest.approx(62_000.0, rel=1e-3), "parity")]
    assert (both[0].row["quote_currency"], both[0].row["strikes"]) == ("USD", 1)
    dated = future("L-F", **linear)
    with_future = step(forwards.new(), *PAIR, *QUOTES, dated, top("L-F", F, F + 1))
    assert told(with_future) == told(both)
    # What prices options goes before a future in the currency of none of them.
    inverse = step(forwards.new(), future(), top("BTC-F", 62_000.0, 62_010.0), *dear, *tops)
    assert told(inverse) == [(pytest.approx(F), "parity")] and inverse[0].row["quote_currency"] == "USDC"
    # Better one in another currency than a bare index.
    only = step(forwards.new(), *PAIR, *dear, *tops, index(61_000.0))
    assert told(only) == [(pytest.approx(F), "parity")] and only[0].row["quote_currency"] == "USDC"


def test_what_version_1_stored_is_read() -> None:
    """As version 1 stored a call, the index that its ticker told, and the newest index of any venue."""
    stored = {
        "quote/deribit:BTC-60-C": f'["deribit","BTC",{T0},true,true,true,60000.0,{EXPIRY},{T0},0.01,null,false,null]',
        "chain/deribit:BTC": f"[[{T0},61000.0],[[{EXPIRY},61000.0,3]]]",
        "index/BTC": f'[{T0 + 5},"oracle",60500.0]',
    }
    old = Stored(forwards)
    old.entries = {name: b"\x01" + content.encode() for name, content in stored.items()}
    old.restart()
    old.store()
    assert old.entries.keys() == {"quote/deribit:BTC-60-C", "chain/deribit:BTC", "index/oracle:BTC"}
    assert step(old.state, ticker("BTC-60-C", T0 + 1, index_price_usd=61_000.0)) == []
    assert told(step(old.state, ticker("BTC-60-C", T0 + 9, forward_usd=62_000.0))) == [(62_000.0, "venue")]
    old.store()
    old.restart()
    moved = step(old.state, index(61_500.0, T0 + 20, venue="deribit"))
    assert told(moved) == [(pytest.approx(62_000.0 * 61_500 / 61_000), "venue")]


def test_a_forward_is_told_again_when_it_has_moved_by_a_tenth_of_a_basis_point() -> None:
    state = forwards.new()
    assert len(step(state, future(), top("BTC-F", 60_000.0, 60_000.0))) == 1
    assert step(state, top("BTC-F", 60_000.5, 60_000.5, ms=T0 + 1)) == []
    assert told(step(state, top("BTC-F", 60_000.6, 60_000.6, ms=T0 + 2))) == [(60_000.6, "future")]


def test_the_tightest_of_several_futures_counts() -> None:
    messages = [future("A"), future("B"), top("A", 60_000.0, 60_010.0), top("B", 60_004.0, 60_006.0)]
    assert told(step(forwards.new(), *messages)) == [(60_005.0, "future")]


def test_a_late_quote_counts_only_if_it_is_the_newest() -> None:
    state = forwards.new()
    step(state, future(), top("BTC-F", 60_000.0, 60_000.0, ms=T0 + 100))
    assert step(state, top("BTC-F", 50_000.0, 50_000.0, ms=T0), until_ms=None) == []
    (output,) = step(state, top("BTC-F", 61_000.0, 61_000.0, ms=T0 + 200), until_ms=None)
    assert told([output]) == [(61_000.0, "future")] and output.event_ms == T0 + 200


def test_what_has_expired_is_freed_and_says_nothing() -> None:
    state = forwards.new()
    step(state, *PAIR, *QUOTES)
    state.touched.clear()
    assert step(state, top("BTC-60-C", 0.07, 0.08, ms=EXPIRY), until_ms=EXPIRY) == []
    assert state.touched >= {"quote/deribit:BTC-60-C", "quote/deribit:BTC-60-P", "chain/deribit:BTC"}
    assert [state.encode(name) for name in state.touched] == [None] * len(state.touched)
    assert not state.chains and not state.quotes.chains and not state.quotes.underlyings


def test_an_underlying_that_was_quiet_for_a_day_keeps_its_contracts_alone() -> None:
    state = forwards.new()
    step(state, *PAIR, *QUOTES, index(60_000.0))
    assert step(state, until_ms=T0 + DAY) == []
    assert not state.chains and not list(state.indices)
    assert told(step(state, index(61_000.0, T0 + DAY), until_ms=T0 + DAY + 50)) == [(61_000.0, "index")]


@pytest.mark.parametrize("until_ms", [T0 + 1000, None])
def test_a_bad_row_is_a_dead_letter_and_the_others_count(until_ms: int | None) -> None:
    bad = instrument("X", strike_usd=0.0), instrument("Y", strike_usd=float("nan")), top("BTC-60-C", float("inf"), 1.0)
    outputs = step(forwards.new(), *bad, index(-1.0), *PAIR, *QUOTES, until_ms=until_ms)
    letters = [output.row["field"] for output in outputs if output.table == "dead_letters"]
    assert sorted(letters) == ["bid_price", "price_usd", "strike_usd", "strike_usd"]
    assert [output.row["source"] for output in outputs if output.table == "forwards"] == ["parity"]


def test_bytes_of_another_version_are_refused() -> None:
    for name in ("quote/deribit:X", "chain/deribit:BTC", "index/BTC"):
        with pytest.raises(ValueError, match="version 9, this code reads version 2"):
            forwards.new().decode(name, b"\x09[]")


prices = st.sampled_from([None, 0.0, 0.01, 0.03, 0.06, 0.5, 2.0])
messages = st.lists(
    st.one_of(
        st.builds(
            instrument,
            st.sampled_from(["A-C", "A-P", "B-C", "B-P"]),
            st.integers(T0, T0 + 900),
            strike_usd=st.sampled_from([5e4, 6e4, 0.0]),
            expiry_at=st.sampled_from([instant_ms(T0 + 500), instant_ms(EXPIRY)]),
            underlying=st.sampled_from(["BTC", "ETH"]),
            quote_currency=st.sampled_from(["BTC", "USDC"]),
            is_inverse=st.booleans(),
        ),
        st.builds(future, st.just("F"), st.integers(T0, T0 + 900)),
        st.builds(
            top, st.sampled_from(["A-C", "A-P", "B-C", "F"]), prices, prices, st.integers(T0, T0 + 900), is_stale=st.booleans()
        ),
        st.builds(
            ticker,
            st.sampled_from(["A-C", "A-P", "B-C", "Z"]),
            st.integers(T0, T0 + 900),
            bid_price=prices,
            ask_price=prices,
            index_price_usd=st.sampled_from([None, 6e4, 6.1e4, -1.0]),
            forward_usd=st.sampled_from([None, 6.2e4, 6.3e4, -1.0]),
        ),
        st.builds(
            index,
            st.sampled_from([6e4, 6.2e4, 0.0]),
            st.integers(T0, T0 + 900),
            venue=st.sampled_from(["x", "y", "deribit"]),
            quote=st.sampled_from([None, "USD", "USDC"]),
        ),
    ),
    max_size=12,
)


def numbered(batch: list[Message]) -> list[Message]:
    return [message._replace(offset=n) for n, message in enumerate(batch)]


@settings(max_examples=80)
@given(st.lists(st.tuples(messages, st.integers(1, 3 * DAY), st.booleans(), st.booleans()), max_size=5))
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(batches: list[tuple[list[Message], int, bool, bool]]) -> None:
    straight, cut, until_ms = forwards.new(), Stored(forwards), T0 + 1000
    for batch, passed, is_late, is_cut in batches:
        until_ms += passed
        until = None if is_late else until_ms
        assert forwards.step(straight, numbered(batch), until) == forwards.step(cut.state, numbered(batch), until)
        cut.store()
        if is_cut:
            cut.restart()


@settings(max_examples=80)
@given(messages, st.randoms(use_true_random=False))
def test_the_order_within_a_batch_does_not_matter(batch: list[Message], chance: random.Random) -> None:
    batch = numbered(batch)
    one = step(forwards.new(), *batch)
    other = step(forwards.new(), *chance.sample(batch, len(batch)))
    assert sorted(map(str, one)) == sorted(map(str, other))
