"""From a price in Kafka to the liquidation order in Kafka, with many accounts; and a crash that liquidates many at once.

The jobs positions and liquidations run on one TaskManager each, for jobs on one TaskManager share an interpreter.  A separate
process writes in real time:

  prices  a batch every `BATCH_S`: index and perpetual of each of `COINS`, and the options of one of them
  books   the depth of each perpetual, as the job books would write it
  fills   `FILLS_PER_S` for accounts that are in no danger; and every liquidation order is filled at once, at the mark

First it opens the accounts: a deposit and fills for each.  An account to be liquidated holds one perpetual, and its cash
decides at which part of the first price that happens: `STEADY` accounts one after the other on the way down to `CALM`, half of
them during the warm-up; `crashed` of all accounts in one second on the way to `CRASH`; then more of them one by one again.

The latency of an account's first order is the time from the newest price that its decision can have known to the instant at
which the order is read.  Orders are read when they are written.  A reader of committed records gets them with the next
checkpoint, which is measured too.  The job has caught up with the crash once, of all following orders, no more than one in a
hundred is later than the target, as before the crash.  The time of the very last late order is a figure too.
"""

import multiprocessing
import random
import time
from bisect import bisect_right
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import jobs
from bench.passes import BenchError
from bench.report import console
from bench.writer import Writer
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds.publish import FEED_TABLES
from schemas.rows import instant_ms, instant_us, to_ms
from udfs import standard_margin

COINS = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0, "XRP": 0.5}
STRIKES = 24  # options a coin
BATCH_S = 0.05
FILLS_PER_S = 2_000
STEADY = 1_500
CALM, CRASH, END = 0.985, 0.95, 0.94
PORTFOLIO_SHARE, MODEL = 0.05, "deribit_like"
WARM_S, STEADY_S, CRASH_S, AFTER_S = 180.0, 60.0, 1.0, 20.0
"""Java compiles for three minutes and more, if two cores have little time left for it."""
TARGET_MS = 300.0
OPENING_MS = 20_000
OPEN_S = 600.0
HEARTBEAT_TABLES = (*FEED_TABLES, "book_depth")
"""The tables with heartbeats: those of feeds, and those of the job books."""
VENUE = "sim"
JOBS = ("positions", "liquidations")
MARGIN_ROWS = "account_margin"


class Figures(NamedTuple):
    """The figures, in ms and s."""

    p50_ms: float
    p99_ms: float
    orders: int  # first orders of accounts, after the warm-up and before the crash
    committed_p99_ms: float
    crashed: int  # accounts ordered to close within the crash
    worst_ms: float  # of all orders from the crash on
    catch_up_s: float
    last_late_s: float  # after the crash began
    behind_s: float  # how far the writer was behind its own pace at the end
    margin_rows: int = 0  # rows of account_margin written during the run


def perpetual(coin: str) -> str:
    """The name of a coin's perpetual."""
    return f"{coin}-PERP"


