"""`gammaflow order`: a person's requests for orders, for what guards all orders of an account, and the story of an order.

A request goes into the topic `order_requests`, like those of every other who decides; the job `orders` checks it.
"""

import re
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from confluent_kafka import KafkaError, Message, Producer
from rich.console import Console

from cli import explain
from cli.order_story import named
from deploy import runtime
from kernels.orders import wrong_request
from kernels.orders.ids import client_order_id
from schemas.clients import Unreachable, reached
from schemas.partitions import partition_of
from schemas.records import TABLES, ExecutionParentsRow, OrderRequestsRow
from schemas.rows import encoded, fault, instant_ms, to_ms
from schemas.security import FEED

REQUESTS, STATES, GUARDS = "order_requests", "order_states", "order_guards"
WRITE_S = 10.0
app = typer.Typer(no_args_is_help=True, help="Request orders, change, cancel and guard them, and tell what became of them.")
console = Console(highlight=False, soft_wrap=True)

Account = Annotated[str, typer.Argument(help="An account.")]
Named = Annotated[str, typer.Argument(help="venue:instrument.")]
Orig = Annotated[str, typer.Argument(help="The client_order_id of the order, or of an open replace of it.")]
Side = Annotated[str, typer.Argument(help="buy or sell.")]
Quantity = Annotated[str, typer.Argument(help="Contracts; of a replace the whole quantity, with what has traded.")]
Price = Annotated[str | None, typer.Option(help="Limit, in the quote currency; without: a market order.")]
Own = Annotated[str | None, typer.Option("--id", help="Its client_order_id; the same one again is the same request.")]
Scope = Annotated[str | None, typer.Option("--of", help="A venue, or venue:instrument; without: all of them.")]
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
    is_mmp: bool = False,
    name: str | None = None,
    why: str | None = None,
    now_ms: int | None = None,
) -> OrderRequestsRow:
    """A row of `order_requests` for one order.  Raises `ValueError` that names the field and what was expected."""
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
    if is_mmp:
        row["is_mmp"] = True
    return _checked(row)


def guarding(
    kind: str,
    account: str,
    *,
    scope: str | None = None,
    name: str | None = None,
    why: str | None = None,
    now_ms: int | None = None,
    **fields: Any,
) -> OrderRequestsRow:
    """A row of `order_requests` for all orders of an account; `fields` are what its kind needs.

    Raises `ValueError` that names the field and what was expected.
    """
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    venue, _, instrument = (scope or "").partition(":")
    row: dict[str, Any] = dict.fromkeys(TABLES[REQUESTS].columns)
    row |= {
        "account": account,
        "venue": venue or None,
        "instrument": instrument or None,
        "event_at": instant_ms(now_ms),
        "client_order_id": name or client_order_id("person", account, kind, scope, *fields.values(), now_ms),
        "request": kind,
        "source": "person",
        "reason": why,
        **fields,
    }
    return _checked(cast(OrderRequestsRow, row))


def _checked(row: OrderRequestsRow) -> OrderRequestsRow:
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


def transitions(rows: list[dict[str, Any]], name: str | None = None) -> list[str]:
    """The lines of an account's orders, or of the one that has this id: a line a transition, in order."""
    wanted = [row for row in rows if name is None or name in named(row) or name == row["cause_id"]]
    keys = {row["order_key"] for row in wanted}
    kept = [row for row in rows if row["order_key"] in keys]
    unique = {(row["order_key"], int(row["number"])): row for row in kept}
    ordered = sorted(unique.values(), key=lambda row: (explain.instant(row["event_at"]), row["order_key"], int(row["number"])))
    return [f"{explain.clock(row['event_at'])}  {row['order_key']}  {line(row)}" for row in ordered]


def guard_lines(rows: list[dict[str, Any]], name: str | None = None) -> list[str]:
    """What became of requests for all orders of an account, or of the one that has this id."""
    unique = {int(row["number"]): row for row in rows if name in (None, row["cause_id"])}
    return [
        f"{explain.clock(row['event_at'])}  {row['guard']} {row['event']}  {explain.guard_text(row)}"
        for _, row in sorted(unique.items())
    ]


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
    is_mmp: Annotated[bool, typer.Option("--mmp", help="Market-maker protection counts its fills and cancels it.")] = False,
    name: Own = None,
    why: Why = None,
) -> None:
    """Request a new order."""
    flags = {"is_reduce_only": is_reduce_only, "is_mmp": is_mmp}
    _request("new", account, market, **_fields(side, quantity, price, time_in_force, name, why), **flags)


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
def cancel_all(account: Account, scope: Scope = None, name: Own = None, why: Why = None) -> None:
    """Request the end of all open orders of an account, but not of its liquidations.

    It is done once, for the orders that are open then: later ones may leave.  `gammaflow halt` stops those too.
    """
    _guard("cancel_all", account, scope=scope, name=name, why=why)


