"""Rows of the venue's tables as lines of text: what accounts are told of orders, and what the market sees.

They are written as text at once: a row of 26 columns as a dictionary, and its JSON, would cost more than the matching.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from engine.contract import Lines, Output
from kernels.matching.numbers import divided, text
from kernels.matching.side import BUY, Order, Seat
from schemas.rows import instant_ms, instant_us

REPORTS, FILLS, TRADES = "venue_reports", "venue_fills", "venue_trades"
BOOKS, TICKERS = "venue_order_books", "venue_tickers"


class Reports:
    """What is told in one micro-batch."""

    def __init__(self, now_ms: int, latency_ms: int = 0) -> None:
        self.now_ms = now_ms
        self.told_ms = told_ms = now_ms + latency_ms
        self.at = f'"event_at":"{instant_ms(told_ms)}","received_at":"{instant_us(told_ms * 1000)}"'
        self.stamp = f"{told_ms:013d}"
        self.reports: list[str] = []
        self.report_keys: list[str] = []
        self.fills: list[str] = []
        self.fill_keys: list[str] = []
        self.trades: list[str] = []
        self.trade_keys: list[str] = []
        self.books: list[str] = []
        self.book_keys: list[str] = []
        self.tickers: list[str] = []
        self.ticker_keys: list[str] = []

    def tell(
        self,
        order: Order,
        exec_id: str,
        exec_type: str,
        status: str,
        *,
        name: str | None = None,
        orig: str | None = None,
        reason: str | None = None,
        trade: tuple[str, str, str, str, bool] | None = None,  # price, size, fee, its currency as JSON, whether a maker
    ) -> None:
        """One change of an order; `name` is the client_order_id of a request that is not the order's own."""
        cum, key_text = order.cum, order.seat.key
        average = f'"{text(divided(order.worth, cum))}"' if cum else "null"
        if trade is None:
            traded = _NO_TRADE
        else:
            price, size, fee, currency, is_maker = trade
            traded = f'"last_price":"{price}","last_quantity":"{size}","fee":"{fee}","fee_currency":{currency},'
            traded += '"is_maker":true' if is_maker else '"is_maker":false'
            self.fills.append(
                f'{order.told["fill"]}{self.at},"fill_id":{exec_id},"price":"{price}","size":"{size}","fee":"{fee}",'
                '"kind":null,"corrects_id":null}'
            )
            self.fill_keys.append(key_text)
        self.reports.append(
            f'{order.told["report"]}{self.at},"exec_id":{exec_id},"exec_type":"{exec_type}","order_status":"{status}",'
            f'"client_order_id":{_quoted(name or order.client_order_id)},'
            f'"orig_client_order_id":{"null" if orig is None else _quoted(orig)},'
            f'"price":{_number(order.price)},"quantity":"{text(order.quantity)}","leaves_quantity":"{text(order.left)}",'
            f'"cum_quantity":"{text(cum)}","average_price":{average},{traded},'
            f'"exec_ref_id":null,"reason":{"null" if reason is None else _quoted(reason)}}}'
        )
        self.report_keys.append(key_text)

    def refuse(self, row: Mapping[str, Any], seat: Seat, exec_id: str, exec_type: str, reason: str) -> None:
        """A request that changes nothing: of a new order `rejected`, of another `cancel_rejected`."""
        is_new = exec_type == "rejected"
        told = {
            **orjson.loads(seat.head + "}"),
            **{column: row[column] for column in ("client_order_id", "side")},
            **{column: row.get(column) for column in ("orig_client_order_id", "order_id", "order_type", "time_in_force")},
            **{column: row.get(column) for column in ("price", "quantity")},
            "exec_type": exec_type,
            "order_status": "rejected" if is_new else None,
            "leaves_quantity": "0" if is_new else None,
            "cum_quantity": "0" if is_new else None,
            "average_price": None,
            "exec_ref_id": None,
            "reason": reason,
        }
        self.reports.append(f'{orjson.dumps(told).decode()[:-1]},{self.at},"exec_id":{exec_id},{_NO_TRADE}}}')
        self.report_keys.append(seat.key)

    def trade(self, head: str, key_text: str, number: int, side: int, price: str, size: str) -> None:
        """A trade as the market sees it; `side` is the taker's, `number` that of his report."""
        side_text = "buy" if side == BUY else "sell"
        self.trades.append(
            f'{head}{self.at},"trade_id":"{number}","side":"{side_text}","price":{price},"size":{size},"off_market":null}}'
        )
        self.trade_keys.append(key_text)

    def lines(self) -> list[Lines]:
        """All rows as lines."""
        return [
            Lines(table, "\n".join([self.stamp + name for name in keys]).encode(), "\n".join(rows).encode())
            for table, keys, rows in self._tables()
            if rows
        ]

    def outputs(self) -> list[Output]:
        """All rows as outputs."""
        return [Output(table, self.told_ms, orjson.loads(row)) for table, _, rows in self._tables() for row in rows]

    def _tables(self) -> tuple[tuple[str, list[str], list[str]], ...]:
        return (
            (REPORTS, self.report_keys, self.reports),
            (FILLS, self.fill_keys, self.fills),
            (TRADES, self.trade_keys, self.trades),
            (BOOKS, self.book_keys, self.books),
            (TICKERS, self.ticker_keys, self.tickers),
        )


def head_of_market(market: tuple[str, str]) -> str:
    """What every row of an instrument for the market begins with."""
    return orjson.dumps(dict(zip(("venue", "instrument"), market, strict=True))).decode()[:-1] + ","


def head_of(market: tuple[str, str], account: str, partition: int) -> str:
    """What every row of an account at an instrument begins with; `partition` is that of the account's rows."""
    head = {"account": account, "account_partition": partition, "venue": market[0], "instrument": market[1]}
    return orjson.dumps(head).decode()[:-1]


def told_of(order: Order, order_id: str) -> dict[str, str]:
    """What every report, and every fill, of an order begins with; `order_id` is JSON."""
    fill = f'{order.seat.head},"side":"buy",' if order.side == BUY else f'{order.seat.head},"side":"sell",'
    kind = f'"order_type":"{order.order_type}","time_in_force":"{order.time_in_force}",'
    return {"fill": fill, "report": f'{fill}"order_id":{order_id},{kind}'}


def line_key(name: str) -> str:
    """The key of a book's rows, as a line has it."""
    return orjson.dumps(name).decode()[1:-1] if "\n" in name else name


def _quoted(words: str) -> str:
    return f'"{words}"' if words.isalnum() and words.isascii() else orjson.dumps(words).decode()


def _number(units: int | None) -> str:
    return "null" if units is None else f'"{text(units)}"'


_NO_TRADE = '"last_price":null,"last_quantity":null,"fee":null,"fee_currency":null,"is_maker":null'
