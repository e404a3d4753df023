"""`gammaflow order new`, `replace`, `cancel` and `show`: a person's requests for orders, and the story of an order.

A request goes into the topic `order_requests`, like those of every other who decides; the job `orders` checks it.
"""

import time
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from confluent_kafka import KafkaError, Message, Producer
from rich.console import Console

from cli import explain
from deploy import runtime
from kernels.orders import wrong_request
from kernels.orders.ids import client_order_id
from schemas.clients import Unreachable, reached
from schemas.partitions import partition_of
from schemas.records import TABLES, ExecutionParentsRow, OrderRequestsRow
from schemas.rows import encoded, fault, instant_ms, to_ms
from schemas.security import FEED

REQUESTS, STATES = "order_requests", "order_states"
WRITE_S = 10.0
app = typer.Typer(no_args_is_help=True, help="Request orders, change and cancel them, and tell what became of them.")
console = Console(highlight=False, soft_wrap=True)

Account = Annotated[str, typer.Argument(help="An account.")]
Named = Annotated[str, typer.Argument(help="venue:instrument.")]
Orig = Annotated[str, typer.Argument(help="The client_order_id of the order, or of an open replace of it.")]
Side = Annotated[str, typer.Argument(help="buy or sell.")]
Quantity = Annotated[str, typer.Argument(help="Contracts; of a replace the whole quantity, with what has traded.")]
Price = Annotated[str | None, typer.Option(help="Limit, in the quote currency; without: a market order.")]
Own = Annotated[str | None, typer.Option("--id", help="Its client_order_id; the same one again is the same request.")]
Why = Annotated[str | None, typer.Option(help="Why, for the record.")]


def requested(
    kind: str,
    account: str,
    market: str,
    *,
    orig: str | None = None,
    side: str | None = None,
    quantity: str | None = None,
    price: str | None = None,
    time_in_force: str | None = None,
    is_reduce_only: bool = False,
    name: str | None = None,
    why: str | None = None,
    now_ms: int | None = None,
) -> OrderRequestsRow:
    """A row of `order_requests`.  Raises `ValueError` that names the field and what was expected."""
    venue, _, instrument = market.partition(":")
    if not (venue and instrument):
        raise ValueError(f"expected venue:instrument, got {market!r}")
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    is_cancel = kind == "cancel"
    row: OrderRequestsRow = {
        "account": account,
        "venue": venue,
        "instrument": instrument,
        "event_at": instant_ms(now_ms),
        "client_order_id": name or client_order_id("person", account, kind, market, orig, side, quantity, price, now_ms),
        "orig_client_order_id": orig,
        "parent_client_order_id": None,
        "request": kind,
        "source": "person",
        "owner_group": None,
        "side": side,
        "order_type": None if is_cancel else "market" if price is None else "limit",
        "time_in_force": time_in_force,
        "price": _number("price", price),
        "quantity": _number("quantity", quantity),
        "is_reduce_only": None if is_cancel else is_reduce_only,
        "expires_at": None,
        "max_notional_usd": None,
        "reason": why,
    }
    if (wrong := fault(REQUESTS, row) or wrong_request(dict(row))) is not None:
        raise ValueError(f"{wrong.field}: expected {wrong.expected}, got {wrong.got}")
    return row


def send(servers: str, row: OrderRequestsRow | ExecutionParentsRow, table: str = REQUESTS) -> str:
    """Write a request; returns where it stands, once the broker has it.  Raises `ValueError` that says why it does not."""
    topic = TABLES[table].topic
    try:
        producer, known = reached(Producer, servers, FEED, {"acks": "all", "message.timeout.ms": int(WRITE_S * 1000)}, WRITE_S)
    except Unreachable as error:
        raise ValueError(f"not requested: {error}") from None
    if topic not in known:
        raise ValueError(f"not requested: the broker at {servers} has no topic {topic}; `gammaflow up` makes it")
    answers: list[tuple[KafkaError | None, Message]] = []
    producer.produce(
        topic,
        encoded(row),
        row["account"],
        partition=partition_of(row["account"], known[topic]),
        timestamp=to_ms(row["event_at"]),
        on_delivery=lambda error, message: answers.append((error, message)),
    )
    producer.flush(WRITE_S + 1)
    if not answers or answers[0][0] is not None:
        reason = f"no answer within {WRITE_S:g} s" if not answers or answers[0][0] is None else answers[0][0].str()
        raise ValueError(f"not requested: {topic} at {servers}: {reason}")
    return f"{topic}, partition {answers[0][1].partition()}, offset {answers[0][1].offset()}"


