"""Random orders of some accounts for one instrument, as rows of `orders`, and what its venue says meanwhile."""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from bench.reference_book import Event, ReferenceBook
from engine.contract import Message, Output
from kernels.matching import KERNEL, State
from kernels.matching.numbers import whole
from kernels.matching.reports import FILLS, REPORTS
from schemas.rows import instant_ms, instant_us

Row = dict[str, Any]
VENUE, INSTRUMENT = "sim_alpha", "P"
T0 = 1_700_000_000_000
MARK, TICK, LOT = 100.0, 0.5, 0.1
LOWEST, HIGHEST = Decimal(95), Decimal(105)  # the band of a perpetual round the mark
BATCH = 50
NONE: dict[str, Any] = {"orig_client_order_id": None, "parent_client_order_id": None, "order_id": None, "expires_at": None}
NONE |= {"instrument_partition": 0}
"""What all requests have alike."""
NAMES = {"venue": VENUE, "instrument": INSTRUMENT}


def listing() -> list[Message]:
    """Terms and mark."""
    at = NAMES | {"event_at": instant_ms(T0), "received_at": instant_us(T0 * 1000)}
    terms: Row = {"kind": "perpetual", "underlying": "BTC", "quote_currency": "USDC", "settlement_currency": "USDC"}
    terms |= {"is_inverse": False, "contract_size": 1.0, "tick_size": TICK, "lot_size": LOT, "amount_per_contract": 1.0}
    return [Message("instruments", 0, 0, at | terms), Message("tickers", 0, 0, at | {"mark_price": MARK})]


def halt(ms: int, is_halted: bool) -> Message:
    """The venue halts the instrument, or lets it trade again."""
    at = NAMES | {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)}
    return Message("trading_halts", 0, 0, at | {"is_halted": is_halted, "reason": "flood"})


class Flow:
    """Draws orders: their rows depend on the seed alone."""

    def __init__(self, seed: int, accounts: int = 20, shares: tuple[float, float] = (0.3, 0.15)) -> None:
        self.chance = random.Random(seed)
        self.accounts = [f"a{number}" for number in range(accounts)]
        self.cancels, self.replaces = shares
        self.numbers = dict.fromkeys(self.accounts, 0)
        self.known: deque[tuple[str, str, str]] = deque(maxlen=100)  # account, client_order_id and side of newest orders
        self.count = 0

    def row(self, ms: int, *, market: tuple[str, str] = (VENUE, INSTRUMENT)) -> Row:
        """The next row."""
        self.count += 1
        drawn, name = self.chance.random(), f"c{self.count}"
        if self.known and drawn < self.cancels + self.replaces:
            account, orig, side = self.chance.choice(self.known)
            kind = "cancel" if drawn < self.cancels else "replace"
        else:
            kind, orig = "new", ""
            account, side = self.chance.choice(self.accounts), self.chance.choice(("buy", "sell"))
        self.numbers[account] += 1
        group = f"g{self.accounts.index(account) // 2}"
        row: Row = {"venue": market[0], "instrument": market[1], "event_at": instant_ms(ms), "account": account, **NONE}
        row |= {"number": self.numbers[account], "client_order_id": name, "request": kind, "source": "person"}
        row |= {"owner_group": group, "side": side, "orig_client_order_id": orig or None}
        order_type = time_in_force = price = quantity = is_reduce_only = None
        if kind != "cancel":
            order_type, time_in_force, is_reduce_only = "limit", "gtc", False
            if kind == "new":
                order_type, time_in_force, is_reduce_only = self._nature()
            self.known.append((account, name, side))
            # Around the mark, so that some meet others; a few beyond the band.
            away = round(self.chance.gauss(1, 3)) if self.chance.random() < 0.98 else -20
            price = f"{MARK + TICK * (-away if side == 'buy' else away):g}" if order_type == "limit" else None
            quantity = f"{self.chance.randint(1, 40) * LOT:.1f}"
        row |= {"order_type": order_type, "time_in_force": time_in_force, "price": price}
        return row | {"quantity": quantity, "is_reduce_only": is_reduce_only}

    def _nature(self) -> tuple[str, str, bool]:
        drawn = self.chance.random()
        for most, nature in (
            (0.05, ("market", "ioc", False)),
            (0.10, ("limit", "ioc", False)),
            (0.15, ("limit", "fok", False)),
            (0.25, ("limit", "post_only", False)),
            (0.35, ("limit", "gtc", True)),
            (0.37, ("market", "ioc", True)),
        ):
            if drawn < most:
                return nature
        return "limit", "gtc", False


def batches(seed: int, orders: int) -> Iterator[tuple[bool | None, list[Row], int]]:
    """Rows in batches, each with its end; now and then it begins with a halt (True) or the end of one (False)."""
    flow, chance, is_halted = Flow(seed), random.Random(-seed), False
    for start in range(0, orders, BATCH):
        change = None
        if chance.random() < (0.2 if is_halted else 0.02):
            is_halted = not is_halted
            change = is_halted
        rows = [flow.row(T0 + start + number) for number in range(min(BATCH, orders - start))]
        yield change, rows, T0 + start + BATCH


def differing(seed: int, orders: int) -> tuple[int, str | None]:
    """How many reports the kernel and the reference book have made alike, and the first that differs."""
    state, book = KERNEL.new(), ReferenceBook(LOWEST, HIGHEST, Decimal(100))
    KERNEL.step(state, listing(), T0)
    alike = 0
    for change, rows, until_ms in batches(seed, orders):
        messages = [Message("orders", 0, number, row) for number, row in enumerate(rows)]
        if change is not None:
            messages.append(halt(until_ms - BATCH, change))
            if change:
                book.is_halted = True
            else:
                book.resume()
        for row in rows:
            book.request(row)
        ours = list(events(KERNEL.step(state, messages, until_ms)))
        theirs, book.events = book.events, []
        if ours != theirs:
            at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
            return alike, f"batch until {until_ms}: kernel {ours[at : at + 3]}, reference {theirs[at : at + 3]}"
        alike += len(ours)
    return alike, _resting(state, book)


def events(outputs: Iterable[Output]) -> Iterator[Event]:
    """Reports as the reference book tells them.  Raises `ValueError` where a fill does not belong to its report."""
    fills = {output.row["fill_id"]: output.row for output in outputs if output.table == FILLS}
    for table, _, row in outputs:
        if table != REPORTS:
            continue
        price, size = Decimal(row["last_price"] or 0), Decimal(row["last_quantity"] or 0)
        if row["exec_type"] == "trade":
            fill = fills.pop(row["exec_id"])
            if (Decimal(fill["price"]), Decimal(fill["size"]), fill["account"]) != (price, size, row["account"]):
                raise ValueError(f"{fill} does not belong to {row}")
        yield row["exec_type"], row["account"], row["client_order_id"], price, size
    if fills:
        raise ValueError(f"fills without a report: {sorted(fills)}")


def _resting(state: State, book: ReferenceBook) -> str | None:
    own = state.books[f"{VENUE}:{INSTRUMENT}"]
    ours = sorted((order.seat.account, order.client_order_id, order.left) for order in own.open.values())
    theirs = sorted((order.account, order.name, whole(str(order.left))) for order in book.resting)
    return None if ours == theirs else f"at the end {len(ours)} orders rest, in the reference book {len(theirs)} others"
