"""margin: what does each account have and owe, and which must be liquidated, each time positions or prices move?

Entries    account/<account>: positions, balances, status
           instrument/<venue:instrument>: the terms of one contract; freed a day after expiry, once no account holds it
           price/<venue:instrument>: its newest prices; freed with its terms
           index/<currency>: the newest price of one coin in USD
           clock: the last whole second of event time at which accounts were valued
Order      instruments, prices, positions and balances are applied in this order, then every account is valued; of each
           key the newest by event time stands, and of one instant the one with the higher offset
Late       messages behind the watermark only change the state: the next batch values what they changed
Not here   settlement at expiry (a contract keeps its last price until its position goes), portfolio margin, the steps
           and pauses of partial liquidation

An account is valued in USD by standard margin (udfs/standard_margin.py):
    equity   cash at the index, unrealised profit of futures and perpetuals, and options at their mark
    mark     the venue's mark price; for futures and perpetuals without one the middle of bid and ask, else the last
             trade; of each the newest that a ticker gave
    index    1 for USD, USDC and USDT; for a coin the newest of `index_prices`, else of its tickers' index prices
A row is written when the status changes, when a position or balance changes, and for accounts with positions at each
whole second of event time.  It bears the last millisecond of its batch, until_ms - 1.

Liquidation orders close whole positions, the largest maintenance margin first, until the account is no longer
liquidated (what is left is zero or within equity), supposing they fill at the mark.  They are decided once, and again
only when a position has changed or the account had recovered.

Each amount is rounded to a micro-dollar before it is summed.  Sums of whole numbers do not depend on their order (up to
9e9 USD an account), so a state that was put back values accounts to the same bit as one that never stopped.
"""

import math
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from kernels import Message, Output
from kernels.checks import checked, dead_letter
from schemas.rows import Fault, instant_ms, key, shown, to_ms
from udfs import standard_margin

VERSION = 1
SHARED: frozenset[str] = frozenset({"instruments", "tickers", "index_prices"})
KEPT_MS = 86_400_000
DOLLARS = frozenset({"USD", "USDC", "USDT"})
HEALTHY, MARGIN_CALL, LIQUIDATION, UNPRICED = range(4)
STATUS = ("healthy", "margin_call", "liquidation", "unpriced")

LIMIT = 1e20
"""Where DECIMAL(38, 18) ends."""

Array = NDArray[Any]
Key = TypeVar("Key", bound=Hashable)


class Columns(Generic[Key]):
    """Numbers by key, one array a column, growing as keys come.  A freed row holds the blanks until it is reused."""

    def __init__(self, **blanks: float) -> None:
        self.rows: dict[Key, int] = {}
        self._free: list[int] = []
        self._end = 0
        self._blanks = blanks
        self._arrays = {name: np.full(16, blank) for name, blank in blanks.items()}

    def row(self, key: Key) -> int:
        """The row of a key, made blank if it is new."""
        if (row := self.rows.get(key)) is None:
            row = self.rows[key] = self._free.pop() if self._free else self._end
            if row == self._end:
                self._end += 1
                if self._end > len(next(iter(self._arrays.values()))):
                    for name, array in self._arrays.items():
                        self._arrays[name] = np.concatenate([array, np.full_like(array, self._blanks[name])])
        return row

    def free(self, key: Key) -> None:
        """Blank the row of a key, if it has one."""
        if (row := self.rows.pop(key, None)) is not None:
            for name, array in self._arrays.items():
                array[row] = self._blanks[name]
            self._free.append(row)

    def __getitem__(self, name: str) -> Array:
        """A column, as a view: it does not grow with the rows that come after."""
        return self._arrays[name][: self._end]


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


class Price(NamedTuple):
    """The newest prices of a contract; None where no ticker gave one."""

    event_ms: int
    mark: float | None  # the venue's own
    traded: float | None  # middle of bid and ask, else the last trade
    forward_usd: float | None


