"""Who pays the loss of an account below zero: the insurance fund, accounts on the other side, or nobody."""

import math

import numpy as np

from engine.contract import Output
from kernels.liquidations.cases import CENT, Case
from kernels.liquidations.subject import Subject
from schemas.rows import instant_ms
from udfs import liquidation


def missing_usd(subject: Subject) -> float:
    """The part of the loss that is not allocated yet, in USD.  Open payments and closings count as done."""
    closing = (
        subject.batch.quote(contract).gain_usd(math.copysign(contracts, subject.sizes[contract]), price)
        for contract, parts in subject.case.closing.items()
        for contracts, price in parts
    )
    return max(-subject.equity - sum(subject.case.due.values()) - sum(closing) - subject.case.uncovered_usd, 0.0)


def bear_loss(subject: Subject) -> bool:
    """Allocate the loss; returns whether deleveraging pays a part of it."""
    case, missing = subject.case, missing_usd(subject)
    if missing < CENT:
        return False
    case.borne_ms = subject.now_ms
    fund_usd = subject.state.fund_usd
    if missing <= fund_usd:
        _pay(subject, missing, "what equity is below zero" if not case.is_paid else "what equity has fallen by since it paid")
        return False
    shared = _deleverage(subject, missing)
    if (rest := missing - shared) >= CENT:
        if fund_usd >= CENT:
            _pay(subject, fund_usd, f"all that it had, of the {rest:.2f} USD that are missing")
        if (left := rest - max(fund_usd, 0.0)) >= CENT:
            case.uncovered_usd += left
            text = f"of a loss of {missing:.2f} USD the insurance fund pays {max(fund_usd, 0.0):.2f} USD"
            subject.event("uncovered", f"{text} and others bear {shared:.2f} USD: nobody bears {left:.2f} USD", amount_usd=left)
    return shared > 0


def _pay(subject: Subject, amount: float, loss: str) -> None:
    """Decide a payment of the fund."""
    case, state = subject.case, subject.state
    state.fund_usd = round(state.fund_usd - amount, 6)
    state.touched.add("fund")
    text = f"the insurance fund pays {amount:.2f} USD, {loss}; it has {state.fund_usd:.2f} USD left"
    subject.event("insurance", text, amount_usd=amount)
    case.due[subject.outputs[-1].row["event_id"]] = amount
    case.paid_usd = (case.paid_usd or 0.0) + amount


def _deleverage(subject: Subject, missing: float) -> float:
    """Close positions against the other side, so that they pay the loss; returns the part that they pay, in USD.

    Each position pays in proportion to its requirement (to its value, if nothing is required), if it is worth that much.
    """
    open_to = {
        contract: abs(size) - subject.case.to_close(contract)
        for contract, size in subject.sizes.items()
        if not subject.holds_deleveraging(contract)
    }
    open_to = {
        contract: contracts for contract, contracts in open_to.items() if contracts > 1e-12 * abs(subject.sizes[contract])
    }
    weights = {contract: subject.requirements[contract] for contract in open_to}
    if not sum(weights.values()) > 0:
        weights = {contract: abs(subject.batch.quote(contract).unit_usd * contracts) for contract, contracts in open_to.items()}
    total, shared = sum(weights.values()), 0.0
    for contract in subject.ordered_by_requirement():
        if contract in open_to and weights[contract] > 0:
            shared += _deleverage_one(subject, contract, open_to[contract], missing * weights[contract] / total, missing)
    return shared


def _deleverage_one(subject: Subject, instrument: str, contracts: float, share: float, missing: float) -> float:
    """Close one position against those on the other side with most gain and leverage; returns what they pay, in USD."""
    market, valuation, quote = subject.state.market, subject.valuation, subject.batch.quote(instrument)
    contract, columns = market.contract_columns.row(instrument), market.position_columns
    size, unit, mark = subject.sizes[instrument], quote.unit_usd, quote.mark
    price = quote.price_gaining(math.copysign(contracts, size), share)
    candidates = np.flatnonzero((columns["contract"] == contract) & (columns["size"] * size < 0))
    # An account without equity cannot pay.
    candidates = candidates[valuation.equity[columns["account"][candidates].astype(int)] > 0]
    if not len(candidates) or math.isnan(price) or share > contracts * unit:
        return 0.0
    held, account = columns["size"][candidates], columns["account"][candidates].astype(int)
    entry = columns["average"][candidates]
    gain = (mark / entry - 1 if quote.is_inverse else 1 - entry / mark) * held * unit
    value = held * unit
    score = liquidation.adl_score(gain, value - gain, value, value - valuation.equity[account])
    names = market.account_names
    order = sorted(range(len(candidates)), key=lambda n: (-float(score[n]), names[int(account[n])]))
    left, rank = contracts, 0
    for n in order:
        counterparty = names[int(account[n])]
        their_case = subject.state.cases.get(counterparty) or Case()
        part = min(left, abs(float(held[n])) - their_case.to_close(instrument))
        if part <= 1e-12 * abs(size):
            continue
        left -= part
        rank += 1
        price_told = f"at {price:.6g}, the bankruptcy price: rank {rank}, score {float(score[n]):.4g}"
        why = f"the fund has {subject.state.fund_usd:.2f} USD for a loss of {missing:.2f} USD"
        ordered = subject.case.open.pop(instrument, 0.0)
        cancel = f"; cancel what is open of {ordered:g} {instrument}" if ordered else ""
        text = f"{why}; closes {part:g} {instrument} of {subject.name} against {counterparty} {price_told}{cancel}"
        closing = {"instrument": instrument, "amount_usd": part * unit, "size": math.copysign(part, -size), "price": price}
        subject.event("deleveraging", text, counter_account=counterparty, **closing)
        their_case.events += 1
        row = dict(subject.outputs[-1].row) | {
            "event_id": f"{counterparty}/{instant_ms(subject.now_ms)}/{subject.name}/{instrument}",
            "account": counterparty,
            "number": their_case.events,
            "kind": "deleveraged",
            "state": their_case.state,
            "equity_usd": float(valuation.equity[account[n]]),
            "initial_margin_usd": float(valuation.initial[account[n]]),
            "maintenance_margin_usd": float(valuation.maintenance[account[n]]),
            "counter_account": subject.name,
            "size": math.copysign(part, size),
        }
        subject.outputs.append(Output("liquidation_events", subject.now_ms, row))
        for case, name, position in ((subject.case, subject.name, size), (their_case, counterparty, float(held[n]))):
            case.closing.setdefault(instrument, []).append((part, price))
            case.sizes.setdefault(instrument, position)
            case.borne_ms = subject.now_ms
            subject.state.cases[name] = case
            subject.state.touched.add(f"case/{name}")
            subject.state.note(name)
        if left <= 1e-12 * abs(size):
            break
    return share * (contracts - left) / contracts
