"""How many orders a second does matching take, and does it agree with the simplest book there is?  `make bench BENCH=matching`.

The kernel `matching` alone, in this process and on one core, as a job runs it: each micro-batch is bytes from SQL, its rows are
decoded, checked and matched, and what follows is encoded as lines; entries of state that changed are encoded too, each once.

  matched_per_s         rows of `orders` (40% new, 40% cancel, 20% replace; of the new ones 30% take) on 20 instruments
  matched_without_state_per_s   the same without the entries
  trades_per_order      of these rows

`equal_reports` of a million random orders, in 50 books of 20,000, were told alike by the kernel and by a reference book of
lists and decimals (`bench/reference_book.py`), and what rests at the end is the same.
"""

import gc
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from bench.order_flow import LOT, NONE, T0, TICK, differing, listing
from bench.passes import BenchError
from bench.pricing import on_one_core
from bench.report import Figures, run_chosen
from engine import batch
from kernels.matching import KERNEL
from schemas.rows import instant_ms

INSTRUMENTS, ACCOUNTS, BATCH_MS = 20, 1_000, 50
ROUNDS, ORDERS, A_BATCH = 5, 200_000, 2_500
BOOKS, IN_A_BOOK = 50, 20_000
VENUE = "sim_alpha"


def steady(orders: int, seed: int = 1) -> list[tuple[int, bytes]]:
    """Micro-batches of orders that rest, are replaced, cancelled, and taken: each with its end."""
    chance = random.Random(seed)
    resting: list[list[tuple[str, str, str]]] = [[] for _ in range(INSTRUMENTS)]
    numbers = [0] * ACCOUNTS
    made: list[tuple[int, bytes]] = []
    for start in range(0, orders, A_BATCH):
        until_ms = T0 + BATCH_MS * (len(made) + 1)
        records = []
        for number in range(start, min(start + A_BATCH, orders)):
            at = chance.randrange(INSTRUMENTS)
            drawn, name = number % 5, f"c{number}"
            if drawn in (0, 1) or len(resting[at]) < 10:
                kind, orig, is_taker = "new", None, chance.random() < 0.3
                who, side = chance.randrange(ACCOUNTS), chance.choice(("buy", "sell"))
            else:
                kind, is_taker = ("replace" if drawn == 4 else "cancel"), False
                account, orig, side = resting[at].pop(chance.randrange(len(resting[at])))
                who = int(account[1:])
            numbers[who] += 1
            if kind != "cancel" and not is_taker:
                resting[at].append((f"a{who}", name, side))
            row: dict[str, Any] = {"venue": VENUE, "instrument": f"P{at}", "event_at": instant_ms(until_ms - 1), **NONE}
            row |= {"account": f"a{who}", "number": numbers[who], "client_order_id": name, "orig_client_order_id": orig}
            row |= {"request": kind, "source": "person", "owner_group": f"a{who}", "side": side}
            row |= dict.fromkeys(("order_type", "time_in_force", "price", "quantity", "is_reduce_only"))
            if kind != "cancel":
                away = -8 if is_taker else chance.randint(1, 8)
                price = 100 + TICK * (-away if side == "buy" else away)
                row |= {"order_type": "limit", "time_in_force": "ioc" if is_taker else "gtc", "price": f"{price:g}"}
                row |= {"quantity": f"{chance.randint(1, 40) * LOT:.1f}", "is_reduce_only": False}
            records.append(batch.record("orders", 0, number, row))
        made.append((until_ms, batch.RECORD.join(records)))
    return made


def speed() -> Figures:
    """The rates, each the best of some rounds."""
    made = steady(ORDERS)
    # As the host has it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    rates: dict[bool, float] = {True: 0.0, False: 0.0}
    trades = 0
    for _ in range(ROUNDS):
        for is_stored in rates:
            state = KERNEL.new()
            for number in range(INSTRUMENTS):
                KERNEL.step(
                    state, [message._replace(row=message.row | {"instrument": f"P{number}"}) for message in listing()], T0
                )
            trades, started_s = 0, time.perf_counter()
            for until_ms, data in made:
                lines = batch.run(KERNEL, state, data, until_ms)
                trades += sum(part.values.count(b"\n") + 1 for part in lines if part.table == "venue_fills") // 2
                if is_stored:
                    for name in state.touched:
                        state.encode(name)
                state.touched.clear()
            rates[is_stored] = max(rates[is_stored], ORDERS / (time.perf_counter() - started_s))
    return {
        "matched_per_s": round(rates[True]),
        "matched_without_state_per_s": round(rates[False]),
        "trades_per_order": round(trades / ORDERS, 3),
    }


def equality() -> Figures:
    """Reports that are alike.  Raises `BenchError` that shows the first which is not."""
    alike = 0
    for seed in range(1, BOOKS + 1):
        reports, difference = differing(seed, IN_A_BOOK)
        if difference is not None:
            raise BenchError(f"seed {seed}, after {reports} reports: {difference}")
        alike += reports
    return {"equal_orders": BOOKS * IN_A_BOOK, "equal_reports": alike}


PARTS: dict[str, Callable[[], Figures]] = {"speed": speed, "equality": equality}


def main(parts: Annotated[str, typer.Option(help=f"Which parts, of {','.join(PARTS)}.")] = ",".join(PARTS)) -> None:
    """Measure the kernel on one core, and compare it with the reference."""
    run_chosen("matching", {name: partial(on_one_core, part) for name, part in PARTS.items()}, parts)


if __name__ == "__main__":
    typer.run(main)
