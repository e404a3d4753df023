"""The orders of an account, and which of them a report is about."""

from collections.abc import Iterator
from typing import Any

from kernels.orders.order import Change, Order, Report


class Orders:
    """Orders by key, by each of their client_order_ids, and by the venue's order_id."""

    def __init__(self) -> None:
        self.by_key: dict[str, Order] = {}
        self._by_client_id: dict[str, str] = {}
        self._by_order_id: dict[tuple[str, str], str] = {}  # venue:instrument, order_id
        self._by_exec_id: dict[str, str] = {}

    def __iter__(self) -> Iterator[Order]:
        return iter(self.by_key.values())

    def get(self, client_order_id: str | None) -> Order | None:
        """The order that has, or had, this client_order_id, also as the one of a cancel or a replace."""
        key = None if client_order_id is None else self._by_client_id.get(client_order_id)
        return None if key is None else self.by_key[key]

    def add(self, order: Order) -> None:
        """Know an order, or what has become known of one."""
        self.by_key[order.key] = order
        # Each id is that of one order, the first: so it is the same one after a restart.
        for client_order_id in list(order.ids):
            if self._by_client_id.setdefault(client_order_id, order.key) != order.key:
                del order.ids[client_order_id]
        if order.order_id is not None:
            first = self._by_order_id.setdefault((_market(order), order.order_id), order.key)
            order.order_id = order.order_id if first == order.key else None
        for exec_id in order.seen:
            self._by_exec_id.setdefault(exec_id, order.key)

    def remove(self, order: Order) -> None:
        """Forget an order."""
        del self.by_key[order.key]
        for client_order_id in order.ids:
            _drop(self._by_client_id, client_order_id, order.key)
        if order.order_id is not None:
            _drop(self._by_order_id, (_market(order), order.order_id), order.key)
        for exec_id in order.seen:
            _drop(self._by_exec_id, exec_id, order.key)

    def apply(self, report: Report, venue: str = "", instrument: str = "") -> tuple[Order, Change | None, list[Order]]:
        """Take a report; returns its order, what changes, and orders that turn out to be the same one and are no more.

        An order that was not requested here, by telephone or by hand, is one from its first report on.
        """
        market = f"{venue}:{instrument}"
        if (elsewhere := self.by_key.get(self._by_exec_id.get(report.exec_id, ""))) is not None:
            return elsewhere, elsewhere.apply(report), []
        same = [self._named(name, market) for name in (report.client_order_id, report.orig_client_order_id)]
        if report.order_id is not None:
            same.append(self.by_key.get(self._by_order_id.get((market, report.order_id), "")))
        known = list(dict.fromkeys(order for order in same if order is not None))
        # Two orders that were requested here are two, whatever a venue says.
        known.sort(key=_is_adopted)
        order = known[0] if known else self._adopt(report, venue, instrument)
        absorbed = [other for other in known[1:] if _is_adopted(other)]
        for other in absorbed:
            order.absorb(other)
            self.remove(other)
        change = order.apply(report)
        self.add(order)
        return order, change, absorbed

    def _named(self, client_order_id: str | None, market: str) -> Order | None:
        """The order of an instrument that has, or had, this client_order_id; elsewhere it may be another's."""
        order = self.get(client_order_id)
        return order if order is not None and _market(order) == market else self.by_key.get(f"{market}/{client_order_id}")

    def _adopt(self, report: Report, venue: str, instrument: str) -> Order:
        """An order that was not requested here."""
        name = report.orig_client_order_id or report.client_order_id
        told = name or report.order_id or report.exec_id
        is_taken = told in self.by_key or told in self._by_client_id
        key = f"{venue}:{instrument}/{told}" if is_taken else told
        order = Order(key, venue=venue, instrument=instrument, side=report.side, quantity=report.quantity, price=report.price)
        if name is None or is_taken:
            order.client_order_id = name
            order.ids = {}
        return order


def _is_adopted(order: Order) -> bool:
    return order.nature.source == "venue"


def _market(order: Order) -> str:
    return f"{order.venue}:{order.instrument}"


def _drop(index: dict[Any, str], name: Any, key: str) -> None:
    if index.get(name) == key:
        del index[name]
