"""matching: which orders trade with each other on the own venue, or on paper, and what does the market see of it?

Entries    book/<venue:instrument>: how many orders and reports there were, the last price, and why nothing trades
           order/["<venue:instrument>",<number>]: one open order; freed with its end
           seat/["<venue:instrument>","<account>"]: position, and the number of its last row of `orders`
           display/<venue:instrument>: what the market was last told of a book, and the venue's own mark
           depth/<venue:instrument>, paper/<venue:instrument>: what a real venue shows; what orders on paper took of it, and the
           requests on their way
           contract/<venue:instrument>, mark/<venue:instrument>, index/<series>, halt/<venue or venue:instrument>,
           break/<break_id>: what books go by.  All of a contract is freed a day after its expiry
           clock, shown: the last instant of the newest batch, and the end of the newest window
Market     kernels/matching/display.py says what it is told of a book, and kernels/matching/mark.py what the mark is
Rules      kernels/matching/book.py, on paper kernels/matching/paper.py, with the venues, fees and bands of
           kernels/matching/rules.py.  Of orders for any other venue nothing is told
Order      a batch applies terms, marks, halts and positions first.  Then orders expire, and books that trade again begin with
           an auction; orders on paper follow their market.  Then requests follow by event time; those of one instant by
           account, in an order that is drawn by a hash of account and instant, so that no name is always the first; those of
           one account by number.  At the end of the window those on paper meet their books
Once       a row whose number is not above the account's last one at the instrument came before, and does nothing
Time       everything happens at the last instant of its batch; what is told of it comes the venue's latency later.  Trading
           ends so that no trade is told when its contract has ended
Late       late requests are taken like any other, at the time of the newest batch
Numbers    whole numbers of 1e-18: sums are exact
"""

from collections.abc import Callable, Iterable
from zlib import crc32

from engine import batch
from engine.checks import checked, dead_letter
from engine.contract import Kernel, Lines, Message, Output
from kernels.market.indices import Price, Series
from kernels.market.terms import tradable
from kernels.matching.display import SNAPSHOT_S
from kernels.matching.numbers import whole
from kernels.matching.paper import PaperBook, depth_of
from kernels.matching.reports import Reports
from kernels.matching.rules import RULES
from kernels.matching.state import VERSION as VERSION
from kernels.matching.state import State as State
from schemas.rows import Fault, key, shown, to_ms

STORE_SHARE = 10.0
"""An order is touched a few times in a short life, so waiting does not reduce what is stored."""
KEPT_MS = 24 * 60 * 60 * 1000
SECOND_MS = 1_000
STOPS = frozenset({"trading_halts", "circuit_breaks"})


def new() -> State:
    """An empty state."""
    return State()


def set_keys(state: State, partition: Callable[[str], int], own: int) -> None:
    """Answer for the instruments whose rows are in the partition `own`."""
    state.partition, state.is_own = partition, lambda name: partition(name) == own