@app.command()
def timer(
    account: Account,
    after: Annotated[str, typer.Argument(help="When it runs out, such as 60s or 500ms from now; 0 clears it.")],
    scope: Scope = None,
    name: Own = None,
    why: Why = None,
) -> None:
    """Set a dead man's switch: all open orders are cancelled when it runs out, unless it is set again or cleared before.

    Repeat it every 15 to 30 s with 60s, and orders end when you are gone.  It runs out once: then none is set, and orders may
    leave.  Each scope has a timer of its own.
    """
    _guard("timer", account, scope=scope, name=name, why=why, after_s=lambda: seconds("AFTER", after))


@app.command()
def mmp(
    account: Account,
    underlying: Annotated[str, typer.Argument(help="Whose orders it protects: BTC.")],
    window: Annotated[str, typer.Option(help="The fills of so long a time are counted.")] = "5s",
    frozen: Annotated[str, typer.Option(help="So long orders are refused after a hit; 0: until --reset.")] = "0",
    fills: Annotated[int | None, typer.Option(help="More fills hit it.")] = None,
    quantity: Annotated[float | None, typer.Option(help="More bought and sold hits it, in units of the underlying.")] = None,
    delta: Annotated[float | None, typer.Option(help="A larger net delta hits it, in units of the underlying.")] = None,
    is_reset: Annotated[bool, typer.Option("--reset", help="Begin anew: the count is zero, and orders may leave.")] = False,
    is_off: Annotated[bool, typer.Option("--off", help="End the protection; then marked orders are refused.")] = False,
    name: Own = None,
    why: Why = None,
) -> None:
    """Set, reset or end market-maker protection of an account and an underlying.

    It counts the fills of orders that are marked with --mmp, but not those that took.  More than a limit cancels all marked
    orders of the underlying, and refuses new ones for the frozen time.  An option counts by its delta, or where that is not
    known by its quantity.
    """
    if is_reset:
        _guard("mmp_reset", account, name=name, why=why, underlying=underlying)
        return
    limits = {"max_fills": fills, "max_quantity": quantity, "max_delta": delta}
    if is_off:
        _guard("mmp", account, name=name, why=why, underlying=underlying, window_s=0.0, frozen_s=0.0)
        return
    _guard(
        "mmp",
        account,
        name=name,
        why=why,
        underlying=underlying,
        window_s=lambda: seconds("--window", window),
        frozen_s=lambda: seconds("--frozen", frozen),
        **limits,
    )


@app.command()
def show(
    account: Account,
    name: Annotated[str | None, typer.Argument(help="A client_order_id; without: every order of the account.")] = None,
    folder: Annotated[Path | None, typer.Option("--from", help="Folder of a run's Parquet files.")] = None,
) -> None:
    """Tell the story of an order, or of all of an account: each transition with its cause.

    `gammaflow explain ACCOUNT --order ID` tells all of it: requests, checks, what was sent, reports, fills and ledger.
    """
    try:
        if folder is None:
            rows = explain.read_topics(runtime.current(runtime.default_home()).kafka, account, (STATES, GUARDS))
        else:
            rows = explain.read_parquet(folder, account, (STATES, GUARDS))
        lines = sorted([*transitions(rows[STATES], name), *guard_lines(rows[GUARDS], name)], key=lambda text: text[:23])
        if not lines:
            raise ValueError(f"no order {name or ''} of account {account} is known")
    except ValueError as error:
        _refuse(error)
    for text in lines:
        console.print(text, markup=False)


def _fields(*values: str | None) -> dict[str, Any]:
    return dict(zip(("side", "quantity", "price", "time_in_force", "name", "why"), values, strict=True))


def _request(kind: str, account: str, market: str, **fields: Any) -> None:
    _send(lambda: requested(kind, account, market, **fields))


def _guard(kind: str, account: str, **fields: Any) -> None:
    def row() -> OrderRequestsRow:
        return guarding(kind, account, **{field: value() if callable(value) else value for field, value in fields.items()})

    _send(row)


def _send(made: Callable[[], OrderRequestsRow]) -> None:
    try:
        row = made()
        offset = send(runtime.current(runtime.default_home()).kafka, row)
    except (ValueError, RuntimeError) as error:
        _refuse(error)
    console.print(f"requested {row['request']} {row['client_order_id']}: {offset}", markup=False)


def seconds(option: str, text: str) -> float:
    """A span of time in seconds: 60s, 500ms, 0.  Raises `ValueError` that names the option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)|0", text.strip())
    if match is None:
        raise ValueError(f"{option}: expected a time such as 60s or 500ms, or 0, got {text!r}")
    return 0.0 if match[1] is None else float(match[1]) / (1000 if match[2] == "ms" else 1)


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


def _plain(number: Any) -> str:
    return "?" if number is None else f"{Decimal(number).normalize():f}"