def listing(event_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The contracts."""
    for coin, price in COINS.items():
        row = {
            "venue": VENUE,
            "event_at": instant_ms(event_ms),
            "received_at": instant_us(event_ms * 1000),
            "underlying": coin,
            "quote_currency": "USDC",
            "settlement_currency": "USDC",
            "is_inverse": False,
            "contract_size": 1.0,
            "amount_per_contract": 1.0,
        }
        yield "instruments", row | {"instrument": perpetual(coin), "kind": "perpetual"}
        for number in range(STRIKES):
            option = {"strike_usd": round(price * (0.7 + 0.025 * number), 6), "option_type": "put" if number % 2 else "call"}
            expiry = {"expiry_at": instant_ms(event_ms + 30 * 86_400_000)}
            yield "instruments", row | {"instrument": f"{coin}-{number}", "kind": "option"} | option | expiry


def prices(number: int, level: float, event_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The price batch of one instant, at `level` times the first prices."""
    at = {"venue": VENUE, "event_at": instant_ms(event_ms), "received_at": instant_us(event_ms * 1000)}
    for coin, first in COINS.items():
        price = first * level
        yield "index_prices", at | {"underlying": coin, "price_usd": price}
        yield "tickers", at | {"instrument": perpetual(coin), "mark_price": price, "index_price_usd": price}
    coin, first = list(COINS.items())[number % len(COINS)]
    for strike in range(STRIKES):
        # The mark is not from a model: margin uses only it and the volatilities.
        worth = {"mark_price": 0.03 * first * level, "mark_iv": 0.6, "forward_usd": first * level}
        yield "tickers", at | {"instrument": f"{coin}-{strike}"} | worth


def depths(level: float, event_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The books of the perpetuals: any size, close to the mark."""
    for coin, first in COINS.items():
        near = [[first * level * (1 + side * 1e-4), 1e9] for side in (-1, 1)]
        book = {"bids": near[:1], "asks": near[1:], "is_stale": False}
        yield (
            "book_depth",
            {"venue": VENUE, "instrument": perpetual(coin), "event_at": instant_ms(event_ms), "sequence": 1} | book,
        )


def ends(crashed: int) -> list[float]:
    """For each account to be liquidated, the part of the first prices at which that happens."""
    steady = [1 - (1 - CALM) * (number + 0.5) / STEADY for number in range(STEADY)]
    crash = [CALM - (CALM - CRASH) * (number + 0.5) / crashed for number in range(crashed)]
    after = STEADY // 4
    return steady + crash + [CRASH - (CRASH - END) * (number + 0.5) / after for number in range(after)]


def fill(account: str, instrument: str, side: str, price: float, size: float, number: int, event_ms: int) -> dict[str, Any]:
    """A row of `fills`."""
    return {
        "account": account,
        "venue": VENUE,
        "instrument": instrument,
        "event_at": instant_ms(event_ms),
        "received_at": instant_us(event_ms * 1000),
        "fill_id": str(number),
        "side": side,
        "price": f"{price:.6f}",
        "size": f"{size:.6f}",
        "fee": "0",
    }


def opening(accounts: int, crashed: int, start_ms: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """A deposit and the first fills of each account, at different times: at one instant they would be one batch."""
    numbers = count()
    chance, coins = random.Random(11), list(COINS)
    at = ends(crashed)
    for number in range(accounts):
        name, event_ms = f"acct-{number:06d}", start_ms + number * OPENING_MS // accounts
        deposit = {
            "account": name,
            "event_at": instant_ms(event_ms),
            "received_at": instant_us(event_ms * 1000),
            "transfer_id": "d",
            "currency": "USDC",
        }
        if number < len(at):
            coin = coins[number % len(coins)]
            first, size = COINS[coin], round(20_000 / COINS[coin], 6)
            # Equity cash + size (S - first) is down to maintenance rate · size · S.
            S = first * at[number]
            rate = maintenance(coin, size, S)
            yield "transfers", deposit | {"amount": f"{size * (first - S) + rate * size * S:.6f}"}, event_ms
            yield "fills", fill(name, perpetual(coin), "buy", first, size, next(numbers), event_ms), event_ms
            continue
        is_portfolio = chance.random() < PORTFOLIO_SHARE
        yield "transfers", deposit | {"amount": "1000000", "margin_model": MODEL if is_portfolio else "standard"}, event_ms
        for held in sorted(chance.sample(range(len(COINS) * (STRIKES + 1)), 3)):
            coin, which = coins[held // (STRIKES + 1)], held % (STRIKES + 1)
            instrument, worth = (perpetual(coin), 1) if which == STRIKES else (f"{coin}-{which}", 0.03)
            side, size = chance.choice(["buy", "sell"]), chance.uniform(100, 20_000) / COINS[coin]
            yield "fills", fill(name, instrument, side, COINS[coin] * worth, size, next(numbers), event_ms), event_ms


def maintenance(coin: str, size: float, price: float) -> float:
    """Maintenance margin of a single perpetual, as a part of its notional."""
    rates = standard_margin.futures_schedule(coin)
    margin = standard_margin.linear_future(
        np.array([size]),
        np.array([price]),
        np.array([rates.initial]),
        np.array([rates.maintenance]),
        np.array([rates.per_coin]),
    )
    return float(margin.maintenance[0]) / (size * price)


def level(since_s: float) -> float:
    """Prices as a part of the first prices, `since_s` after the start."""
    falls_s = np.cumsum([0.0, WARM_S, STEADY_S, CRASH_S, AFTER_S])
    return float(np.interp(since_s, falls_s, [1.0, (1.0 + CALM) / 2, CALM, CRASH, END]))


def now_ms() -> int:
    """The clock on the wall."""
    return time.time_ns() // 1_000_000


def open_accounts(up: Runtime, accounts: int, crashed: int) -> None:
    """Write contracts, first prices and the accounts, and wait until all jobs have processed them."""
    writer = Writer(up.kafka, HEARTBEAT_TABLES)
    start_ms = now_ms() - OPENING_MS
    for table, row in [*listing(start_ms), *(record for n in range(len(COINS)) for record in prices(n, 1.0, start_ms))]:
        writer.row(table, row, start_ms)
    for table, row, event_ms in opening(accounts, crashed, start_ms):
        writer.row(table, row, event_ms)
        writer.beat(event_ms)
        writer.producer.poll(0)
    writer.beat(now_ms())
    writer.flush()
    # No heartbeat follows, so a job can read everything.
    for name in JOBS:
        runtime.wait_read(up, name)
    # Records that are read may not be processed yet: heartbeats must end the last batch.
    deadline_s = time.monotonic() + OPEN_S
    for name in JOBS:
        while _known(up, name) < accounts:
            if time.monotonic() > deadline_s:
                raise BenchError(f"{name} does not know all accounts after {OPEN_S:.0f} s more; logs in {up.logs}")
            writer.beat(now_ms())
            writer.producer.poll(0.3)
    writer.flush()


def _known(up: Runtime, name: str) -> float:
    """How many accounts a job knows."""
    if (job := up.rest.active().get(name)) is None:
        raise BenchError(f"the job {name} has ended; logs in {up.logs}")
    by_name = up.rest.metrics(job, ["accounts"])
    return by_name["accounts"].sum if by_name else 0.0


def write(servers: str, accounts: int, crashed: int, times: Any, behind: Any, is_ready: Any) -> None:
    """The writer's process: all prices, books and fills, also those of the orders."""
    writer, numbers, chance = Writer(servers, HEARTBEAT_TABLES), count(10_000_000), random.Random(5)
    consumer = reader(servers, "read_uncommitted")
    first_safe, coins = len(ends(crashed)), list(COINS)
    is_ready.set()
    start_s, filled = time.monotonic(), 0
    batches = int((WARM_S + STEADY_S + CRASH_S + AFTER_S) / BATCH_S)
    for number in range(batches):
        at = level(number * BATCH_S)
        while time.monotonic() < start_s + number * BATCH_S:
            for message in consumer.consume(500, timeout=0.005):
                order = orjson.loads(message.value())
                event_ms = now_ms()
                filling = fill(
                    order["account"],
                    order["instrument"],
                    order["side"],
                    order["mark_price"],
                    order["size"],
                    next(numbers),
                    event_ms,
                )
                writer.row("fills", filling, event_ms)
            event_ms = now_ms()
            while filled < (time.monotonic() - start_s) * FILLS_PER_S:
                name, coin = f"acct-{chance.randrange(first_safe, accounts):06d}", chance.choice(coins)
                size = chance.uniform(10, 100) / COINS[coin]
                filling = fill(
                    name, perpetual(coin), chance.choice(["buy", "sell"]), COINS[coin] * at, size, next(numbers), event_ms
                )
                writer.row("fills", filling, event_ms)
                filled += 1
            writer.beat(event_ms)
            writer.producer.poll(0)
        event_ms = now_ms()
        for table, row in prices(number, at, event_ms):
            writer.row(table, row, event_ms)
        if number % 2 == 0:
            for table, row in depths(at, event_ms):
                writer.row(table, row, event_ms)
        times[number] = event_ms
        behind.value = time.monotonic() - start_s - number * BATCH_S
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s:
        writer.beat(now_ms())
        writer.producer.poll(0.02)
    writer.flush()
    consumer.close()


def reader(servers: str, isolation: str) -> Consumer:
    """A consumer of new orders."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"bench-{isolation}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
        }
    )
    ends = topics.ends(servers, ["liquidation_orders"], isolation="read_uncommitted")
    consumer.assign([TopicPartition(topic, part, offset) for (topic, part), offset in ends.items()])
    return consumer


class Order(NamedTuple):
    """An order, and when it was read."""

    account: str
    round: int
    decided_ms: int
    read_ms: int


def listen(up: Runtime, writer: Any) -> tuple[list[Order], list[Order]]:
    """Read orders until the writer has ended: when written, and when committed."""
    consumers = [reader(up.kafka, isolation) for isolation in ("read_uncommitted", "read_committed")]
    found: tuple[list[Order], list[Order]] = ([], [])
    try:
        while writer.is_alive():
            for consumer, orders in zip(consumers, found, strict=True):
                for message in consumer.consume(1_000, timeout=0.005):
                    if error := message.error():
                        raise KafkaException(error)
                    row, read_ms = orjson.loads(message.value()), now_ms()
                    orders.append(Order(row["account"], row["round"], to_ms(row["event_at"]), read_ms))
    finally:
        for consumer in consumers:
            consumer.close()
    return found


def measured(accounts: int = 100_000, crashed_share: float = 0.05) -> Figures:
    """The whole run, on a cluster of its own."""
    crashed = int(accounts * crashed_share)
    if MARGIN_ROWS not in jobs.job("liquidations").writes:
        raise BenchError(f"the job liquidations writes no {MARGIN_ROWS}, which it must while it is measured")
    with runtime.temporary(taskmanagers=len(JOBS)) as up:
        console.print(f"opening {accounts:,} accounts; logs in {up.logs}")
        runtime.submit(up, list(JOBS))
        start_s = time.monotonic()
        open_accounts(up, accounts, crashed)
        console.print(f"open after {time.monotonic() - start_s:.0f} s")
        since = topics.ends(up.kafka, [MARGIN_ROWS], isolation="read_uncommitted")
        context = multiprocessing.get_context("spawn")
        batches = int((WARM_S + STEADY_S + CRASH_S + AFTER_S) / BATCH_S)
        times, behind, is_ready = context.Array("q", batches), context.Value("d", 0.0), context.Event()
        writer = context.Process(target=write, args=(up.kafka, accounts, crashed, times, behind, is_ready), daemon=True)
        writer.start()
        try:
            while not is_ready.wait(1):
                if not writer.is_alive():
                    raise BenchError("the writer has failed")
            orders, committed = listen(up, writer)
        finally:
            writer.kill()
        if failures := {name: cause for name, job in up.rest.active().items() if (cause := up.rest.failure(job))}:
            raise BenchError(f"a job has failed on its way: {failures}")
        if len(up.rest.active()) != len(JOBS):
            raise BenchError(f"a job has ended; there are {', '.join(up.rest.active())}")
        margin_rows = rows_since(up.kafka, since)
    if not margin_rows:
        raise BenchError(f"no rows of {MARGIN_ROWS} were written")
    return figures(orders, committed, times[:], crashed, behind.value)._replace(margin_rows=margin_rows)


def rows_since(servers: str, since: dict[tuple[str, int], int]) -> int:
    """How many records with a value follow these offsets of partitions: heartbeats have none."""
    settings = {"group.id": "bench-rows", "isolation.level": "read_uncommitted", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": servers, "enable.partition.eof": True, **settings})
    consumer.assign([TopicPartition(topic, part, offset) for (topic, part), offset in since.items()])
    rows, unread = 0, set(since)
    try:
        while unread:
            for message in consumer.consume(10_000, timeout=10):
                if error := message.error():
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    unread.discard((message.topic(), message.partition()))
                elif message.value() is not None:
                    rows += 1
    finally:
        consumer.close()
    return rows


def figures(orders: list[Order], committed: list[Order], times: list[int], crashed: int, behind_s: float) -> Figures:
    """The figures from the orders and the times of the price batches."""
    warm, crash = int(WARM_S / BATCH_S), int((WARM_S + STEADY_S) / BATCH_S)

    def lateness(chosen: list[Order], since: int, until: int) -> list[float]:
        late = []
        for order in chosen:
            number = bisect_right(times, order.decided_ms) - 1
            if order.round == 1 and since <= number < until:
                late.append(float(order.read_ms - times[number]))
        return late

    steady, seen = lateness(orders, warm, crash), lateness(committed, warm, crash)
    from_crash = [order for order in orders if order.decided_ms >= times[crash]]
    late = [(order.read_ms, order.read_ms - order.decided_ms) for order in from_crash]
    if len(steady) < STEADY // 3 or not from_crash:
        newest_ms = max((order.decided_ms for order in orders), default=times[0])
        behind_s = (times[-1] - newest_ms) / 1000
        raise BenchError(
            f"only {len(steady)} accounts were liquidated before the crash, and {len(from_crash)} orders came in it; "
            f"the newest order was decided {behind_s:.1f} s before the last price: the job is that far behind"
        )
    in_crash = {order.account for order in from_crash if order.round == 1}
    if len(in_crash) < crashed:
        raise BenchError(f"only {len(in_crash)} accounts were liquidated in the crash, not {crashed}")
    p50, p99 = (float(x) for x in np.percentile(steady, [50, 99]))
    return Figures(
        p50_ms=round(p50, 1),
        p99_ms=round(p99, 1),
        orders=len(steady),
        committed_p99_ms=round(float(np.percentile(seen, 99)), 1),
        crashed=len(in_crash),
        worst_ms=float(max(after_ms for _, after_ms in late)),
        catch_up_s=round((caught_up_ms(late, times[crash]) - times[crash]) / 1000, 2),
        last_late_s=round(
            max([read_ms - times[crash] for read_ms, after_ms in late if after_ms > TARGET_MS], default=0) / 1000, 2
        ),
        behind_s=round(behind_s, 3),
    )


def caught_up_ms(late: list[tuple[int, int]], since_ms: int) -> int:
    """From when on no more than one order in a hundred is later than the target; `late`: when each was read, how late."""
    late = sorted(late)
    is_late = np.array([after_ms > TARGET_MS for _, after_ms in late])
    share = np.cumsum(is_late[::-1])[::-1] / np.arange(len(late), 0, -1)
    if share[0] <= 0.01:
        return since_ms
    on_time = np.flatnonzero(share <= 0.01)
    return late[on_time[0] if len(on_time) else -1][0]
