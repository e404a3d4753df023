"""Decisions about one account in one batch."""

import math

from engine.contract import Output
from kernels.gate import Held, Reason
from kernels.liquidations import claims, orders
from kernels.liquidations.cases import (
    BANKRUPT,
    BROKE,
    CENT,
    HEALTHY,
    LIQUIDATING,
    LOCKED,
    MARGIN_CALL,
    SETTLING,
    standing_of,
)
from kernels.liquidations.rules import RULES
from kernels.liquidations.subject import Subject


class Account(Subject):
    """One account in one batch, and the decisions about it."""

    def advanced(self) -> list[Output]:
        """The events, orders and claims of this batch."""
        case, before, has_changed = self.case, self.case.copied(), self.name in self.batch.changed
        if has_changed:
            self._note_fills()
            case.has_changed |= case.state in BROKE
        is_known = not math.isnan(self.equity + self.initial + self.maintenance)
        must_close = self.maintenance > 0 and self.maintenance > self.equity
        if is_known and not must_close and self.equity >= -CENT:
            self._recover()
        elif is_known or case.state not in (HEALTHY, MARGIN_CALL):
            self._liquidate(is_known)
        is_over = case.state == HEALTHY and not case.held and self.now_ms >= standing_of(case)[2]
        if is_over and self.name in self.state.cases:
            del self.state.cases[self.name]
        elif is_over or vars(case) == before:
            return self.outputs
        else:
            self.state.cases[self.name] = case
        self.state.touched.add(f"case/{self.name}")
        self.state.note(self.name)
        return self.outputs

    def _note_fills(self) -> None:
        """Count the contracts that are gone from positions as closed by open orders."""
        case = self.case
        for contract in sorted(case.open):
            was, size = case.sizes.get(contract, 0.0), self.sizes.get(contract, 0.0)
            stays = abs(size) if was * size > 0 else 0.0
            ordered = min(case.open.pop(contract) - max(abs(was) - stays, 0.0), stays)
            if ordered > 1e-12 * abs(was):
                case.open[contract], case.sizes[contract] = ordered, size
            else:
                case.close(contract)

    def _recover(self) -> None:
        case, now = self.case, MARGIN_CALL if self.initial > max(self.equity, 0.0) else HEALTHY
        if case.state == now and not case.held:
            return
        was, was_held, ordered = case.state, case.held, case.open
        case.held, case.open, case.sent, case.sizes = None, {}, {}, {}
        case.state, case.round, case.broke_ms, case.claimed_ms, case.has_changed = now, 0, None, None, False
        if was == now and was_held:
            self.event("resumed", f"no longer held ({was_held}), and no longer to be liquidated: {self.numbers()}")
        elif now == MARGIN_CALL and was == HEALTHY:
            self.event("margin_call", f"initial margin {self.initial:.2f} USD exceeds equity {self.equity:.2f} USD")
        else:
            cancelled = "".join(f"; cancel what is open of {size:g} {contract}" for contract, size in sorted(ordered.items()))
            self.event("recovered", f"from {was} to {now}: {self.numbers()}{cancelled}")

    def _liquidate(self, is_known: bool) -> None:
        case = self.case
        if is_known and case.state in BROKE and not (self.sizes or case.has_changed):
            self._resume()
            return  # the loss is claimed, and nothing is left to close
        if not (is_known and self.batch.is_quiet):
            self._take_back()
            if held := self.gated(is_known):
                self._hold(held)
                return
        if case.state == LIQUIDATING and not case.held and self.equity > 0 and self.since_s < RULES.orders.round_s:
            return  # nothing is ordered before the next round
        if case.state in (HEALTHY, MARGIN_CALL) and self.sizes and self.maintenance > 0:
            self._resume()
            case.state = LOCKED
            self.event("locked", f"maintenance margin {self.maintenance:.2f} USD exceeds equity {self.equity:.2f} USD")
        planned, blocked = orders.planned(self)
        if planned or not blocked:
            self._resume()
        if self.equity <= 0 and self._go_broke():
            planned, blocked = orders.planned(self)
        if blocked and not planned:
            self._hold(blocked)
        for order in planned:
            orders.place(self, order)

    def _go_broke(self) -> bool:
        """Note that equity is gone, and claim the loss; returns whether that changes the orders."""
        case, state = self.case, BANKRUPT if self.sizes else SETTLING
        is_due = case.state not in BROKE or case.has_changed
        if case.state != state:
            case.state = state
            rest = "all that is left is to be closed" if self.sizes else "nothing is left to be closed"
            self.event("bankrupt", f"equity {self.equity:.2f} USD is gone: {rest}")
        case.has_changed = False
        if is_due and self.equity <= -CENT:
            claims.claim(self)
            return True
        return False

    def _resume(self) -> None:
        if self.case.held:
            was, self.case.held = self.case.held, None
            self.event("resumed", f"no longer held ({was})")

    def _hold(self, held: Held) -> None:
        if self.case.held != held.kind:
            self.case.held = held.kind
            self.event("held", f"held: {held.why}")

    def _take_back(self) -> None:
        """Let open orders be cancelled that a kill is about."""
        case = self.case
        for contract in sorted(case.open):
            control = self.state.gate.control(self.request(contract))
            if control is not None and control.reason is Reason.CANCEL_ALL:
                size = case.open[contract]
                case.close(contract)
                self.event("cancelled", f"cancel what is open of {size:g} {contract}: {control.why}", instrument=contract)
