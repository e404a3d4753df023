"""How messages change accounts and the market.

Order   instruments, prices, positions and balances are applied in this order; of each key the newest by event time counts,
        and of one instant the one with the higher offset
"""

from collections.abc import Callable
from typing import Any

from engine.checks import dead_letter
from engine.contract import Message, Output
from kernels.liquidations.accounts import STANDARD, Accounts
from kernels.liquidations.market import NO_INDEX, NO_PRICES, Oracle, Terms
from kernels.market import indices
from kernels.market.terms import supersedes
from schemas.rows import Fault, key, shown, to_ms
from udfs import margin_parameters

LIMIT = 1e20
"""The limit of DECIMAL(38, 18)."""

Holding = tuple[Any, ...]
"""An account's holding of one contract or currency, after its event time in ms."""


def in_time(message: Message) -> tuple[int, int, int]:
    """The position of a message in the order of a batch."""
    return to_ms(message.row["event_at"]), message.partition, message.offset


def learn(accounts: Accounts, good: list[Message], until_ms: int | None) -> list[Output]:
    """Apply messages that are in order, and return dead letters for those that cannot be applied.

    Only the newest row of each contract and currency of an account is applied: repeated rows, as after a recovery of the job
    that writes them, lead to the same holdings and change nothing.
    """
    by_table: dict[str, list[Message]] = {}
    for message in good:
        by_table.setdefault(message.table, []).append(message)
    for table, learn_row in _LEARN.items():
        for message in by_table.get(table, []):
            learn_row(accounts, message.row, to_ms(message.row["event_at"]))
    letters: list[Output] = []
    for table, learn_holding in _HOLDINGS.items():
        newest: dict[tuple[str, str], Holding] = {}
        for message in by_table.get(table, []):
            name, holding = learn_holding(accounts, message.row, to_ms(message.row["event_at"]))
            if isinstance(holding, Fault):
                letters.append(dead_letter(message, holding, until_ms))
            else:
                newest[message.row["account"], name] = holding
        for (account, name), holding in newest.items():
            own = accounts.account(account)
            known = (own.positions if table == "positions" else own.balances).get(name)
            if known is None or (known[0] <= holding[0] and known != holding):
                (accounts.put_position if table == "positions" else accounts.put_balance)(account, name, *holding)
                accounts.note_change(account)
    return letters


def _learn_terms(accounts: Accounts, row: dict[str, Any], event_ms: int) -> None:
    name = key("instruments", row)
    expiry_at = row.get("expiry_at")
    terms = Terms(
        event_ms,
        row["kind"],
        row["underlying"],
        row["settlement_currency"],
        row["is_inverse"],
        row.get("option_type"),
        row.get("strike_usd"),
        row.get("contract_size"),
        None if expiry_at is None else to_ms(expiry_at),
        indices.own_currency(row),
        row.get("amount_per_contract"),
    )
    if supersedes(terms, accounts.terms.get(name)):
        accounts.put_terms(name, terms)
        accounts.touched.add(f"instrument/{name}")
        if terms.kind == "option":
            accounts.quote(terms.underlying)


def _learn_ticker(accounts: Accounts, row: dict[str, Any], event_ms: int) -> None:
    name = key("tickers", row)
    known = accounts.prices.get(name, NO_PRICES)
    newest = known.after(event_ms, row)
    if newest != known:
        accounts.put_price(name, newest)
        accounts.touched.add(f"price/{name}")
        if (terms := accounts.terms.get(name)) and terms.kind == "option":
            accounts.quote(terms.underlying)
    usd = row.get("index_price_usd")
    if usd is not None and usd > 0 and (terms := accounts.terms.get(name)):
        series = indices.named(terms.underlying, terms.index_currency)
        index = accounts.indices.get(series, NO_INDEX)
        if index.ticker_ms <= event_ms:
            accounts.put_index(series, index._replace(ticker_ms=event_ms, ticker_usd=usd))
            accounts.touched.add(f"index/{series}")


def _learn_index(accounts: Accounts, row: dict[str, Any], event_ms: int) -> None:
    series = indices.named(row["underlying"], indices.quoted_in(row))
    index = accounts.indices.get(series, NO_INDEX)
    if index.event_ms <= event_ms:
        accounts.put_index(series, index._replace(event_ms=event_ms, price_usd=row["price_usd"]))
        accounts.touched.add(f"index/{series}")


def _learn_oracle(accounts: Accounts, row: dict[str, Any], event_ms: int) -> None:
    underlying = row["underlying"]
    known = accounts.oracles.get(underlying)
    if known is None or known.event_ms <= event_ms:
        oracle = Oracle(
            event_ms,
            row["price_usd"],
            row["validity"],
            row.get("held"),
            row["confidence_usd"],
            row["average_usd"],
            row["age_ms"],
            row["venue_count"],
            row["rules"],
        )
        accounts.put_oracle(underlying, oracle)
        accounts.touched.add(f"oracle/{underlying}")


def _learn_position(accounts: Accounts, row: dict[str, Any], event_ms: int) -> tuple[str, Holding | Fault]:
    name, size, average = key("instruments", row), float(row["size"]), float(row.get("average_price") or 0)
    for column, number in (("size", size), ("average_price", average)):
        if not abs(number) < LIMIT:
            return name, Fault(column, "within DECIMAL(38, 18)", shown(row[column]))
    if size != 0 and row.get("average_price") is None:
        return name, Fault("average_price", "not NULL where size is not 0", "NULL")
    return name, (event_ms, size, average)


def _learn_balance(accounts: Accounts, row: dict[str, Any], event_ms: int) -> tuple[str, Holding | Fault]:
    name, amount = row["currency"], float(row["amount"])
    if not abs(amount) < LIMIT:
        return name, Fault("amount", "within DECIMAL(38, 18)", shown(row["amount"]))
    model = row.get("margin_model")
    if model is not None and model != STANDARD and model not in margin_parameters.names():
        return name, Fault("margin_model", f"{STANDARD} or one of {', '.join(margin_parameters.names())}", shown(model))
    account = accounts.account(row["account"])
    if model is not None and event_ms >= account.model_ms and (model, event_ms) != (account.model, account.model_ms):
        accounts.put_model(row["account"], event_ms, model)
        accounts.note_change(row["account"])
    return name, (event_ms, amount)


_LEARN: dict[str, Callable[[Accounts, dict[str, Any], int], None]] = {
    "instruments": _learn_terms,
    "tickers": _learn_ticker,
    "index_prices": _learn_index,
    "oracle_prices": _learn_oracle,
}

_HOLDINGS: dict[str, Callable[[Accounts, dict[str, Any], int], tuple[str, Holding | Fault]]] = {
    "positions": _learn_position,
    "balances": _learn_balance,
}
