"""A crash of 10,000 accounts through positions, margin, liquidations and fund, against a reference that shares no code with
them.

What the engine orders is filled in the next batch against one maker, and what the fund pays is booked: so one batch's decisions
change the next one's.
"""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Context, Decimal
from hashlib import blake2b
from random import Random
from typing import Any

import pytest

from engine import batch
from engine.contract import Message, Output, State
from kernels import fund, liquidations, positions
from kernels.fund.rules import Rules
from schemas import READ_AS
from schemas.rows import instant_ms, instant_us
from tests.kernels.obeying import READ

T0 = 1_700_000_000_000
SECOND = 1000
ACCOUNTS, STEPS, MIDDLE = 10_000, 14, 6
MAKER = "maker"
START = {"AAA": 100.0, "BBB": 2_000.0, "CCC": 50_000.0}
INVERSE = "CCC"
"""Of it a contract is 10 USD, paid in coins; of the others it is a coin, paid in USDC."""
EACH_USD = 10.0
MAINTENANCE = 0.05  # of an underlying without a schedule of its own
FEE = 0.0005
FUND = Rules(opening={"USDC": "10000000"})
"""More than all that is lost: nobody else has to bear anything."""
EXACT = Context(prec=80)

Outputs = list[Output]


def price(coin: str, step: int) -> float:
    """A fall by 27 % in nine seconds, and a third of it back."""
    return round(START[coin] * (1 - 0.03 * min(step, 9) + 0.018 * max(step - 9, 0)), 2)


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)}


def terms(coin: str) -> dict[str, Any]:
    is_inverse = coin == INVERSE
    row = {"venue": "v", "instrument": f"{coin}-PERP", **at(T0), "kind": "perpetual", "underlying": coin}
    paid = {"settlement_currency": coin if is_inverse else "USDC", "contract_size": EACH_USD if is_inverse else 1.0}
    return row | paid | {"quote_currency": "USD", "is_inverse": is_inverse}


def market(step: int, ms: int) -> list[tuple[str, dict[str, Any]]]:
    rows: list[tuple[str, dict[str, Any]]] = [("instruments", terms(coin)) for coin in START] if step == 0 else []
    for coin in START:
        mark = price(coin, step)
        rows.append(("tickers", {"venue": "v", "instrument": f"{coin}-PERP", **at(ms), "mark_price": mark}))
        rows.append(("index_prices", {"venue": "v", "underlying": coin, **at(ms), "price_usd": mark}))
    return rows


def transfer(account: str, of: str, currency: str, amount: str, ms: int, kind: str) -> tuple[str, dict[str, Any]]:
    row = {"account": account, **at(ms), "transfer_id": of, "currency": currency, "amount": amount, "kind": kind}
    return "transfers", row


def fills(account: str, of: str, coin: str, size: Decimal, at_price: float, ms: int) -> list[tuple[str, dict[str, Any]]]:
    """A trade with the maker, seen from both sides; `size` is signed."""
    value = abs(float(size)) * (EACH_USD / at_price if coin == INVERSE else at_price)
    row = {"venue": "v", "instrument": f"{coin}-PERP", **at(ms), "fill_id": f"{account}/{of}"}
    row |= {"price": str(at_price), "size": str(abs(size))}
    sides = ("buy", "sell") if size > 0 else ("sell", "buy")
    return [
        ("fills", row | {"account": account, "side": sides[0], "fee": f"{FEE * value:.9f}"}),
        ("fills", row | {"account": MAKER, "side": sides[1], "fee": "0"}),
    ]


def opening() -> list[tuple[str, dict[str, Any]]]:
    """Accounts long or short of one to three coins, with 6 to 60 % of what they hold as collateral, some of it in the coin."""
    chance = Random(7)
    rows = [transfer(MAKER, currency, currency, "1000000000000", T0, "transfer") for currency in ("USDC", INVERSE)]
    for n in range(ACCOUNTS):
        account, gross = f"acct-{n:05d}", 0.0
        for coin in chance.sample(sorted(START), chance.randint(1, 3)):
            unit = EACH_USD if coin == INVERSE else START[coin]
            size = Decimal(f"{chance.choice((-1, 1, 1)) * chance.uniform(500, 30_000) / unit:.2f}")
            rows += fills(account, coin, coin, size, START[coin], T0)
            gross += abs(float(size)) * unit
        collateral = gross * chance.uniform(0.06, 0.6)
        in_coin = chance.choice((0.0, 0.0, 0.5))
        rows.append(transfer(account, "usdc", "USDC", f"{collateral * (1 - in_coin):.2f}", T0, "transfer"))
        if in_coin:
            rows.append(transfer(account, "coin", INVERSE, f"{collateral * in_coin / START[INVERSE]:.8f}", T0, "transfer"))
    return rows


