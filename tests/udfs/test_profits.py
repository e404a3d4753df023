"""What is won equals what is lost."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.profits import FUND, VENUE, grouped, profits

TERMS: dict[tuple[str, str], dict[str, Any]] = {
    ("v", "P"): {"kind": "perpetual", "is_inverse": False, "settlement_currency": "USDC", "contract_size": 0.01},
    ("v", "I"): {"kind": "perpetual", "is_inverse": True, "settlement_currency": "BTC", "contract_size": 10.0},
    ("v", "O"): {"kind": "option", "is_inverse": True, "settlement_currency": "BTC", "contract_size": None},
}
MARKS = {("v", "P"): 95.0, ("v", "I"): 50_000.0, ("v", "O"): 0.031}


def fill(account: str, instrument: str, side: str, price: str, size: str, fee: str = "0") -> dict[str, Any]:
    return {"account": account, "venue": "v", "instrument": instrument, "side": side, "price": price, "size": size, "fee": fee}


def test_a_long_perpetual_loses_the_fall_times_its_contracts_and_its_fee() -> None:
    result = profits([fill("a", "P", "buy", "100", "200", "0.3"), fill("b", "P", "sell", "100", "200")], TERMS, MARKS)
    assert result["a", "USDC"].total == Fraction(-10) - Fraction("0.3")
    assert result["b", "USDC"].total == 10
    assert result[VENUE, "USDC"].total == Fraction("0.3")


def test_an_inverse_perpetual_is_worth_the_difference_of_reciprocals() -> None:
    # Of BitMEX's guide: contracts × (1/entry − 1/exit).
    result = profits([fill("a", "I", "buy", "40000", "100"), fill("b", "I", "sell", "40000", "100")], TERMS, MARKS)
    assert result["a", "BTC"].total == 1000 * (Fraction(1, 40_000) - Fraction(1, 50_000))


def test_what_the_fund_pays_is_its_own_loss_and_a_deposit_is_no_profit() -> None:
    rows: list[dict[str, Any]] = [
        {"account": "a", "currency": "USDC", "amount": "7.5", "kind": "insurance"},
        {"account": "a", "currency": "USDC", "amount": "1000", "kind": None},
    ]
    result = profits([], TERMS, MARKS, rows)
    assert (result["a", "USDC"].total, result[FUND, "USDC"].total) == (Fraction("7.5"), Fraction("-7.5"))


def test_held_without_a_mark_is_refused() -> None:
    with pytest.raises(KeyError):
        profits([fill("a", "P", "buy", "100", "1")], TERMS, {})


def test_groups_are_accounts_without_their_number() -> None:
    result = profits([fill("maker-1", "P", "buy", "90", "100"), fill("maker-22", "P", "buy", "90", "100")], TERMS, MARKS)
    assert grouped(result)["maker", "USDC"].total == 10


TRADES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from("abcd"),
        st.sampled_from(["P", "I", "O"]),
        st.decimals("0.0001", "90000", places=4),
        st.decimals("0.001", "1000", places=3),
        st.decimals("-1", "1", places=6),
    ),
    max_size=30,
)


@given(TRADES)
def test_all_profits_sum_to_zero_in_each_currency_to_the_last_digit(trades: list[tuple[Any, ...]]) -> None:
    fills: list[dict[str, Any]] = []
    for buyer, seller, instrument, price, size, fee in trades:
        fills += [fill(buyer, instrument, "buy", price, size, fee), fill(seller, instrument, "sell", price, size)]
    result = profits(fills, TERMS, MARKS)
    for currency in ("USDC", "BTC"):
        assert sum((profit.total for (_, unit), profit in result.items() if unit == currency), Fraction(0)) == 0