def gauges(state: State) -> dict[str, float]:
    """The number of books, of those that are halted, and of open orders."""
    books = state.books.values()
    open_orders = sum(len(book.open) for book in books)
    return {"books": len(books), "halted_books": sum(book.halt is not None for book in books), "open_orders": open_orders}


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: rows of `venue_reports`, `venue_fills`, `venue_trades` and `venue_order_books`."""
    good, outputs = checked(messages, until_ms)
    good, sizeless = _sized(good, until_ms)
    return outputs + sizeless + _applied(state, good, until_ms).outputs()


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[Lines], bytes]:
    """Apply a micro-batch whose messages are all good, and return its rows as lines; any other is left to `step`."""
    messages, letters = batch.decode(data, until_ms)
    good, wrong = checked(messages, until_ms)
    good, sizeless = _sized(good, until_ms)
    if letters or wrong or sizeless:
        return [], data
    return _applied(state, good, until_ms).lines(), b""


def end_window(state: State, until_ms: int) -> list[Lines]:
    """Let orders expire, also where nothing else happens; tell tickers, and snapshots of books, that are due."""
    state.settle()
    now_ms, before_ms, state.shown_ms = until_ms - 1, state.shown_ms, until_ms
    state.touched.add("shown")
    reports = Reports(now_ms, state.rules.latency_ms)
    if any(book.is_due(now_ms, reports.told_ms) for book in state.books.values()):
        reports = _applied(state, [], until_ms)
    for name in sorted(name for name, book in state.books.items() if isinstance(book, PaperBook) and book.waiting):
        book = state.books[name]
        assert isinstance(book, PaperBook)
        book.arrive(reports)
    if until_ms // state.rules.ticker_ms != before_ms // state.rules.ticker_ms:
        _show(state, now_ms, reports)
    if before_ms and until_ms // SECOND_MS != before_ms // SECOND_MS:
        seconds = range(before_ms // SECOND_MS + 1, until_ms // SECOND_MS + 1)
        due = {second % SNAPSHOT_S for second in seconds[-SNAPSHOT_S:]}
        for name in sorted(state.books):
            display = state.books[name].display
            if display is not None and display.second in due and display.sequence:
                display.tell_snapshot(reports)
    return reports.lines()


def _show(state: State, now_ms: int, reports: Reports) -> None:
    """Mark the contracts of which there is an index, and tell the tickers that are others than were told."""
    for name in sorted(state.books):
        book, display = state.books[name], state.books[name].display
        if display is None:
            continue
        if (index := state.mark(book, display, now_ms)) is not None:
            state.touched.add(book.display_entry)
        elif name not in state.quoted:
            continue
        if display.tell_ticker(book.last_price, index, book.limits, reports):
            state.touched.add(book.display_entry)
    state.quoted.clear()


def _applied(state: State, messages: list[Message], until_ms: int | None) -> Reports:
    state.settle()
    if until_ms is not None:
        state.now_ms = until_ms - 1
        state.touched.add("clock")
    # Late messages come with no time; before the first batch they have only their own.
    happened_ms = state.now_ms or max((to_ms(message.row["event_at"]) for message in messages), default=0)
    reports = Reports(happened_ms, state.rules.latency_ms)
    requests: list[Message] = []
    seen: list[Message] = []  # of real venues
    learned: list[Message] = []
    by_table = {"orders": requests, "book_depth": seen, "trades": seen}
    for message in messages:
        by_table.get(message.table, learned).append(message)
    _learn(state, learned)
    for name in sorted(state.books):  # whatever the order in which they were restored
        state.books[name].expire(reports)
    if any(message.table in STOPS for message in learned):
        _stop_and_go(state, reports)
    if seen and until_ms is not None:
        _watch(state, seen, reports)
    for message in sorted(requests, key=_turn):
        row = message.row
        if state.trades(row["venue"]):
            state.book(row["venue"], row["instrument"]).request(row, reports)
    for name in sorted(state.changed):
        book = state.books[name]
        if book.display is not None and book.display.tell_changes(book.halt is not None, reports):
            state.touched.add(book.display_entry)
    state.quoted |= state.changed
    state.changed.clear()
    if until_ms is not None:
        state.touched.update(f"index/{series.name}" for series in state.indices.forget(until_ms - KEPT_MS))
        state.free(state.listing.free(until_ms - KEPT_MS))
        state.touched.update(state.breaks.forget(until_ms))
        state.touched.update(state.halts.forget(until_ms, lambda name: name not in state.listing.terms))
    return reports


def _watch(state: State, messages: list[Message], reports: Reports) -> None:
    """Let orders on paper follow the market of their venue, in its time; what is shown at an instant is before its trades."""
    seen = [message for message in messages if message.row["venue"] in state.rules.paper]
    for message in sorted(seen, key=lambda m: (to_ms(m.row["event_at"]), m.table, m.partition, m.offset)):
        name = key(message.table, message.row)
        if message.table == "book_depth":
            state.see(name, depth_of(message.row), reports)
        elif isinstance(book := state.books.get(name), PaperBook):
            book.pass_trade(message.row, reports)


def _sized(messages: list[Message], until_ms: int | None) -> tuple[list[Message], list[Output]]:
    """The messages without positions of a size that has too many digits, and dead letters for these."""
    good, letters = [], []
    for message in messages:
        if message.table == "positions":
            try:
                whole(str(message.row["size"]))
            except ValueError as error:
                fault = Fault("size", str(error).partition(", got")[0], shown(message.row["size"]))
                letters.append(dead_letter(message, fault, until_ms))
                continue
        good.append(message)
    return good, letters


def _turn(message: Message) -> tuple[int, int, str, int]:
    row = message.row
    account, event_at = row["account"], row["event_at"]
    return to_ms(event_at), crc32(f"{account}@{event_at}".encode()), account, row["number"]


def _learn(state: State, messages: Iterable[Message]) -> None:
    """Take what books go by."""
    rows = [(to_ms(m.row["event_at"]), m.partition, m.offset, m) for m in messages]
    for event_ms, _, _, message in sorted(rows, key=lambda row: row[:3]):
        row = message.row
        if message.table == "instruments":
            name = key("instruments", row)
            if state.listing.learn(name, tradable(row)):
                state.touched.add(f"contract/{name}")
                if row["venue"] in state.rules.fees:
                    # It is marked, and so can be ordered, before there is an order.
                    state.book(row["venue"], row["instrument"])
                state.inform(name)
        elif message.table == "tickers":
            name, mark = key("tickers", row), row.get("mark_price")
            if mark is not None and event_ms >= state.marks.get(name, (event_ms, None))[0]:
                state.marks[name] = event_ms, mark
                state.touched.add(f"mark/{name}")
                state.inform(name)
        elif message.table == "index_prices":
            series = Series.of_row(row)
            if state.indices.learn(series, Price(event_ms, row["price_usd"])):
                state.touched.add(f"index/{series.name}")
        elif message.table == "trading_halts":
            state.touched.add(state.halts.learn(row))
        elif message.table == "circuit_breaks":
            state.touched.add(state.breaks.learn(row))
        elif message.table == "positions" and state.trades(row["venue"]) and state.is_own(key("instruments", row)):
            seat = state.book(row["venue"], row["instrument"]).seat(row["account"])
            if seat.hold(event_ms, whole(str(row["size"])), row["fill_id"]):
                state.touched.add(seat.entry)


def _stop_and_go(state: State, reports: Reports) -> None:
    """Halt the books that must not trade, and let those trade again that may."""
    for name in sorted(state.books):
        book, was_halted = state.books[name], state.books[name].halt is not None
        if (halt := state.halt(book)) is not None:
            book.halt = halt
        elif was_halted:
            book.resume(reports)
        if was_halted or halt is not None:
            state.touched.add(book.entry)
            state.changed.add(name)


KERNEL = Kernel(
    "matching",
    VERSION,
    new=new,
    step=step,
    take_plain=take_plain,
    set_keys=set_keys,
    end_window=end_window,
    gauges=gauges,
    latency_ms=RULES.latency_ms,
    store_share=STORE_SHARE,
)
