"""One account in one batch: its holdings, the objections to liquidating it, and the events about it."""

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from engine.contract import Output
from kernels.gate import Act, Held, Reason, Request
from kernels.liquidations.cases import Case
from kernels.liquidations.quotes import DecisionBatch, Standings
from kernels.liquidations.rules import RULES
from kernels.market import indices
from schemas.rows import instant_ms

ALGO = "liquidations"
"""Who decides, for controls of a scope algo:…"""


class Subject:
    """One account in one batch."""

    def __init__(self, state: Standings, batch: DecisionBatch, name: str) -> None:
        self.state, self.batch, self.valuation, self.name, self.now_ms = state, batch, batch.valuation, name, batch.now_ms
        self.case = state.cases.get(name) or Case()
        valuation, row = self.valuation, state.market.account_columns.row(name)
        self.equity: float = valuation.equity.item(row)
        self.initial: float = valuation.initial.item(row)
        self.maintenance: float = valuation.maintenance.item(row)
        self.sizes = {contract: size for contract, (_, size, _) in state.market.accounts[name].positions.items() if size}
        self.outputs: list[Output] = []
        self.orders = 0  # among these

    @property
    def since_s(self) -> float:
        """Seconds since the last round."""
        return math.inf if self.case.round_ms is None else (self.now_ms - self.case.round_ms) / 1000

    @property
    def waits(self) -> bool:
        """Whether the fund has not answered the last claim yet."""
        return self.case.claimed_ms is not None and self.now_ms < self.case.claimed_ms + RULES.answer_ms

    def request(self, contract: str = "", act: Act = Act.LIQUIDATE) -> Request:
        """What the gate is asked: about an order of one contract, or about all that concerns the account."""
        if not contract:
            return Request(act, account=self.name, algo=ALGO)
        venue, _, instrument = contract.partition(":")
        terms = self.state.market.terms.get(contract)
        return Request(act, venue, instrument, terms.underlying if terms else "", self.name, ALGO)

    def gated(self, is_known: bool) -> Held | None:
        """What holds everything that the account needs; None if an order of one contract at least may be put out."""
        gate = self.state.gate
        controls = [gate.control(self.request(contract)) for contract in sorted(self.sizes) or [""]]
        if controls[0] is not None and None not in controls:
            return controls[0]
        return gate.held(self.request(), self._conditions(is_known))

    def _conditions(self, is_known: bool) -> Iterator[Held]:
        """What holds the account, other than controls: the gate has the order."""
        breaks = (self.state.breaks.held(self.request(contract)) for contract in sorted(self.sizes))
        if stopped := [held for held in (*self.halts(), *breaks) if held is not None]:
            yield from stopped
        elif not is_known:
            yield Held(Reason.NO_VALUATION, "", "the account cannot be valued: a price is missing")
        else:
            yield from self.objections(self.watched())

    def halts(self) -> Iterator[Held]:
        """The halts of the contracts that are held, or of their venues."""
        for contract in sorted(self.sizes):
            venue, _, instrument = contract.partition(":")
            if held := self.state.halts.held(venue, instrument):
                yield held

    def objections(self, prices: Iterable[str]) -> Iterator[Held]:
        """What is wrong with these prices."""
        objections = self.batch.objections
        return (objections[price].about(price) for price in prices if price in objections) if objections else iter(())

    def holds_deleveraging(self, contract: str) -> bool:
        """Whether a control, or the oracle prices of a contract, hold its deleveraging."""
        request = self.request(contract, Act.DELEVERAGE)
        terms = self.state.market.terms.get(contract)
        names = [] if terms is None else self.state.market.oracles_for(terms.underlying, terms.index_currency)
        return self.state.gate.held(request, self.objections(oracle_names(names))) is not None

    def watched(self) -> set[str]:
        """The prices on which the account's value depends, by their names in `guards` and `objections`."""
        market = self.state.market
        coins = {(coin, indices.USD) for coin, (_, amount) in market.accounts[self.name].balances.items() if amount}
        watched = set()
        for contract in self.sizes:
            terms = market.terms.get(contract)
            if terms is not None:
                coins |= {(terms.underlying, terms.index_currency), (terms.settlement_currency, indices.USD)}
            is_option = terms is not None and terms.kind == "option"
            watched |= {f"forward of {contract}", f"mark of {contract}"} if is_option else {f"price of {contract}"}
        for coin in coins:
            oracles = market.oracles_for(*coin)
            watched |= set(oracle_names(oracles)) if oracles else {f"index of {market.index_name(*coin)}"}
        return watched

    def ordered_by_requirement(self) -> list[str]:
        """The contracts that are held, the largest maintenance margin first."""
        if len(self.sizes) == 1:
            return list(self.sizes)
        requirements = self.requirements
        return sorted(self.sizes, key=lambda contract: (-requirements[contract], contract))

    @cached_property
    def requirements(self) -> dict[str, float]:
        """Maintenance margin of each position alone, in USD."""
        return {contract: self.batch.quote(contract).required(size) for contract, size in self.sizes.items()}

    def numbers(self) -> str:
        """Equity and requirements of the account, as text for a reason."""
        text = f"equity {self.equity:.2f} USD, initial margin {self.initial:.2f} USD"
        return f"{text}, maintenance margin {self.maintenance:.2f} USD"

    def event(self, kind: str, reason: str, **extra: Any) -> None:
        """Emit an event about the account."""
        case = self.case
        case.events += 1
        amounts = {"equity_usd": self.equity, "initial_margin_usd": self.initial, "maintenance_margin_usd": self.maintenance}
        row = {
            "event_id": f"{self.name}/{instant_ms(self.now_ms)}/{case.events}",
            "account": self.name,
            "event_at": instant_ms(self.now_ms),
            "number": case.events,
            "kind": kind,
            "state": case.state,
            **{column: None if math.isnan(amount) else amount for column, amount in amounts.items()},
            "order_id": None,
            "instrument": None,
            "amount_usd": None,
            "reason": reason,
        }
        self.outputs.append(Output("liquidation_events", self.now_ms, row | extra))


def oracle_names(underlyings: Iterable[str]) -> list[str]:
    """The names of the oracle prices of underlyings among the objections."""
    return [f"oracle price of {underlying}" for underlying in underlyings]
