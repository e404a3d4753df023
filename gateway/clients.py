"""Clients who trade over us, and systems that get copies.  Knows neither Kafka nor Java.

What a client wants goes into `order_requests` and through every check; all that it is told comes from `order_states`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from feeds import Record
from gateway import Message, message
from gateway.config import Client, Risk
from gateway.ledger import Ledger
from gateway.once import REMEMBERED, Recent
from gateway.orders import timestamp
from gateway.requests import DUPLICATE, UNKNOWN_ORDER, Named, RefusedError, mass_cancel, own_id, refused, requested
from gateway.states import Row, exec_id, status, told
from gateway.words import CANCEL, DONE, MASS_CANCEL, MASS_CANCEL_REPORT, MASS_STATUS, NEW, REPLACE, REPORT, STATUS

_log = logging.getLogger(__name__)

UNDERSTOOD = frozenset({NEW, REPLACE, CANCEL, STATUS, MASS_STATUS, MASS_CANCEL})
"""MsgTypes that a client may send."""
_UNDOING = ("trade_cancel", "trade_correct")


@dataclass
class Executions:
    """ExecIDs that we have told, by those of the venues; and what busts and corrections undo."""

    told: Recent = field(default_factory=Recent)
    undoes: Recent = field(default_factory=Recent)

    def report(self, row: Row) -> None:
        """Take a row of `execution_reports` or `venue_reports`."""
        if row["exec_type"] in _UNDOING and row["exec_ref_id"] is not None:
            self.undoes.keep(row["exec_id"], row["exec_ref_id"])

    def state(self, row: Row) -> str | None:
        """Take a row of `order_states`; returns the ExecID of the trade that it undoes."""
        if row["event"] == "trade":
            self.told.keep(row["cause_id"], exec_id(row))
        if row["event"] not in _UNDOING:
            return None
        ref = self.undoes.get(row["cause_id"])
        return None if ref is None else self.told.get(ref, ref)


@dataclass
class ClientDesk:
    """The orders of one client's session.

    publish  takes rows of `order_requests`, send a message to the client
    now_us   the clock, in microseconds since 1970
    sent     ExecIDs that an earlier run has told
    """

    session: Client
    publish: Callable[[Record], None]
    send: Callable[[Message], int]
    now_us: Callable[[], int]
    ledger: Ledger = field(default_factory=Ledger)
    sent: Recent = field(default_factory=Recent)
    executions: Executions = field(default_factory=Executions)
    refusals: int = 0
    repeats: int = 0

    def __post_init__(self) -> None:
        self._newest: dict[str, Row] = {}  # of the orders of this client, by key
        self._answered = Recent()  # cancels and replaces
        self._refused = 0

    # what the client wants

    def message(self, found: Message) -> None:
        """Take a message of the client."""
        if found.kind == STATUS:
            self._tell_status(found)
        elif found.kind == MASS_STATUS:
            self._tell_all(found)
        elif found.kind == MASS_CANCEL:
            self._cancel_all(found)
        elif found.kind in (NEW, REPLACE, CANCEL):
            self._request(found)
        else:
            _log.warning("%s rejects what it was told: %s", self.session.name, found.get(58) or f"reason {found.get(373)}")

    def _request(self, found: Message) -> None:
        orig = self._orig(found)
        try:
            if found.kind != NEW and orig is None:
                raise RefusedError(UNKNOWN_ORDER, f"OrigClOrdID (41): expected an order of this session, got {found.get(41)!r}")
            row, named = requested(found, self.session, orig, self.now_us())
            known = self.ledger.get(named.name)
            if known is not None and not (found.is_repeat and known == named):
                raise RefusedError(DUPLICATE, f"ClOrdID (11): {named.cl_ord_id} has been used before")
        except RefusedError as error:
            self._refuse(found, error, orig)
            return
        if known is None:
            self.ledger.add(named)
        else:
            self.repeats += 1
        # Also of a repeat: a crash may have cost us the first one, and the order path takes a request once.
        self.publish(Record("order_requests", self.now_us() // 1000, row))

    def _orig(self, found: Message) -> Named | None:
        told = found.get(41) if found.kind != NEW else None
        return None if told is None else self.ledger.get(own_id(self.session, told))

    def _refuse(self, found: Message, error: RefusedError, orig: Named | None) -> None:
        self.refusals += 1
        self._refused += 1
        name = f"gateway:{self.now_us()}:{self._refused}"
        self.send(refused(found, error, orig, name, timestamp(self.now_us())))

    def _tell_status(self, found: Message) -> None:
        named = self.ledger.get(own_id(self.session, found.get(11) or ""))
        row = self._newest.get(named.order_key) if named is not None else None
        request = (790, found.get(790))
        if row is not None:
            self.send(status(row, self.session.instruments, self._standing(row), [request]))
            return
        words = "unknown order" if named is None else "the order is on its way"
        fields = [(37, "NONE"), (11, found.get(11)), (17, "0"), (150, "I"), (39, "8" if named is None else "A"), request]
        fields += [(103, UNKNOWN_ORDER if named is None else None), (55, found.get(55)), (54, found.get(54) or "1")]
        self.send(message(REPORT, [*fields, (151, "0"), (14, "0"), (6, "0"), (60, timestamp(self.now_us())), (58, words)]))

    def _tell_all(self, found: Message) -> None:
        rows = [row for row in self._newest.values() if row["order_status"] not in DONE]
        request = (584, found.get(584))
        for number, row in enumerate(rows, 1):
            is_last = "Y" if number == len(rows) else "N"
            further = [request, (911, str(len(rows))), (912, is_last)]
            self.send(status(row, self.session.instruments, self._standing(row), further))
        if not rows:
            fields = [(37, "NONE"), (17, "0"), (150, "I"), (39, "8"), (103, UNKNOWN_ORDER), (55, "NONE"), (54, "1"), (151, "0")]
            words = [(14, "0"), (6, "0"), (60, timestamp(self.now_us())), (911, "0"), (912, "Y"), (58, "no open order")]
            self.send(message(REPORT, [*fields, request, *words]))

    def _cancel_all(self, found: Message) -> None:
        account = found.get(1) or self.session.accounts[0]
        is_good = account in self.session.accounts and found.get(530) == "7"
        if is_good:
            self.cancel_all(account, f"OrderMassCancelRequest {found.get(11)}", found.get(11) or "")
        told = "7" if is_good else "0"
        fields = [(37, f"mass:{found.get(11)}"), (11, found.get(11)), (530, found.get(530) or "7"), (531, told)]
        why = None if is_good else "expected MassCancelRequestType 7 and an account of this session"
        self.send(message(MASS_CANCEL_REPORT, [*fields, (532, None if is_good else "99"), (58, why)]))

    def cancel_all(self, account: str, why: str, decision: str) -> None:
        """Request that all orders of an account at the client's venue end."""
        row = mass_cancel(self.session, account, why, self.now_us(), decision)
        self.publish(Record("order_requests", self.now_us() // 1000, row))

    def logged_out(self, was_on: bool) -> None:
        """The connection is gone."""
        if was_on and self.session.cancel_on_disconnect:
            for account in self.session.accounts:
                self.cancel_all(account, f"cancel on disconnect of {self.session.name}", str(self.now_us()))

    # what the client is told

    def state(self, row: Row, is_backlog: bool = False) -> None:
        """Take a row of `order_states`; one of the backlog has been told before."""
        named = self.ledger.get(row["order_key"]) or self.ledger.get(row["cause_id"])
        if named is None:
            return
        ref = self.executions.state(row)
        key = row["order_key"]
        before = self._newest.get(key)
        if before is None or row["number"] > before["number"]:
            self._newest[key] = row
            if len(self._newest) > REMEMBERED:
                del self._newest[next(iter(self._newest))]
        asked = self._asked(row)
        if row["event"] in ("cancelled", "replaced", "cancel_rejected", "refused") and asked is not None:
            self._answered.keep(asked.name)
        own = exec_id(row)
        if is_backlog or own in self.sent:
            return
        self.sent.keep(own)
        self.send(told(row, self.session.instruments, asked, self._standing(row), ref=ref))

    def _standing(self, row: Row) -> Named | None:
        return self.ledger.get(row["client_order_id"])

    def _asked(self, row: Row) -> Named | None:
        """The client's request that a row answers."""
        if row["cause"] == "request":
            return self.ledger.get(row["cause_id"])
        wanted = {
            "cancelled": ("cancel",),
            "replaced": ("replace",),
            "pending_cancel": ("cancel",),
            "pending_replace": ("replace",),
        }
        kinds: tuple[Any, ...] = wanted.get(row["event"], ("cancel", "replace") if row["event"] == "cancel_rejected" else ())
        if row["event"] == "replaced":
            return self.ledger.get(row["client_order_id"])
        if row["event"] == "cancelled" and row["orig_client_order_id"] is None:
            return None  # nobody asked for it
        named = [own for own in self.ledger.order(row["order_key"]) if own.kind in kinds and own.name not in self._answered]
        return named[0] if named else None


@dataclass
class RiskDesk:
    """A system that gets a copy of every order and fill."""

    session: Risk
    send: Callable[[Message], int]
    sent: Recent = field(default_factory=Recent)
    executions: Executions = field(default_factory=Executions)

    def state(self, row: Row, is_backlog: bool = False) -> None:
        """Take a row of `order_states`; one of the backlog has been told before."""
        ref = self.executions.state(row)
        own = exec_id(row)
        if is_backlog or own in self.sent or (self.session.accounts and row["account"] not in self.session.accounts):
            return
        self.sent.keep(own)
        self.send(told(row, self.session.instruments, is_copy=True, ref=ref))