class Index(NamedTuple):
    """The newest prices of a coin in USD; None where there was none."""

    event_ms: int
    price_usd: float | None  # from index_prices
    ticker_ms: int
    ticker_usd: float | None  # from tickers


NO_INDEX = Index(-(1 << 62), None, -(1 << 62), None)


class Account:
    """One account, as stored."""

    def __init__(self) -> None:
        self.positions: dict[str, tuple[int, float, float]] = {}  # event time, size, average price
        self.balances: dict[str, tuple[int, float]] = {}  # event time, amount
        self.is_ordered = False  # its liquidation has been ordered, and no position changed since


class State:
    """The accounts of one shard, and the whole market.

    The dicts are what is stored; the columns are the same numbers as arrays.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.terms: dict[str, Terms] = {}
        self.prices: dict[str, Price] = {}
        self.indices: dict[str, Index] = {}
        self.due: set[str] = set()  # accounts that have changed since they were last valued
        self.second: int | None = None
        self.touched: set[str] = set()

        self.account_columns: Columns[str] = Columns(status=-1)
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
            traded=math.nan,
            forward_usd=math.nan,
        )
        self.currency_columns: Columns[str] = Columns(usd=math.nan)
        self.position_columns: Columns[tuple[str, str]] = Columns(account=0, contract=0, size=0.0, average=0.0)
        self.balance_columns: Columns[tuple[str, str]] = Columns(account=0, currency=0, amount=0.0)

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        stored: Any = None
        if kind == "clock":
            stored = None if self.second is None else [self.second]
        elif kind == "account":
            if account := self.accounts.get(of):
                status = int(self.account_columns["status"][self.account_columns.row(of)])
                stored = [account.positions, account.balances, status, of in self.due, account.is_ordered]
        else:
            entries: dict[str, dict[str, Any]] = {"instrument": self.terms, "price": self.prices, "index": self.indices}
            stored = entries[kind].get(of)
        return None if stored is None else bytes([VERSION]) + orjson.dumps(list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back."""
        if data[0] != VERSION:
            raise ValueError(f"margin: {name} is stored as version {data[0]}, this code reads version {VERSION}")
        kind, _, of = name.partition("/")
        stored = orjson.loads(data[1:])
        if kind == "clock":
            self.second = stored[0]
        elif kind == "instrument":
            self.put_terms(of, Terms(*stored))
        elif kind == "price":
            self.put_price(of, Price(*stored))
        elif kind == "index":
            self.put_index(of, Index(*stored))
        else:
            positions, balances, status, is_due, is_ordered = stored
            for contract, (ms, size, average) in positions.items():
                self.put_position(of, contract, ms, size, average)
            for currency, (ms, amount) in balances.items():
                self.put_balance(of, currency, ms, amount)
            self.account(of).is_ordered = is_ordered
            self.account_columns["status"][self.account_columns.row(of)] = status
            if is_due:
                self.due.add(of)

    def account(self, name: str) -> Account:
        """An account, new if it was not there."""
        if name not in self.accounts:
            self.accounts[name] = Account()
            self.account_columns.row(name)
        return self.accounts[name]

    def put_position(self, account: str, contract: str, event_ms: int, size: float, average: float) -> None:
        """Set a position.  A flat one is kept with its time, so that an older row does not bring it back."""
        self.account(account).positions[contract] = (event_ms, size, average)
        if size == 0:
            self.position_columns.free((account, contract))
            return
        columns, row = self.position_columns, self.position_columns.row((account, contract))
        columns["account"][row] = self.account_columns.row(account)
        columns["contract"][row] = self.contract_columns.row(contract)
        columns["size"][row] = size
        columns["average"][row] = average

    def put_balance(self, account: str, currency: str, event_ms: int, amount: float) -> None:
        """Set a balance."""
        self.account(account).balances[currency] = (event_ms, amount)
        columns, row = self.balance_columns, self.balance_columns.row((account, currency))
        columns["account"][row] = self.account_columns.row(account)
        columns["currency"][row] = self.currency(currency)
        columns["amount"][row] = amount

    def put_terms(self, name: str, terms: Terms) -> None:
        """Set the terms of a contract."""
        self.terms[name] = terms
        schedule = standard_margin.futures_schedule(terms.underlying)
        columns, row = self.contract_columns, self.contract_columns.row(name)
        columns["is_future"][row] = terms.kind in ("perpetual", "future")
        columns["is_option"][row] = terms.kind == "option"
        columns["is_inverse"][row] = terms.is_inverse
        columns["contract_size"][row] = _or_nan(terms.contract_size)
        columns["settlement"][row] = self.currency(terms.settlement_currency)
        columns["underlying"][row] = self.currency(terms.underlying)
        columns["strike_usd"][row] = _or_nan(terms.strike_usd)
        columns["is_call"][row] = terms.option_type == "call"
        columns["initial"][row] = schedule.initial
        columns["maintenance"][row] = schedule.maintenance
        columns["per_coin"][row] = schedule.per_coin

    def put_price(self, name: str, price: Price) -> None:
        """Set the prices of a contract."""
        self.prices[name] = price
        columns, row = self.contract_columns, self.contract_columns.row(name)
        columns["mark"][row] = _or_nan(price.mark)
        columns["traded"][row] = _or_nan(price.traded)
        columns["forward_usd"][row] = _or_nan(price.forward_usd)

    def put_index(self, currency: str, index: Index) -> None:
        """Set the prices of a coin."""
        self.indices[currency] = index
        usd = index.ticker_usd if index.price_usd is None else index.price_usd
        row = self.currency(currency)
        if currency not in DOLLARS:
            self.currency_columns["usd"][row] = _or_nan(usd)

    def currency(self, name: str) -> int:
        """The row of a currency."""
        row = self.currency_columns.row(name)
        if name in DOLLARS:
            self.currency_columns["usd"][row] = 1.0
        return row

    def free(self, until_ms: int) -> None:
        """Forget the contracts that expired a day and more before `until_ms` and that no account holds."""
        expired = {n for n, t in self.terms.items() if t.expiry_ms is not None and t.expiry_ms + KEPT_MS <= until_ms}
        if not expired:
            return
        gone = expired - {contract for _, contract in self.position_columns.rows}
        for name in gone:
            self.contract_columns.free(name)
            del self.terms[name]
            self.prices.pop(name, None)
            self.touched |= {f"instrument/{name}", f"price/{name}"}
        for of, account in self.accounts.items():
            if flat := gone & account.positions.keys():
                for name in flat:
                    del account.positions[name]
                self.touched.add(f"account/{of}")


