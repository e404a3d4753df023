import csv
import random
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import option_greeks
from schemas.rows import fault, instant_ms
from tests.kernels import market
from tests.kernels.market import DAY, EXPIRY, T0, at, instrument
from tests.kernels.stored import Stored
from udfs import black76

TRUTH = Path(__file__).resolve().parents[3] / "shared" / "truth" / "deribit_greeks.csv"


def ticker(name: str = "BTC-60000-C", ms: int = T0, offset: int = 0, **changed: Any) -> Message:
    return market.ticker(name, ms, offset, **{"mark_iv": 0.5, "forward_usd": 61_000.0} | changed)


def step(state: option_greeks.State, *messages: Message, until_ms: int | None = T0 + 1000) -> list[Output]:
    outputs = option_greeks.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return outputs


def test_a_ticker_gives_the_exchanges_greeks_at_its_own_time() -> None:
    (output,) = step(option_greeks.new(), ticker(ms=T0 + 3), instrument())
    expected = black76.deribit_greeks(61_000.0, 60_000.0, (EXPIRY - T0 - 3) / black76.MS_PER_YEAR, 0.5, True)
    assert output.event_ms == T0 + 3
    assert output.row == {
        "venue": "deribit",
        "instrument": "BTC-60000-C",
        **at(T0 + 3),
        "underlying": "BTC",
        "option_type": "call",
        "strike_usd": 60_000.0,
        "expiry_at": instant_ms(EXPIRY),
        "forward_usd": 61_000.0,
        "mark_iv": 0.5,
        **{name: float(number) for name, number in expected._asdict().items()},
        "reason": None,
    }


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"mark_iv": None}, "The ticker has no mark volatility."),
        ({"mark_iv": 0.0}, "The mark volatility 0.0 is not above zero."),
        ({"forward_usd": None}, "The ticker has no forward price."),
        ({"forward_usd": -1.0}, "The forward price -1.0 is not above zero."),
        ({"event_at": instant_ms(EXPIRY), "received_at": instant_ms(EXPIRY)}, f"The option expired at {instant_ms(EXPIRY)}."),
        ({"forward_usd": 1e-320, "mark_iv": 1e-300}, "The formula has no finite answer for these inputs."),
    ],
)
def test_where_there_is_no_answer_the_row_says_why(changed: dict[str, Any], reason: str) -> None:
    (output,) = step(option_greeks.new(), instrument(), ticker(**changed), until_ms=EXPIRY + 1)
    assert output.row["reason"] == reason
    assert {output.row[name] for name in black76.DeribitGreeks._fields} == {None}


def test_a_ticker_of_an_unknown_option_is_a_dead_letter_and_one_of_no_option_is_passed_over() -> None:
    unknown = ticker("BTC-99000-P", offset=8)
    (letter,) = step(option_greeks.new(), ticker("BTC-PERPETUAL", mark_iv=None), unknown)
    assert letter.table == "dead_letters"
    assert (letter.row["source"], letter.row["offset"], letter.row["field"]) == ("tickers.v1", 8, "instrument")
    assert orjson.loads(b64decode(letter.row["original"])) == unknown.row


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (ticker(mark_iv=float("nan")), "mark_iv"),
        (ticker(event_at="yesterday"), "event_at"),
        (ticker(venue=None), "venue"),
        (instrument(strike_usd=None), "strike_usd"),
        (instrument(option_type="straddle"), "option_type"),
        (instrument(expiry_at=None), "expiry_at"),
        (instrument(kind="swap"), "kind"),
        (instrument(contract_size=0), "contract_size"),
        (Message("tickers", 3, 4, ["no row"]), None),  # type: ignore[arg-type]
        (ticker(sequence=1 << 70, venue=1), "venue"),
    ],
)
@pytest.mark.parametrize("until_ms", [T0 + 1000, None])
def test_a_bad_row_is_a_dead_letter_and_the_others_are_answered(
    message: Message, field: str | None, until_ms: int | None
) -> None:
    outputs = step(option_greeks.new(), instrument("good"), ticker("good"), message, until_ms=until_ms)
    letters = [output for output in outputs if output.table == "dead_letters"]
    assert [letter.row["field"] for letter in letters] == [field]
    assert [output.row["instrument"] for output in outputs if output.table == "option_greeks"] == ["good"]


def test_an_event_time_far_behind_the_end_of_its_batch_is_a_dead_letter() -> None:
    (letter,) = step(option_greeks.new(), instrument(), ticker(ms=T0 + 365 * DAY))
    assert letter.row["field"] == "event_at"
    assert letter.event_ms == T0 + 1000


def test_a_late_dead_letter_bears_the_time_of_its_receipt() -> None:
    letters = step(option_greeks.new(), ticker(), ticker(received_at=None), until_ms=None)
    assert sorted(letter.event_ms for letter in letters) == [0, T0]


