"""The vol_surfaces kernel as plain Python, on chains whose slices are known."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels.chains import vol_surfaces
from schemas.rows import fault, instant_ms
from tests.kernels import market
from tests.kernels.market import DAY, T0, top
from tests.kernels.stored import Stored
from udfs import black76, svi
from udfs.svi import Slice

EXPIRIES = [T0 + days * DAY for days in (7, 30, 90)]
FORWARD = 60_000.0
STRIKES = np.arange(40_000.0, 90_001.0, 2_500.0)
HALF = 0.01


def instrument(name: str, expiry: int, kind: str, strike: float) -> Message:
    return market.instrument(name, expiry_at=instant_ms(expiry), option_type=kind, strike_usd=strike)


def forward(expiry: int, usd: float | None = FORWARD) -> Message:
    return market.forward(usd, expiry_ms=expiry, source="none" if usd is None else "parity", strikes=1)


def raw(expiry: int, level: float = 1.0) -> Slice:
    """SSVI: free of arbitrage across these expiries."""
    theta = level * 0.36 * (expiry - T0) / black76.MS_PER_YEAR
    phi, rho = 0.9 / (theta**0.45 * (1 + theta) ** 0.55), -0.3
    root = math.sqrt(1 - rho**2)
    return Slice(theta * root**2 / 2, theta * phi / 2, rho, -rho / phi, root / phi)  # type: ignore[arg-type]


def quotes(now_ms: int = T0, level: float = 1.0, expiries: list[int] = EXPIRIES) -> list[Message]:
    """A top of every option out of the money, in coin, half a spread to either side of the slice's volatility."""
    tops = []
    for expiry in expiries:
        T = (expiry - now_ms) / black76.MS_PER_YEAR
        for strike in STRIKES:
            v = math.sqrt(float(svi.total_variance(raw(expiry, level), math.log(strike / FORWARD))) / T)
            is_call = strike >= FORWARD
            bid, ask = (float(black76.price(FORWARD, strike, T, x, is_call)) / FORWARD for x in (v - HALF, v + HALF))
            tops.append(top(name(expiry, strike), bid, ask, now_ms))
    return tops


def name(expiry: int, strike: float) -> str:
    return f"BTC-{(expiry - T0) // DAY}-{strike:.0f}"


def listed(expiries: list[int] = EXPIRIES) -> list[Message]:
    """The options and the forwards."""
    options = [
        instrument(name(expiry, strike), expiry, "call" if strike >= FORWARD else "put", float(strike))
        for expiry in expiries
        for strike in STRIKES
    ]
    return options + [forward(expiry) for expiry in expiries]


def step(state: vol_surfaces.State, *messages: Message, until_ms: int | None = T0 + 50) -> list[Output]:
    outputs = vol_surfaces.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return outputs


def fitted() -> vol_surfaces.State:
    state = vol_surfaces.new()
    assert [output.row["reason"] for output in step(state, *listed(), *quotes())] == [None] * 3
    return state


def test_a_surface_lies_between_bid_and_ask_without_arbitrage_and_says_so() -> None:
    outputs = step(vol_surfaces.new(), *listed(), *quotes())
    assert [output.row["expiry_at"] for output in outputs] == list(map(instant_ms, EXPIRIES))
    for output, expiry in zip(outputs, EXPIRIES, strict=True):
        row = output.row
        assert output.event_ms == T0 + 49
        assert (row["quotes"], row["stale"], row["one_sided"], row["excluded"]) == (len(STRIKES), 0, 0, 0)
        assert row["inside_share"] == 1.0 and row["rmse_vol_points"] < 0.3
        assert row["is_arbitrage_free"] and row["quote_age_ms"] == 49 and row["forward_source"] == "parity"
        truth = raw(expiry)
        assert row["atm_vol"] == pytest.approx(math.sqrt(float(svi.total_variance(truth, 0.0)) / row["years"]), abs=0.003)
        slope = truth.b * (truth.rho - truth.m / math.hypot(float(truth.m), float(truth.sigma)))
        assert row["atm_skew"] == pytest.approx(float(slope) / (2 * row["atm_vol"] * row["years"]), abs=0.06)


