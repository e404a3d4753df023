"""What the market sees of a book of the own venue: rows of `venue_order_books` and `venue_tickers`.

Levels    at the end of each batch the whole size of each price whose size is another one than was told; all of them in the
          first row, and once a minute, at a second of the minute that is a hash of the book's name
Ticker    best prices, last price, mark and band, where one of them has changed, when event time enters another `ticker_ms`
Halt      while nothing trades nothing is shown: orders that are collected for an auction may cross.  When trading begins again
          the book is shown as the auction has left it
"""

from zlib import crc32

from kernels.matching.mark import marked, sampled
from kernels.matching.numbers import UNIT, text
from kernels.matching.reports import Reports
from kernels.matching.rules import Rules
from kernels.matching.side import Side

SNAPSHOT_S = 60


class Display:
    """What was last told of a book."""

    __slots__ = ("asks", "basis", "bids", "head", "is_dark", "key", "mark", "sampled_ms", "second", "sequence", "shown", "told")

    def __init__(self, name: str, key: str, head: str, bids: Side, asks: Side) -> None:
        self.key, self.head = key, head  # of its rows, and what they begin with
        self.bids, self.asks = bids, asks
        self.second = crc32(name.encode()) % SNAPSHOT_S  # of the minute, of its snapshots
        self.sequence = 0  # of the last row of its levels
        self.shown: tuple[dict[int, int], dict[int, int]] = {}, {}  # of bids and asks: contracts by rank
        self.is_dark = False  # while nothing trades
        self.told = ""  # the last ticker
        self.mark: int | None = None  # the venue's own
        self.basis = 0.0
        self.sampled_ms = 0

    def settle(self, is_dark: bool) -> None:
        """Know again what is shown, once restored orders are in their places: what was told is what rests."""
        self.is_dark = is_dark
        for side, shown in zip((self.bids, self.asks), self.shown, strict=True):
            side.changed.clear()
            shown.clear()
            shown.update({} if is_dark else {rank: side.size(rank) for rank in side.ranks})

    def tell_changes(self, is_dark: bool, reports: Reports) -> bool:
        """Tell which prices have another size; returns whether any has."""
        turns, self.is_dark = is_dark != self.is_dark, is_dark
        bids = _changes(self.bids, self.shown[0], is_dark, turns)
        asks = _changes(self.asks, self.shown[1], is_dark, turns)
        if not bids and not asks:
            return False
        self.sequence += 1
        kind = f'"change","sequence":{self.sequence},"prev_sequence":{self.sequence - 1}'
        if self.sequence == 1:
            kind = '"snapshot","sequence":1,"prev_sequence":null'
        self._tell_levels(kind, bids, asks, reports)
        return True

    def tell_snapshot(self, reports: Reports) -> None:
        """Tell all levels, the best first, for those who begin to read."""
        bids, asks = (
            [_level(rank, side.sign, size) for rank, size in sorted(shown.items(), reverse=True)]
            for side, shown in self._sides()
        )
        self._tell_levels(f'"snapshot","sequence":{self.sequence},"prev_sequence":null', bids, asks, reports)

    def sample(self, index: float, tick: int, rules: Rules, now_ms: int) -> int:
        """Follow the book with the basis; returns the mark."""
        if self.bids.ranks and self.asks.ranks and not self.is_dark:
            middle = (self.bids.ranks[-1] - self.asks.ranks[-1]) / (2 * UNIT)
            self.basis = sampled(self.basis, now_ms - (self.sampled_ms or now_ms), middle, index, rules)
        self.sampled_ms = now_ms
        return marked(self.basis, index, tick, rules)

    def tell_ticker(self, last: int | None, index: float | None, limits: tuple[int, int] | None, reports: Reports) -> bool:
        """Tell best prices, last price and mark; returns whether they are others than were told."""
        quotes = [_quote(name, side, shown) for name, (side, shown) in zip(("bid", "ask"), self._sides(), strict=True)]
        least, most = (None, None) if limits is None else limits
        ticker = (
            f'{quotes[0]}{quotes[1]}"last_price":{_number(last)},"mark_price":{_number(self.mark)},"mark_iv":null,'
            f'"bid_iv":null,"ask_iv":null,"forward_usd":null,"index_price_usd":{"null" if index is None else repr(index)},'
            f'"interest_rate":null,"open_interest":null,"min_price":{_number(least)},"max_price":{_number(most)},'
            '"has_quote":true,"funding_rate":null,"next_funding_at":null}'
        )
        if ticker == self.told:
            return False
        self.told = ticker
        reports.tickers.append(f'{self.head}{reports.at},"sequence":{self.sequence or "null"},{ticker}')
        reports.ticker_keys.append(self.key)
        return True

    def _sides(self) -> tuple[tuple[Side, dict[int, int]], tuple[Side, dict[int, int]]]:
        return (self.bids, self.shown[0]), (self.asks, self.shown[1])

    def _tell_levels(self, kind: str, bids: list[str], asks: list[str], reports: Reports) -> None:
        reports.books.append(
            f'{self.head}{reports.at},"kind":{kind},"bids":[{",".join(bids)}],"asks":[{",".join(asks)}],'
            '"checksum":null,"depth":null}'
        )
        reports.book_keys.append(self.key)


def _changes(side: Side, shown: dict[int, int], is_dark: bool, turns: bool) -> list[str]:
    """The levels with another size than is shown, the best first; all of a book that becomes dark, or visible again."""
    changed = []
    for rank in sorted({*shown, *side.ranks} if turns else () if is_dark else side.changed, reverse=True):
        size = 0 if is_dark else side.size(rank)
        if size != shown.get(rank, 0):
            changed.append(_level(rank, side.sign, size))
            if size:
                shown[rank] = size
            else:
                del shown[rank]
    side.changed.clear()
    return changed


def _level(rank: int, sign: int, size: int) -> str:
    return f"[{text(rank * sign)},{text(size)}]"


def _quote(name: str, side: Side, shown: dict[int, int]) -> str:
    if not shown:
        return f'"{name}_price":null,"{name}_size":null,'
    rank = side.ranks[-1]
    return f'"{name}_price":{text(rank * side.sign)},"{name}_size":{text(shown[rank])},'


def _number(units: int | None) -> str:
    return "null" if units is None else text(units)
