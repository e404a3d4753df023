"""`gammaflow feed` with the addresses of a venue on this machine: `python -m bench.harmed_feed <options> -- <its arguments>`.

It is the command itself.  Beside it, once a second, the number of its tasks goes into a file; at its end what is left of them.
"""

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson

from cli import feeding, main
from feeds import binance, live
from feeds.capture import Tally
from feeds.service import Feed


def counting(path: Path) -> Any:
    """`feeding.serve`, with its tasks counted."""
    serve = feeding.serve

    async def counted(*arguments: Any, **options: Any) -> Tally:
        async def count() -> None:
            while True:
                path.write_bytes(orjson.dumps({"tasks": len(asyncio.all_tasks()) - 2}))
                await asyncio.sleep(1)

        counter = asyncio.create_task(count())
        try:
            return await serve(*arguments, **options)
        finally:
            counter.cancel()
            await asyncio.gather(counter, return_exceptions=True)
            left = [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            path.write_bytes(orjson.dumps({"tasks": 0, "left": left}))

    return counted


def run(port: int, counts: Path, silence_s: float, listing_s: float, pause_s: float) -> None:
    """The command, with the times given: those of the product are for venues that are far away."""
    urls = f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}/fapi/v1"
    sessions = {binance.USDM: (*urls, "aggTrade")}
    feed = partial(Feed, listing_s=listing_s, pause_s=pause_s)
    with (
        patch.dict(binance._SESSIONS, sessions),
        patch.object(live, "SILENCE_S", silence_s),
        patch.object(feeding, "Feed", feed),
        patch.object(feeding, "serve", counting(counts)),
    ):
        main.app()


if __name__ == "__main__":
    own, theirs = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    sys.argv = ["gammaflow", *theirs]
    run(int(own[0]), Path(own[1]), *map(float, own[2:]))
