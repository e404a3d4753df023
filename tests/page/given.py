"""Rows for the page's tests, and a server of the page in this process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from page.server import Page, serving
from page.sources import Source
from page.store import Store
from schemas.rows import fault, instant_ms

T0 = 1_734_696_000_000
VENUE, PERP = "sim_alpha", "BTC_USDC-PERPETUAL"
Row = dict[str, Any]


def depth(ms: int, mid: float, instrument: str = PERP, is_stale: bool = False, size: float = 1.0, levels: int = 12) -> Row:
    bids = [[mid - 0.5 - n, size + n] for n in range(levels)]
    asks = [[mid + 0.5 + n, size + n] for n in range(levels)]
    row = {
        "venue": VENUE,
        "instrument": instrument,
        "event_at": instant_ms(T0 + ms),
        "sequence": ms,
        "bids": bids,
        "asks": asks,
    }
    return checked("book_depth", row | {"is_stale": is_stale})


def trade(ms: int, price: float, side: str = "buy") -> Row:
    times = {"event_at": instant_ms(T0 + ms), "received_at": instant_ms(T0 + ms)}
    row = {"venue": VENUE, "instrument": PERP, **times, "trade_id": str(ms), "side": side, "price": price, "size": 0.5}
    return checked("trades", row | {"off_market": None, "block_height": None})


def margin(account: str, ms: int, ratio: float | None, equity_usd: float = 1_000.0, status: str = "healthy") -> Row:
    row: Row = {
        "account": account,
        "event_at": instant_ms(T0 + ms),
        "model": "standard",
        "equity_usd": equity_usd,
        "status": status,
    }
    required = equity_usd * (ratio or 1.0)
    row |= {"initial_margin_usd": 2 * required, "maintenance_margin_usd": required, "margin_ratio": ratio, "reason": None}
    row |= {"worst_scenario": None, "worst_loss_usd": None}
    for horizon in ("1h", "24h", "7d"):
        row |= {f"liquidation_probability_{horizon}": 0.25, f"liquidation_probability_{horizon}_error": 0.01}
    return checked("account_margin", row)


def event(account: str, ms: int, number: int, reason: str) -> Row:
    figures = dict.fromkeys(
        ("equity_usd", "initial_margin_usd", "maintenance_margin_usd", "order_id", "instrument", "amount_usd")
    )
    row = {"event_id": f"{account}/{ms}/{number}", "account": account, "event_at": instant_ms(T0 + ms), "number": number}
    return checked("liquidation_events", row | {"kind": "locked", "state": "locked", **figures, "reason": reason})


def letter(offset: int, original: str) -> Row:
    row = {"source": "tickers.v1", "partition": 0, "offset": offset, "event_at": instant_ms(T0), "field": "mark_price"}
    return checked("dead_letters", row | {"expected": "a finite number", "got": "'much'", "original": original})


def control(scope: str, mode: str, ms: int, why: str = "a drill") -> Row:
    row = {"scope": scope, "mode": mode, "who": "ann", "why": why, "event_at": instant_ms(T0 + ms), "ends_at": None}
    return checked("trading_controls", row | {"liquidations": False})


def checked(table: str, row: Row) -> Row:
    assert fault(table, row) is None
    return row


def market(store: Store) -> None:
    """A row or some of most tables."""
    store.put("book_depth", [depth(0, 100.0), depth(100, 101.0), depth(100, 7.0, "ETH_USDC-PERPETUAL", is_stale=True)])
    store.put("trades", [trade(50, 100.5), trade(60, 101.5, "sell")])
    store.put("account_margin", [margin("ann", 0, 0.5), margin("bob", 0, 1.2, status="liquidation"), margin("cid", 0, 0.1)])
    store.put("liquidation_events", [event("bob", 10, 1, "maintenance margin exceeds equity")])
    store.put("dead_letters", [letter(7, "eyJtYXJrX3ByaWNlIjoibXVjaCJ9")])
    store.put("trading_controls", [control("venue:sim_beta", "halt", 5)])


@dataclass
class Address:
    """A page that is served."""

    page: Page
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse()

    @contextmanager
    def frames(self, path: str) -> Iterator[Iterator[dict[str, Any]]]:
        answer = self.ask(path)
        assert answer.status == 200, answer.read()
        try:
            yield (json.loads(line[6:]) for line in iter(answer.readline, b"") if line.startswith(b"data: "))
        finally:
            answer.close()


@contextmanager
def served(source: Source, token: str | None = None, stalled_s: float = 20.0, port: int = 0) -> Iterator[Address]:
    with serving(source, token, stalled_s, port) as (page, at):
        yield Address(page, at)
