"""What the venue of `bench.harmed_venue` trades, and what it says of it: by Binance USD-M's documented messages."""

import random
import time
from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

KINDS = ("depth@100ms", "bookTicker", "aggTrade", "markPrice@1s")
WEIGHTS = (60, 20, 15, 5)
"""How many of a hundred messages are of each kind."""
MIDDLE, REACH = 10_000, 40
"""Prices, in ticks of 0.01: bids are below the middle, asks above it."""
DAY_MS = 86_400_000


class Slot(NamedTuple):
    """When a harm is done, in s since the start, and how often it was done before."""

    at_s: float
    harm: str
    turn: int


@dataclass(frozen=True)
class Plan:
    """What the venue plays.

    per_s      messages a second
    seconds    for how long
    symbols    perpetual contracts; a dated one joins at each change of the listing
    burst      messages of a burst
    slots      the harms
    retry_s    what a refusal by the rate limit says in `Retry-After`
    slot_s     between two harms
    """

    per_s: int
    seconds: float
    symbols: int
    burst: int
    slots: list[Slot]
    retry_s: int
    slot_s: float
    seed: int = 24
    connections: int = 2  # that a feed has


class Market:
    """The contracts, their books and the messages."""

    def __init__(self, plan: Plan) -> None:
        self.random = random.Random(plan.seed)
        self.names = [f"C{number:02d}USDT" for number in range(plan.symbols)]
        self.delivery_ms: dict[str, int] = {}
        self.books: dict[str, tuple[dict[int, str], dict[int, str]]] = defaultdict(lambda: ({}, {}))
        self.last: dict[str, int] = defaultdict(int)  # number of the last message of each stream
        self.count = 0  # of all messages
        self.counts: dict[str, array[int]] = defaultdict(lambda: array("L"))  # of each stream, `count` at each of its messages
        self.ahead_ms = 0  # of the venue's clock

    def now_ms(self) -> int:
        """The venue's clock."""
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def message(self) -> tuple[str, str]:
        """The next message and its stream."""
        draw = self.random
        name, kind = draw.choice(self.names), draw.choices(KINDS, WEIGHTS)[0]
        stream, at_ms = f"{name.lower()}@{kind}", self.now_ms()
        number = self.last[stream] = self.last[stream] + 1
        self.count += 1
        self.counts[stream].append(self.count)
        if kind == KINDS[0]:
            sides = []
            for side, base in zip(self.books[name], (MIDDLE - REACH, MIDDLE + 1), strict=True):
                changes = []
                for _ in range(draw.randint(0, 2)):
                    tick = base + draw.randrange(REACH)
                    size = f"{draw.randrange(1, 9_999) / 1000:.3f}" if draw.random() < 0.8 else "0.000"
                    changes.append(f'["{tick / 100:.2f}","{size}"]')
                    side[tick] = size
                sides.append(",".join(changes))
            data = (
                f'"e":"depthUpdate","E":{at_ms},"T":{at_ms},"s":"{name}","U":{3 * number - 2},"u":{3 * number},'
                f'"pu":{3 * number - 3},"b":[{sides[0]}],"a":[{sides[1]}]'
            )
        elif kind == KINDS[1]:
            data = (
                f'"e":"bookTicker","u":{number},"s":"{name}","b":"99.9{number % 10}","B":"1.{number % 1000:03d}",'
                f'"a":"100.0{number % 9 + 1}","A":"2.000","T":{at_ms},"E":{at_ms}'
            )
        elif kind == KINDS[2]:
            data = (
                f'"e":"aggTrade","E":{at_ms},"a":{number},"s":"{name}","p":"100.0{number % 10}","q":"0.{number % 999 + 1:03d}",'
                f'"f":{number},"l":{number},"T":{at_ms},"m":{"true" if number % 2 else "false"}'
            )
        else:
            price = f"{100 + number // 10_000}.{number % 10_000:04d}"  # by which its number is known
            data = (
                f'"e":"markPriceUpdate","E":{at_ms},"s":"{name}","p":"{price}","i":"{price}",'
                f'"P":"{price}","r":"0.0001","T":{at_ms // DAY_MS * DAY_MS + DAY_MS}'
            )
        return stream, f'{{"stream":"{stream}","data":{{{data}}}}}'

    def book(self, name: str) -> dict[str, Any]:
        """The whole book, as it is answered."""
        bids, asks = ([[f"{t / 100:.2f}", size] for t, size in side.items() if float(size)] for side in self.books[name])
        at_ms, number = self.now_ms(), 3 * self.last[f"{name.lower()}@{KINDS[0]}"]
        return {"lastUpdateId": number, "E": at_ms, "T": at_ms, "bids": sorted(bids, reverse=True), "asks": sorted(asks)}

    def listing(self) -> dict[str, Any]:
        """All contracts, as they are answered."""
        symbols = []
        for name in self.names:
            dated = name in self.delivery_ms
            symbols.append(
                {
                    "symbol": name,
                    "pair": name.partition("_")[0],
                    "contractType": "CURRENT_QUARTER" if dated else "PERPETUAL",
                    "deliveryDate": self.delivery_ms.get(name, 4_133_404_800_000 - DAY_MS),
                    "status": "TRADING",
                    "baseAsset": name.partition("USDT")[0],
                    "quoteAsset": "USDT",
                    "marginAsset": "USDT",
                    "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}],
                }
            )
        return {"serverTime": self.now_ms(), "symbols": symbols}
