"""Which index values what: the rule, and each kernel that follows it."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import liquidations, positions
from kernels.chains import forwards
from kernels.liquidations.pricing import forward_prices
from kernels.market import indices
from kernels.market.indices import Series, chosen, own_currency, preference
from schemas.rows import fault, instant_ms
from tests.kernels.market import DAY, EXPIRY, T0, at, index, instrument, ticker
from tests.kernels.obeying import READ
from tests.kernels.stored import Stored

MINUTE = 60_000
USD, USDC, USDT = 20_000.0, 22_700.0, 20_400.0
PRICES = {"USD": USD, "USDC": USDC, "USDT": USDT}
STRIKE = 19_000.0


@pytest.mark.parametrize(
    ("quote", "settlement", "is_inverse", "own"),
    [
        ("BTC", "BTC", True, "USD"),
        ("USD", "BTC", True, "USD"),
        ("USDC", "USDC", False, "USDC"),
        ("USDT", "USDT", False, "USDT"),
        ("USD", "USDC", False, "USD"),
        ("BTC", "USD", False, "USD"),
    ],
)
def test_a_contracts_own_currency(quote: str, settlement: str, is_inverse: bool, own: str) -> None:
    row = {"underlying": "BTC", "quote_currency": quote, "settlement_currency": settlement, "is_inverse": is_inverse}
    assert own_currency(row) == own


def test_the_own_currency_comes_first_then_usd_usdc_and_usdt() -> None:
    assert preference("USD") == ("USD", "USDC", "USDT")
    assert preference("USDC") == ("USDC", "USD", "USDT")
    assert preference("USDT") == ("USDT", "USD", "USDC")
    assert preference("FDUSD") == ("FDUSD", "USD", "USDC", "USDT")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["USD", "USDC", "USDT", "EUR"]), st.integers(0, 2 * DAY))))
def test_what_is_chosen_is_of_one_currency_the_first_that_speaks_and_does_not_depend_on_the_order(
    series: list[tuple[str, str, int]],
) -> None:
    for own in ("USD", "USDC", "USDT"):
        found = chosen([(one, one[1], one[2]) for one in series], own)
        newest = max((ms for *_, ms in series), default=0)
        speaking = [one for one in series if newest - one[2] < DAY]
        first = next((quote for quote in preference(own) if quote in {one[1] for one in speaking}), None)
        assert sorted(found) == sorted(one for one in speaking if one[1] == first)


@given(st.sampled_from(["v", "deribit"]), st.sampled_from(["BTC", "ETH"]), st.sampled_from(["USD", "USDC", "EUR"]))
def test_a_series_is_found_again_by_its_name(venue: str, underlying: str, quote: str) -> None:
    assert Series.of_name(Series(venue, underlying, quote).name) == (venue, underlying, quote)


def test_a_row_without_a_currency_is_in_usd() -> None:
    assert indices.quoted_in({}) == indices.quoted_in({"quote_currency": None}) == "USD"


def test_a_currency_that_is_none_is_a_dead_letter() -> None:
    (letter,) = forwards.step(forwards.new(), [index(USD, quote="usd")], T0 + 50)
    assert letter.table == "dead_letters" and letter.row["field"] == "quote_currency"


# Settlement


def option(name: str, quote: str, venue: str = "deribit", **changed: Any) -> Message:
    in_coin = quote == "BTC"
    terms: dict[str, Any] = {"quote_currency": quote, "settlement_currency": quote, "is_inverse": in_coin}
    return instrument(name, venue=venue, **terms | {"strike_usd": STRIKE} | changed)


def fill(name: str, venue: str = "deribit") -> Message:
    row = {"account": "a", "venue": venue, "instrument": name, **at(T0), "fill_id": name, "side": "buy", "fee": "0"}
    return Message("fills", 0, 0, row | {"price": "0.001", "size": "1"})


def settlements(outputs: list[Output]) -> dict[str, float]:
    """At what price each instrument was settled."""
    rows = [output.row for output in outputs if output.table == "ledger_entries" and output.row["kind"] == "settlement"]
    return {row["asset"].partition(":")[2]: float(row["price"]) for row in rows if ":" in row["asset"]}


def settled(told: list[Message], *contracts: Message, cut: random.Random | None = None) -> dict[str, float]:
    """The settlement prices of contracts that an account holds, after these index prices in the order given, each a batch."""
    ledger = Stored(positions)
    positions.step(ledger.state, [*contracts, *(fill(one.row["instrument"], one.row["venue"]) for one in contracts)], T0 + 50)
    ledger.store()
    for message in told:
        positions.step(ledger.state, [message], EXPIRY - 1)
        ledger.store()
        if cut:
            ledger.restart(cut)
    return settlements(positions.step(ledger.state, [], EXPIRY))


def half_hour(prices: dict[str, float] = PRICES, venue: str = "deribit") -> list[Message]:
    """Index prices of each currency, each minute of the half hour before the expiry."""
    return [
        index(price, EXPIRY - minute * MINUTE + n, venue=venue, quote=quote)
        for minute in range(31, 0, -1)
        for n, (quote, price) in enumerate(prices.items())
    ]


INVERSE, LINEAR_C, LINEAR_T = option("INVERSE", "BTC"), option("LINEAR_C", "USDC"), option("LINEAR_T", "USDT")


def worth(price: float, *, in_coin: bool = False) -> float:
    value = max(price - STRIKE, 0.0)
    return value / price if in_coin else value


def test_each_option_is_settled_by_the_index_of_its_own_currency() -> None:
    found = settled(half_hour(), INVERSE, LINEAR_C, LINEAR_T)
    assert found == {
        "INVERSE": pytest.approx(worth(USD, in_coin=True), rel=1e-12),
        "LINEAR_C": pytest.approx(worth(USDC), rel=1e-12),
        "LINEAR_T": pytest.approx(worth(USDT), rel=1e-12),
    }


def test_a_call_between_two_indices_expires_worthless() -> None:
    assert settled(half_hour({"USD": USD, "USDC": USDC}), option("X", "BTC", strike_usd=21_000.0)) == {"X": 0.0}


def test_futures_are_settled_by_their_own_index_too() -> None:
    terms: dict[str, Any] = {"kind": "future", "option_type": None, "strike_usd": None}
    inverse = option("I", "USD", is_inverse=True, settlement_currency="BTC", **terms)
    assert settled(half_hour(), inverse, option("C", "USDC", **terms), option("T", "USDT", **terms)) == {
        "I": USD,
        "C": USDC,
        "T": USDT,
    }


@pytest.mark.parametrize("own", ["BTC", "USDC", "USDT"])
@pytest.mark.parametrize("published", [names for n in (1, 2, 3) for names in itertools.combinations(PRICES, n)])
def test_what_has_no_index_of_its_own_falls_back_to_usd_then_usdc_then_usdt(own: str, published: tuple[str, ...]) -> None:
    in_order = preference("USD" if own == "BTC" else own)
    price = PRICES[next(quote for quote in in_order if quote in published)]
    found = settled(half_hour({quote: PRICES[quote] for quote in published}), option("X", own))
    assert found == {"X": pytest.approx(worth(price, in_coin=own == "BTC"), rel=1e-12)}


def test_the_currency_is_chosen_before_the_venue() -> None:
    told = half_hour({"USD": USD}) + half_hour({"USDC": USDC}, "okx")
    assert settled(told, LINEAR_C) == {"LINEAR_C": pytest.approx(worth(USDC))}
    assert settled(told, INVERSE) == {"INVERSE": pytest.approx(worth(USD, in_coin=True))}


def test_of_several_venues_in_one_currency_the_own_comes_first_else_the_middle_one() -> None:
    others = half_hour({"USDC": 21_000.0}, "a") + half_hour({"USDC": 22_000.0}, "b") + half_hour({"USDC": 30_000.0}, "c")
    assert settled(others + half_hour({"USD": USD}), LINEAR_C) == {"LINEAR_C": pytest.approx(worth(22_000.0))}
    assert settled(others + half_hour({"USDC": USDC}), LINEAR_C) == {"LINEAR_C": pytest.approx(worth(USDC))}


def test_a_series_that_fell_silent_long_ago_does_not_settle() -> None:
    long_ago = index(5_000.0, EXPIRY - 2 * DAY, venue="deribit", quote="USDC")
    assert settled([long_ago, *half_hour({"USD": USD})], LINEAR_C) == {"LINEAR_C": pytest.approx(worth(USD))}
    assert settled([index(USDC, EXPIRY - 2 * DAY, quote="USDC")], LINEAR_C) == {"LINEAR_C": pytest.approx(worth(USDC))}


@given(st.randoms(use_true_random=False))
def test_series_do_not_disturb_one_another_whatever_the_order_of_arrival(chance: random.Random) -> None:
    series = [half_hour({quote: price}) for quote, price in PRICES.items()]
    mixed: list[Message] = []
    while any(series):
        mixed.append(chance.choice([one for one in series if one]).pop(0))
    assert settled(mixed, INVERSE, LINEAR_C, LINEAR_T) == settled(half_hour(), INVERSE, LINEAR_C, LINEAR_T)


def test_a_state_that_is_put_back_again_and_again_settles_alike() -> None:
    told = half_hour()
    assert settled(told, INVERSE, LINEAR_C, LINEAR_T, cut=random.Random(1)) == settled(told, INVERSE, LINEAR_C, LINEAR_T)


def test_an_index_that_was_stored_without_a_currency_is_in_usd() -> None:
    state = positions.new()
    state.decode("index/deribit:BTC", b'\x03[1700000000000,"20000",{}]')
    assert state.indices.keys() == {Series("deribit", "BTC", "USD")}
    assert state.encode("index/deribit:BTC") == b'\x03[1700000000000,"20000",{}]'


def test_what_is_told_at_a_venues_own_time_bears_a_timestamp_within_its_batch() -> None:
    ahead = fill("INVERSE")._replace(row=fill("INVERSE").row | at(T0 + 1270))
    outputs = positions.step(positions.new(), [INVERSE, ahead], T0 + 50)
    assert {output.event_ms for output in outputs} == {T0 + 49}
    assert {output.row["event_at"] for output in outputs} == {instant_ms(T0 + 1270)}


# The index of a chain


def indexed(*messages: Message) -> list[tuple[Any, ...]]:
    outputs = forwards.step(forwards.new(), list(messages), T0 + 1000)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return [(output.row["forward_usd"], output.row["index_usd"], output.row["quote_currency"]) for output in outputs]


ALL = [index(USD, T0, quote="USD"), index(USDC, T0 + 5, quote="USDC"), index(USDT, T0 + 9, quote="USDT")]


@pytest.mark.parametrize("told", list(itertools.permutations(ALL)))
def test_a_chains_index_is_that_of_its_own_currency(told: tuple[Message, ...]) -> None:
    assert indexed(INVERSE, *told) == [(USD, USD, "USD")]
    assert indexed(LINEAR_C, *told) == [(USDC, USDC, "USDC")]
    assert indexed(LINEAR_T, *told) == [(USDT, USDT, "USDT")]
    assert indexed(INVERSE, LINEAR_C, LINEAR_T, *told) == [(USD, USD, "USD")]


def test_the_index_of_a_ticker_is_in_the_currency_of_its_contract() -> None:
    tickers = [ticker("INVERSE", T0, index_price_usd=USD), ticker("LINEAR_C", T0 + 5, index_price_usd=USDC)]
    assert indexed(INVERSE, LINEAR_C, *tickers) == [(USD, USD, "USD")]
    other = option("LINEAR_C", "USDC", expiry_at=instant_ms(EXPIRY + DAY))
    assert indexed(INVERSE, other, *tickers) == [(USD, USD, "USD"), (USDC, USDC, "USDC")]


def test_a_venues_own_index_in_another_currency_does_not_go_before_anothers_in_the_right_one() -> None:
    own, others = index(USD, venue="deribit"), index(USDC, venue="oracle", quote="USDC")
    assert indexed(LINEAR_C, own, others) == [(USDC, USDC, "USDC")]
    assert indexed(LINEAR_T, own, others) == [(USD, USD, "USDT")]


# Margin


def ticked(name: str, ms: int = T0, **told: Any) -> Message:
    return ticker(name, ms, **{"mark_price": 0.05} | told)


def balance(currency: str, amount: str) -> Message:
    row = {"account": "a", "currency": currency, **at(T0), "amount": amount, "cause_id": "t"}
    return Message("balances", 0, 0, row)


def equity(*messages: Message) -> float | None:
    """Of an account with one coin."""
    outputs = liquidations.step(liquidations.new(), [balance("BTC", "1"), *messages], T0 + 50)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    (row,) = [output.row for output in outputs if output.table == "account_margin"]
    found: float | None = row["equity_usd"]
    return found


@pytest.mark.parametrize("told", list(itertools.permutations(ALL)))
def test_a_coin_is_worth_its_index_in_usd(told: tuple[Message, ...]) -> None:
    assert equity(*told) == USD
    assert equity(*(one for one in told if one.row["quote_currency"] != "USD")) == USDC
    assert equity(*(one for one in told if one.row["quote_currency"] == "USDT")) == USDT


def test_the_index_that_a_ticker_tells_does_not_value_coins_where_there_is_one_in_usd() -> None:
    perpetual: dict[str, Any] = {"kind": "perpetual", "option_type": None, "strike_usd": None, "expiry_at": None}
    linear, inverse = option("P_C", "USDC", **perpetual), option("P", "USD", is_inverse=True, **perpetual)
    tickers = [ticker("P", T0, index_price_usd=USD), ticker("P_C", T0 + 5, index_price_usd=USDC)]
    assert equity(linear, inverse, *tickers) == USD
    assert equity(linear, tickers[1]) == USDC


def test_an_option_without_a_forward_is_margined_by_the_index_of_its_own_currency() -> None:
    def maintenance(contract: Message, *told: Message) -> float:
        name = contract.row["instrument"]
        held = {"account": "a", "venue": "deribit", "instrument": name, **at(T0), "size": "-1", "average_price": "1"}
        row = held | {"realised_pnl": "0", "settlement_currency": "USDC", "fill_id": "f"}
        state = liquidations.new()
        liquidations.step(state, [contract, ticked(name, mark_price=100.0), *told, Message("positions", 0, 0, row)], T0 + 50)
        # Of an option far in the money: 7.5 % of the forward and its mark, in its quote currency.
        assert state.valuation is not None
        return float(state.valuation.maintenance[0])

    assert maintenance(LINEAR_C, *ALL) == pytest.approx(0.075 * USDC + 100.0)
    assert maintenance(LINEAR_T, *ALL) == pytest.approx(0.075 * USDT + 100.0)
    assert maintenance(LINEAR_T, *ALL[:2]) == pytest.approx(0.075 * USD + 100.0)


def test_a_state_of_margin_that_is_put_back_values_by_the_same_indices() -> None:
    market = Stored(liquidations)
    liquidations.step(market.state, [INVERSE, LINEAR_C, LINEAR_T, *ALL, balance("BTC", "1")], T0 + 50)
    market.store()
    before = forward_prices(market.state.accounts)
    names = dict(market.state.accounts.contract_columns.rows)
    market.restart()
    after = forward_prices(market.state.accounts)
    assert {name: before[row] for name, row in names.items()} == {
        name: after[row] for name, row in market.state.accounts.contract_columns.rows.items()
    }


def test_terms_that_version_3_of_margin_stored_are_valued_in_what_they_are_settled_in() -> None:
    state = liquidations.new()
    for settlement, is_inverse in (("USDC", "false"), ("BTC", "true")):
        stored = f'[1,"option","BTC","{settlement}",{is_inverse},"call",19000.0,1.0,1700604800000]'
        state.decode(f"instrument/v:{settlement}", b"\x03" + stored.encode())
    assert {name: terms.index_currency for name, terms in state.accounts.terms.items()} == {"v:USDC": "USDC", "v:BTC": "USD"}


# The guards of liquidations


def guarded(*messages: Message) -> dict[str, tuple[float, float]]:
    state = liquidations.new()
    for n, message in enumerate(messages):
        liquidations.step(state, [message], T0 + 1000 * (n + 1))
    return {name: (guard.price, guard.average) for name, guard in state.decisions.guards.items() if name.startswith("index")}


def test_each_currency_has_its_own_guard() -> None:
    told = [
        index(price, T0 + 1000 * n, quote=quote)
        for n, (quote, price) in enumerate([("USD", USD), ("USDC", USDC), ("USDT", USDT)] * 20)
    ]
    found = guarded(*told)
    assert found.keys() == {"index of BTC", "index of BTC:USDC", "index of BTC:USDT"}
    for price, average in found.values():
        assert price in PRICES.values() and average == pytest.approx(price)


def test_a_row_without_a_currency_and_one_in_usd_have_the_same_guard() -> None:
    assert guarded(index(USD, T0), index(USD, T0 + 1000, quote="USD")).keys() == {"index of BTC"}


WILD = 1e6


@pytest.mark.parametrize(
    ("wild", "known", "held"),
    [
        ("USDC", ("USD", "USDC"), "too volatile: index of BTC:USDC"),
        ("USD", ("USD", "USDC"), None),
        ("USDT", ("USD", "USDT"), None),
        ("USD", ("USD", "USDT"), "too volatile: index of BTC"),
    ],
)
def test_an_account_is_held_by_the_guard_of_the_index_that_values_what_it_has(
    wild: str, known: tuple[str, ...], held: str | None
) -> None:
    """It is long of a contract in USDC, which has lost more than it can bear."""
    contract = option("PERP", "USDC", kind="perpetual", option_type=None, strike_usd=None, expiry_at=None)
    held_row = {"account": "a", "venue": "deribit", "instrument": "PERP", **at(T0), "size": "1", "average_price": str(USDC)}
    position = Message("positions", 0, 0, held_row | {"realised_pnl": "0", "settlement_currency": "USDC", "fill_id": "f"})
    state = liquidations.new()
    calm = [index(PRICES[quote], T0, quote=quote) for quote in known]
    liquidations.step(state, [READ, contract, position, balance("USDC", "5000"), *calm], T0 + 50)
    after = [index(WILD if quote == wild else PRICES[quote], T0 + 1000, quote=quote) for quote in known]
    outputs = liquidations.step(state, [*after, ticked("PERP", T0 + 1000, mark_price=17_800.0)], T0 + 1050)
    assert state.decisions.cases["a"].held == held
    assert any(output.table == "liquidation_orders" for output in outputs) == (held is None)
