"""The price of an underlying by all its sources, and how good each of them is."""

import math
import random
from typing import Any

import orjson
import pytest

from engine import batch
from engine.contract import Lines, Message
from kernels import oracles
from kernels.oracles import KERNEL, State
from schemas.rows import fault, instant_ms, instant_us
from tests.kernels import market
from tests.kernels.market import T0
from tests.kernels.stored import Stored
from udfs.oracle_rules import rules

Row = dict[str, Any]


def index(venue: str, price: float, ms: int = T0, **changed: Any) -> Message:
    row = {"venue": venue, "underlying": "BTC", "event_at": instant_ms(ms), "received_at": instant_us(ms * 1000 + 20_000)}
    return Message("index_prices", 0, 0, row | {"price_usd": price, "confidence_usd": price * 1e-4} | changed)


def update(venue: str, price: float, ms: int = T0, **changed: Any) -> Message:
    row = {"venue": venue, "instrument": "0xe62d", "underlying": "BTC", "quote_currency": "USD", "price": price}
    row |= {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000 + 20_000), "confidence": price * 1e-4}
    return Message("oracle_updates", 0, 0, row | changed)


def spot(venue: str, quote: str = "USD", **changed: Any) -> Message:
    terms = {"kind": "spot", "option_type": None, "strike_usd": None, "expiry_at": None, "is_inverse": False}
    return market.instrument(f"BTC-{quote}", venue=venue, quote_currency=quote, settlement_currency=quote, **terms | changed)


def top(venue: str, instrument: str, bid: float | None, ask: float | None, ms: int = T0, is_stale: bool = False) -> Message:
    message = market.top(instrument, bid, ask, ms, is_stale=is_stale)
    return message._replace(row=message.row | {"venue": venue, "sequence": ms})


def trade(venue: str, price: float, ms: int = T0, **changed: Any) -> Message:
    row = {"venue": venue, "instrument": "BTC-USD", **market.at(ms), "trade_id": str(ms), "side": "buy", "size": 1.0}
    return Message("trades", 0, 0, row | {"price": price, "off_market": None} | changed)


def rows(lines: list[Lines], table: str) -> list[Row]:
    found = [orjson.loads(value) for one in lines if one.table == table for value in one.values.split(b"\n")]
    assert [fault(table, row) for row in found] == [None] * len(found)
    return found


def tick(state: State, messages: list[Message], until_ms: int = T0 + 100) -> tuple[Row | None, dict[str, Row]]:
    """The price of BTC after a batch, and its sources by name."""
    outputs = oracles.step(state, messages, until_ms)
    assert [output for output in outputs if output.table == "dead_letters"] == []
    lines = oracles.end_window(state, until_ms)
    prices = [row for row in rows(lines, "oracle_prices") if row["underlying"] == "BTC"]
    sources = {row["source"]: row for row in rows(lines, "oracle_sources") if row["underlying"] == "BTC"}
    return (prices[0] if prices else None), sources


def three(price: float = 60_000.0, ms: int = T0) -> list[Message]:
    return [index(venue, price, ms) for venue in ("a", "b", "c")]


def test_three_indices_give_their_median_and_each_a_row_with_its_share() -> None:
    price, sources = tick(oracles.new(), [index("a", 60_000.0), index("b", 60_010.0), update("pyth", 60_005.0)])
    assert price is not None
    assert price["price_usd"] == 60_005.0 and price["validity"] == "valid" and price["held"] is None
    assert (price["source_count"], price["venue_count"], price["rules"]) == (3, 3, "default/1")
    assert price["event_at"] == instant_ms(T0 + 100)
    assert set(sources) == {"a:index:BTC", "b:index:BTC", "pyth:publisher:0xe62d", "consensus"}
    shares = [row["weight"] for name, row in sources.items() if name != "consensus"]
    assert math.isclose(sum(shares), 1.0) and all(row["reason"] is None for row in sources.values())
    assert sources["b:index:BTC"]["deviation"] == pytest.approx(5 / 60_005)


