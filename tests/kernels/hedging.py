"""The job hedges in event time, window by window, with a market and a venue that answers what it requests."""

from decimal import Decimal
from typing import Any

import orjson

from engine import batch
from engine.contract import Message
from kernels.hedges import KERNEL, State
from schemas.rows import fault, instant_ms, instant_us, to_ms

T0 = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000  # midnight
DAY = 86_400_000
Row = dict[str, Any]


def at(ms: int) -> Row:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)}


def terms(name: str = "P", kind: str = "perpetual", venue: str = "v", **changed: Any) -> Message:
    row: Row = {"venue": venue, "instrument": name, **at(T0), "kind": kind, "underlying": "BTC", "quote_currency": "USDC"}
    row |= {"settlement_currency": "USDC", "is_inverse": False, "option_type": None, "strike_usd": None, "expiry_at": None}
    row |= {"last_trading_at": None, "contract_size": 0.001, "tick_size": 0.5, "lot_size": 1.0}
    return Message("instruments", 0, 0, row | changed)


def option(name: str, strike: float, days: int = 20, **changed: Any) -> Message:
    kind = "call" if name.endswith("C") else "put"
    expiry = {"expiry_at": instant_ms(T0 + days * DAY), "last_trading_at": instant_ms(T0 + days * DAY)}
    return terms(
        name, "option", option_type=kind, strike_usd=strike, **expiry, **{"contract_size": 0.1, "tick_size": 1.0} | changed
    )


def ticker(ms: int, name: str = "P", venue: str = "v", **values: Any) -> Message:
    return Message("tickers", 0, 0, {"venue": venue, "instrument": name, **at(ms)} | values)


def book(ms: int, mid: float = 60_000.0, name: str = "P", venue: str = "v", **changed: Any) -> Message:
    """A book of 20 levels on either side: half a spread from the middle, and as far from each other."""
    half, size, is_stale = changed.get("half", 1.0), changed.get("size", 1_000.0), changed.get("is_stale", False)
    steps = [half * (2 * n + 1) for n in range(20)]
    row: Row = {"venue": venue, "instrument": name, "event_at": instant_ms(ms), "sequence": 1, "is_stale": is_stale}
    row |= {"bids": [[mid - step, size] for step in steps if step < mid], "asks": [[mid + step, size] for step in steps]}
    return Message("book_depth", 0, 0, row)


def limit(measure: Any = "delta", enter: Any = 10_000.0, ms: Any = T0, **changed: Any) -> Message:
    row: Row = {"subject_kind": "account", "subject": "mm", "measure": measure, "underlying": "BTC", "expiry_bucket": None}
    row |= {"event_at": instant_ms(ms), "enter": enter, "leave": None, "target": None, "is_hedged": True}
    return Message("risk_limits", 0, 0, row | changed)


def member(account: str, group: str = "desk", is_hedger: bool = False, ms: int = T0, is_member: bool = True) -> Message:
    row = {"account": account, "group_name": group, "event_at": instant_ms(ms), "is_member": is_member, "is_hedger": is_hedger}
    return Message("account_groups", 0, 0, row)


def exposure(ms: int, cells: dict[tuple[str, str], tuple[float, float, float]], **changed: Any) -> list[Message]:
    """The rows of risk_exposures of one subject, shard and instant."""
    head: Row = {"subject_kind": "account", "subject": "mm", "event_at": instant_ms(ms), "part": 0, "owner_partition": 0}
    head |= {"rows_count": 1 + len(cells)} | changed
    lines: list[tuple[str | None, str | None, tuple[float, ...]]] = [
        (None, None, tuple(sum(amounts[m] for amounts in cells.values()) for m in range(3)))
    ]
    lines += [(coin, bucket, amounts) for (coin, bucket), amounts in cells.items()]
    rows = []
    for coin, bucket, amounts in lines:
        row = head | {"underlying": coin, "expiry_bucket": bucket, "equity_usd": 1e6 if coin is None else None}
        row |= dict(zip(("delta_usd", "gamma_usd", "vega_usd"), amounts, strict=True)) | {"gross_usd": abs(amounts[0])}
        rows.append(Message("risk_exposures", 0, 0, row))
    return rows