class Reference:
    """Accounts by what they paid and got, without averages: equity is cash and what positions would fetch now."""

    def __init__(self) -> None:
        self.cash: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.sizes: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))

    def take(self, table: str, row: dict[str, Any]) -> None:
        """Book a fill or a transfer."""
        cash = self.cash[row["account"]]
        if table == "transfers":
            cash[row["currency"]] += float(row["amount"])
        elif table == "fills":
            coin = row["instrument"].removesuffix("-PERP")
            size = Decimal(row["size"]) * (1 if row["side"] == "buy" else -1)
            paid = -float(size) * EACH_USD / float(row["price"]) if coin == INVERSE else float(size) * float(row["price"])
            cash[coin if coin == INVERSE else "USDC"] -= paid + float(row["fee"])
            self.sizes[row["account"]][coin] += size

    def liquidatable(self, prices: dict[str, float]) -> set[str]:
        """Those whose maintenance requirement exceeds their equity."""
        found = set()
        for account, sizes in self.sizes.items():
            equity = self.cash[account]["USDC"] + self.cash[account][INVERSE] * prices[INVERSE]
            required = 0.0
            for coin, size in sizes.items():
                # A contract of 10 USD is a debt of 10 USD in coins to who is long, whose coins were counted as cash.
                equity += float(size) * (-EACH_USD if coin == INVERSE else prices[coin])
                required += MAINTENANCE * abs(float(size)) * (EACH_USD if coin == INVERSE else prices[coin])
            if required > 0 and required > equity:
                found.add(account)
        return found

    def debts(self, prices: dict[str, float]) -> float:
        """What all together have below zero who hold nothing any more."""
        closed = [account for account, sizes in self.sizes.items() if not any(sizes.values())]
        equities = (self.cash[account]["USDC"] + self.cash[account][INVERSE] * prices[INVERSE] for account in closed)
        # A contract of 10 USD is a debt in coins only while it is held.
        return sum(max(-equity, 0.0) for equity in equities)


class Conservation:
    """What everybody has, the house by the ledger's entries and all others by the rows of positions and balances."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.sums: dict[str, Decimal] = defaultdict(Decimal)

    def put(self, account: str, asset: str, amount: Decimal) -> None:
        """Note what an account has from now on."""
        self.sums[asset] = EXACT.add(self.sums[asset], EXACT.subtract(amount, self.held[account, asset]))
        self.held[account, asset] = amount

    def take(self, output: Output) -> None:
        """Note a row of the ledger's kernel."""
        row = output.row
        if output.table == "positions":
            self.put(row["account"], f"{row['venue']}:{row['instrument']}", Decimal(row["size"]))
        elif output.table == "balances":
            self.put(row["account"], row["currency"], Decimal(row["amount"]))
        elif output.table == "ledger_entries":
            house, asset = row["counter_account"], row["asset"]
            self.put(house, asset, EXACT.subtract(self.held[house, asset], Decimal(row["amount"])))


class Suite:
    """The kernels in the order of their jobs."""

    def __init__(self) -> None:
        self.states: list[Any] = [positions.new(), liquidations.new(), fund.State(FUND)]
        self.names: list[set[str]] = [set() for _ in self.states]

    def step(self, rows: list[tuple[str, dict[str, Any]]], until_ms: int) -> tuple[Outputs, Outputs, Outputs]:
        """What the ledger, the margin stage, and decisions and fund emit for one batch."""
        given = [Message(table, 0, n, row) for n, (table, row) in enumerate(rows)]
        prices = [message for message in given if message.table in ("instruments", "tickers", "index_prices")]
        booked = positions.step(self.states[0], [message for message in given if message.table != "tickers"], until_ms)
        held = [Message(o.table, 1, n, dict(o.row)) for n, o in enumerate(booked) if o.table in ("positions", "balances")]
        outputs = liquidations.step(self.states[1], [READ, *prices, *held], until_ms)
        decided = [output for output in outputs if output.table.startswith("liquidation_")]
        claims = [Message(o.table, 2, n, dict(o.row)) for n, o in enumerate(outputs) if o.table == "loss_claims"]
        decided += fund.step(self.states[2], [*prices, *held, *claims], until_ms)
        valued = [output for output in outputs if not output.table.startswith("liquidation_")]
        for names, state in zip(self.names, self.states, strict=True):
            names |= state.touched
            state.touched.clear()
        return booked, valued, decided

    def restored(self) -> "Suite":
        """Another suite, from what of this one is stored."""
        fresh = Suite()
        for names, state, other in zip(self.names, self.states, fresh.states, strict=True):
            restore(state, other, Random(1).sample(sorted(names), len(names)))
        fresh.names = [set(names) for names in self.names]
        return fresh


