"""A shard's view of the market: contract terms, newest prices, indices, and the factors that follow volatility.

Entries   instrument/<venue:instrument>: the terms of one contract; freed a day after expiry, once no account holds it
          price/<venue:instrument>: its newest prices; freed with its terms
          index/<currency>, with the quote currency behind it where that is not USD: the newest index of one coin
          oracle/<underlying>: its newest row of oracle_prices, whose price then is its index; never freed
          scaling/<underlying>: the factor of requirements on it, and whether it must be checked again; never freed
          clock: the last whole second of event time at which accounts were valued
"""

import math
from typing import Any, NamedTuple

from engine.contract import Migration
from engine.entries import packed, unpacked
from kernels.liquidations.columns import Columns, or_nan
from kernels.market import indices
from kernels.market.indices import DOLLARS
from kernels.market.terms import untold_amount
from kernels.market.tickers import NO_READING, Prices, Reading
from udfs import standard_margin

VERSION = 7
KEPT_MS = 86_400_000
NO_PRICES = Prices()


class Terms(NamedTuple):
    """What valuation needs of a contract."""

    published_ms: int
    kind: str
    underlying: str
    settlement_currency: str
    is_inverse: bool
    option_type: str | None
    strike_usd: float | None
    contract_size: float | None
    expiry_ms: int | None
    index_currency: str  # the currency of the index that values it
    amount_per_contract: float | None  # in the sizes of its book; None where it is not known


def traded(prices: Prices) -> Reading:
    """Middle of bid and ask, else the last trade."""
    return prices.last if prices.middle[1] is None else prices.middle


class Index(NamedTuple):
    """The newest prices of a coin in one currency; None if there was none."""

    event_ms: int
    price_usd: float | None  # from index_prices
    ticker_ms: int
    ticker_usd: float | None  # from tickers

    @property
    def usd(self) -> float | None:
        """The price that counts."""
        return self.ticker_usd if self.price_usd is None else self.price_usd

    @property
    def newest_ms(self) -> int:
        """The event time of that price."""
        return self.ticker_ms if self.price_usd is None else self.event_ms


class Oracle(NamedTuple):
    """What a row of `oracle_prices` says of an underlying."""

    event_ms: int
    price_usd: float
    validity: str
    held: str | None  # actions, joined by commas: udfs.oracle_validity.ACTIONS
    confidence_usd: float
    average_usd: float
    age_ms: float
    venues: int
    rules: str


NO_INDEX = Index(-(1 << 62), None, -(1 << 62), None)


