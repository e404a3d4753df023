"""Cases of orders: the order state change matrices of FIX 4.4, row by row.

Each row that the sell side sends is reckoned from requests, ExecType, LastQty and LastPx, and OrderQty where the venue alone
knows it: of a restatement, and of an order that was not sent here with a quantity.  Where the published table deviates from the
rule, the rule is expected.
"""

import copy
from decimal import Decimal
from typing import Any

from kernels.orders.order import Order, Report, Request
from kernels.orders.orders import Orders

EXEC_TYPES = {
    "New": "new",
    "DoneForDay": "done_for_day",
    "Canceled": "cancelled",
    "Replaced": "replaced",
    "PendingCancel": "pending_cancel",
    "Stopped": "stopped",
    "Rejected": "rejected",
    "Expired": "expired",
    "Restated": "restated",
    "PendingReplace": "pending_replace",
    "Trade": "trade",
    "TradeCorrect": "trade_correct",
    "TradeCancel": "trade_cancel",
    "OrderStatus": "status",
}
STATUSES = {
    "PartiallyFilled": "partially_filled",
    "Filled": "filled",
    "PendingNew": "pending_new",
    **{theirs: ours for theirs, ours in EXEC_TYPES.items() if not theirs.startswith(("Trade", "Order", "Re"))},
    "Rejected": "rejected",
}
REPORT, CANCEL_REJECT = "8", "9"
DUPLICATE_ORDER = "6"  # OrdRejReason
REQUESTS = {"F": "cancel", "G": "replace"}


def told(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Every row that is sent, as the product tells it."""
    orders, rows = Orders(), []
    for number, row in enumerate(case["rows"]):
        if row["dir"] == "in":
            _ask(orders, row, case.get("timeInForce"))
        elif row["dir"] == "out":
            # An alternative ends with its row.
            here = copy.deepcopy(orders) if row["branch"] == "alternative" else orders
            rows.append({"time": row["time"]} | _answer(here, row, number))
    return rows


def expected(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of every row that is sent, by the rule."""
    rows = []
    for row in case["rows"]:
        if row["dir"] != "out":
            continue
        cells = {"time": row["time"], "ordStatus": row["ordStatus"]}
        if row["msg"] == REPORT:
            cells |= {name: row[name] for name in ("orderQty", "cumQty", "leavesQty")}
            if (average := row.get("extra", {}).get("AvgPx")) is not None:
                cells["avgPx"] = float(average)
        if row["branch"] == "main":
            cells |= {field: rule for time, field, _, _, _, rule in case["spec_deviates_from_model"] if time == row["time"]}
        rows.append(cells)
    return rows


def _ask(orders: Orders, row: dict[str, Any], time_in_force: str | None) -> None:
    name, quantity = row["clOrdID"], _decimal(row["orderQty"])
    if row["msg"] == "D" and orders.get(name) is None:
        tif = time_in_force.lower() if time_in_force else None
        orders.add(Order(name, side="buy", quantity=quantity, time_in_force=tif))
    elif row["msg"] in REQUESTS and (order := orders.get(row["origClOrdID"])) is not None:
        order.ask(name, Request(REQUESTS[row["msg"]], row["origClOrdID"], 0, quantity))
        orders.add(order)


def _answer(orders: Orders, row: dict[str, Any], number: int) -> dict[str, Any]:
    extra = row.get("extra", {})
    name = row["clOrdID"] or ""  # a telephoned order has none
    named = orders.get(name) or orders.get(row["origClOrdID"])
    if row["msg"] == CANCEL_REJECT:
        if named is None:
            return {"ordStatus": "Rejected"}
        report = Report(f"row {number}", "cancel_rejected", number, name, row["origClOrdID"])
        _, change, _ = orders.apply(report)
        return {"ordStatus": _status(change.status if change else named.status())}
    kind = EXEC_TYPES[row["execType"]]
    if named is None and kind == "status":
        return {"ordStatus": "Rejected", "orderQty": 0, "cumQty": 0, "leavesQty": 0}
    is_venues = kind == "restated" or named is None or named.quantity is None
    report = Report(
        extra.get("ExecID", f"row {number}"),
        kind,
        number,
        name,
        row["origClOrdID"],
        order_id=extra.get("OrderID"),
        quantity=_decimal(row["orderQty"]) if is_venues else None,
        last_quantity=_decimal(row["lastQty"]),
        last_price=_decimal(extra.get("LastPx")),
        exec_ref_id=extra.get("ExecRefID"),
        is_repeat=extra.get("OrdRejReason") == DUPLICATE_ORDER,
        ratio=Decimal(extra.get("split", "1")),
    )
    order, change, _ = orders.apply(report)
    numbers = {"orderQty": order.quantity, "cumQty": order.cum_quantity, "leavesQty": order.leaves_quantity}
    status = change.status if change else order.status()
    # FIX has 0 where nothing has traded.
    average = order.executions.average() if order.cum_quantity else Decimal(0)
    return {"ordStatus": _status(status), "avgPx": _number(average)} | {name: _number(value) for name, value in numbers.items()}


def _status(ours: str) -> str:
    return next(theirs for theirs, status in STATUSES.items() if status == ours)


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _number(value: Decimal | None) -> int | float | None:
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


ANSWERS = {"rows": told}
EXPECTED = {"rows": expected}