def restore(state: State, other: State, names: list[str]) -> None:
    """Put the entries of one state into another."""
    for name in names:
        if (data := state.encode(name)) is not None:
            other.decode(name, data)


def executed(decided: Outputs, step: int) -> list[tuple[str, dict[str, Any]]]:
    """What becomes of decisions in the next batch: orders are filled at the mark, and what the fund pays is booked."""
    rows: list[tuple[str, dict[str, Any]]] = []
    ms = T0 + step * SECOND
    for output in decided:
        row = output.row
        if output.table == "liquidation_orders":
            coin, size = row["instrument"].removesuffix("-PERP"), Decimal(repr(row["size"]))
            rows += fills(row["account"], row["order_id"], coin, size if row["side"] == "buy" else -size, price(coin, step), ms)
        elif output.table in ("fund_transfers", "fund_fills"):
            rows.append((READ_AS[output.table], dict(row)))
    return rows


def play(suite: Suite, first: int, rows: list[Any]) -> Iterator[tuple[int, list[Any], tuple[Outputs, Outputs, Outputs]]]:
    """Step the suite through the crash from a step on; yields each step, its fills and transfers, and what came of them."""
    for step in range(first, STEPS):
        outputs = suite.step(market(step, T0 + step * SECOND) + rows, T0 + step * SECOND + 50)
        yield step, rows, outputs
        rows = executed(outputs[2], step + 1)


def written(outputs: tuple[Outputs, Outputs, Outputs]) -> str:
    """A digest of all that reaches the topics."""
    return blake2b(repr([batch.encode(part) for part in outputs]).encode()).hexdigest()


def test_a_crash_liquidates_whom_a_plain_reckoning_says_conserves_everything_and_can_be_taken_up_in_the_middle() -> None:
    reference, conservation, suite = Reference(), Conservation(), Suite()
    states: dict[str, str] = {}
    judged: dict[str, str] = {}
    liquidated: set[str] = set()
    kinds: set[str] = set()
    played: list[str] = []
    for step, rows, outputs in play(suite, 0, opening()):
        booked, valued, decided = outputs
        assert not [output for part in outputs for output in part if output.table == "dead_letters"]
        for table, row in rows:
            reference.take(table, row)
        expected = reference.liquidatable({coin: price(coin, step) for coin in START})
        judged |= {output.row["account"]: output.row["status"] for output in valued if output.table == "account_margin"}
        assert {account for account, status in judged.items() if status == "liquidation"} == expected
        events = [output.row for output in decided if output.table == "liquidation_events"]
        states |= {row["account"]: row["state"] for row in events}
        assert {account for account, state in states.items() if state in ("locked", "liquidating", "bankrupt")} == expected
        ordered = {output.row["account"] for output in decided if output.table == "liquidation_orders"}
        assert ordered <= expected
        liquidated |= ordered
        kinds |= {row["kind"] for row in events}

        for output in booked:
            conservation.take(output)
        assert set(conservation.sums.values()) == {0}
        # Both sides of every trade are filled: the exchange stands in between, and has none.
        assert {conservation.held["house:exchange", f"v:{coin}-PERP"] for coin in START} == {0}

        played.append(written(outputs))
        if step == MIDDLE:
            middle, then = suite.restored(), executed(decided, step + 1)

    assert 0.2 * ACCOUNTS < len(liquidated) < 0.8 * ACCOUNTS
    assert kinds == {"margin_call", "locked", "round", "bankrupt", "claimed", "recovered"}
    assert conservation.held["house:insurance", "USDC"] < 0 < conservation.held["house:fees", "USDC"]
    # Whoever was closed owes no more than what the fund pays at last.
    last = {coin: price(coin, STEPS - 1) for coin in START}
    paid = sum(Decimal(output.row["amount"]) for output in decided if output.table == "fund_transfers")
    assert reference.debts(last) == pytest.approx(float(paid), abs=1.0)
    booked_usd = conservation.held["house:insurance", "USDC"]
    assert suite.states[2].purses["USDC"].balance == Decimal(FUND.opening["USDC"]) + booked_usd - paid
    assert [written(outputs) for _, _, outputs in play(middle, MIDDLE + 1, then)] == played[MIDDLE + 1 :]
