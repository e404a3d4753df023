"""How fast cryptofeed converts recorded messages of Binance USD-M: prints messages a second.

Its own message handler gets each message of the file (a line each) and calls back with its objects; the callbacks do nothing.
Symbols and the whole book, which it would ask for, come from this file.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from cryptofeed.defines import FUNDING, L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import BinanceFutures
from cryptofeed.symbols import Symbols


def listed(names: list[str]) -> dict[str, Any]:
    symbols = [
        {
            "symbol": name,
            "contractType": "PERPETUAL",
            "baseAsset": name.removesuffix("USDT"),
            "quoteAsset": "USDT",
            "filters": [{"tickSize": "0.01"}],
        }
        for name in names
    ]
    return {"symbols": symbols}


async def main(path: str) -> None:
    with open(path) as file:
        messages = file.read().splitlines()
    decoded = [json.loads(message)["data"] for message in messages]
    names = sorted({data["s"] for data in decoded})
    books = [data for data in decoded if data["e"] == "depthUpdate"]
    first = {data["s"]: data["pu"] for data in reversed(books)}
    Symbols.set(BinanceFutures.id, *BinanceFutures._parse_symbol_data(listed(names)))
    counts = dict.fromkeys((L2_BOOK, TICKER, TRADES, FUNDING), 0)

    def counted(kind: str) -> Callable[..., Any]:
        async def callback(data: Any, receipt: float) -> None:
            counts[kind] += 1

        return callback

    feed = BinanceFutures(
        symbols=[f"{name.removesuffix('USDT')}-USDT-PERP" for name in names],
        channels=list(counts),
        callbacks={kind: counted(kind) for kind in counts},
    )

    class Answers:
        async def read(self, address: str, **_: object) -> str:
            name = address.partition("symbol=")[2].partition("&")[0]
            return json.dumps({"lastUpdateId": first[name], "E": 1, "T": 1, "bids": [["1", "1"]], "asks": [["1e9", "1"]]})

    feed.http_conn = Answers()
    start_s = time.perf_counter()
    for message in messages:
        await feed.message_handler(message, None, 1.7e9)
    took_s = time.perf_counter() - start_s
    # The first book of each symbol is a callback of its own.
    assert sum(counts.values()) == len(messages) + len(first), (counts, len(messages))
    print(len(messages) / took_s)


asyncio.run(main(sys.argv[1]))
