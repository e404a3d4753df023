"""Orders of one venue, and what it says of them.  Knows neither Kafka nor Java: rows and messages in, rows and messages out.

At each logon it asks for every order whose fate is unknown or that is open, before anything else is sent.  A message that wants
something done is never sent a second time: where the venue asks for it again, the gap is filled, and the order is asked for.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import InvalidOperation
from typing import Any

from feeds import Record, Rejected
from gateway import Message
from gateway.config import DropCopy, Venue
from gateway.once import Once
from gateway.orders import Row, ordered, status_request, timestamp
from gateway.reports import Known, Source, corrected, is_unknown, names, reported
from gateway.words import BUSINESS_REJECT, CANCEL_REJECT, DONE, REPORT, SESSION_REJECT
from schemas.records import ExecutionReportsRow
from schemas.rows import instant_ms, instant_us, to_ms

NEVER = "never reached the venue"
_SECOND_US = 1_000_000
_KEPT = 100_000  # requests that are over, whose reports are still understood

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Request:
    """A row of `orders`, and what became of it."""

    row: Row
    root: str  # the first client_order_id of its order
    state: str = "held"  # then sent, and answered; unknown: it may have been sent, and nobody has answered
    is_over: bool = False  # nothing of it can trade, or change, any more

    @property
    def kind(self) -> str:
        """new, replace or cancel."""
        return str(self.row["request"])


@dataclass
class VenueDesk:
    """The orders of a venue's session.

    publish  takes rows
    send     takes a message; returns its MsgSeqNum, or 0 where the session did not take it
    now_us   the clock, in microseconds since 1970
    """

    session: Venue
    publish: Callable[[Record], None]
    send: Callable[[Message], int]
    now_us: Callable[[], int]
    once: Once = field(default_factory=Once)
    requests: dict[str, Request] = field(default_factory=dict)
    is_on: bool = False
    declined: int = 0  # stale messages that were not sent again
    stale: int = 0  # orders that were reported as too old to be sent

    def __post_init__(self) -> None:
        own = self.session
        accounts = {theirs: ours for ours, theirs in own.accounts.items()}
        self.source = Source(own.venue, own.dialect, own.instruments, accounts, own.account)
        self._queue: deque[str] = deque()
        self._orders: dict[str, list[str]] = {}  # requests by root
        self._asked: dict[str, str] = {}  # of orders that the venue has been asked for, by root: the request that was named
        self._asked_until_us = 0
        self._mass_id: str | None = None
        self._sent_us: deque[int] = deque()
        self._rounds = 0
        self._numbers: dict[str, str] = {}  # requests by the MsgSeqNum with which they were sent

    # what is to be done

    def is_ours(self, row: Row) -> bool:
        """Whether a row of `orders` is for this session."""
        return row["venue"] == self.session.venue and (not self.session.accounts or row["account"] in self.session.accounts)

    def order(self, row: Row, is_backlog: bool = False) -> None:
        """Take a row of `orders`: send it as soon as that is right.  One of the backlog may have been sent before."""
        name = row["client_order_id"]
        known = self.requests.get(name)
        if known is not None:
            if known.row["account"] != row["account"]:
                self._say(row, f"ClOrdID {name} is used by account {known.row['account']}: at a venue it must be unique")
            return
        before = self.requests.get(row["orig_client_order_id"] or "")
        request = Request(row, before.root if before else row["orig_client_order_id"] or name)
        self.requests[name] = request
        self._orders.setdefault(request.root, []).append(name)
        if is_backlog:
            request.state = "unknown"
        else:
            self._queue.append(name)
            self._release()

    def told_before(self, table: str, row: Row) -> None:
        """Take a row of `execution_reports` or `fills` that an earlier run has published, or another writer."""
        if row["venue"] != self.session.venue:
            return
        self.once.remember(table, row)
        if table == "execution_reports":
            self._settle(row)

    def logged_on(self) -> None:
        """Ask for what is not known; the rest waits for the answers."""
        self.is_on = True
        for request in self.requests.values():
            if request.state == "sent":
                request.state = "unknown"
        self._numbers.clear()
        self._asked = dict(self._open())
        self._asked_until_us = self.now_us() + int(self.session.answer_s * _SECOND_US)
        template = self.session.dialect.mass_status_request
        self._rounds += 1
        self._mass_id = None
        if self._asked and template is not None:
            self._mass_id = f"{self.now_us()}x{self._rounds}"
            self.send(template.filled(id=self._mass_id))
        else:
            self._ask_each()
        self._release()

    def logged_out(self) -> None:
        """The connection is gone: what nobody has answered is of unknown fate."""
        self.is_on = False
        self._asked.clear()
        for request in self.requests.values():
            if request.state == "sent":
                request.state = "unknown"

    def gap_filled(self, message: Message) -> None:
        """The venue wanted a stale message again and was told that it does not come: ask what the venue knows."""
        self.declined += 1
        request = next((self.requests[name] for name in self._ids(message) if name in self.requests), None)
        if request is None or request.is_over or request.state == "answered":
            return
        name = request.row["client_order_id"]
        _log.warning("%s: %s %s is stale: gap-filled, not sent again", self.session.name, request.kind, name)
        request.state = "unknown"
        self._asked[request.root] = name
        self._asked_until_us = self.now_us() + int(self.session.answer_s * _SECOND_US)
        self.send(status_request(request.row, self.session))

    def tick(self) -> None:
        """Go on where time has passed."""
        if self._asked and self.now_us() >= self._asked_until_us:
            if self._mass_id is not None:
                self._asked_until_us = self.now_us() + int(self.session.answer_s * _SECOND_US)
                self._ask_each()
            else:
                _log.warning("%s: no answer about %s", self.session.name, ", ".join(list(self._asked.values())[:5]))
                self._asked.clear()
        self._release()

    def unknown(self) -> int:
        """The number of requests of unknown fate."""
        # A copy: metrics ask from a thread of their own.
        return sum(request.state == "unknown" and not request.is_over for request in list(self.requests.values()))

    def held(self) -> int:
        """The number of requests that wait to be sent."""
        return len(self._queue)

    # what the venue says

    def message(self, message: Message, received_us: int, copy: DropCopy | None = None) -> None:
        """Take a message of the venue, or of a drop copy of it.  Raises `Rejected` for one that cannot be used."""
        if message.kind not in (REPORT, CANCEL_REJECT):
            self._other(message)
            return
        ids = self._ids(message)
        if copy is None and message.kind == REPORT and self._is_unknown(message, ids):
            return
        source = self.source
        if copy is not None and copy.exec_id_tags is not None:
            source = Source(
                source.venue, source.dialect, source.instruments, source.accounts, source.account, copy.exec_id_tags
            )
        try:
            records = reported(message, source, self._known(message, ids), received_us)
            records = corrected(records, message, source, self.once.execution)
        except InvalidOperation:
            raise Rejected(None, "numbers of up to 20 digits before the point and 18 after it", None) from None
        for record in records:
            if self.once.is_new(record):
                self.publish(record)
        if copy is None:
            self._settle(records[0].row)
            self._answered(message, ids)
        self._release()

    def _other(self, message: Message) -> None:
        """Take a reject of the session or the application: the request that it names is refused."""
        why = message.get(58) or f"reason {message.get(373) or message.get(380)}"
        _log.warning("%s: %s: %s", self.session.name, message.kind, why)
        if message.kind in (SESSION_REJECT, BUSINESS_REJECT):
            name = message.get(379) or self._numbers.get(message.get(45) or "")
            request = self.requests.get(name or "")
            if request is not None and request.state == "sent":
                self._drop(request, f"the venue rejects the message: {why}")

    def _known(self, message: Message, ids: list[str]) -> Known | None:
        request = next((self.requests[name] for name in ids if name in self.requests), None)
        if request is None:
            return None
        row = request.row
        name: str | None = None
        orig: str | None = None
        if message.kind == CANCEL_REJECT or message.get(150) in ("4", "5", "6", "E"):
            asked = self._asked_by(request.root, message, ids)
            if asked is not None:
                name, orig = asked.row["client_order_id"], asked.row["orig_client_order_id"]
        is_open = request.kind == "replace" and request.state in ("sent", "unknown")
        return Known(row["account"], row["instrument"], row["side"], name, orig, is_open)

    def _asked_by(self, root: str, message: Message, ids: list[str]) -> Request | None:
        """The cancel or replace that a message answers: the one that it names, or the newest that is open."""
        named = [self.requests[name] for name in ids if name in self.requests and self.requests[name].kind != "new"]
        if named:
            return named[0]
        if self.session.dialect.orig_tag:
            return None
        wanted = {"5": "replace", "E": "replace", "4": "cancel", "6": "cancel"}.get(message.get(150) or "")
        chain = [self.requests[name] for name in reversed(self._orders.get(root, []))]
        return next((own for own in chain if not own.is_over and own.kind != "new" and wanted in (None, own.kind)), None)

    def _is_unknown(self, message: Message, ids: list[str]) -> bool:
        """Whether a message says that an order which was asked for is not known; then it is sent now, or reported."""
        root = next((root for root in self._roots(ids) if root in self._asked), None)
        if root is None or not is_unknown(message, self.session.dialect):
            return False
        del self._asked[root]
        lost = [own for name in self._orders.get(root, []) if (own := self.requests[name]).state == "unknown"]
        for request in lost:
            if len(lost) == 1 and request.kind == "new" and not self._is_stale(request):
                request.state = "held"
                self._queue.appendleft(request.row["client_order_id"])
            else:
                self._drop(request, f"{NEVER}; it is not sent again")
        self._release()
        return True

    def _answered(self, message: Message, ids: list[str]) -> None:
        """Take what a message answers of what was asked: a cancel or replace that it leaves out never reached the venue."""
        for root in self._roots(ids):
            if self._asked.pop(root, None) is not None:
                for name in self._orders.get(root, []):
                    if (other := self.requests[name]).state == "unknown" and other.kind != "new":
                        self._drop(other, f"{NEVER}, or without an answer; the order stands as it did")
        if self._mass_id is not None and message.get(584) == self._mass_id and self._is_last(message):
            self._ask_each()

    def _roots(self, ids: list[str]) -> list[str]:
        return list(dict.fromkeys(self.requests[name].root for name in ids if name in self.requests))

    def _is_last(self, message: Message) -> bool:
        return message.get(912) == "Y" or message.get(911) in ("0", "1")

    def _ask_each(self) -> None:
        self._mass_id = None
        for name in self._asked.values():
            self.send(status_request(self.requests[name].row, self.session))

    def _ids(self, message: Message) -> list[str]:
        told = names(message, self.session.dialect)
        return list(dict.fromkeys([*told, *(value for tag in (11, 41, 584) if (value := message.get(tag)) is not None)]))

    def _open(self) -> Iterable[tuple[str, str]]:
        """The root of each order that may still trade, or whose fate is unknown, and a request of it."""
        for root, names_of in self._orders.items():
            living = [name for name in names_of if not self.requests[name].is_over and self.requests[name].state != "held"]
            unknown = [name for name in living if self.requests[name].state == "unknown"]
            named = unknown or [name for name in living if self.requests[name].kind != "cancel"]
            if named:
                yield root, named[-1]

    def _settle(self, row: Row | ExecutionReportsRow) -> None:
        """Take what a report says of a request and its order."""
        request = self.requests.get(row["client_order_id"] or "")
        if request is None:
            return
        kind, status = row["exec_type"], row["order_status"]
        if kind in ("pending_cancel", "pending_replace"):
            return
        request.state = "answered"
        if kind == "cancel_rejected":
            request.is_over = True
        elif kind == "replaced":
            orig = self.requests.get(request.row["orig_client_order_id"] or "")
            if orig is not None:
                orig.state, orig.is_over = "answered", True
        elif status in DONE or kind in DONE:
            for name in self._orders.pop(request.root, []):
                self.requests[name].state, self.requests[name].is_over = "answered", True
            self._forget()

    def _forget(self) -> None:
        while len(self.requests) > _KEPT and (oldest := next(iter(self.requests.values()))).is_over:
            del self.requests[oldest.row["client_order_id"]]

    # what is sent

    def _release(self) -> None:
        """Send what waits, in order, where nothing is asked for and the venue's rate allows it."""
        while self._queue and self.is_on and not self._asked and self._has_room():
            request = self.requests[self._queue.popleft()]
            if request.is_over or request.state != "held":
                continue
            if request.kind != "cancel" and self._is_stale(request):
                self._drop(request, f"too old to be sent: waited longer than {self.session.max_age_s:g} s")
                continue
            try:
                message = ordered(request.row, self.session, timestamp(self.now_us()))
            except ValueError as error:
                self._drop(request, str(error))
                continue
            request.state = "sent"
            self._sent_us.append(self.now_us())
            number = self.send(message)
            if number:
                self._numbers[str(number)] = request.row["client_order_id"]
                if len(self._numbers) > _KEPT:
                    del self._numbers[next(iter(self._numbers))]
            else:
                request.state = "unknown"

    def _has_room(self) -> bool:
        if self.session.orders_per_s is None:
            self._sent_us.clear()
            return True
        while self._sent_us and self._sent_us[0] <= self.now_us() - _SECOND_US:
            self._sent_us.popleft()
        return len(self._sent_us) < self.session.orders_per_s

    def _is_stale(self, request: Request) -> bool:
        return self.now_us() // 1000 - to_ms(request.row["event_at"]) > self.session.max_age_s * 1000

    def _drop(self, request: Request, why: str) -> None:
        request.state, request.is_over = "answered", True
        self.stale += 1
        self._say(request.row, why)

    def _say(self, row: Row, why: str) -> None:
        """Report a request that is not with the venue: the venue has no word for it, and nothing may wait for ever."""
        is_new = row["request"] == "new"
        at_us = self.now_us()
        empty: dict[str, Any] = dict.fromkeys(ExecutionReportsRow.__annotations__)
        told = empty | {
            **{column: row[column] for column in ("account", "venue", "instrument", "client_order_id", "side", "order_id")},
            **{column: row[column] for column in ("orig_client_order_id", "order_type", "time_in_force", "price", "quantity")},
            "event_at": instant_ms(at_us // 1000),
            "received_at": instant_us(at_us),
            "exec_id": f"{row['venue']}:gateway:{row['account']}:{row['client_order_id']}",
            "exec_type": "rejected" if is_new else "cancel_rejected",
            "order_status": "rejected" if is_new else None,
            "leaves_quantity": "0" if is_new else None,
            "cum_quantity": "0" if is_new else None,
            "reason": why,
        }
        record = Record("execution_reports", at_us // 1000, told)
        if self.once.is_new(record):
            self.publish(record)