class Market:
    """The market.  The dicts are stored; the columns have the same numbers as arrays."""

    def __init__(self) -> None:
        self.terms: dict[str, Terms] = {}
        self.prices: dict[str, Prices] = {}
        self.indices: dict[str, Index] = {}  # by coin and quote currency, as `indices.named`
        self.oracles: dict[str, Oracle] = {}  # by underlying
        self.index_ms: dict[str, dict[str, int]] = {}  # of these, by coin and by currency, the newest event time
        self.factors: dict[str, float] = {}  # by underlying, the factor of requirements
        self.quoted: set[str] = set()  # underlyings whose options have had tickers since their factors were last checked
        self.second: int | None = None
        self.touched: set[str] = set()
        self.moved: set[str] = set()  # underlyings whose requirements must be computed again
        self.is_relisted = False  # whether contracts were added, changed or freed since accounts were last valued
        self.is_valued = False  # whether accounts would be worth the same if they were valued again
        self._first_expiry_ms = math.inf
        self.contract_columns: Columns[str] = Columns(
            is_future=0,
            is_option=0,
            is_inverse=0,
            contract_size=math.nan,
            settlement=0,
            underlying=0,
            strike_usd=math.nan,
            is_call=0,
            initial=math.nan,
            maintenance=math.nan,
            per_coin=math.nan,
            mark=math.nan,
            mark_ms=-math.inf,
            traded=math.nan,
            traded_ms=-math.inf,
            forward_usd=math.nan,
            forward_ms=-math.inf,
            vol=math.nan,
            expiry_s=math.inf,
            index=0,
        )
        self.currency_columns: Columns[str] = Columns(usd=math.nan, factor=1.0)
        # Added first: the row of a blank contract's currencies is 0.
        for name in sorted(DOLLARS):
            self.currency_columns.put(name, usd=1.0)
        self.index_columns: Columns[tuple[str, str]] = Columns(usd=math.nan)
        """By coin and own currency: the index that values contracts quoted in that currency, whatever the index itself is
        quoted in."""
        self.index_columns.row(("", ""))  # likewise
        self.own_currencies: dict[str, set[str]] = {}  # by coin, those of its contracts

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, key = name.partition("/")
        stored: Any = None
        if kind == "clock":
            stored = None if self.second is None else [self.second]
        elif kind == "scaling":
            stored = [self.factors.get(key), key in self.quoted]
        else:
            entries: dict[str, dict[str, Any]] = {
                "instrument": self.terms,
                "price": self.prices,
                "index": self.indices,
                "oracle": self.oracles,
            }
            stored = entries[kind].get(key)
        return None if stored is None else packed(VERSION, list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, key = name.partition("/")
        stored = unpacked("margin", name, data, VERSION, MIGRATIONS)
        if kind == "clock":
            (self.second,) = stored
        elif kind == "instrument":
            self.put_terms(key, Terms(*stored))
        elif kind == "price":
            self.put_price(key, Prices(*((ms, value) for ms, value in stored)))
        elif kind == "index":
            self.put_index(key, Index(*stored))
        elif kind == "oracle":
            self.put_oracle(key, Oracle(*stored))
        else:
            factor, is_quoted = stored
            if factor is not None:
                self.put_factor(key, factor)
            if is_quoted:
                self.quoted.add(key)

    def put_terms(self, name: str, terms: Terms) -> None:
        """Set the terms of a contract."""
        self.terms[name] = terms
        if terms.expiry_ms is not None:
            self._first_expiry_ms = min(self._first_expiry_ms, terms.expiry_ms)
        self.is_relisted, self.is_valued = True, False
        schedule = standard_margin.futures_schedule(terms.underlying)
        self.contract_columns.put(
            name,
            is_future=terms.kind in ("perpetual", "future"),
            is_option=terms.kind == "option",
            is_inverse=terms.is_inverse,
            contract_size=or_nan(terms.contract_size),
            expiry_s=math.inf if terms.expiry_ms is None else terms.expiry_ms / 1000,
            settlement=self.currency(terms.settlement_currency),
            underlying=self.currency(terms.underlying),
            strike_usd=or_nan(terms.strike_usd),
            is_call=terms.option_type == "call",
            initial=schedule.initial,
            maintenance=schedule.maintenance,
            per_coin=schedule.per_coin,
            index=self.index_columns.row((terms.underlying, terms.index_currency)),
        )
        self.own_currencies.setdefault(terms.underlying, set()).add(terms.index_currency)
        self._follow_index(terms.underlying)

    def put_price(self, name: str, price: Prices) -> None:
        """Set the prices of a contract."""
        known = self.prices.get(name, NO_PRICES)
        self.prices[name] = price
        self.is_valued &= [value for _, value in known] == [value for _, value in price]
        (mark_ms, mark), (traded_ms, traded_price), (forward_ms, forward) = price.mark, traded(price), price.forward_usd
        self.contract_columns.put(
            name,
            mark=or_nan(mark),
            mark_ms=mark_ms,
            traded=or_nan(traded_price),
            traded_ms=traded_ms,
            forward_usd=or_nan(forward),
            forward_ms=forward_ms,
            vol=or_nan(price.mark_iv[1]),
        )
        if terms := self.terms.get(name):
            self.moved.add(terms.underlying)

    def put_index(self, name: str, index: Index) -> None:
        """Set the prices of a coin in one currency; `name` is from `indices.named`."""
        self.indices[name] = index
        coin, quote = indices.split_name(name)
        self.index_ms.setdefault(coin, {})[quote] = index.newest_ms
        self.moved.add(coin)
        if coin not in DOLLARS:
            self._set(self.currency_columns, coin, self._index_usd(coin, indices.USD))
        self._follow_index(coin)

    def put_oracle(self, coin: str, oracle: Oracle) -> None:
        """Set the oracle's price of a coin, which is its index from now on."""
        known = self.oracles.get(coin)
        self.oracles[coin] = oracle
        if known is not None and known.price_usd == oracle.price_usd:
            return
        if coin in DOLLARS:
            # It is the rate by which the prices of others become those of contracts quoted in it.
            followers = {other for other, own in self.own_currencies.items() if coin in own and other in self.oracles}
        else:
            followers = {coin}
            self._set(self.currency_columns, coin, self._index_usd(coin, indices.USD))
        for follower in sorted(followers):
            self.moved.add(follower)
            self._follow_index(follower)

    def index_name(self, coin: str, own: str) -> str:
        """The name of the index that values contracts in a currency; that of the currency itself if there is none."""
        return indices.named(coin, indices.chosen_currency(self.index_ms.get(coin, {}), own) or own)

    def oracles_for(self, coin: str, own: str) -> list[str]:
        """The underlyings whose oracle prices value contracts on a coin in a currency; none where an index does.

        A price in USD becomes one in USDC or USDT only by the price of that coin: where it has none, an index in it is better.
        """
        if coin not in self.oracles or (own != indices.USD and own not in self.oracles):
            return []
        return [coin] if own == indices.USD else [coin, own]

    def _index_usd(self, coin: str, own: str) -> float:
        if self.oracles_for(coin, own):
            rate = 1.0 if own == indices.USD else self.oracles[own].price_usd
            return self.oracles[coin].price_usd / rate if rate > 0 else math.nan
        index = self.indices.get(self.index_name(coin, own))
        return math.nan if index is None else or_nan(index.usd)

    def _follow_index(self, coin: str) -> None:
        """Set the current indices of a coin for the contracts on it."""
        for own in self.own_currencies.get(coin, ()):
            self._set(self.index_columns, (coin, own), self._index_usd(coin, own))

    def _set(self, columns: Columns[Any], key: Any, usd: float) -> None:
        """Set a price; accounts must be valued again only if it has changed."""
        row = columns.row(key)
        before = columns["usd"].item(row)
        self.is_valued &= before == usd or (math.isnan(before) and math.isnan(usd))
        columns.put(key, usd=usd)

    def put_factor(self, underlying: str, factor: float) -> None:
        """Set the factor of requirements on an underlying."""
        self.factors[underlying] = factor
        self.is_valued = False
        self.moved.add(underlying)
        self.currency_columns.put(underlying, factor=factor)

    def quote(self, underlying: str) -> None:
        """Note that options on an underlying have had a ticker."""
        self.quoted.add(underlying)
        self.touched.add(f"scaling/{underlying}")

    def currency(self, name: str) -> int:
        """The row of a currency."""
        return self.currency_columns.row(name)

    def free(self, until_ms: int, held: set[str]) -> set[str]:
        """Forget contracts that expired a day and more before `until_ms`, except those that are held; returns their names."""
        if self._first_expiry_ms + KEPT_MS > until_ms:
            return set()
        expiries = {name: terms.expiry_ms for name, terms in self.terms.items() if terms.expiry_ms is not None}
        expired = {name for name, expiry_ms in expiries.items() if expiry_ms + KEPT_MS <= until_ms} - held
        for name in expired:
            self.contract_columns.free(name)
            del self.terms[name]
            self.prices.pop(name, None)
            self.touched |= {f"instrument/{name}", f"price/{name}"}
        if expired:
            self.is_relisted, self.is_valued = True, False
        self._first_expiry_ms = min((ms for name, ms in expiries.items() if name not in expired), default=math.inf)
        return expired


def _with_turn(name: str, stored: Any) -> Any:
    """To version 3, in which not every account has a row each second, and not every batch makes estimates."""
    return [*stored, "", 0] if name == "clock" else stored


def _in_parts(name: str, stored: Any) -> Any:
    """To version 4, in which each price of a contract has its own time, middle and last trade are separate, and contracts have
    the currency of the index that values them: before, only indices in USD were known."""
    if name.startswith("price/"):
        event_ms, mark, traded, forward_usd, vol = stored
        return [NO_READING if value is None else (event_ms, value) for value in (mark, None, traded, forward_usd, vol)]
    if name.startswith("instrument/"):
        _, _, underlying, settlement, is_inverse, *_ = stored
        return [*stored, indices.USD if is_inverse or settlement == underlying else settlement]
    return stored


def _apart_from_rows(name: str, stored: Any) -> Any:
    """To version 5, in which the state of the margin rows has entries of its own."""
    if name.startswith("account/"):
        positions, balances, _, is_due, model, model_ms = stored
        return [positions, balances, is_due, model, model_ms]
    return stored[:1] if name == "clock" else stored


def _with_reported(name: str, stored: Any) -> Any:
    """To version 6, which counts the accounts that had their turn in this second."""
    return [*stored, 0] if name == "margin_turn" else stored


def _with_amount(name: str, stored: Any) -> Any:
    """To version 7, in which contracts have their `amount_per_contract`: before, each amount was taken for contracts."""
    kind, _, contract = name.partition("/")
    return [*stored, untold_amount(contract, stored[7])] if kind == "instrument" else stored


MIGRATIONS: dict[int, Migration] = {
    2: _with_turn,
    3: _in_parts,
    4: _apart_from_rows,
    5: _with_reported,
    6: _with_amount,
}