def test_the_newest_terms_stand() -> None:
    state = option_greeks.new()
    step(state, instrument(ms=T0 + 5, strike_usd=50_000.0), instrument(ms=T0, strike_usd=70_000.0))
    step(state, instrument(ms=T0 + 4, strike_usd=80_000.0))
    (output,) = step(state, ticker())
    assert output.row["strike_usd"] == 50_000.0


def test_an_option_is_freed_a_day_after_its_expiry() -> None:
    state = option_greeks.new()
    step(state, instrument())
    state.touched.clear()
    step(state, until_ms=EXPIRY + DAY - 1)
    assert state.touched == set() and state.encode("deribit:BTC-60000-C")
    step(state, until_ms=EXPIRY + DAY)
    assert state.touched == {"deribit:BTC-60000-C"}
    assert state.encode("deribit:BTC-60000-C") is None


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="version 9, this code reads version 2"):
        option_greeks.new().decode("deribit:BTC-60000-C", b"\x09[]")


messages = st.lists(
    st.one_of(
        st.builds(
            instrument,
            st.sampled_from("AB"),
            st.integers(T0, T0 + 900),
            strike_usd=st.sampled_from([5e4, 6e4, None]),
            expiry_at=st.sampled_from([instant_ms(T0 + 500), instant_ms(EXPIRY)]),
        ),
        st.builds(
            ticker,
            st.sampled_from("ABC"),
            st.integers(T0, T0 + 900),
            mark_iv=st.sampled_from([None, 0.5, 0.0, 2.0]),
            forward_usd=st.sampled_from([None, 6e4, -1.0]),
        ),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(st.lists(st.tuples(messages, st.integers(1, 10 * DAY), st.booleans(), st.booleans()), max_size=5))
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(
    batches: list[tuple[list[Message], int, bool, bool]],
) -> None:
    straight, cut, until_ms = option_greeks.new(), Stored(option_greeks), T0 + 1000
    for batch, passed, is_late, is_cut in batches:
        until_ms += passed
        until = None if is_late else until_ms
        assert option_greeks.step(straight, batch, until) == option_greeks.step(cut.state, batch, until)
        cut.store()
        if is_cut:
            cut.restart()


@given(messages, st.randoms(use_true_random=False))
def test_the_order_within_a_batch_does_not_matter(batch: list[Message], chance: random.Random) -> None:
    batch = [message._replace(offset=n) for n, message in enumerate(batch)]
    shuffled = chance.sample(batch, len(batch))
    one = step(option_greeks.new(), *batch)
    other = step(option_greeks.new(), *shuffled)
    assert [o for o in one if o.table == "option_greeks"] == [o for o in other if o.table == "option_greeks"]
    assert sorted(map(str, one)) == sorted(map(str, other))


@pytest.mark.skipif(not TRUTH.exists(), reason=f"no {TRUTH}")
def test_the_exchanges_convention_gives_the_exchanges_greeks() -> None:
    with TRUTH.open() as file:
        truth = [row for row in csv.DictReader(file) if float(row["mark_iv"]) > 0]
    prices, errors = [], {"delta": [], "gamma": [], "vega": []}  # type: ignore[var-annotated]
    for number, row in enumerate(truth):
        underlying, expiry, strike, kind = row["instrument"].split("-")
        ms = int(row["ts_ms"])
        terms: dict[str, Any] = {
            "strike_usd": float(strike),
            "option_type": "call" if kind == "C" else "put",
            "expiry_at": expiry_at(expiry),
        }
        state = option_greeks.new()
        given_ = [instrument(f"X{number}", ms, underlying=underlying, **terms)]
        given_.append(ticker(f"X{number}", ms, mark_iv=float(row["mark_iv"]) / 100, forward_usd=float(row["underlying_price"])))
        outputs: list[Output] = option_greeks.step(state, given_, ms + 50)
        (found,) = [output.row for output in outputs if output.table == "option_greeks"]
        assert found["reason"] is None
        prices.append(abs(found["price_coin"] - float(row["mark_price"])))
        for column, error in errors.items():
            error.append(abs(found[column] - float(row[column])))
    assert np.median(prices) <= 1e-5 and max(prices) <= 1.1e-3
    assert max(errors["delta"]) <= 1e-4 and max(errors["gamma"]) <= 5e-6 and max(errors["vega"]) <= 0.02


def expiry_at(text: str) -> str:
    """08:00 UTC of a day like 30JUL21."""
    month = "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC".index(text[-5:-2]) // 3 + 1
    return f"20{text[-2:]}-{month:02d}-{int(text[:-5]):02d}T08:00:00.000Z"