def delta(ms: int, usd: float, **changed: Any) -> list[Message]:
    return exposure(ms, {("BTC", "perpetual"): (usd, 0.0, 0.0)}, **changed)


class Hedging:
    """The kernel through its windows; `fills`: what part of an order trades, `refuses`: a rule by which all come back."""

    def __init__(self, *first: Message) -> None:
        self.state: State = KERNEL.new()
        self.now_ms = T0
        self.fills = 1.0
        self.refuses: str | None = None
        self.rows: dict[str, list[Row]] = {}
        self.answers: list[Message] = []
        self.run(*first)

    def run(self, *messages: Message, ms: int = 100) -> dict[str, list[Row]]:
        """One window; returns its rows by table."""
        self.now_ms += ms
        due = [answer for answer in self.answers if to_ms(answer.row["event_at"]) < self.now_ms]
        self.answers = [answer for answer in self.answers if answer not in due]
        records = [batch.record(message.table, 0, n, message.row) for n, message in enumerate([*messages, *due])]
        rows: dict[str, list[Row]] = {}
        for lines in (
            batch.run(KERNEL, self.state, batch.RECORD.join(records), self.now_ms)
            if records
            else batch.end_window(KERNEL, self.state, self.now_ms)
        ):
            for value in lines.values.split(b"\n"):
                row = orjson.loads(value)
                assert fault(lines.table, row) is None, (lines.table, fault(lines.table, row))
                rows.setdefault(lines.table, []).append(row)
                self.rows.setdefault(lines.table, []).append(row)
        for row in rows.get("hedge_requests", []):
            self._answer(row)
        return rows

    def restore(self) -> None:
        """Go on with a state of stored entries."""
        names = self.state.touched
        stored = {name: data for name in sorted(names, reverse=True) if (data := self.state.encode(name)) is not None}
        self.state = KERNEL.new()
        for name, data in stored.items():
            self.state.decode(name, data)
        self.state.touched |= names

    def told(self, table: str = "hedge_decisions") -> list[Row]:
        """All rows of a table so far."""
        return self.rows.get(table, [])

    def _answer(self, request: Row) -> None:
        ms, quantity = to_ms(request["event_at"]) + 250, Decimal(request["quantity"])
        traded = Decimal(round(self.fills * float(quantity)))
        order = {column: request[column] for column in ("account", "venue", "instrument", "side", "price", "quantity")}
        order |= {"event_at": instant_ms(ms), "order_key": request["client_order_id"], "reserved_usd": 0.0, "cause": "report"}
        order |= {"client_order_id": request["client_order_id"], "cause_id": "r", "rule": None, "reason": None}
        if self.refuses is not None:
            status = {"event": "refused", "order_status": "rejected", "rule": self.refuses, "reason": "no"}
            row = order | status | {"number": 1, "cum_quantity": "0", "leaves_quantity": "0"}
            self.answers.append(Message("order_states", 0, 0, row))
            return
        row = order | {
            "number": 1,
            "event": "new",
            "order_status": "new",
            "cum_quantity": "0",
            "leaves_quantity": f"{quantity:f}",
        }
        self.answers.append(Message("order_states", 0, 0, row))
        if traded:
            name = "filled" if traded == quantity else "partially_filled"
            row = order | {"number": 2, "event": "trade", "order_status": name, "cum_quantity": f"{traded:f}"}
            self.answers.append(Message("order_states", 0, 0, row | {"leaves_quantity": f"{quantity - traded:f}"}))
        if traded != quantity:
            row = order | {"number": 3, "event": "expired", "order_status": "expired", "cum_quantity": f"{traded:f}"}
            self.answers.append(Message("order_states", 0, 0, row | {"leaves_quantity": "0"}))