def test_there_is_a_row_of_each_source_every_100_ms_also_where_nothing_came() -> None:
    state = oracles.new()
    tick(state, three())
    price: Row | None = None
    for n in range(2, 130):
        price, sources = tick(state, [], T0 + n * 100)
        assert price is not None and len(sources) == 4
        assert sources["a:index:BTC"]["age_ms"] == n * 100.0
    assert price is not None and sources["a:index:BTC"]["reason"] == "older than 10 s"
    assert (price["validity"], price["held"], price["source_count"]) == ("insufficient_data", "increase", 0)
    assert price["price_usd"] == 60_000.0


def test_rows_do_not_depend_on_how_often_the_time_is_told() -> None:
    told, untold = oracles.new(), oracles.new()
    tick(told, three())
    tick(untold, three())
    lines: list[Lines] = []
    for n in range(2, 8):
        lines += batch.encode(oracles.step(told, three(60_001.0, T0 + 650) if n == 7 else [], T0 + n * 100))
        lines += oracles.end_window(told, T0 + n * 100)
    late = batch.encode(oracles.step(untold, three(60_001.0, T0 + 650), T0 + 700)) + oracles.end_window(untold, T0 + 700)
    for table in ("oracle_prices", "oracle_sources"):
        assert rows(late, table) == rows(lines, table)
    assert [row["price_usd"] for row in rows(late, "oracle_prices")] == [60_000.0] * 5 + [60_001.0]


def test_time_that_nobody_told_is_made_up_for_by_ten_seconds_at_most_and_no_source_is_withheld_in_a_longer_gap() -> None:
    state = oracles.new()
    tick(state, three())
    lines = oracles.end_window(state, T0 + 100 + 10_000)
    assert len(rows(lines, "oracle_prices")) == 100
    assert oracles.end_window(state, T0 + 100 + 3_600_000) == []
    price, sources = tick(state, three(60_001.0, T0 + 3_600_150), T0 + 3_600_200)
    assert price is not None and price["price_usd"] == 60_001.0
    assert max(row["silent_ms"] for row in sources.values()) <= 100.0


def test_index_mid_and_last_of_a_venue_share_one_weight() -> None:
    alone, _ = tick(oracles.new(), [index("a", 60_000.0), index("b", 60_010.0), index("c", 60_020.0)])
    state = oracles.new()
    more = [spot("a"), top("a", "BTC-USD", 59_999.0, 60_001.0), trade("a", 60_000.0)]
    price, sources = tick(state, [index("a", 60_000.0), index("b", 60_010.0), index("c", 60_020.0), *more])
    assert price is not None and alone is not None
    assert (price["source_count"], price["venue_count"]) == (5, 3)
    assert price["price_usd"] == pytest.approx(alone["price_usd"], abs=0.01)
    assert sum(row["weight"] for row in sources.values() if row["venue"] == "a") < 0.4


def test_two_liars_of_five_do_not_move_the_price_out_of_the_honest_range_whatever_they_do() -> None:
    chance, state = random.Random(7), oracles.new()
    for n in range(1, 100):
        honest = [60_000.0 + chance.uniform(-10, 10) for _ in range(3)]
        lies = [chance.choice([1e-9, 6_000_000.0, 60_000.0, 60_600.0, 59_400.0]) for _ in range(2)]
        ms = T0 + n * 100
        prices = [index(f"honest{k}", value, ms - 50) for k, value in enumerate(honest)]
        price, _ = tick(state, prices + [index(f"liar{k}", value, ms - 1) for k, value in enumerate(lies)], ms)
        assert price is not None
        assert min(honest) * 0.99 <= min(honest) - 6.1 <= price["price_usd"] <= max(honest) + 6.1


