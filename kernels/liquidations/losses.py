"""Who bears what an account has less than nothing: the insurance fund, those on the other side, or nobody."""

import math

import numpy as np

from engine.contract import Output
from kernels.liquidations.cases import CENT, Case
from kernels.liquidations.subject import Subject
from schemas.rows import instant_ms
from udfs import liquidation


def missing_usd(subject: Subject) -> float:
    """What is missing and nobody bears yet.  What is to be paid and closed counts as if it had been."""
    closing = (
        subject.batch.quote(of).gain_usd(math.copysign(contracts, subject.sizes[of]), price)
        for of, parts in subject.case.closing.items()
        for contracts, price in parts
    )
    return max(-subject.equity - sum(subject.case.due.values()) - sum(closing) - subject.case.uncovered_usd, 0.0)


def bear_loss(subject: Subject) -> bool:
    """Have somebody bear what is missing; whether deleveraging does some of it."""
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
            told = f"of a loss of {missing:.2f} USD the insurance fund pays {max(fund_usd, 0.0):.2f} USD"
            subject.event("uncovered", f"{told} and others bear {shared:.2f} USD: nobody bears {left:.2f} USD", amount_usd=left)
    return shared > 0


def _pay(subject: Subject, amount: float, what: str) -> None:
    """Let the fund pay."""
    case, state = subject.case, subject.state
    state.fund_usd = round(state.fund_usd - amount, 6)
    state.touched.add("fund")
    told = f"the insurance fund pays {amount:.2f} USD, {what}; it has {state.fund_usd:.2f} USD left"
    subject.event("insurance", told, amount_usd=amount)
    case.due[subject.outputs[-1].row["event_id"]] = amount
    case.paid_usd = (case.paid_usd or 0.0) + amount


def _deleverage(subject: Subject, missing: float) -> float:
    """Close positions against the other side, so that they bear what is missing; how much of it they do, in USD.

    Each position bears the share of its requirement in that of all (of its value, where nothing is required), if it is
    worth that much.
    """
    open_to = {of: abs(size) - subject.case.to_close(of) for of, size in subject.sizes.items()}
    open_to = {of: contracts for of, contracts in open_to.items() if contracts > 1e-12 * abs(subject.sizes[of])}
    weights = {of: subject.requirements[of] for of in open_to}
    if not sum(weights.values()) > 0:
        weights = {of: abs(subject.batch.quote(of).unit_usd * contracts) for of, contracts in open_to.items()}
    total, shared = sum(weights.values()), 0.0
    for of in subject.ordered_by_requirement():
        if of in open_to and weights[of] > 0:
            shared += _deleverage_one(subject, of, open_to[of], missing * weights[of] / total, missing)
    return shared


def _deleverage_one(subject: Subject, of: str, contracts: float, share: float, missing: float) -> float:
    """Close one position against those on the other side who gain most on the most leverage; what they bear, in USD."""
    market, valuation, quote = subject.state.market, subject.valuation, subject.batch.quote(of)
    contract, columns = market.contract_columns.row(of), market.position_columns
    size, unit, mark = subject.sizes[of], quote.unit_usd, quote.mark
    price = quote.price_gaining(math.copysign(contracts, size), share)
    mine = np.flatnonzero((columns["contract"] == contract) & (columns["size"] * size < 0))
    # Who has nothing cannot bear anything.
    mine = mine[valuation.equity[columns["account"][mine].astype(int)] > 0]
    if not len(mine) or math.isnan(price) or share > contracts * unit:
        return 0.0
    held, account = columns["size"][mine], columns["account"][mine].astype(int)
    entry = columns["average"][mine]
    gain = (mark / entry - 1 if quote.is_inverse else 1 - entry / mark) * held * unit
    value = held * unit
    score = liquidation.adl_score(gain, value - gain, value, value - valuation.equity[account])
    names = market.account_names
    order = sorted(range(len(mine)), key=lambda n: (-float(score[n]), names[int(account[n])]))
    left, rank = contracts, 0
    for n in order:
        other = names[int(account[n])]
        theirs = subject.state.cases.get(other) or Case()
        part = min(left, abs(float(held[n])) - theirs.to_close(of))
        if part <= 1e-12 * abs(size):
            continue
        left -= part
        rank += 1
        price_told = f"at {price:.6g}, the bankruptcy price: rank {rank}, score {float(score[n]):.4g}"
        why = f"the fund has {subject.state.fund_usd:.2f} USD for a loss of {missing:.2f} USD"
        ordered = subject.case.open.pop(of, 0.0)
        cancel = f"; cancel what is open of {ordered:g} {of}" if ordered else ""
        told = f"{why}; closes {part:g} {of} of {subject.name} against {other} {price_told}{cancel}"
        closing = {"instrument": of, "amount_usd": part * unit, "size": math.copysign(part, -size), "price": price}
        subject.event("deleveraging", told, counter_account=other, **closing)
        theirs.events += 1
        row = dict(subject.outputs[-1].row) | {
            "event_id": f"{other}/{instant_ms(subject.now_ms)}/{subject.name}/{of}",
            "account": other,
            "number": theirs.events,
            "kind": "deleveraged",
            "state": theirs.state,
            "equity_usd": float(valuation.equity[account[n]]),
            "initial_margin_usd": float(valuation.initial[account[n]]),
            "maintenance_margin_usd": float(valuation.maintenance[account[n]]),
            "counter_account": subject.name,
            "size": math.copysign(part, size),
        }
        subject.outputs.append(Output("liquidation_events", subject.now_ms, row))
        for case, name, position in ((subject.case, subject.name, size), (theirs, other, float(held[n]))):
            case.closing.setdefault(of, []).append((part, price))
            case.sizes.setdefault(of, position)
            case.borne_ms = subject.now_ms
            subject.state.cases[name] = case
            subject.state.touched.add(f"case/{name}")
            subject.state.note(name)
        if left <= 1e-12 * abs(size):
            break
    return share * (contracts - left) / contracts
