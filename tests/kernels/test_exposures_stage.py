"""The stage of exposures: states of limits, what is told of whom, and that its turns are the same after a restore."""

import random
from typing import Any
from unittest import mock

import pytest

from engine.contract import Message, Output
from kernels import liquidations
from kernels.liquidations import KERNEL, exposures
from schemas.rows import fault, instant_ms, instant_us
from tests.kernels.hedging import T0, at, limit, member, terms, ticker
from tests.kernels.stored import Stored


def position(account: str, size: float, ms: int, name: str = "P", average: int = 60_000) -> Message:
    row = {"account": account, "venue": "v", "instrument": name, **at(ms), "size": str(size), "average_price": str(average)}
    row |= {"realised_pnl": "0", "settlement_currency": "USDC", "fill_id": "f"}
    return Message("positions", 0, ms, row)


def balance(account: str, amount: float, ms: int, currency: str = "USDC") -> Message:
    row: dict[str, Any] = {"account": account, "currency": currency, "event_at": instant_ms(ms), "amount": str(amount)}
    row |= {"received_at": instant_us(ms * 1000), "margin_model": None, "cause": "c", "cause_id": "i"}
    return Message("balances", 0, ms, row)


class Accounts:
    """The kernel, window by window."""

    def __init__(self, *first: Message) -> None:
        self.stored = Stored(liquidations)
        self.now_ms = T0
        self.outputs: list[Output] = []
        self.run(terms(), ticker(T0, mark_price=60_000.0), *first)

    def run(self, *messages: Message) -> dict[str, list[dict[str, Any]]]:
        """One window; returns its rows by table."""
        self.now_ms += 100
        rows: dict[str, list[dict[str, Any]]] = {}
        messages = messages or (ticker(self.now_ms - 50, mark_price=60_000.0),)
        for output in KERNEL.step(self.stored.state, list(messages), self.now_ms):
            self.outputs.append(output)
            assert fault(output.table, output.row) is None, fault(output.table, output.row)
            rows.setdefault(output.table, []).append(dict(output.row))
        return rows

    def told(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table so far."""
        return [dict(output.row) for output in self.outputs if output.table == table]


def test_without_limits_there_are_no_rows() -> None:
    accounts = Accounts(balance("mm", 1e6, T0), position("mm", 500, T0))
    for _ in range(12):
        assert not {"risk_exposures", "limit_breaches"} & accounts.run().keys()


def test_a_breach_is_told_when_it_begins_and_when_it_is_over() -> None:
    accounts = Accounts(balance("mm", 1e6, T0), limit())
    states = []
    for size in (100, 200, 160, 150, 160, 100, -170):  # a contract is 60 USD
        rows = accounts.run(position("mm", size, accounts.now_ms + 10))
        states += [(row["state"], row["from_state"], row["exposure"]) for row in rows.get("limit_breaches", [])]
    assert states == [("breached", "within", 12_000.0), ("within", "breached", 9_000.0), ("breached", "within", -10_200.0)]


def test_the_first_rows_of_a_breach_are_its_exposures_and_more_follow_while_it_is_hedged() -> None:
    index = {"venue": "v", "underlying": "BTC", **at(T0), "price_usd": 50_000.0, "quote_currency": None}
    cash = [balance("mm", 1e6, T0), balance("mm", 2.0, T0, "BTC"), Message("index_prices", 0, 0, index)]
    accounts = Accounts(*cash, limit(enter=150_000.0))
    accounts.run(position("mm", -5_000, T0 + 120))
    sums, cell = accounts.told("risk_exposures")
    assert (sums["underlying"], sums["rows_count"], sums["part"]) == (None, 2, 0)
    assert sums["equity_usd"] == pytest.approx(1e6 + 2 * 50_000.0)
    assert (cell["underlying"], cell["expiry_bucket"]) == ("BTC", "perpetual")
    assert cell["delta_usd"] == pytest.approx(-5_000 * 60.0 + 2 * 50_000.0)
    assert cell["gross_usd"] == pytest.approx(5_000 * 60.0)
    before = len(accounts.outputs)
    for _ in range(3):
        assert len(accounts.run()["risk_exposures"]) == 2
    assert len(accounts.outputs) > before


def test_a_missing_price_makes_a_limit_unknown_and_no_breach_of_zero() -> None:
    accounts = Accounts(terms("Q", underlying="ETH"), balance("mm", 1e6, T0), limit(underlying=None))
    rows = accounts.run(position("mm", 1, T0 + 110, "Q"))
    assert [(row["state"], row["exposure"]) for row in rows["limit_breaches"]] == [("unknown", None)]
    assert {row["delta_usd"] for row in rows["risk_exposures"]} == {None}


def test_leverage_and_concentration_are_of_all_that_is_held() -> None:
    wide = {"underlying": None, "is_hedged": None}
    limits = [limit("leverage", 3.0, **wide), limit("concentration", 0.9, **wide)]
    accounts = Accounts(terms("Q", underlying="ETH"), ticker(T0, "Q", mark_price=3_000.0), balance("mm", 10_000.0, T0), *limits)
    rows = accounts.run(position("mm", 300, T0 + 110), position("mm", -5_000, T0 + 110, "Q", 3_000))
    # 18,000 USD of BTC and 15,000 USD of ETH.
    (sums, *_) = rows["risk_exposures"]
    assert sums["gross_usd"] == pytest.approx(33_000.0)
    told = {row["measure"]: row["exposure"] for row in rows["limit_breaches"]}
    assert told == {"leverage": pytest.approx(3.3)}


def test_a_lifted_limit_says_so_once_and_an_older_row_does_not_bring_it_back() -> None:
    accounts = Accounts(balance("mm", 1e6, T0), limit(), position("mm", 300, T0))
    (row,) = accounts.run(limit(enter=None, ms=T0 + 110))["limit_breaches"]
    assert (row["state"], row["from_state"]) == ("lifted", "breached")
    accounts.run(limit(ms=T0 + 50))
    for _ in range(12):
        assert "limit_breaches" not in accounts.run()


def test_the_members_of_a_group_are_summed_and_one_that_leaves_is_not() -> None:
    whole = {"subject_kind": "group", "subject": "desk"}
    accounts = Accounts(*(balance(name, 1e6, T0) for name in "ab"), limit(**whole), member("a"), member("b"))
    rows = accounts.run(position("a", 100, T0 + 110), position("b", 50, T0 + 110))["risk_exposures"]
    assert [row["delta_usd"] for row in rows] == [9_000.0, 9_000.0]
    assert rows[0]["equity_usd"] == pytest.approx(2e6)
    rows = accounts.run(member("b", ms=T0 + 210, is_member=False))["risk_exposures"]
    assert [row["delta_usd"] for row in rows] == [6_000.0, 6_000.0]


def test_a_limit_that_is_none_is_a_dead_letter_and_its_neighbour_counts() -> None:
    accounts = Accounts(balance("mm", 1e6, T0), limit("rho"), limit())
    assert [letter["field"] for letter in accounts.told("dead_letters")] == ["measure"]
    assert accounts.run(position("mm", 200, T0 + 110))["limit_breaches"]


@pytest.mark.parametrize("cut", [None, 3, 7])
def test_turns_are_the_same_after_a_restore(cut: int | None) -> None:
    def played(restart_at: int | None) -> list[Output]:
        names = [f"a{number:02d}" for number in range(20)]
        limits = [limit(subject=name, is_hedged=number % 2 == 0) for number, name in enumerate(names)]
        groups = [limit(subject_kind="group", subject=name) for name in ("d1", "d2", "d3")]
        members = [member(name, f"d{1 + number % 3}") for number, name in enumerate(names)]
        accounts = Accounts(*(balance(name, 1e6, T0) for name in names), *limits, *groups, *members)
        chance = random.Random(1)
        for number in range(30):
            accounts.stored.store()
            if number == restart_at:
                accounts.stored.restart(chance)
            price = 60_000.0 + 1_000.0 * number
            ms = accounts.now_ms
            accounts.run(ticker(ms + 20, mark_price=price), position(names[number % 20], 158 - number, ms + 30))
        return [output for output in accounts.outputs if output.table in ("risk_exposures", "limit_breaches")]

    with mock.patch.multiple(exposures, JUDGED=4, TOLD=3, HEDGED_TOLD=2, GROUPS_TOLD=2):
        straight = played(None)
        assert {output.table for output in straight} == {"risk_exposures", "limit_breaches"}
        if cut is not None:
            assert played(cut) == straight
        else:
            told = {output.row["subject"] for output in straight if output.table == "risk_exposures"}
            assert {"d1", "d2", "d3", "a01", "a19"} <= told
