"""What may be traded for a hedge, at which price and in which size: the pieces of the linear program."""

import math
from typing import NamedTuple

import numpy as np

from kernels.gate import Act, Request
from kernels.hedges.market import Market, Worth, reached, wrong
from kernels.hedges.rules import Rules
from kernels.hedges.state import Cell, State
from kernels.hedges.sums import meant
from kernels.limits import Limit
from kernels.market.terms import Tradable
from udfs import exposures
from udfs.black76 import FloatArray
from udfs.exposures import BUCKETS, MEASURES


class Instrument(NamedTuple):
    """An instrument that may be traded."""

    name: str  # venue:instrument
    terms: Tradable
    market: Market
    worth: Worth
    cell: Cell
    each: tuple[float, float, float]  # delta, gamma and vega of a contract that is held, in USD


class Piece(NamedTuple):
    """A part of a book."""

    instrument: int  # in `Choice.instruments`
    side: int  # 1 buys, -1 sells
    most: float  # contracts
    price: float  # the worst
    cost: float  # USD for a contract


class Choice(NamedTuple):
    """Everything that may be traded."""

    instruments: list[Instrument]
    pieces: list[Piece]
    effect: FloatArray  # a row for each limit, a column for each piece
    faults: list[str]  # why others may not


def effects(limits: list[Limit], instrument: Instrument) -> list[float]:
    """What a contract that is bought adds to the exposure of each limit."""
    return [instrument.each[MEASURES.index(limit.measure)] if meant(limit, instrument.cell) else 0.0 for limit in limits]


def chosen(
    state: State,
    rules: Rules,
    now_ms: int,
    account: str,
    limits: list[Limit],
    needs: FloatArray,
    underlyings: list[str],
    venues: set[str] | None,
    participation: float,
) -> Choice:
    """The pieces by which exposures may be brought back.

    account        on which it trades: what it has an order for is left out
    limits, needs  each limit, and how far its exposure has to go, with its sign, in parts of `enter`; 0 where it need not
    venues         None: any
    """
    busy = {state.orders[name].market for name in state.open if name[0] == account}
    has_options = any(need and limit.measure != "delta" for limit, need in zip(limits, needs, strict=True))
    tradable, faults = [], []
    for underlying in underlyings:
        for name in sorted(state.names.get(underlying, ())):
            terms, venue = state.listing.terms[name], name.partition(":")[0]
            if (venues is not None and venue not in venues) or (terms.kind == "option" and not has_options):
                continue
            why = _barred(state, rules, now_ms, account, name, terms, busy)
            if why is None:
                tradable.append(name)
            else:
                faults.append(f"{name} {why}")
    instruments = _measured(state, rules, now_ms, tradable)
    rows = [effects(limits, instrument) for instrument in instruments]
    pieces: list[tuple[float, Piece]] = []
    for number, (instrument, row) in enumerate(zip(instruments, rows, strict=True)):
        for side in (1, -1):
            use = -side * float(np.dot(row / np.array([limit.enter or 1.0 for limit in limits]), needs))
            if instrument.terms.kind == "option" and use <= 0:
                continue  # it would take every exposure that must move further out
            taken = _pieces(rules, instrument, number, side, participation)
            if taken and any(row):
                pieces += [(taken[0].cost / use if use > 0 else math.inf, piece) for piece in taken]
    kept = _best(rules, instruments, pieces)
    columns = [[piece.side * each for each in rows[piece.instrument]] for piece in kept]
    effect = np.array(columns, dtype=np.float64).T if kept else np.zeros((len(limits), 0))
    return Choice(instruments, kept, effect, faults)


def _barred(state: State, rules: Rules, now_ms: int, account: str, name: str, terms: Tradable, busy: set[str]) -> str | None:
    venue, _, instrument = name.partition(":")
    if name in busy:
        return "has an order on its way"
    market = state.markets.get(name)
    if market is None:
        return "no book"
    if (fault := wrong(terms, market, now_ms, rules)) is not None:
        return fault
    if (halted := state.halts.held(venue, instrument)) is not None:
        return halted.kind
    stop = state.breaks.held(Request(Act.INCREASE, venue, instrument, terms.underlying, account))
    return None if stop is None else stop.kind


def _measured(state: State, rules: Rules, now_ms: int, names: list[str]) -> list[Instrument]:
    """Instruments with what a contract of each adds to exposures."""
    if not names:
        return []
    all_terms = [state.listing.terms[name] for name in names]
    markets = [state.markets[name] for name in names]
    mids = [market.mid or math.nan for market in markets]
    kinds = [terms.kind == "option" for terms in all_terms]
    is_inverse = np.array([terms.is_inverse for terms in all_terms])
    seconds = [math.inf if terms.expiry_ms is None else (terms.expiry_ms - now_ms) / 1000 for terms in all_terms]

    def floats(values: list[float | None]) -> FloatArray:
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    mark = floats(list(mids))
    each = exposures.sensitivities(
        exposures.Contracts(
            ~np.array(kinds),
            np.array(kinds),
            is_inverse,
            floats([terms.contract_size for terms in all_terms]),
            mark,
            np.where(is_inverse, mark, 1.0),
            floats([market.prices.forward_usd[1] for market in markets]),
            floats([terms.strike_usd for terms in all_terms]),
            floats([market.prices.mark_iv[1] for market in markets]),
            np.array([terms.option_type == "call" for terms in all_terms]),
            np.array(seconds),
        )
    )
    delta = each.delta + each.basis_delta / mark
    instruments = []
    for number, (name, terms, market) in enumerate(zip(names, all_terms, markets, strict=True)):
        amounts = float(delta[number]), float(each.gamma[number]), float(each.vega[number])
        if all(map(math.isfinite, amounts)):
            worth = Worth(name.partition(":")[0], terms, market, mids[number], rules)
            instruments.append(
                Instrument(name, terms, market, worth, (terms.underlying, BUCKETS[each.bucket[number]]), amounts)
            )
    return instruments


def _pieces(rules: Rules, instrument: Instrument, number: int, side: int, participation: float) -> list[Piece]:
    market, mid = instrument.market, instrument.worth.mid
    levels = reached(market.asks if side > 0 else market.bids, mid, side, rules.reach[instrument.terms.kind])
    pieces, first = [], 0
    for cut in rules.levels:
        part = levels[first:cut]
        if part:
            price = part[-1][0]
            size = participation * sum(level[1] for level in part)
            pieces.append(Piece(number, side, size, price, instrument.worth.cost(side, price)))
        first = cut
    lot = instrument.terms.lot_size or math.inf
    return pieces if sum(piece.most for piece in pieces) >= lot * (1 - 1e-9) else []


def _best(rules: Rules, instruments: list[Instrument], pieces: list[tuple[float, Piece]]) -> list[Piece]:
    """All pieces of futures, and those of the options that do most for their cost; in the order of names."""
    scores: dict[str, dict[int, float]] = {}
    for score, piece in pieces:
        if instruments[piece.instrument].terms.kind == "option":
            options = scores.setdefault(instruments[piece.instrument].terms.underlying, {})
            options[piece.instrument] = min(score, options.get(piece.instrument, math.inf))
    kept = {number for options in scores.values() for number in sorted(options, key=lambda n: (options[n], n))[: rules.options]}
    return [piece for _, piece in pieces if instruments[piece.instrument].terms.kind != "option" or piece.instrument in kept]