def told(rows: list[dict[str, Any]], name: str | None = None) -> list[str]:
    """The lines of an account's orders, or of the one that has this id: a line a transition, in order."""
    wanted = [row for row in rows if name is None or name in _names(row)]
    keys = {row["order_key"] for row in wanted}
    kept = [row for row in rows if row["order_key"] in keys]
    unique = {(row["order_key"], int(row["number"])): row for row in kept}
    ordered = sorted(unique.values(), key=lambda row: (explain.instant(row["event_at"]), row["order_key"], int(row["number"])))
    return [f"{_clock(row['event_at'])}  {row['order_key']}  {line(row)}" for row in ordered]


def line(row: dict[str, Any]) -> str:
    """A transition in words."""
    traded = ""
    if row["last_quantity"] is not None:
        traded = f" {_plain(row['last_quantity'])} at {_plain(row['last_price'])}"
    figures = f"{row['order_status']}, {_plain(row['cum_quantity'])} of {_plain(row['quantity'])} traded"
    left = f", {_plain(row['leaves_quantity'])} left"
    rule = f" by {row['rule']}" if row["rule"] else ""
    why = f": {row['reason']}" if row["reason"] else ""
    return f"{row['event']}{rule}{traded} ({row['cause']} {row['cause_id']}) -> {figures}{left}{why}"


@app.command()
def new(
    account: Account,
    market: Named,
    side: Side,
    quantity: Quantity,
    price: Price = None,
    time_in_force: Annotated[str | None, typer.Option("--tif", help="gtc, ioc, fok, day or post_only.")] = None,
    is_reduce_only: Annotated[bool, typer.Option("--reduce-only", help="It may only make the position smaller.")] = False,
    name: Own = None,
    why: Why = None,
) -> None:
    """Request a new order."""
    _request("new", account, market, **_fields(side, quantity, price, time_in_force, name, why), is_reduce_only=is_reduce_only)


@app.command()
def replace(
    account: Account,
    market: Named,
    orig: Orig,
    side: Side,
    quantity: Quantity,
    price: Price = None,
    time_in_force: Annotated[str | None, typer.Option("--tif", help="gtc, ioc, fok, day or post_only.")] = None,
    name: Own = None,
    why: Why = None,
) -> None:
    """Request another quantity or price of an order."""
    _request("replace", account, market, **_fields(side, quantity, price, time_in_force, name, why), orig=orig)


@app.command()
def cancel(account: Account, market: Named, orig: Orig, name: Own = None, why: Why = None) -> None:
    """Request the end of an order."""
    _request("cancel", account, market, orig=orig, name=name, why=why)


@app.command()
def show(
    account: Account,
    name: Annotated[str | None, typer.Argument(help="A client_order_id; without: every order of the account.")] = None,
    folder: Annotated[Path | None, typer.Option("--from", help="Folder of a run's Parquet files.")] = None,
) -> None:
    """Tell the story of an order, or of all of an account: each transition with its cause."""
    try:
        if folder is None:
            rows = explain.read_topics(runtime.current(runtime.default_home()).kafka, account, (STATES,))
        else:
            rows = explain.read_parquet(folder, account, (STATES,))
        lines = told(rows[STATES], name)
        if not lines:
            raise ValueError(f"no order {name or ''} of account {account} is known")
    except ValueError as error:
        _refuse(error)
    for text in lines:
        console.print(text, markup=False)


def _fields(*values: str | None) -> dict[str, Any]:
    return dict(zip(("side", "quantity", "price", "time_in_force", "name", "why"), values, strict=True))


def _request(kind: str, account: str, market: str, **fields: Any) -> None:
    try:
        row = requested(kind, account, market, **fields)
        place = send(runtime.current(runtime.default_home()).kafka, row)
    except (ValueError, RuntimeError) as error:
        _refuse(error)
    console.print(f"requested {kind} {row['client_order_id']}: {place}", markup=False)


def _refuse(error: Exception) -> NoReturn:
    console.print(f"gammaflow: {error}", markup=False)
    raise typer.Exit(1) from None


def _number(field: str, text: str | None) -> str | None:
    try:
        number = None if text is None else Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{field}: expected a number, got {text!r}") from None
    if number is not None and not number.is_finite():
        raise ValueError(f"{field}: expected a number, got {text!r}")
    return None if number is None else f"{number:f}"


def _names(row: dict[str, Any]) -> set[str | None]:
    return {row["order_key"], row["client_order_id"], row["orig_client_order_id"], row["cause_id"]}


def _clock(value: Any) -> str:
    at: datetime = explain.instant(value)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def _plain(number: Any) -> str:
    return "?" if number is None else f"{Decimal(number).normalize():f}"