def test_quotes_in_usdt_are_converted_by_its_own_rate_and_without_one_left_out() -> None:
    state = oracles.new()
    tether = [index("a", 60_000.0), index("b", 63_000.0, quote_currency="USDT")]
    price, sources = tick(state, tether)
    assert price is not None
    assert price["source_count"] == 1 and sources["b:index:BTC:USDT"]["reason"] == "no price of USDT in USD"
    rates = [index(venue, 0.95, T0 + 120, underlying="USDT") for venue in ("a", "b", "c")]
    price, sources = tick(state, rates, T0 + 200)
    assert sources["b:index:BTC:USDT"]["price_usd"] == pytest.approx(59_850.0)
    assert price is not None and price["source_count"] == 2
    lines = oracles.end_window(state, T0 + 300)
    (peg,) = [row for row in rows(lines, "oracle_sources") if row["source"] == "consensus" and row["underlying"] == "USDT"]
    assert peg["deviation"] == pytest.approx(-0.05)


def test_a_coin_quoted_in_another_gets_its_rate_by_that_one_and_not_the_other_way_round() -> None:
    state = oracles.new()
    known = index("a", 0.9, underlying="USDC")
    crossed = index("b", 1.1, underlying="USDT", quote_currency="USDC")
    oracles.step(state, [known, crossed], T0 + 100)
    lines = oracles.end_window(state, T0 + 100)
    prices = {row["underlying"]: row["price_usd"] for row in rows(lines, "oracle_prices")}
    assert prices == {"USDC": pytest.approx(0.9), "USDT": pytest.approx(0.99)}


def test_a_perpetual_counts_less_its_basis_once_that_is_known() -> None:
    state = oracles.new()
    perpetual = market.instrument("BTC-PERP", venue="p", kind="perpetual", expiry_at=None, quote_currency="USD")
    tick(state, [*three(), perpetual, top("p", "BTC-PERP", 60_300.0, 60_300.0)])
    _, sources = tick(state, three(ms=T0 + 150), T0 + 200)
    assert sources["p:perpetual:BTC-PERP"]["reason"] == "a perpetual whose basis is not known yet"
    for n in range(3, 620):
        price, sources = tick(state, three(ms=T0 + n * 100 - 50) if n % 10 == 0 else [], T0 + n * 100)
    assert sources["p:perpetual:BTC-PERP"]["reason"] is None
    assert sources["p:perpetual:BTC-PERP"]["price_usd"] == pytest.approx(60_000.0)
    assert price is not None and price["venue_count"] == 4


