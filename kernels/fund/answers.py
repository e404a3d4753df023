"""Answers to claims: payments, deleveraging, and what nobody bears."""

from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

from engine.checks import MOST
from engine.contract import Output
from kernels.fund.claims import Claim, Part
from kernels.fund.executions import Execution, Liquidation
from kernels.fund.rank import Rank, Reserves
from kernels.fund.state import Answered, Deleveraging, Purse, State
from kernels.liquidations.cases import CENT
from kernels.positions.ledger import CONTEXT, UNIT, ZERO, product, rounded, text
from schemas.rows import instant_ms, instant_us
from udfs import liquidation


class Answers:
    """What the fund decides in one batch."""

    def __init__(self, state: State, until_ms: int) -> None:
        self.state, self.now_ms = state, until_ms - 1
        self.told_ms = self.now_ms + state.rules.latency_ms
        self.outputs: list[Output] = []

    def answer(self, claim: Claim, rank: Rank, reserves: Reserves) -> None:
        """Answer a claim that is newer than the account's last one."""
        kept = self._kept(claim)
        due = sum(usd for _, usd in kept.payments)
        owed = claim.missing_usd - due - rank.gain(claim.account) - kept.uncovered_usd
        kept.is_reserved = not claim.is_settled
        (reserves.drop if claim.is_settled else reserves.put)(claim.account)
        if owed < CENT:
            return
        if claim.is_settled:
            self._pay(claim, kept, owed)
            return
        reserved, fund = reserves.besides(claim.account), self._worth()
        if owed <= fund - reserved:
            reason = f"the fund has {fund:.2f} USD, of which {reserved:.2f} are for others: it is to pay up to {owed:.2f} USD"
            self._entry(self._home(claim), "reserved", claim.subject, ZERO, owed, reason)
            return
        why = f"the fund has {fund:.2f} USD, of which {reserved:.2f} are for others, for a loss of {owed:.2f} USD"
        for contract, part in sorted(claim.parts.items(), key=lambda item: (-item[1].share_usd, item[0])):
            self._deleverage(claim, contract, part, min(owed / claim.missing_usd, 1.0), rank, why)
        reserves.put(claim.account)

    def _kept(self, claim: Claim) -> Answered:
        known = self.state.answered.get(claim.account)
        if known is None or known.broke_ms != claim.broke_ms:
            kept = self.state.answered[claim.account] = Answered(claim)
            kept.payments = known.payments if known else []
        else:
            kept = known
        kept.claimed_ms = claim.event_ms
        # What has come by then is in the account's equity.
        kept.payments = [payment for payment in kept.payments if payment[0] > claim.event_ms]
        self.state.touched.add(f"answered/{claim.account}")
        return kept

    def _worth(self) -> float:
        """All that the fund has, in USD."""
        return sum(self._usd(currency, purse.balance) for currency, purse in sorted(self.state.purses.items()))

    def _price(self, currency: str) -> Decimal:
        """A currency in USD; zero where no price is known."""
        accounts = self.state.accounts
        usd = float(accounts.currency_columns["usd"][accounts.currency(currency)])
        return Decimal(repr(usd)) if usd > 0 else ZERO

    def _usd(self, currency: str, amount: Decimal) -> float:
        return float(product(amount, self._price(currency)))

    def _home(self, claim: Claim) -> str:
        """The currency of the fund in which a claim is noted."""
        return claim.currency if claim.currency in self.state.purses else next(iter(self.state.rules.opening))

    def _pay(self, claim: Claim, kept: Answered, owed: float) -> None:
        """Pay a loss that is realised, as far as the fund goes."""
        rest, paid = Decimal(repr(owed)), 0.0
        for currency in dict.fromkeys((self._home(claim), *self.state.rules.opening, *sorted(self.state.purses))):
            purse, price = self.state.purses[currency], self._price(currency)
            if rest < Decimal(repr(CENT)) or not price or not purse.balance:
                continue
            amount = purse.balance
            if product(amount, price) > rest:
                amount = min(amount, CONTEXT.divide(rest, price).quantize(UNIT, ROUND_UP, CONTEXT))
            covered = product(amount, price)
            rest, paid = CONTEXT.subtract(rest, covered), paid + float(covered)
            reason = f"pays {covered:.2f} USD of the {owed:.2f} USD that are missing"
            self._entry(currency, "insurance", claim.subject, amount.copy_negate(), float(covered), reason)
            row = {
                "transfer_id": f"{claim.claim_id}/{currency}",
                "currency": currency,
                "amount": text(amount),
                "kind": "insurance",
                "margin_model": None,
            }
            self._tell("fund_transfers", claim.account, row)
        if paid:
            kept.payments.append((self.told_ms, paid))
        if (left := float(rest)) >= CENT:
            kept.uncovered_usd += left
            reason = f"of a loss of {owed:.2f} USD the fund pays {paid:.2f} USD: nobody bears {left:.2f} USD"
            self._entry(self._home(claim), "uncovered", claim.subject, ZERO, left, reason)

    def gain(self, order_key: str, order: Liquidation, rank: Rank) -> None:
        """Take the fund's part of what was executed of a liquidation order."""
        executed, order.executed = order.executed, []
        self.state.touched.add(f"liquidation/{order_key}")
        terms = self.state.accounts.terms.get(order.contract)
        if terms is None or order.account not in self.state.accounts.accounts:
            return
        currency = terms.settlement_currency
        for execution in executed:
            usd, price = self._gained_usd(order, execution, rank), self._price(currency)
            if not usd >= CENT or not price:
                continue
            amount = CONTEXT.divide(Decimal(repr(usd)), price).quantize(UNIT, ROUND_DOWN, CONTEXT)
            purse = self.state.purses.get(currency) or Purse(ZERO)
            if CONTEXT.add(purse.balance, amount) >= MOST:
                continue
            rank.note(order.account, -usd)
            self.state.purses[currency] = purse
            transfer_id = f"{order_key}/{execution.number}/fee"
            done = f"{Decimal(execution.change).copy_abs():f} of {order.contract} at {Decimal(execution.price):f}"
            reason = f"gains {usd:.2f} USD by an execution of {done}"
            self._entry(currency, "fee", (order.account, transfer_id), amount, usd, reason)
            row = {"transfer_id": transfer_id, "currency": currency, "amount": text(amount.copy_negate())}
            self._tell("fund_transfers", order.account, row | {"kind": "insurance", "margin_model": None})

    def _gained_usd(self, order: Liquidation, execution: Execution, rank: Rank) -> float:
        """What the fund gains by an execution, in USD; no more than leaves the account with something."""
        quote, change, price = rank.quote(order.contract), float(execution.change), float(execution.price)
        if not price > 0 or not order.equity_usd > 0:
            return 0.0
        closed = -change  # of the position
        worth = closed * quote.each_usd * (1 / price if quote.is_inverse else price)
        delta_nnv = quote.gain_usd(closed, price) - worth
        figures = delta_nnv, quote.required(closed), order.equity_usd, order.maintenance_usd
        usd = liquidation.insurance_delta(worth, *figures, self.state.rules.max_fee)
        return min(usd, rank.equity(order.account))

    def _deleverage(self, claim: Claim, contract: str, part: Part, scale: float, rank: Rank, why: str) -> None:
        """Close a position against those on the other side, at the price that makes its share of the loss up."""
        state, size = self.state, self.state.free_size(claim.account, contract)
        if contract not in state.accounts.terms or not size or (size > 0) != (part.size > 0):
            return
        share = part.share_usd * scale
        price = part.price if scale == 1.0 else rank.quote(contract).price_gaining(part.size, share)
        exact = rounded(Decimal(repr(price))) if 0 < price < MOST else ZERO
        if exact <= 0:
            return
        left, number = size.copy_abs(), 0
        for counter, score in rank.ordered(contract, is_long=size < 0):
            contracts = min(left, state.free_size(counter, contract).copy_abs())
            cost_usd = share * float(contracts) / abs(part.size)
            change = contracts.copy_sign(size)
            if not contracts or not rank.stays_above(counter, contract, change, cost_usd):
                continue
            left, number = CONTEXT.subtract(left, contracts), number + 1
            deleveraging = Deleveraging(claim.claim_id, claim.account, counter, contract)
            deleveraging.size, deleveraging.price = change.copy_negate(), exact
            deleveraging.gain_usd, deleveraging.told_ms = cost_usd, self.told_ms
            state.put(deleveraging)
            for account, sign in ((claim.account, 1.0), (counter, -1.0)):
                rank.note(account, sign * cost_usd)
            for account, moved in deleveraging.sides:
                self._fill(deleveraging, account, moved, "fill")
            told = f"{text(contracts)} of {contract} against {counter} at {text(exact)}: rank {number}, score {score:.4g}"
            self._note(deleveraging, "deleveraging", cost_usd, f"{why}; closes {told}")
            if not left:
                break

    def settle(self, deleveraging: Deleveraging) -> None:
        """End a deleveraging that is booked on both sides; correct it where one held less by then.

        Other fills may have come between the decision and its time.  A position must not turn, so both sides are corrected to
        what was left.
        """
        if deleveraging.is_corrected:
            self.state.drop(deleveraging)
            return
        beyond = max(Decimal(contracts) for contracts in deleveraging.beyond.values())
        if beyond:
            self._correct(deleveraging, beyond, [account for account, _ in deleveraging.sides])
        else:
            self.state.drop(deleveraging)

    def give_up(self, deleveraging: Deleveraging) -> None:
        """End a deleveraging that was not booked on both sides: on neither then."""
        booked = sorted(deleveraging.beyond)
        if deleveraging.is_corrected or not booked:
            self.state.drop(deleveraging)
            self._note(deleveraging, "corrected", 0.0, "it was not booked")
        else:
            self._correct(deleveraging, deleveraging.size.copy_abs(), booked)

    def _correct(self, deleveraging: Deleveraging, beyond: Decimal, accounts: list[str]) -> None:
        whole = deleveraging.size.copy_abs()
        left = CONTEXT.subtract(whole, beyond)
        kind = "correction" if left else "bust"
        undone_usd = deleveraging.gain_usd * float(beyond) / float(whole)
        deleveraging.is_corrected, deleveraging.told_ms = True, self.told_ms
        deleveraging.gain_usd = -undone_usd
        for account, change in deleveraging.sides:
            if account in accounts:
                self._fill(deleveraging, account, (left or whole).copy_sign(change), kind)
        deleveraging.beyond = {account: "0" for account, _ in deleveraging.sides if account not in accounts}
        self.state.touched.add(f"deleveraging/{deleveraging.name}")
        reason = f"{text(beyond)} of {text(whole)} contracts were not there any more: both sides are corrected"
        deleveraging.size = left.copy_sign(deleveraging.size)
        self._note(deleveraging, "corrected", -undone_usd, reason)

    def _fill(self, deleveraging: Deleveraging, account: str, change: Decimal, kind: str) -> None:
        venue, _, instrument = deleveraging.contract.partition(":")
        row = {
            "venue": venue,
            "instrument": instrument,
            "fill_id": deleveraging.fill_id,
            "side": "buy" if change > 0 else "sell",
            "price": text(deleveraging.price),
            "size": text(change.copy_abs()),
            "fee": "0",
            "kind": kind,
            "corrects_id": None if kind == "fill" else deleveraging.name,
        }
        self._tell("fund_fills", account, row)

    def _tell(self, table: str, account: str, row: dict[str, Any]) -> None:
        """Add a row that readers get the latency later."""
        head = {
            "fund": self.state.name,
            "account": account,
            "account_partition": self.state.partition(account),
            "event_at": instant_ms(self.told_ms),
            "received_at": instant_us(self.told_ms * 1000),
        }
        self.outputs.append(Output(table, self.told_ms, head | row))

    def _note(self, deleveraging: Deleveraging, kind: str, amount_usd: float, reason: str) -> None:
        extra = {
            "counter_account": deleveraging.counter,
            "instrument": deleveraging.contract,
            "size": text(deleveraging.size),
            "price": text(deleveraging.price),
        }
        home, subject = next(iter(self.state.rules.opening)), (deleveraging.account, deleveraging.claim_id)
        self._entry(home, kind, subject, ZERO, amount_usd, reason, **extra)

    def _entry(
        self,
        currency: str,
        kind: str,
        subject: tuple[str, str],  # account and claim_id
        amount: Decimal,
        amount_usd: float,
        reason: str,
        **extra: Any,
    ) -> None:
        """Change a balance, and tell of it."""
        purse = self.state.purses[currency]
        purse.balance, purse.entries = CONTEXT.add(purse.balance, amount), purse.entries + 1
        self.state.touched.add(f"purse/{currency}")
        row = {
            "entry_id": f"{currency}/{purse.entries}",
            "currency": currency,
            "event_at": instant_ms(self.now_ms),
            "number": purse.entries,
            "kind": kind,
            "account": subject[0],
            "claim_id": subject[1],
            "amount": text(amount),
            "balance": text(purse.balance),
            "amount_usd": amount_usd,
            **dict.fromkeys(("counter_account", "instrument", "size", "price")),
            "reason": reason,
        }
        self.outputs.append(Output("fund_entries", self.now_ms, row | extra))