class Valuation(NamedTuple):
    """Every account in USD, by its row in the columns; NaN where a price is missing."""

    equity: Array
    initial: Array
    maintenance: Array
    positions: Array  # rows of those that are not flat
    position_maintenance: Array  # of each of these
    mark: Array  # by contract, in the quote currency


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: `account_margin` rows by account, `liquidation_orders` and `dead_letters`."""
    good, outputs = checked(messages, until_ms)
    good.sort(key=lambda m: (to_ms(m.row["event_at"]), m.partition, m.offset))
    for table, learn in _LEARN.items():
        for message in good:
            if message.table == table and (wrong := learn(state, message.row, to_ms(message.row["event_at"]))):
                outputs.append(dead_letter(message, wrong, until_ms))
    if until_ms is not None:
        outputs += _judge(state, until_ms)
    return outputs


def value(state: State) -> Valuation:
    """Value all accounts at once.  All amounts are in USD; sums are of whole micro-dollars."""
    usd = state.currency_columns["usd"]
    contracts = state.contract_columns
    is_future, is_option = contracts["is_future"].astype(bool), contracts["is_option"].astype(bool)
    is_inverse, each = contracts["is_inverse"].astype(bool), contracts["contract_size"]
    settlement = _gather(usd, contracts["settlement"])
    index = _gather(usd, contracts["underlying"])
    own = contracts["mark"]
    mark = np.where(is_option | ~np.isnan(own), own, contracts["traded"])
    mark = np.where((is_option & (mark >= 0)) | (is_future & (mark > 0)), mark, np.nan)
    forward = contracts["forward_usd"]
    forward = np.where(forward > 0, forward, index)

    at = np.flatnonzero(state.position_columns["size"])
    account = state.position_columns["account"][at]
    of = state.position_columns["contract"][at]
    size, average = state.position_columns["size"][at], state.position_columns["average"][at]
    with np.errstate(all="ignore"):
        # Profit is linear in a basis that does not move with prices: size x average, or size / average for an inverse.
        unit = np.where(is_inverse & is_future, -each / mark, each * mark) * settlement
        basis_unit = np.where(is_future, np.where(is_inverse, -each, each), 0.0) * settlement
        basis = np.where((is_inverse & is_future)[of], size / average, size * average)
        position_value = size * unit[of] - basis * basis_unit[of]

        rates = contracts["initial"], contracts["maintenance"], contracts["per_coin"]
        future = is_future[of]
        initial, maintenance = np.zeros(len(at)), np.zeros(len(at))
        for inverse, formula in ((False, standard_margin.linear_future), (True, standard_margin.inverse_future)):
            some = np.flatnonzero(future & (is_inverse[of] == inverse))
            which = of[some]
            margin = formula(size[some] * each[which], mark[which], *(rate[which] for rate in rates))
            initial[some] = margin.initial * settlement[which]
            maintenance[some] = margin.maintenance * settlement[which]
        # Options are linear in size: one formula a contract.  Those settled in USD have their mark in USD.
        mark_coin = np.where(is_inverse, mark, mark / forward)
        to_usd = settlement * np.where(is_inverse, 1.0, forward)
        short = standard_margin.option(-each, mark_coin, forward, contracts["strike_usd"], contracts["is_call"])
        some = np.flatnonzero(is_option[of])
        which, sold = of[some], np.maximum(-size[some], 0.0)
        initial[some] = sold * (short.initial * to_usd)[which]
        maintenance[some] = sold * (short.maintenance * to_usd)[which]

        balances = state.balance_columns
        funded = np.flatnonzero(balances["amount"])
        cash = balances["amount"][funded] * _gather(usd, balances["currency"][funded])

    count = len(state.account_columns.rows)
    total = _sums(account, position_value, count) + _sums(balances["account"][funded], cash, count)
    return Valuation(
        total / 1e6,
        _sums(account, initial, count) / 1e6,
        _sums(account, maintenance, count) / 1e6,
        at,
        np.rint(maintenance * 1e6) / 1e6,
        mark,
    )


def _gather(values: Array, rows: Array) -> Array:
    # A blank row points at row 0, which may not be there yet.
    return values[rows] if len(values) else np.full(len(rows), np.nan)


def _sums(account: Array, amounts: Array, count: int) -> Array:
    micro = np.where(np.isfinite(amounts), np.rint(amounts * 1e6), np.nan)
    return np.bincount(account, micro, minlength=count)


def _judge(state: State, until_ms: int) -> list[Output]:
    """Value all accounts, note what became of them, and say so where it is due."""
    found = value(state)
    unknown = np.isnan(found.equity) | np.isnan(found.initial) | np.isnan(found.maintenance)
    with np.errstate(invalid="ignore"):
        status = np.select(
            [unknown, (found.maintenance > 0) & (found.maintenance > found.equity), found.initial > found.equity],
            [UNPRICED, LIQUIDATION, MARGIN_CALL],
            HEALTHY,
        )
    known = state.account_columns["status"]
    due = changed = status != known
    second = until_ms // 1000
    if state.second != second:
        if state.second is not None:
            due = changed | (np.bincount(state.position_columns["account"][found.positions], minlength=len(due)) > 0)
        state.second = second
        state.touched.add("clock")
    names = list(state.account_columns.rows)
    state.touched |= {f"account/{name}" for name in (*state.due, *(names[row] for row in np.flatnonzero(changed)))}
    known[:] = status

    outputs: list[Output] = []
    said = state.due | {names[row] for row in np.flatnonzero(due)}
    for name in sorted(said):
        outputs += _report(state, found, name, until_ms - 1)
    state.due.clear()
    state.free(until_ms)
    return outputs


def _report(state: State, found: Valuation, name: str, event_ms: int) -> list[Output]:
    """The row of one account, and the orders that close its positions where it is to be liquidated."""
    account, row = state.accounts[name], state.account_columns.row(name)
    status = int(state.account_columns["status"][row])
    equity, initial, maintenance = (float(x[row]) for x in (found.equity, found.initial, found.maintenance))
    reason = None
    if status == UNPRICED:
        reason = _missing(state, found, account)
    elif status == LIQUIDATION:
        reason = f"maintenance margin {maintenance:.2f} USD exceeds equity {equity:.2f} USD"
    elif status == MARGIN_CALL:
        reason = f"initial margin {initial:.2f} USD exceeds equity {equity:.2f} USD"
    is_priced = status != UNPRICED
    margin = {
        "account": name,
        "event_at": instant_ms(event_ms),
        "model": "standard",
        "equity_usd": equity if is_priced else None,
        "initial_margin_usd": initial if is_priced else None,
        "maintenance_margin_usd": maintenance if is_priced else None,
        "margin_ratio": maintenance / equity if is_priced and equity > 0 else None,
        "status": STATUS[status],
        "reason": reason,
    }
    outputs = [Output("account_margin", event_ms, margin)]
    if status == LIQUIDATION and not account.is_ordered:
        outputs += _close(state, found, name, equity, maintenance, event_ms)
    is_ordered = account.is_ordered if status == UNPRICED else status == LIQUIDATION
    if account.is_ordered != is_ordered:
        account.is_ordered = is_ordered
        state.touched.add(f"account/{name}")
    return outputs


def _close(state: State, found: Valuation, name: str, equity: float, maintenance: float, event_ms: int) -> list[Output]:
    """Orders that close whole positions, the largest requirement first, until the rest no longer exceeds equity."""
    held = []
    for contract, (_, size, _) in state.accounts[name].positions.items():
        if size != 0:
            at = np.searchsorted(found.positions, state.position_columns.row((name, contract)))
            held.append((-float(found.position_maintenance[at]), contract, size))
    outputs: list[Output] = []
    left = maintenance
    for n, (negated, contract, size) in enumerate(sorted(held), start=1):
        if left <= max(equity, 0.0):
            break
        venue, _, instrument = contract.partition(":")
        rank = "the largest requirement" if n == 1 else "the next largest requirement"
        order = {
            "order_id": f"{name}/{instant_ms(event_ms)}/{n}",
            "account": name,
            "event_at": instant_ms(event_ms),
            "venue": venue,
            "instrument": instrument,
            "side": "sell" if size > 0 else "buy",
            "size": abs(size),
            "mark_price": float(found.mark[state.contract_columns.row(contract)]),
            "equity_usd": equity,
            "maintenance_margin_usd": left,
            "reason": f"maintenance margin {left:.2f} USD exceeds equity {equity:.2f} USD; closes {instrument}, {rank}",
        }
        outputs.append(Output("liquidation_orders", event_ms, order))
        left = round(left + negated, 6)
    return outputs


def _missing(state: State, found: Valuation, account: Account) -> str:
    """What keeps an account from being valued: the first such thing by name."""
    usd = state.currency_columns["usd"]
    for name, (_, size, _) in sorted(account.positions.items()):
        if size == 0:
            continue
        terms = state.terms.get(name)
        if terms is None:
            return f"the terms of {name} are not known"
        if terms.contract_size is None:
            return f"the contract size of {name} is not known"
        if terms.kind == "spot":
            return f"{name} is spot, which is held as a balance and not as a position"
        if np.isnan(found.mark[state.contract_columns.row(name)]):
            return f"{name} has no mark price"
        for currency in (terms.settlement_currency, *([terms.underlying] if terms.kind == "option" else [])):
            if np.isnan(usd[state.currency(currency)]):
                return f"{currency} has no index price"
    for currency, (_, amount) in sorted(account.balances.items()):
        if amount != 0 and np.isnan(usd[state.currency(currency)]):
            return f"{currency} has no index price"
    return "its numbers are too large to be valued"


def _learn_terms(state: State, row: dict[str, Any], event_ms: int) -> None:
    name = key("instruments", row)
    expiry_at = row.get("expiry_at")
    terms = Terms(
        event_ms,
        row["kind"],
        row["underlying"],
        row["settlement_currency"],
        row["is_inverse"],
        row.get("option_type"),
        row.get("strike_usd"),
        row.get("contract_size"),
        None if expiry_at is None else to_ms(expiry_at),
    )
    known = state.terms.get(name)
    if known is None or (known.published_ms <= event_ms and known != terms):
        state.put_terms(name, terms)
        state.touched.add(f"instrument/{name}")


def _learn_ticker(state: State, row: dict[str, Any], event_ms: int) -> None:
    name = key("tickers", row)
    known = state.prices.get(name)
    if known is None or known.event_ms <= event_ms:
        bid, ask, last = row.get("bid_price"), row.get("ask_price"), row.get("last_price")
        traded = last if bid is None or ask is None else (bid + ask) / 2
        newest = row.get("mark_price"), traded, row.get("forward_usd")
        earlier = (None, None, None) if known is None else known[1:]
        state.put_price(name, Price(event_ms, *(e if n is None else n for n, e in zip(newest, earlier, strict=True))))
        state.touched.add(f"price/{name}")
    usd = row.get("index_price_usd")
    if usd is not None and usd > 0 and (terms := state.terms.get(name)):
        index = state.indices.get(terms.underlying, NO_INDEX)
        if index.ticker_ms <= event_ms:
            state.put_index(terms.underlying, index._replace(ticker_ms=event_ms, ticker_usd=usd))
            state.touched.add(f"index/{terms.underlying}")


def _learn_index(state: State, row: dict[str, Any], event_ms: int) -> None:
    currency = row["underlying"]
    index = state.indices.get(currency, NO_INDEX)
    if index.event_ms <= event_ms:
        state.put_index(currency, index._replace(event_ms=event_ms, price_usd=row["price_usd"]))
        state.touched.add(f"index/{currency}")


def _learn_position(state: State, row: dict[str, Any], event_ms: int) -> Fault | None:
    size = float(row["size"])
    average = float(row.get("average_price") or 0)
    for column, number in (("size", size), ("average_price", average)):
        if not abs(number) < LIMIT:
            return Fault(column, "within DECIMAL(38, 18)", shown(row[column]))
    if size != 0 and row.get("average_price") is None:
        return Fault("average_price", "not NULL where size is not 0", "NULL")
    account, contract = state.account(row["account"]), key("instruments", row)
    known = account.positions.get(contract)
    if known is None or known[0] <= event_ms:
        if known is None or known[1:] != (size, average):
            account.is_ordered = False
        state.put_position(row["account"], contract, event_ms, size, average)
        state.due.add(row["account"])
        state.touched.add(f"account/{row['account']}")
    return None


def _learn_balance(state: State, row: dict[str, Any], event_ms: int) -> Fault | None:
    amount = float(row["amount"])
    if not abs(amount) < LIMIT:
        return Fault("amount", "within DECIMAL(38, 18)", shown(row["amount"]))
    known = state.account(row["account"]).balances.get(row["currency"])
    if known is None or known[0] <= event_ms:
        state.put_balance(row["account"], row["currency"], event_ms, amount)
        state.due.add(row["account"])
        state.touched.add(f"account/{row['account']}")
    return None


_LEARN: dict[str, Callable[[State, dict[str, Any], int], Fault | None]] = {
    "instruments": _learn_terms,
    "tickers": _learn_ticker,
    "index_prices": _learn_index,
    "positions": _learn_position,
    "balances": _learn_balance,
}


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number
