"""A market whose orders meet on the own venue: makers quote and clients trade by requests, and nobody else fills them.

Makers do not see what they have traded.  Each quotes its contracts again and again round the mark, with orders that expire when
the next are there.  So what they ask for follows from the seed alone, and a run is a function of its input.
"""

from typing import Any

import numpy as np

from feeds import Record
from feeds.simulator.accounts import Account
from feeds.simulator.flow import FLOW_MS, Arrival, IntArray, Market, Moment, Order
from feeds.simulator.listing import UNDERLYINGS, Contract
from feeds.simulator.scenario import Quoting, Scenario
from schemas.rows import instant_ms
from udfs.black76 import FloatArray

ASKED_AFTER_US = 1_000  # from a decision to its arrival
QUOTED_MS = 1_000  # from the start: marks come before the first quotes
TRADED_MS = 3_500  # then all contracts are quoted, so clients may trade
SPOT, OPTION = "spot", "option"


class OwnVenue(Market):
    """Terms, deposits, prices and marks; and requests for orders in place of books, trades and fills."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        assert scenario.quoting is not None
        self.quoting: Quoting = scenario.quoting
        deposits = {"USDC": 1e10, **{coin.currency: 1e6 for coin in UNDERLYINGS}}
        self.makers = tuple(Account(f"maker-{n}", deposits) for n in range(self.quoting.makers))
        self._by_name = {(contract.venue.name, contract.name): contract for contract in self.contracts}
        self.asked = [0] * (len(self.makers) + len(self.clients))  # requests so far, makers first

    @property
    def first_entry_ms(self) -> int:
        """When clients may build positions."""
        return TRADED_MS

    def opening(self) -> list[Arrival]:
        """Contract terms and deposits; there are no books before the first quotes."""
        return [(us, self._with_lots(record)) for us, record in super().opening()]

    def second(self, second: int) -> list[Arrival]:
        """Prices, marks and requests of one second, in no order."""
        second_ms = self.scenario.start_ms + 1000 * second
        from_ms = FLOW_MS if second == 0 else 0
        is_quoted, is_traded = (1000 * second >= ms for ms in (QUOTED_MS, TRADED_MS))
        factor = self.scenario.price_factor(second + np.arange(1000) / 1000)
        path_usd = self.prices.second() * factor
        orders = self.entries.pop(second, []) + (self._turnover(from_ms) if is_traded else [])
        arrivals = self._index_prices(second_ms, path_usd)
        arrivals += self.publishing.second(second_ms, {c.currency: path_usd[u] for u, c in enumerate(UNDERLYINGS)})
        arrivals += [
            self._mark(moment) for moment in self._moments(second_ms, from_ms, path_usd, factor, []) if moment.has_ticker
        ]
        arrivals += self._quoted(second_ms, path_usd, factor) if is_quoted else []
        arrivals += [self._taken(second_ms + order.ms, order) for order in orders]
        return arrivals

    def _snapshots(self) -> list[Arrival]:
        return []

    def _with_lots(self, record: Record) -> Record:
        if record.table != "instruments":
            return record
        contract = self._by_name[record.row["venue"], record.row["instrument"]]
        return record._replace(row={**record.row, "lot_size": 1 / contract.lots_per_contract})

    def _mark(self, moment: Moment) -> Arrival:
        """A ticker that tells mark and index: quotes and trades are those of the own venue."""
        contract = self.contracts[moment.instrument]
        is_option = contract.kind == OPTION
        row = {
            "venue": contract.venue.name,
            "instrument": contract.name,
            "event_at": moment.event_at,
            "received_at": moment.ticker_received_at,
            "sequence": None,
            "mark_price": moment.mark if is_option else None,  # the venue marks the others
            "mark_iv": moment.mark_iv if is_option else None,
            "forward_usd": moment.forward_usd if is_option else None,
            "index_price_usd": moment.index_usd,
            "interest_rate": 0.0 if is_option else None,
        }
        return moment.ticker_us, Record("tickers", moment.event_ms, row)

    def _quoted(self, second_ms: int, path_usd: FloatArray, factor: FloatArray) -> list[Arrival]:
        """What makers ask for in one second."""
        when = [
            (i, maker, ms)
            for i, contract in enumerate(self.contracts)
            if contract.kind != SPOT
            for maker in range(len(self.makers))
            if (maker + i) % 2 == 0
            for ms in self._times(i, maker, second_ms)
        ]
        instrument: IntArray = np.array([i for i, _, _ in when], dtype=np.int64)
        ms: IntArray = np.array([ms for *_, ms in when], dtype=np.int64)
        marks = self._marks(instrument, second_ms + ms, path_usd[self.underlying[instrument], ms], factor[ms])[0]
        arrivals: list[Arrival] = []
        for (i, maker, at_ms), mark in zip(when, marks.tolist(), strict=True):
            arrivals += self._ladder(second_ms + at_ms, i, maker, mark)
        return arrivals

    def _times(self, instrument: int, maker: int, second_ms: int) -> range:
        """When a maker quotes a contract within a second: evenly, and contracts one after the other."""
        every_ms = self._every_ms(instrument)
        phase_ms = (instrument * len(self.makers) + maker) * 7919 % every_ms
        return range((phase_ms - second_ms) % every_ms, 1000, every_ms)

    def _every_ms(self, instrument: int) -> int:
        return self.quoting.option_ms if self.contracts[instrument].kind == OPTION else self.quoting.linear_ms

    def _ladder(self, event_ms: int, instrument: int, maker: int, mark: float) -> list[Arrival]:
        """The quotes of both sides, each further from the mark larger than the one before."""
        quoting, contract = self.quoting, self.contracts[instrument]
        is_option = contract.kind == OPTION
        levels, width = (
            (quoting.option_levels, quoting.option_width) if is_option else (quoting.linear_levels, quoting.linear_width)
        )
        ticks = mark * contract.ticks_per_unit
        units = UNDERLYINGS[contract.underlying].position_units * quoting.size / contract.contract_size
        expires_at = instant_ms(event_ms + self._every_ms(instrument) + quoting.overlap_ms)
        arrivals = []
        for level in range(levels):
            away = max(width * ticks * (0.5 + level), 0.5 + level)
            lots = max(1, round(units * 2**level * contract.lots_per_contract))
            for side, tick in (("buy", int(np.floor(ticks - away))), ("sell", int(np.floor(ticks + away)) + 1)):
                if tick > 0:
                    more = {"order_type": "limit", "time_in_force": "post_only", "expires_at": expires_at}
                    price = f"{tick / contract.ticks_per_unit:.6f}"
                    arrivals.append(self._request(event_ms, maker, contract, side, lots, more | {"price": price}))
        return arrivals

    def _taken(self, event_ms: int, order: Order) -> Arrival:
        """A client's order, at the market."""
        contract, lots = self.contracts[order.leg.instrument], order.leg.lots
        more = {"order_type": "market", "time_in_force": "ioc"}
        who = len(self.makers) + order.account
        return self._request(event_ms, who, contract, "buy" if lots > 0 else "sell", abs(lots), more)

    def _request(self, event_ms: int, who: int, contract: Contract, side: str, lots: int, more: dict[str, Any]) -> Arrival:
        self.asked[who] += 1
        is_maker = who < len(self.makers)
        account = self.makers[who] if is_maker else self.clients[who - len(self.makers)]
        row = {
            "account": account.name,
            "venue": contract.venue.name,
            "instrument": contract.name,
            "event_at": instant_ms(event_ms),
            "client_order_id": f"{who:06d}x{self.asked[who]}",
            "orig_client_order_id": None,
            "parent_client_order_id": None,
            "request": "new",
            "source": "algorithm" if is_maker else "person",
            "owner_group": None,
            "side": side,
            "price": None,
            "quantity": f"{lots / contract.lots_per_contract:.2f}",
            "is_reduce_only": False,
            "expires_at": None,
            "max_notional_usd": None,
            "reason": "quote" if is_maker else None,
            **more,
        }
        return event_ms * 1000 + ASKED_AFTER_US, Record("order_requests", event_ms, row)