def test_stale_and_one_sided_quotes_are_left_out_and_counted() -> None:
    batch = quotes()
    rows = [message.row for message in batch]
    rows[0]["is_stale"], rows[1]["bid_price"], rows[2]["ask_price"], rows[3]["bid_price"] = True, None, 0.0, 0.5
    first, *_ = step(vol_surfaces.new(), *listed(), *batch)
    counts = [first.row[column] for column in ("quotes", "stale", "one_sided", "excluded")]
    assert counts == [len(STRIKES) - 4, 1, 2, 1]


@pytest.mark.parametrize("is_linear_first", [True, False])
def test_options_in_another_currency_than_the_forward_take_no_part(is_linear_first: bool) -> None:
    """Options in USDC, in which the coin is 13.5 % dearer, beside those in coin."""
    linear, tops = [], []
    for message in listed()[: -len(EXPIRIES)]:
        row = message.row | {"instrument": f"L{message.row['instrument']}", "quote_currency": "USDC", "is_inverse": False}
        linear.append(message._replace(row=row | {"settlement_currency": "USDC"}))
    for message in quotes():
        row = message.row | {"instrument": f"L{message.row['instrument']}"}
        prices = {side: row[side] * FORWARD * 1.135 for side in ("bid_price", "ask_price")}
        tops.append(message._replace(row=row | prices))
    alone = step(vol_surfaces.new(), *listed(), *quotes())
    state, messages = vol_surfaces.new(), [linear + tops, listed() + quotes()]
    both = step(state, *(messages[0] + messages[1] if is_linear_first else messages[1] + messages[0]))
    left_out: dict[str, Any] = {"excluded": len(STRIKES)}
    assert [output.row for output in both] == [dict(output.row) | left_out for output in alone]
    put_back = vol_surfaces.new()
    for entry in sorted(state.touched):
        put_back.decode(entry, state.encode(entry) or b"")
    in_usdc = [message._replace(row=message.row | {"quote_currency": "USDC"}) for message in listed()[-len(EXPIRIES) :]]
    for each in (state, put_back):
        assert all(output.row["quotes"] == len(STRIKES) for output in step(each, *in_usdc, until_ms=T0 + 70_000))


def test_what_version_1_stored_is_read() -> None:
    state = vol_surfaces.new()
    state.decode("chain/deribit:BTC", f'\x01[{T0},[[{EXPIRIES[0]},{T0},60000.0,"parity"]],[]]'.encode())
    (last,) = state.last.values()
    assert last.forwards == {EXPIRIES[0]: (T0, 60_000.0, "parity", "USD")} and last.fitted_ms == T0


def test_it_is_fitted_anew_when_quotes_have_moved_and_not_before() -> None:
    state = fitted()
    assert step(state, *quotes(T0 + 60, 1.0005), until_ms=T0 + 100) == []
    assert len(step(state, *quotes(T0 + 110, 1.01), until_ms=T0 + 150)) == 3


def test_it_is_fitted_anew_when_it_is_a_minute_old() -> None:
    state = fitted()
    assert step(state, *quotes(T0 + 59_000), until_ms=T0 + 60_000) == []
    assert len(step(state, *quotes(T0 + 60_100), until_ms=T0 + 60_150)) == 3


def test_one_wild_quote_is_no_reason_to_fit_anew() -> None:
    state = fitted()
    wild = quotes()[5].row["ask_price"] * 10
    assert step(state, top(name(EXPIRIES[0], STRIKES[5]), None, wild, T0 + 60), until_ms=T0 + 100) == []


def test_a_crash_is_followed_within_one_batch() -> None:
    before = step(vol_surfaces.new(), *listed(), *quotes())
    state = fitted()
    after = step(state, *quotes(T0 + 60, 4.0), until_ms=T0 + 100)
    for one, other in zip(before, after, strict=True):
        assert other.row["atm_vol"] == pytest.approx(2 * one.row["atm_vol"], rel=0.02)
        assert other.row["inside_share"] == 1.0 and other.row["is_arbitrage_free"]