def test_a_venue_of_our_own_never_feeds_the_price() -> None:
    price, sources = tick(oracles.new(), [index("paper", 1.0)])
    assert price is None and "of our own" in sources["paper:index:BTC"]["reason"]
    assert sources["paper:index:BTC"]["weight"] == 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"confidence_usd": 0.0}, "a confidence of zero"),
        ({"confidence_usd": 170_000.0}, "a confidence above the price"),
        ({"event_at": instant_ms(T0 + 3_000)}, "more than 1 s from the future"),
    ],
)
def test_a_price_that_its_publisher_is_not_sure_of_or_from_the_future_is_left_out_with_its_reason(
    changed: Row, reason: str
) -> None:
    price, sources = tick(oracles.new(), [*three()[:2], index("c", 99_999.0, **changed)])
    assert price is not None
    assert (price["source_count"], price["validity"]) == (2, "insufficient_data")
    assert (sources["c:index:BTC"]["reason"], sources["c:index:BTC"]["weight"]) == (reason, 0)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (update("x", -1.0), "price"),
        (update("x", 1.0, confidence=-1.0), "confidence"),
        (update("x", 1.0, quote_currency="usd"), "quote_currency"),
        (update("x", math.inf), "price"),
        (update("x", 1.0, event_at=instant_ms(T0 + 7_000)), "event_at"),
        (update("x", 1.0, event_at=instant_ms(T0 // 1000)), "event_at"),
        (index("x", 0.0), "price_usd"),
        (index("x", 1.0, event_at=instant_ms(T0 + 7_000)), "event_at"),
    ],
)
def test_a_bad_price_is_a_dead_letter_and_costs_its_neighbours_nothing(message: Message, field: str) -> None:
    state = oracles.new()
    (letter,) = oracles.step(state, [*three(), message], T0 + 100)
    assert (letter.table, letter.row["field"]) == ("dead_letters", field)
    assert [row["price_usd"] for row in rows(oracles.end_window(state, T0 + 100), "oracle_prices")] == [60_000.0]


def test_a_venues_clock_is_no_age() -> None:
    row = {"venue": "a", **market.at(T0 + 1_270), "offset_ms": 1_270}
    _, sources = tick(oracles.new(), [Message("venue_times", 0, 0, row), index("a", 60_000.0, T0 + 1_270)])
    assert sources["a:index:BTC"]["age_ms"] == 100.0 and sources["a:index:BTC"]["reason"] is None


def test_a_stale_book_a_book_with_one_side_and_an_unlisted_one_do_not_count_and_a_quiet_one_does() -> None:
    state = oracles.new()
    _, sources = tick(state, [spot("a"), top("a", "BTC-USD", 59_999.0, 60_001.0), top("a", "ETH-USD", 1.0, 2.0)])
    assert list(sources) == ["consensus", "a:mid:BTC-USD"]
    _, sources = tick(state, [], T0 + 60_000)
    assert sources["a:mid:BTC-USD"]["reason"] is None
    for stale in (top("a", "BTC-USD", 1.0, 2.0, T0 + 60_010, True), top("a", "BTC-USD", 1.0, None, T0 + 60_020)):
        _, sources = tick(state, [stale], T0 + 60_200 + (stale.row["ask_price"] is None) * 100)
        assert sources["a:mid:BTC-USD"]["price_usd"] is None and sources["a:mid:BTC-USD"]["weight"] == 0


def test_a_trade_that_is_none_of_the_market_does_not_count() -> None:
    _, sources = tick(oracles.new(), [spot("a"), trade("a", 60_000.0, T0), trade("a", 1.0, T0 + 5, off_market="adl")])
    assert sources["a:last:BTC-USD"]["price_usd"] == 60_000.0


def habits(state: State, until: int, gap_ms: int = 100) -> dict[str, Row]:
    """Three sources that speak every `gap_ms`, each price a new one."""
    sources: dict[str, Row] = {}
    for n in range(1, until):
        spoken = three(60_000.0 + n % 7, T0 + n * 100 - 50) if n * 100 % gap_ms == 0 else []
        _, sources = tick(state, spoken, T0 + n * 100)
    return sources


def test_a_source_has_the_limits_of_its_own_habit() -> None:
    assert habits(oracles.new(), 20)["a:index:BTC"]["limit_ms"] == 2_000.0
    row = habits(oracles.new(), 200, 500)["a:index:BTC"]
    assert (row["gap_ms"], row["limit_ms"], row["still_limit_ms"]) == (500.0, 10_000.0, 10_000.0)
    assert habits(oracles.new(), 4)["a:index:BTC"]["limit_ms"] is None


def test_a_source_that_does_not_move_with_the_others_lags_since_they_did() -> None:
    state = oracles.new()
    habits(state, 30)
    for n in range(30, 60):
        ms = T0 + n * 100
        late = index("a", 60_000.0 + 0.01 * n, ms - 50)
        _, sources = tick(state, [late, index("b", 61_000.0, ms - 50), index("c", 61_000.0, ms - 50)], ms)
    row = sources["a:index:BTC"]
    assert row["lag_ms"] == pytest.approx(3_000.0, abs=101)
    assert row["still_ms"] == 50.0 and row["deviation"] < -0.01 and row["age_ms"] == 50.0
    assert sources["b:index:BTC"]["lag_ms"] == 0


def test_a_frozen_source_is_still_while_the_others_have_moved() -> None:
    state = oracles.new()
    habits(state, 30)
    for n in range(30, 60):
        ms = T0 + n * 100
        _, sources = tick(state, [index("a", 60_001.0, ms - 50), *three(60_000.0 + 10 * n, ms - 50)[1:]], ms)
    row = sources["a:index:BTC"]
    assert row["still_ms"] > row["still_limit_ms"] and row["age_ms"] < row["limit_ms"]
    assert row["moved"] == pytest.approx(590 / 60_000, rel=0.05)


def test_the_others_have_moved_also_where_they_came_back() -> None:
    state = oracles.new()
    habits(state, 30)
    for n in range(30, 60):
        ms, away = T0 + n * 100, 600.0 if n == 40 else 0.0
        _, sources = tick(state, [index("a", 60_001.0, ms - 50), *three(60_000.0 + away + n % 5, ms - 50)[1:]], ms)
    row = sources["a:index:BTC"]
    assert abs(row["deviation"]) < 1e-4 and row["moved"] == pytest.approx(600 / 60_000, rel=0.02)
    _, sources = tick(state, [index("a", 60_002.0, T0 + 5_950)], T0 + 6_000)
    assert abs(sources["a:index:BTC"]["moved"]) < 1e-4


def test_a_price_of_few_digits_is_not_still_while_the_others_move_by_its_steps() -> None:
    state = oracles.new()
    for n in range(1, 80):
        # It shows hundreds.
        shown = 60_000.0 + 100 * min(n // 5, 10)
        ms = T0 + n * 100
        _, sources = tick(state, [index("a", shown, ms - 50), *three(60_000.0 + 20 * min(n, 56), ms - 50)[1:]], ms)
    row = sources["a:index:BTC"]
    assert row["still_ms"] > 2_500 and row["moved"] == 0
    _, sources = tick(state, three(61_500.0, T0 + 7_950)[1:], T0 + 8_000)
    assert sources["a:index:BTC"]["moved"] == pytest.approx(500 / 61_000, rel=0.05)


def test_a_price_that_the_others_went_past_between_two_ticks_is_that_old() -> None:
    state = oracles.new()
    habits(state, 30)
    for n in range(30, 40):
        # A per cent each 100 ms, and one source is four ticks behind at half of the way from one to the next.
        ms, step = T0 + n * 100, 600.0
        late = index("a", 60_000.0 + step * (max(n - 34, 0) + 0.5), ms - 50)
        _, sources = tick(state, [late, *three(60_000.0 + step * (n - 29), ms - 50)[1:]], ms)
    row = sources["a:index:BTC"]
    assert row["deviation"] < -0.03
    assert row["lag_ms"] == pytest.approx(450.0, abs=60)


def test_time_that_steps_back_is_told_once_and_its_price_does_not_count_nor_does_a_repeated_one() -> None:
    state = oracles.new()
    tick(state, [*three(), index("a", 60_000.0, T0 + 90)])
    again = index("a", 60_000.0, T0, received_at=instant_us(T0 * 1000 + 190_000))
    _, sources = tick(state, [again], T0 + 200)
    assert sources["a:index:BTC"]["step_back_ms"] == 0
    back = index("a", 1.0, T0 - 5_000, received_at=instant_us(T0 * 1000 + 250_000))
    _, sources = tick(state, [back], T0 + 300)
    assert (sources["a:index:BTC"]["step_back_ms"], sources["a:index:BTC"]["price_usd"]) == (5_090, 60_000.0)
    _, sources = tick(state, [], T0 + 400)
    assert sources["a:index:BTC"]["step_back_ms"] == 0


def tape(seed: int, ticks: int = 60) -> list[list[Message]]:
    chance = random.Random(seed)
    batches: list[list[Message]] = []
    perpetual = market.instrument("BTC-PERP", venue="d", kind="perpetual", expiry_at=None, quote_currency="USD")
    for n in range(1, ticks):
        ms, price = T0 + n * 100 - 60, 60_000.0 + chance.gauss(0, 20)
        batch = [
            index(venue, price + chance.gauss(0, 3), ms + chance.randrange(50)) for venue in "abc" if chance.random() < 0.8
        ]
        batch += [update("pyth", price, ms), index("a", 1.0 + chance.gauss(0, 1e-4), ms, underlying="USDT")]
        batch += [index("e", price, ms, quote_currency="USDT"), top("d", "BTC-PERP", price + 9, price + 11, ms)]
        batches.append(([perpetual] if n == 1 else []) + batch)
    return batches


def played(batches: list[list[Message]], chance: random.Random | None = None, cut: int | None = None) -> list[Lines]:
    stored = Stored(oracles)
    lines: list[Lines] = []
    for n, spoken in enumerate(batches, 1):
        if chance:
            spoken = chance.sample(spoken, len(spoken)) + chance.sample(spoken, len(spoken) // 2)
        oracles.step(stored.state, spoken, T0 + n * 100)
        lines += oracles.end_window(stored.state, T0 + n * 100)
        stored.store()
        if n == cut:
            stored.restart()
    return lines


def test_neither_the_order_of_arrival_nor_repeated_prices_nor_a_restart_change_a_byte() -> None:
    batches = tape(3)
    straight = played(batches)
    assert played(batches, random.Random(5)) == straight
    for cut in (1, 20, 40):
        assert played(batches, cut=cut) == straight


def test_a_shard_writes_what_is_its_own_and_needs_the_rates_of_others() -> None:
    tether = [index(venue, 0.5, underlying="USDT") for venue in ("a", "b", "c")]
    other = [index("a", 9.0, underlying="ETH")]
    written = []
    for own in ("BTC", "USDT", "ETH"):
        state = KERNEL.new()
        assert KERNEL.set_keys is not None
        KERNEL.set_keys(state, ("BTC", "USDT", "ETH", "USDC").index, ("BTC", "USDT", "ETH").index(own))
        oracles.step(state, [*tether, *other, index("a", 60_000.0, quote_currency="USDT")], T0 + 100)
        written.append(
            {row["underlying"]: row["price_usd"] for row in rows(oracles.end_window(state, T0 + 100), "oracle_prices")}
        )
    assert written == [{"BTC": 30_000.0}, {"USDT": 0.5}, {"ETH": 9.0}]


def test_a_source_is_forgotten_after_a_day_of_silence_and_the_underlying_with_its_last() -> None:
    stored = Stored(oracles)
    tick(stored.state, three())
    stored.store()
    assert len(stored.entries) == 4
    oracles.step(stored.state, [], T0 + oracles.KEPT_MS + 1)
    stored.store()
    assert stored.entries == {} and not any(oracles.gauges(stored.state).values())


def test_an_underlying_is_short_of_sources_while_too_few_of_enough_venues_count() -> None:
    def short(state: State) -> float:
        return oracles.gauges(state)["underlyings_short_of_sources"]

    state = oracles.new()
    tick(state, three())
    assert short(state) == 0
    tick(state, three()[:2], T0 + 200)
    for n in range(3, 130):  # the third is older than 10 s
        tick(state, [index(venue, 60_000.0, T0 + n * 100 - 50) for venue in ("a", "b")], T0 + n * 100)
    assert short(state) == 1
    assert KERNEL.set_keys is not None
    KERNEL.set_keys(state, ("BTC", "ETH").index, 1)  # its price is another shard's
    assert short(state) == 0
    few = oracles.new()
    tick(few, three()[:2])
    assert short(few) == 0  # there never were three


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="oracles: pool/BTC is stored as version 9"):
        oracles.new().decode("pool/BTC", b"\x09[]")


@pytest.mark.parametrize("name", ["pyth", "chainlink", "deribit"])
def test_another_set_of_rules_makes_the_price(name: str) -> None:
    price, _ = tick(State(rules(name)), [index("a", 60_000.0), index("b", 60_010.0), index("c", 60_900.0)])
    assert price is not None
    expected = {"pyth": 60_010.0, "chainlink": 60_010.0, "deribit": (60_000 + 60_010 + 60_010 * 1.005) / 3}
    assert price["price_usd"] == pytest.approx(expected[name], abs=6.1 if name == "pyth" else 1e-6)
    assert price["rules"] == f"{name}/1"
