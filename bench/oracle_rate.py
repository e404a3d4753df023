"""How many prices a second the kernel `oracles` takes on one core: from the bytes of a batch to the bytes of its rows.

A thousand series, ten sources of each of a hundred underlyings, speak once in each 100 ms, as indices and publishers do: 10,000
prices a second.  Each batch is decoded and checked, and gives a row for each series and two for each underlying, as in the job;
Flink and Kafka are not in it, nor the entries that a host stores.  The kernel does not fall behind while a batch takes less
than the 100 ms that it spans.  Times are of the processor: it is one thread, and what else the machine does is not its own.
"""

import gc
import random
import time
from typing import Any

import numpy as np

from bench.report import Figures
from engine import batch
from kernels.oracles import KERNEL
from kernels.oracles.pools import TICK_MS
from schemas.rows import instant_ms, instant_us

UNDERLYINGS, SOURCES = 100, 10
WARM, BATCHES = 50, 200
START_MS = 1_760_000_000_000


def batches(count: int) -> list[bytes]:
    """So many batches of 100 ms, in each a price of each series."""
    chance = random.Random(5)
    prices = [1000.0 * (number + 1) for number in range(UNDERLYINGS)]
    made = []
    for number in range(count):
        records: list[bytes] = []
        for underlying in range(UNDERLYINGS):
            prices[underlying] *= 1 + chance.gauss(0, 5e-5)
            for source in range(SOURCES):
                event_ms = START_MS + number * TICK_MS + chance.randrange(TICK_MS - 20)
                price = prices[underlying] * (1 + chance.gauss(0, 2e-5))
                row: dict[str, Any] = {
                    "venue": f"venue-{source}",
                    "underlying": f"COIN{underlying}",
                    "quote_currency": "USD",
                    "event_at": instant_ms(event_ms),
                    "received_at": instant_us(event_ms * 1000 + 15_000 + chance.randrange(5_000)),
                }
                if source % 2:
                    table = "index_prices"
                    row |= {"price_usd": price, "confidence_usd": price * 1e-4}
                else:
                    table = "oracle_updates"
                    row |= {"instrument": "feed", "price": price, "confidence": price * 1e-4, "sequence": number}
                records.append(batch.record(table, 0, len(records), row))
        chance.shuffle(records)
        made.append(batch.RECORD.join(records))
    return made


def measured() -> Figures:
    """The rate, and how long a batch takes."""
    state, took_s, tape = KERNEL.new(), [], batches(WARM + BATCHES)
    gc.collect()
    gc.freeze()  # as the host does: what is there before is not looked at again
    for number, data in enumerate(tape, 1):
        began_s = time.process_time()
        batch.run(KERNEL, state, data, START_MS + number * TICK_MS)
        took_s.append(time.process_time() - began_s)
        state.touched.clear()
    gc.unfreeze()
    timed_s = took_s[WARM:]
    return {
        "oracle_series": UNDERLYINGS * SOURCES,
        "prices_per_s": round(UNDERLYINGS * SOURCES / float(np.mean(timed_s))),
        "oracle_batch_p99_ms": round(1000 * float(np.percentile(timed_s, 99)), 1),
    }