def test_where_there_is_no_slice_the_row_says_why() -> None:
    (output,) = step(
        vol_surfaces.new(), instrument("one", EXPIRIES[0], "call", 6e4), forward(EXPIRIES[0]), top("one", 0.04, 0.05)
    )
    assert output.row["reason"] == "Fewer than 5 strikes have a bid and an ask."
    (output,) = step(vol_surfaces.new(), instrument("one", EXPIRIES[0], "call", 6e4), top("one", 0.04, 0.05))
    assert output.row["reason"] == "There is no forward."
    (output,) = step(vol_surfaces.new(), instrument("one", EXPIRIES[0], "call", 6e4), forward(EXPIRIES[0], None))
    assert output.row["reason"] == "No option has both a bid and an ask above it."
    assert output.row["svi_a"] is None and output.row["atm_vol"] is None


def test_a_slice_that_is_far_from_its_quotes_is_written_and_says_why() -> None:
    """A week's variance is above that of the month: no surface free of arbitrage is near both."""
    first, second, third = step(
        vol_surfaces.new(), *listed(), *quotes(level=8.0, expiries=EXPIRIES[:1]), *quotes(expiries=EXPIRIES[1:])
    )
    assert first.row["reason"] is not None and second.row["reason"] is not None
    for output in (first, second, third):
        assert output.row["svi_a"] is not None and output.row["atm_vol"] is not None
        assert output.row["is_arbitrage_free"]
    assert first.row["is_repaired"] and second.row["is_repaired"]


def test_duplicates_of_an_instrument_are_fitted_like_any_other() -> None:
    named = [message for message in listed() + quotes() if "instrument" in message.row]
    twins = [message._replace(row=message.row | {"instrument": message.row["instrument"] + "x"}) for message in named]
    outputs = step(vol_surfaces.new(), *listed(), *quotes(), *twins)
    assert [output.row["quotes"] for output in outputs] == [2 * len(STRIKES)] * 3
    assert [output.row["reason"] for output in outputs] == [None] * 3


def test_an_expiry_ends_with_its_last_millisecond() -> None:
    state = fitted()
    late = EXPIRIES[0]
    outputs = step(state, *quotes(late, 1.2, EXPIRIES[1:]), until_ms=late)
    assert [output.row["expiry_at"] for output in outputs] == list(map(instant_ms, EXPIRIES[1:]))
    assert state.encode("quote/deribit:" + name(late, STRIKES[0])) is None
    assert step(state, until_ms=EXPIRIES[-1]) == []
    assert not state.last and not state.quotes.chains


def test_an_underlying_that_was_quiet_for_a_day_keeps_its_contracts_alone() -> None:
    state = fitted()
    step(state, until_ms=T0 + DAY)
    assert not state.last and not np.isfinite(state.quotes.chains[("deribit", "BTC")].rows["bid"]).any()  # type: ignore[index]


def test_bytes_of_another_version_are_refused() -> None:
    for entry in ("quote/deribit:X", "chain/deribit:BTC"):
        with pytest.raises(ValueError, match="version 9, this code reads version 2"):
            vol_surfaces.new().decode(entry, b"\x09[]")


batches = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 1.001, 2.0]), st.integers(1, 2 * DAY), st.booleans(), st.booleans(), st.randoms()),
    max_size=4,
)


@settings(max_examples=25)
@given(batches)
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(
    batches: list[tuple[float, int, bool, bool, random.Random]],
) -> None:
    straight, cut, until_ms = vol_surfaces.new(), Stored(vol_surfaces), T0 + 50
    batch = listed()
    for level, passed, is_late, is_cut, chance in batches:
        until = None if is_late else until_ms
        live = [expiry for expiry in EXPIRIES if expiry > until_ms]
        batch += chance.sample(quotes(until_ms - 10, level, live), 30)
        assert vol_surfaces.step(straight, batch, until) == vol_surfaces.step(cut.state, batch, until)
        cut.store()
        if is_cut:
            cut.restart(chance)
        batch = []
        until_ms += passed


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_the_order_within_a_batch_does_not_matter(chance: random.Random) -> None:
    bad = instrument("bad", EXPIRIES[0], "call", 0.0)
    batch = [message._replace(offset=n) for n, message in enumerate([*listed(), *quotes(), *quotes(T0 + 5, 1.3), bad])]
    one = step(vol_surfaces.new(), *batch)
    other = step(vol_surfaces.new(), *chance.sample(batch, len(batch)))
    assert sorted(map(str, one)) == sorted(map(str, other))
