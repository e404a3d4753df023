"""The chain as the chain_greeks kernel prices it: forward, slice and mark in, `chain_greeks` rows out."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import batch
from engine.contract import Lines, Message
from kernels.chains import chain, chain_greeks
from schemas.records import TABLES
from schemas.rows import fault, instant_ms
from tests.kernels import market
from tests.kernels.market import DAY, EXPIRY, T0, forward, instrument
from tests.kernels.stored import Stored
from udfs import black76, black_scholes

SVI = {"svi_a": 0.004, "svi_b": 0.02, "svi_rho": -0.3, "svi_m": 0.01, "svi_sigma": 0.1}


def ticker(name: str = "BTC-60000-C", ms: int = T0, mark_iv: float | None = 0.5) -> Message:
    return market.ticker(name, ms, mark_iv=mark_iv)


def surface(ms: int = T0, expiry_ms: int = EXPIRY, **changed: Any) -> Message:
    row = {"venue": "deribit", "underlying": "BTC", "expiry_at": instant_ms(expiry_ms), "event_at": instant_ms(ms)}
    counts = dict.fromkeys(("quotes", "stale", "one_sided", "excluded"), 0)
    years = (expiry_ms - ms) / black76.MS_PER_YEAR
    return Message("vol_surfaces", 2, 0, row | {"years": years, **counts, **SVI} | changed)


def step(state: chain_greeks.State, *messages: Message, until_ms: int | None = T0 + 50) -> list[dict[str, Any]]:
    outputs = chain_greeks.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return [dict(output.row) for output in outputs if output.table == "chain_greeks"]


def svi_vol(strike: float, usd: float, years: float) -> float:
    k = math.log(strike / usd) - SVI["svi_m"]
    return math.sqrt((SVI["svi_a"] + SVI["svi_b"] * (SVI["svi_rho"] * k + math.hypot(k, SVI["svi_sigma"]))) / years)


def test_a_row_has_the_columns_of_its_ddl() -> None:
    (row,) = step(chain_greeks.new(), instrument(), forward(), surface())
    assert set(row) == set(TABLES["chain_greeks"].columns)
    assert row["event_at"] == instant_ms(T0 + 49) and row["reason"] is None
    assert set(chain.COLUMNS) <= chain.NUMBERS


def test_the_numbers_are_those_of_the_slice_at_the_forward_of_now() -> None:
    state = chain_greeks.new()
    step(state, instrument(), ticker(), surface(), forward(60_000.0))
    (row,) = step(state, forward(61_000.0, T0 + 60), until_ms=T0 + 100)
    T, T_fit = (EXPIRY - T0 - 99) / black76.MS_PER_YEAR, (EXPIRY - T0) / black76.MS_PER_YEAR
    window = 1800 / 86_400 / 365
    scale = (T - 2 * window / 3) / (T_fit - 2 * window / 3)
    v = svi_vol(60_000.0, 61_000.0, T_fit) * math.sqrt(T_fit * scale / T)
    assert row["surface_iv"] == pytest.approx(v, rel=1e-12)
    g = black_scholes.usd_greeks(61_000.0, 60_000.0, T, v, True)
    for column in ("price_usd", "delta", "premium_adjusted_delta", "gamma_per_usd", "vega_usd_per_vol", "vanna_per_vol"):
        assert row[column] == pytest.approx(float(getattr(g, column)), rel=1e-9), column
    decay = T / (T - 2 * window / 3)
    assert row["theta_usd_per_day"] == pytest.approx(float(g.theta_usd_per_day) * decay, rel=1e-9)
    mark = black_scholes.usd_greeks(61_000.0, 60_000.0, T, 0.5, True)
    assert row["mark_price_coin"] == pytest.approx(float(mark.price_usd) / 61_000.0, rel=1e-9)
    assert row["mark_delta"] == pytest.approx(float(mark.delta), rel=1e-9)


def test_theta_is_what_the_price_loses_with_time() -> None:
    for left_ms in (DAY, 3_600_000, 1_200_000):
        expiry = T0 + left_ms + 50
        state = chain_greeks.new()
        rows = step(
            state, instrument(expiry_at=instant_ms(expiry)), forward(60_000.0, expiry_ms=expiry), surface(expiry_ms=expiry)
        )
        later = step(state, forward(60_000.0, T0 + 1050, expiry_ms=expiry), ticker(ms=T0 + 1050), until_ms=T0 + 1050)
        lost = (later[0]["price_usd"] - rows[0]["price_usd"]) * 86_400
        assert lost == pytest.approx(0.5 * (rows[0]["theta_usd_per_day"] + later[0]["theta_usd_per_day"]), rel=1e-4)


def test_in_the_last_half_hour_only_what_is_not_averaged_yet_moves() -> None:
    left_ms = 600_000
    expiry = T0 + left_ms + 50
    state = chain_greeks.new()
    terms, fit = instrument(expiry_at=instant_ms(expiry)), surface(T0, expiry, years=0.01)
    (row,) = step(state, terms, forward(60_000.0, expiry_ms=expiry), fit, until_ms=T0 + 51)
    T, window = left_ms / black76.MS_PER_YEAR, 1800_000 / black76.MS_PER_YEAR
    u = T / window
    w = svi_vol(60_000.0, 60_000.0, 1.0) ** 2 * T**3 / (3 * window**2) / (0.01 - 2 * window / 3)
    g = black_scholes.usd_greeks(60_000.0, 60_000.0, T, math.sqrt(w / T), True)
    assert row["price_usd"] == pytest.approx(float(g.price_usd), rel=1e-9)
    assert row["delta"] == pytest.approx(u * float(g.delta), rel=1e-9)
    assert row["gamma_per_usd"] == pytest.approx(u**2 * float(g.gamma_per_usd), rel=1e-9)
    assert row["theta_usd_per_day"] == pytest.approx(3 * float(g.theta_usd_per_day), rel=1e-9)


def test_settlement_variance_is_that_of_the_mean_of_a_walk() -> None:
    rng = np.random.default_rng(1)
    window = chain.AVERAGING_MS / black76.MS_PER_YEAR
    for share in (0.25, 1.0, 3.0):
        T = share * window
        steps = 600
        path = np.cumsum(rng.standard_normal((20_000, steps)), axis=1) * math.sqrt(T / steps)
        in_window = min(window / T, 1.0)
        mean = path[:, int(steps * (1 - in_window)) :].mean(axis=1) * min(share, 1.0)
        assert np.var(mean) == pytest.approx(float(chain._averaged(np.array(T))), rel=0.03)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([surface()], "There is no forward for its expiry."),
        ([surface(), forward(None)], "There is no forward for its expiry."),
        ([surface(), forward(-5.0)], "There is no forward for its expiry."),
        ([forward()], "There is no surface for its expiry."),
        (
            [forward(), surface(svi_a=None, svi_b=None, svi_rho=None, svi_m=None, svi_sigma=None)],
            "There is no surface for its expiry.",
        ),
        ([forward(), surface(svi_a=-1.0)], "The formula has no finite answer for these inputs."),
        ([forward(1e-300), surface()], "The formula has no finite answer for these inputs."),
        ([forward(), surface(years=0.0)], "The formula has no finite answer for these inputs."),
    ],
)
def test_where_there_is_no_answer_the_row_says_why(messages: list[Message], reason: str) -> None:
    (row,) = step(chain_greeks.new(), instrument(), ticker(), *messages)
    assert row["reason"] == reason
    numbers = [name for name in chain.COLUMNS if name != "forward_usd" and not name.startswith("mark_")]
    assert {row[name] for name in numbers} == {None}
    assert row["mark_iv"] == 0.5


def test_an_expired_option_has_no_price() -> None:
    state = chain_greeks.new()
    step(state, instrument(), forward(), surface())
    (row,) = step(state, ticker(ms=EXPIRY), until_ms=EXPIRY + 1)
    assert row["reason"] == "The option has expired." and row["price_usd"] is None and row["delta"] is None


def test_the_whole_expiry_moves_with_its_forward_or_slice_and_one_option_with_its_mark() -> None:
    state = chain_greeks.new()
    assert step(state, instrument("A"), instrument("B", option_type="put"), ticker("A")) == []
    other = instrument("C", expiry_at=instant_ms(EXPIRY + DAY))
    assert [row["instrument"] for row in step(state, forward(), other)] == ["A", "B"]
    assert [row["instrument"] for row in step(state, surface())] == ["A", "B"]
    assert [row["instrument"] for row in step(state, ticker("B", T0 + 1))] == ["B"]
    assert step(state, ticker("B", T0 + 2), forward(61_000.0), ticker("C", T0 + 2)) == []
    assert step(state, forward(60_000.0, T0 - 1)) == []


def test_everything_of_an_expiry_is_freed_a_day_after_it() -> None:
    state = chain_greeks.new()
    step(state, instrument(), ticker(), forward(), surface())
    entries = set(state.touched)
    assert entries == {"deribit:BTC-60000-C", "mark/deribit:BTC-60000-C", f"expiry/deribit:BTC:{instant_ms(EXPIRY)}"}
    step(state, until_ms=EXPIRY + DAY - 1)
    assert all(state.encode(entry) for entry in entries)
    step(state, until_ms=EXPIRY + DAY)
    assert [state.encode(entry) for entry in entries] == [None] * 3


def recorded(messages: list[Message]) -> bytes:
    parts = [
        batch.FIELD.join([TABLES[m.table].topic.encode(), b"%d" % m.partition, b"%d" % m.offset, orjson.dumps(m.row)])
        for m in messages
    ]
    return batch.RECORD.join(parts)


def rows_of(lines: list[Lines]) -> list[tuple[str, str, str]]:
    found = []
    for table, heads, values in lines:
        for head, value in zip(heads.split(b"\n"), values.split(b"\n"), strict=True):
            found.append((table, head.decode(), str(orjson.loads(value))))
    return sorted(found)


messages = st.lists(
    st.one_of(
        st.builds(
            instrument,
            st.sampled_from(["A", "B", 'odd "name"\n']),
            st.integers(T0, T0 + 40),
            option_type=st.sampled_from(["call", "put"]),
            strike_usd=st.sampled_from([6e4, 7e4, 0.0, 1e-300]),
            expiry_at=st.sampled_from([instant_ms(T0 + 30), instant_ms(EXPIRY)]),
        ),
        st.builds(ticker, st.sampled_from("ABC"), st.integers(T0, T0 + 40), st.sampled_from([None, 0.5, 0.0, 2.0])),
        st.builds(forward, st.sampled_from([None, 6e4, -1.0]), st.integers(T0, T0 + 40)),
        st.builds(
            surface, st.integers(T0, T0 + 40), svi_a=st.sampled_from([0.004, None, -9.0]), quotes=st.sampled_from([0, None])
        ),
    ),
    max_size=10,
)


@settings(max_examples=80)
@given(messages, messages)
def test_taken_from_bytes_the_rows_are_those_of_the_slow_way(first: list[Message], second: list[Message]) -> None:
    fast, slow = chain_greeks.new(), chain_greeks.new()
    for batch_of, until_ms in ((first, T0 + 50), (second, T0 + 100)):
        batch_of = [message._replace(offset=n) for n, message in enumerate(batch_of)]
        lines = batch.run(chain_greeks.KERNEL, fast, recorded(batch_of), until_ms)
        decoded, letters = batch.decode(recorded(batch_of), until_ms)
        assert rows_of(lines) == rows_of(batch.encode(letters + chain_greeks.step(slow, decoded, until_ms)))


@settings(max_examples=80)
@given(st.lists(st.tuples(messages, st.integers(1, 10 * DAY), st.booleans(), st.booleans()), max_size=5))
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(batches: list[tuple[list[Message], int, bool, bool]]) -> None:
    straight, cut, until_ms = chain_greeks.new(), Stored(chain_greeks), T0 + 50
    for given_, passed, is_late, is_cut in batches:
        until_ms += passed
        until = None if is_late else until_ms
        assert chain_greeks.step(straight, given_, until) == chain_greeks.step(cut.state, given_, until)
        cut.store()
        if is_cut:
            cut.restart()


@settings(max_examples=80)
@given(messages, st.randoms(use_true_random=False))
def test_the_order_within_a_batch_does_not_matter(given_: list[Message], chance: random.Random) -> None:
    given_ = [message._replace(offset=n) for n, message in enumerate(given_)]
    one = chain_greeks.step(chain_greeks.new(), list(given_), T0 + 50)
    other = chain_greeks.step(chain_greeks.new(), chance.sample(given_, len(given_)), T0 + 50)
    assert sorted(map(str, one)) == sorted(map(str, other))


def test_the_page_on_choosing_names_every_number() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "choose_the_greeks.md").read_text()
    assert [name for name in sorted(chain.GREEKS + chain.INPUTS) if f"`{name}`" not in page] == []
