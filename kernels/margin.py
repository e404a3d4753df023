"""margin: what does each account have and owe, and which cannot bear it, each time positions or prices move?

Entries    account/<account>: positions, balances, margin model, status
           instrument/<venue:instrument>: the terms of one contract; freed a day after expiry, once no account holds it
           price/<venue:instrument>: its newest prices; freed with its terms
           index/<currency>, with the quote currency behind it where that is not USD: the newest index of one coin
           scaling/<underlying>: by what requirements on it are multiplied, and whether that is to be looked at again; kept
           clock: the last whole second of event time at which accounts were valued, whose turn it was then to be told of, and
           how many estimates were made in it
Order      instruments, prices, positions and balances are applied in this order, then every account is valued; of each
           key the newest by event time stands, and of one instant the one with the higher offset
Late       messages behind the watermark only change the state: the next batch values what they changed

An account is valued in USD:
    equity   cash at the index, unrealised profit of futures and perpetuals, and options at their mark
    mark     the venue's mark price; for futures and perpetuals without one the middle of bid and ask, else the last
             trade.  Of mark, quote, last trade, forward and mark vol the newest that a ticker told stands, each by its own
             time: a ticker that says nothing of one leaves it as it is
    index    1 for USD, USDC and USDT; for a coin the newest of `index_prices`, else of its tickers' index prices, which are in
             the currency of their contract.  Cash is valued in USD, a contract in its own: `kernels.indices` has the rule
What it requires is standard margin (udfs/standard_margin.py), or for an account that has chosen a parameter set, portfolio
margin (udfs/portfolio_margin.py) of what it holds on each underlying: options at their mark vols and their expiry's forward
(the middle one of its options'), rate 0; futures at their mark; the coin itself as collateral.  Every account of a set is
revalued at once, and only on underlyings where something has moved, or when a second has passed: time to expiry is counted
in whole seconds.

The probability of liquidation is the first passage (udfs/liquidation_probability.py) of the one underlying that drives the
account to the price at which its excess over the maintenance margin, taken to be linear in that price, is gone.  Where
several do, it is a Monte Carlo estimate with its standard error, the excess taken to be linear in their prices, which move
together by `CORRELATION`.  It is made of `PATHS` paths of `PATH_STEPS` steps, whose seed is the account and the second:
asked again, it is the same, whoever else is asked about.  No more than `ESTIMATES` of them are made in a second, in each
batch for those of its accounts that are the nearest to liquidation by their margin ratio; the others have none in that row.

The vol, here and below, is that of the option nearest to the money in the nearest expiry.  Only what is more than an hour from
its expiry, and within a tenth of the forward, counts: vols of the last hour leap, and at the start the first option to speak
may be one far from the money.

What is required follows volatility (udfs/vol_scaling.py).  Standard margin on an underlying, initial and maintenance, is
multiplied by its factor, and so are the vol shocks and the factors of the worst loss of portfolio margin: the vol over 0.6, no
less than 1 and no more than 2.5.  It moves only when it would by more than a tenth of itself, or to one of its ends.  It is
looked at in each batch that brings a ticker or the terms of an option on the underlying, and in no other: whoever reads the
same tickers on time has the same factors.  Without a vol it stays; it is 1 before the first.  Every change is a row of
`margin_scalings`.

Beside each account's row goes one for each of its positions: what the position requires by itself, and what it adds to what
the account requires (udfs/portfolio_margin.py, `contributions`).

A row is written when the status changes, when a position or balance changes, and for accounts with positions at each whole
second of event time: for `TOLD` of them, in turn by their names, where there are more.  It bears the last millisecond of
its batch, until_ms - 1.  What is done about an account that cannot bear its positions is for `kernels.liquidations`, whose job
values all accounts once and has these rows as a stage.

Each amount is rounded to a micro-dollar before it is summed.  Sums of whole numbers do not depend on their order (up to
9e9 USD an account), so a state that was put back values accounts to the same bit as one that never stopped.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.checks import checked, dead_letter
from engine.contract import Kernel, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels import indices
from kernels.quotes import has_quote
from schemas.rows import Fault, instant_ms, key, shown, to_ms
from udfs import (
    black76,
    liquidation,
    liquidation_probability,
    margin_parameters,
    portfolio_margin,
    portfolio_positions,
    portfolio_values,
    standard_margin,
    vol_scaling,
)
from udfs.margin_parameters import Haircut, Parameters
from udfs.standard_margin import Margin

VERSION = 4
KEPT_MS = 86_400_000
DOLLARS = frozenset({"USD", "USDC", "USDT"})
NO_STATUS = -1
HEALTHY, MARGIN_CALL, LIQUIDATION, UNPRICED = range(4)

STATUS = ("healthy", "margin_call", "liquidation", "unpriced")
STANDARD = "standard"
SECONDS_PER_YEAR = 365 * 86_400
SHORTEST_S, FURTHEST = 3_600, 0.1
"""From which time to expiry, and up to which |ln(K/F)|, an option can tell the short vol."""
RESTLESS = 0.02
"""Up to which part of the accounts of a model those that have traded since are arranged by themselves."""
TOLD = 500
"""Accounts that nothing has happened to and that are told of all the same, each second and shard."""
ESTIMATES, PATHS, PATH_STEPS = 4, 512, 8
CORRELATION = 0.8
"""Of the returns of any two coins.  Our own choice: coins fall together, and no topic says by how much."""

LIMIT = 1e20
"""Where DECIMAL(38, 18) ends."""

Array = NDArray[Any]
Holding = tuple[Any, ...]
"""What an account has of one contract or currency, behind its event time in ms."""
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

    def put(self, key: Key, **numbers: float) -> None:
        """Set numbers of a key."""
        row = self.row(key)
        for name, number in numbers.items():
            self._arrays[name][row] = number

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
    index_currency: str  # that of the index that values it


Told = tuple[int, float | None]
"""Event time in ms of the newest ticker that told something, and what it told."""
NOT_TOLD: Told = (-(1 << 62), None)


class Price(NamedTuple):
    """The newest prices of a contract, each by its own time."""

    mark: Told = NOT_TOLD  # the venue's own
    middle: Told = NOT_TOLD  # of bid and ask; None where the venue said that one of them is missing
    last: Told = NOT_TOLD  # trade
    forward_usd: Told = NOT_TOLD
    vol: Told = NOT_TOLD  # mark

    def traded(self) -> Told:
        """Middle of bid and ask, else the last trade."""
        return self.last if self.middle[1] is None else self.middle


NO_PRICE = Price()


class Index(NamedTuple):
    """The newest prices of a coin in one currency; None where there was none."""

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
        """When that was told."""
        return self.ticker_ms if self.price_usd is None else self.event_ms


NO_INDEX = Index(-(1 << 62), None, -(1 << 62), None)


class Account:
    """One account, as stored."""

    def __init__(self) -> None:
        self.positions: dict[str, tuple[int, float, float]] = {}  # event time, size, average price
        self.balances: dict[str, tuple[int, float]] = {}  # event time, amount
        self.model = STANDARD
        self.model_ms = -(1 << 62)  # since when


class State:
    """The accounts of one shard, and the whole market.

    The dicts are what is stored; the columns are the same numbers as arrays.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.terms: dict[str, Terms] = {}
        self.prices: dict[str, Price] = {}
        self.indices: dict[str, Index] = {}  # by coin and quote currency, as `indices.named`
        self.index_ms: dict[str, dict[str, int]] = {}  # of these, by coin and by currency, the newest event time
        self.factors: dict[str, float] = {}  # by underlying, what requirements are multiplied by
        self.quoted: set[str] = set()  # underlyings on which options have spoken since their factors were last looked at
        self.due: set[str] = set()  # accounts that have changed since they were last valued
        self.second: int | None = None
        self.turn = ""  # the last account that was told of in its turn
        self.estimates = 0  # made in this second
        self.touched: set[str] = set()

        self.sets: dict[str, Parameters] = {}
        self.held: dict[tuple[str, str, bool], _Held] = {}
        """By model, underlying and whether it is of those of `restless`: what accounts hold, with what they require of it."""
        self.restless: dict[str, set[int]] = {}
        """By model, the rows of accounts that hold something else than when all of the model's were arranged in `held`."""
        self.priceless: dict[str, set[int]] = {}  # by model, the rows of accounts that hold what has no margin; as `held`
        self.moved: set[str] = set()  # underlyings whose requirements are to be made again

        self.account_names: list[str] = []  # by their rows: no account is freed
        self.account_columns: Columns[str] = Columns(status=NO_STATUS, model=0)
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
        # From the start: the row of a blank contract's currencies is 0.
        for name in sorted(DOLLARS):
            self.currency_columns.put(name, usd=1.0)
        self.index_columns: Columns[tuple[str, str]] = Columns(usd=math.nan)
        """By coin and own currency the index that values what is quoted in it, whatever it is quoted in itself."""
        self.index_columns.row(("", ""))  # likewise
        self.own_currencies: dict[str, set[str]] = {}  # by coin, those of its contracts
        self.position_columns: Columns[tuple[str, str]] = Columns(account=0, contract=0, size=0.0, average=0.0)
        self.balance_columns: Columns[tuple[str, str]] = Columns(account=0, currency=0, amount=0.0)

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        stored: Any = None
        if kind == "clock":
            stored = None if self.second is None else [self.second, self.turn, self.estimates]
        elif kind == "account":
            if account := self.accounts.get(of):
                status = int(self.account_columns["status"][self.account_columns.row(of)])
                model = account.model, account.model_ms
                stored = [account.positions, account.balances, status, of in self.due, *model]
        elif kind == "scaling":
            stored = [self.factors.get(of), of in self.quoted]
        else:
            entries: dict[str, dict[str, Any]] = {"instrument": self.terms, "price": self.prices, "index": self.indices}
            stored = entries[kind].get(of)
        return None if stored is None else packed(VERSION, list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back.  Raises `ValueError` if the bytes are of no version that this code reads."""
        kind, _, of = name.partition("/")
        stored = unpacked("margin", name, data, VERSION, MIGRATIONS)
        if kind == "clock":
            self.second, self.turn, self.estimates = stored
        elif kind == "instrument":
            self.put_terms(of, Terms(*stored))
        elif kind == "price":
            self.put_price(of, Price(*((ms, told) for ms, told in stored)))
        elif kind == "index":
            self.put_index(of, Index(*stored))
        elif kind == "scaling":
            factor, is_quoted = stored
            if factor is not None:
                self.put_factor(of, factor)
            if is_quoted:
                self.quoted.add(of)
        else:
            positions, balances, status, is_due, model, model_ms = stored
            for contract, (ms, size, average) in positions.items():
                self.put_position(of, contract, ms, size, average)
            for currency, (ms, amount) in balances.items():
                self.put_balance(of, currency, ms, amount)
            self.put_model(of, model_ms, model)
            self.account_columns["status"][self.account_columns.row(of)] = status
            if is_due:
                self.due.add(of)

    def account(self, name: str) -> Account:
        """An account, new if it was not there."""
        if name not in self.accounts:
            self.accounts[name] = Account()
            self.account_columns.row(name)
            self.account_names.append(name)
        return self.accounts[name]

    def put_position(self, account: str, contract: str, event_ms: int, size: float, average: float) -> None:
        """Set a position.  A flat one is kept with its time, so that an older row does not bring it back."""
        self.account(account).positions[contract] = (event_ms, size, average)
        self.drop(account)
        if size == 0:
            self.position_columns.free((account, contract))
            return
        rows = {"account": self.account_columns.row(account), "contract": self.contract_columns.row(contract)}
        self.position_columns.put((account, contract), **rows, size=size, average=average)

    def tell(self, account: str) -> None:
        """Note that what an account has is not what it was."""
        self.due.add(account)
        self.touched.add(f"account/{account}")

    def put_balance(self, account: str, currency: str, event_ms: int, amount: float) -> None:
        """Set a balance."""
        self.account(account).balances[currency] = (event_ms, amount)
        self.drop(account)
        rows = {"account": self.account_columns.row(account), "currency": self.currency(currency)}
        self.balance_columns.put((account, currency), **rows, amount=amount)

    def put_model(self, account: str, event_ms: int, model: str) -> None:
        """Set the margin model."""
        self.drop(account)
        held = self.account(account)
        held.model, held.model_ms = model, event_ms
        if model != STANDARD and model not in self.sets:
            self.sets[model] = margin_parameters.parameter_set(model)
        self.account_columns["model"][self.account_columns.row(account)] = self.number(model)
        self.drop(account)

    def number(self, model: str) -> int:
        """A model as a number: in the order in which they were first chosen, for it only tells accounts apart."""
        return 0 if model == STANDARD else 1 + list(self.sets).index(model)

    def drop(self, account: str) -> None:
        """What an account holds has changed: it is to be arranged again."""
        model = self.accounts[account].model if account in self.accounts else STANDARD
        if model == STANDARD:
            return
        row = self.account_columns.row(account)
        restless = self.restless.setdefault(model, set())
        is_new = row not in restless
        restless.add(row)
        for of, held in list(self.held.items()):
            if of[0] == model and of[2]:
                del self.held[of]
            elif of[0] == model and is_new:
                held.stands[held.positions.accounts == row] = False

    def put_terms(self, name: str, terms: Terms) -> None:
        """Set the terms of a contract."""
        self.terms[name] = terms
        self.held.clear()
        schedule = standard_margin.futures_schedule(terms.underlying)
        self.contract_columns.put(
            name,
            is_future=terms.kind in ("perpetual", "future"),
            is_option=terms.kind == "option",
            is_inverse=terms.is_inverse,
            contract_size=_or_nan(terms.contract_size),
            expiry_s=math.inf if terms.expiry_ms is None else terms.expiry_ms / 1000,
            settlement=self.currency(terms.settlement_currency),
            underlying=self.currency(terms.underlying),
            strike_usd=_or_nan(terms.strike_usd),
            is_call=terms.option_type == "call",
            initial=schedule.initial,
            maintenance=schedule.maintenance,
            per_coin=schedule.per_coin,
            index=self.index_columns.row((terms.underlying, terms.index_currency)),
        )
        self.own_currencies.setdefault(terms.underlying, set()).add(terms.index_currency)
        self._follow_index(terms.underlying)

    def put_price(self, name: str, price: Price) -> None:
        """Set the prices of a contract."""
        self.prices[name] = price
        (mark_ms, mark), (traded_ms, traded), (forward_ms, forward) = price.mark, price.traded(), price.forward_usd
        self.contract_columns.put(
            name,
            mark=_or_nan(mark),
            mark_ms=mark_ms,
            traded=_or_nan(traded),
            traded_ms=traded_ms,
            forward_usd=_or_nan(forward),
            forward_ms=forward_ms,
            vol=_or_nan(price.vol[1]),
        )
        if terms := self.terms.get(name):
            self.moved.add(terms.underlying)

    def put_index(self, name: str, index: Index) -> None:
        """Set the prices of a coin in one currency, by the name that `indices.named` gives."""
        self.indices[name] = index
        coin, quote = indices.parted(name)
        self.index_ms.setdefault(coin, {})[quote] = index.newest_ms
        self.moved.add(coin)
        if coin not in DOLLARS:
            self.currency_columns.put(coin, usd=self._index_usd(coin, indices.USD))
        self._follow_index(coin)

    def index_name(self, coin: str, own: str) -> str:
        """The name of the index that values what is valued in a currency; that currency's own where there is none."""
        return indices.named(coin, indices.chosen_currency(self.index_ms.get(coin, {}), own) or own)

    def _index_usd(self, coin: str, own: str) -> float:
        index = self.indices.get(self.index_name(coin, own))
        return math.nan if index is None else _or_nan(index.usd)

    def _follow_index(self, coin: str) -> None:
        """Let the contracts on a coin be valued by its indices as they are."""
        for own in self.own_currencies.get(coin, ()):
            self.index_columns.put((coin, own), usd=self._index_usd(coin, own))

    def put_factor(self, underlying: str, factor: float) -> None:
        """Set what requirements on an underlying are multiplied by."""
        self.factors[underlying] = factor
        self.moved.add(underlying)
        self.currency_columns.put(underlying, factor=factor)

    def quote(self, underlying: str) -> None:
        """Note that options on an underlying have spoken."""
        self.quoted.add(underlying)
        self.touched.add(f"scaling/{underlying}")

    def currency(self, name: str) -> int:
        """The row of a currency."""
        return self.currency_columns.row(name)

    def free(self, until_ms: int) -> set[str]:
        """Forget the contracts that expired a day and more before `until_ms` and that no account holds; gives their names."""
        expired = {n for n, t in self.terms.items() if t.expiry_ms is not None and t.expiry_ms + KEPT_MS <= until_ms}
        if not expired:
            return expired
        gone = expired - {contract for _, contract in self.position_columns.rows}
        if gone:
            self.held.clear()
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
        return gone


class Valuation(NamedTuple):
    """Every account in USD, by its row in the columns; NaN where a price is missing."""

    equity: Array
    initial: Array
    maintenance: Array
    rates: standard_margin.Rates  # by contract: standard margin
    mark: Array  # by contract, in the quote currency
    worst_loss: Array  # portfolio margin; 0 where none loses
    worst: Array  # which scenario that is, of `scenarios`; -1 where none
    scenarios: list[str]  # what they are called, with their underlying


class _Required(NamedTuple):
    """What the accounts of one model require on one underlying, and the prices by which they do."""

    parameters: Parameters  # as scaled
    market: portfolio_values.Market
    worth: portfolio_values.Values
    requirements: portfolio_margin.Requirements


class _Held(NamedTuple):
    """What the accounts of one model hold on one underlying."""

    contracts: list[str]  # the columns: options by expiry, then futures; behind them the coin
    expiries: Array  # seconds since 1970
    positions: portfolio_positions.Positions
    stands: Array  # whether each of its accounts still holds this
    required: _Required | None


def new() -> State:
    """An empty state."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """Accounts, and those that are not healthy, by status."""
    status = state.account_columns["status"]
    bad = {f"accounts_{STATUS[of]}": int((status == of).sum()) for of in (MARGIN_CALL, LIQUIDATION, UNPRICED)}
    return {"accounts": len(state.accounts), **bad}


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: `account_margin` rows by account, and `dead_letters`."""
    good, outputs = checked(messages, until_ms)
    good.sort(key=in_time)
    outputs += learn(state, good, until_ms)
    if until_ms is not None:
        outputs += _judge(state, until_ms)
    return outputs


def in_time(message: Message) -> tuple[int, int, int]:
    """Where a message stands among those of a batch."""
    return to_ms(message.row["event_at"]), message.partition, message.offset


def learn(state: State, good: list[Message], until_ms: int | None) -> list[Output]:
    """Apply messages that are in order, and give dead letters of those that cannot be.

    Of what an account holds only the newest row of each contract and currency is applied: rows that come once more, as they do
    when the job that writes them has recovered, end as they did before and change nothing.
    """
    by_table: dict[str, list[Message]] = {}
    for message in good:
        by_table.setdefault(message.table, []).append(message)
    for table, learn_row in _LEARN.items():
        for message in by_table.get(table, []):
            learn_row(state, message.row, to_ms(message.row["event_at"]))
    letters: list[Output] = []
    for table, learn_holding in _HOLDINGS.items():
        newest: dict[tuple[str, str], Holding] = {}
        for message in by_table.get(table, []):
            name, found = learn_holding(state, message.row, to_ms(message.row["event_at"]))
            if isinstance(found, Fault):
                letters.append(dead_letter(message, found, until_ms))
            else:
                newest[message.row["account"], name] = found
        for (account, name), found in newest.items():
            own = state.account(account)
            known = (own.positions if table == "positions" else own.balances).get(name)
            if known is None or (known[0] <= found[0] and known != found):
                (state.put_position if table == "positions" else state.put_balance)(account, name, *found)
                state.tell(account)
    return letters


def value(state: State) -> Valuation:
    """Value all accounts at once.  All amounts are in USD; sums are of whole micro-dollars."""
    usd, mark = state.currency_columns["usd"], _mark(state)
    held, balances, count = state.position_columns, state.balance_columns, len(state.account_columns.rows)
    columns = (held[name] for name in ("account", "contract", "size", "average"))
    rates = _rates(state, mark)
    totals = standard_margin.totals(rates, count, *columns)
    cash = standard_margin.cash(usd, count, *(balances[name] for name in ("account", "currency", "amount")))
    found = Valuation(
        (totals.value + cash) / 1e6,
        totals.initial / 1e6,
        totals.maintenance / 1e6,
        rates,
        mark,
        np.zeros(count),
        np.full(count, -1),
        [],
    )
    for model in state.sets:
        _value_portfolios(state, model, found)
    state.moved.clear()
    return found


def _mark(state: State) -> Array:
    """Of each contract, in the quote currency; NaN where there is none."""
    contracts = state.contract_columns
    is_option, own = contracts["is_option"] > 0, contracts["mark"]
    mark = np.where(is_option | ~np.isnan(own), own, contracts["traded"])
    is_good = (is_option & (mark >= 0)) | ((contracts["is_future"] > 0) & (mark > 0))
    return np.asarray(np.where(is_good, mark, np.nan))


def _forward(state: State) -> Array:
    """Of each contract, in USD: its options' own, else the index; NaN where there is none."""
    forward = state.contract_columns["forward_usd"]
    index = state.index_columns["usd"][state.contract_columns["index"]]
    return np.asarray(np.where(forward > 0, forward, index))


def _rates(state: State, mark: Array) -> standard_margin.Rates:
    """What one contract is worth and requires, in USD."""
    contracts, forward = state.contract_columns, _forward(state)
    is_future, is_option = contracts["is_future"] > 0, contracts["is_option"] > 0
    is_inverse, each = contracts["is_inverse"] > 0, contracts["contract_size"]
    settlement = state.currency_columns["usd"][contracts["settlement"]]
    required = settlement * state.currency_columns["factor"][contracts["underlying"]]
    nothing = np.zeros(len(each))

    def future(initial: Array, maintenance: Array, per_coin: Array) -> Margin:
        rates = initial, maintenance, per_coin
        linear, inverse = standard_margin.linear_future(each, mark, *rates), standard_margin.inverse_future(each, mark, *rates)
        return Margin(*(np.where(is_inverse, *of) for of in zip(inverse, linear, strict=True)))

    with np.errstate(all="ignore"):
        # Those settled in USD have their mark in USD.
        mark_coin = np.where(is_inverse, mark, mark / forward)
        short = standard_margin.option(-each, mark_coin, forward, contracts["strike_usd"], contracts["is_call"])
        in_coin = np.where(is_inverse, 1.0, forward)

        def rate(of_future: Array, of_short_option: Array) -> Array:
            return np.asarray(np.where(is_future, of_future, np.where(is_option, of_short_option * in_coin, 0.0)) * required)

        flat = future(contracts["initial"], contracts["maintenance"], nothing)
        return standard_margin.Rates(
            unit=np.where(is_inverse & is_future, -each / mark, each * mark) * settlement,
            # Profit is linear in a basis that does not move with prices.
            basis_unit=np.where(is_future, np.where(is_inverse, -each, each), 0.0) * settlement,
            is_inverse=is_inverse & is_future,
            # Nothing, but NaN where a short one cannot be told: an account is not healthy for want of a price.
            initial_long=rate(flat.initial, 0.0 * short.initial),
            initial_short=rate(flat.initial, short.initial),
            maintenance_long=rate(flat.maintenance, 0.0 * short.maintenance),
            maintenance_short=rate(flat.maintenance, short.maintenance),
            square=rate(future(nothing, nothing, contracts["per_coin"]).initial, nothing),
        )


def _value_portfolios(state: State, model: str, found: Valuation) -> None:
    """Put what the accounts of one parameter set require in the place of standard margin."""
    base, is_mine = state.sets[model], state.account_columns["model"] == state.number(model)
    rows = np.flatnonzero(is_mine)
    if not len(rows):
        return
    _arrange(state, model, is_mine)
    names = portfolio_margin.scenario_names(base)
    initial, maintenance = np.zeros(len(is_mine)), np.zeros(len(is_mine))
    for (of, underlying, is_restless), held in sorted(state.held.items(), key=lambda one: one[0]):
        if of != model:
            continue
        made = held.required
        if made is None or underlying in state.moved:
            others = state.held.get((of, underlying, False)) if is_restless else None
            if others and others.required and others.positions.instruments is held.positions.instruments:
                parameters, market, worth, _ = others.required
            else:
                parameters = base.scaled(state.factors.get(underlying, 1.0))
                market = _market(state, parameters, underlying, held, found)
                worth = portfolio_values.values(parameters, market, held.positions.instruments)
            required = portfolio_margin.requirements(parameters, market, held.positions, worth)
            made = _Required(parameters, market, worth, required)
            state.held[of, underlying, is_restless] = held._replace(required=made)
        accounts, required = held.positions.accounts[held.stands], made.requirements
        initial[accounts] += _micro(required.initial[held.stands])
        maintenance[accounts] += _micro(required.maintenance[held.stands])
        worst_pnl = required.worst_pnl[held.stands]
        loss = np.where(np.isfinite(worst_pnl), -worst_pnl, 0.0)
        worse = loss > found.worst_loss[accounts]
        found.worst_loss[accounts[worse]] = loss[worse]
        found.worst[accounts[worse]] = len(found.scenarios) + required.worst[held.stands][worse]
        found.scenarios.extend(f"{underlying}: {name}" for name in names)
    initial[list(state.priceless[model])] = np.nan
    found.initial[rows] = initial[rows] / 1e6
    found.maintenance[rows] = np.where(np.isnan(initial[rows]), np.nan, maintenance[rows] / 1e6)


def _arrange(state: State, model: str, is_mine: Array) -> None:
    """See to it that what the accounts of one model hold is arranged as it is now.

    Few accounts trade between two prices.  Those that have since all were arranged are arranged by themselves, until they are
    many.
    """
    restless, keys = state.restless.setdefault(model, set()), [of for of in state.held if of[0] == model]
    is_anew = not keys or len(restless) > RESTLESS * is_mine.sum()
    if is_anew:
        for of in keys:
            del state.held[of]
        restless.clear()
        at, funded = (
            np.flatnonzero((columns[amount] != 0) & is_mine[columns["account"]])
            for columns, amount in ((state.position_columns, "size"), (state.balance_columns, "amount"))
        )
        arranged = _arranged(state, at, funded, {})
        state.priceless[model] = set()
    elif not restless or any(of[2] for of in keys):
        return
    else:
        at, funded = _holdings(state, model, restless)
        arranged = _arranged(state, at, funded, {of[1]: state.held[of] for of in keys})
        state.priceless[model] -= restless
    for underlying, held in arranged.items():
        state.held[model, underlying, not is_anew] = held
    wrong = ~_usable(state)[state.position_columns["contract"][at]] | ~np.isfinite(_units(state, at))
    state.priceless[model] |= set(state.position_columns["account"][at][wrong].tolist())


def _holdings(state: State, model: str, rows: set[int]) -> tuple[Array, Array]:
    """Rows of positions, and of balances, that some accounts have, given theirs; of those that have this model."""
    own = [(name, state.accounts[name]) for name in map(state.account_names.__getitem__, sorted(rows))]
    own = [(name, account) for name, account in own if account.model == model]
    positions, balances = state.position_columns.rows, state.balance_columns.rows
    at = [positions[name, of] for name, account in own for of, (_, size, _) in account.positions.items() if size]
    funded = [balances[name, of] for name, account in own for of, (_, amount) in account.balances.items() if amount]
    return np.array(at, dtype=np.int64), np.array(funded, dtype=np.int64)


def _usable(state: State) -> Array:
    """Whether each contract is known to be one that has a margin."""
    kinds = state.contract_columns
    return np.asarray((kinds["is_future"] + kinds["is_option"] > 0) & ~np.isnan(kinds["contract_size"]))


def _units(state: State, rows: Array) -> Array:
    """Positions, by their rows, in units of what their contracts are of."""
    with np.errstate(over="ignore"):
        contract = state.position_columns["contract"][rows]
        return np.asarray(state.position_columns["size"][rows] * state.contract_columns["contract_size"][contract])


def _arranged(state: State, at: Array, funded: Array, known: dict[str, _Held]) -> dict[str, _Held]:
    """What some accounts hold, by underlying, given the rows of their positions and balances.

    Columns are in the order of names.  Where all that they hold is among the contracts of what is `known`, they are the same as
    there: both are then worth the same.
    """
    of, account = state.position_columns["contract"][at], state.position_columns["account"][at]
    units = _units(state, at)
    names = {row: name for name, row in state.contract_columns.rows.items()}
    by_underlying: dict[str, list[str]] = {}
    for row in np.unique(of):
        terms = state.terms.get(names[int(row)])
        if terms is not None and terms.kind != "spot" and terms.contract_size is not None:
            by_underlying.setdefault(terms.underlying, []).append(names[int(row)])
    coins = {name: row for name, row in state.currency_columns.rows.items() if name not in DOLLARS}
    currency = state.balance_columns["currency"][funded]
    for coin, row in coins.items():
        if (currency == row).any():
            by_underlying.setdefault(coin, [])

    arranged: dict[str, _Held] = {}
    for underlying, contracts in sorted(by_underlying.items()):
        like = known.get(underlying)
        if like and set(contracts) <= set(like.contracts):
            ordered, expiries, instruments = like.contracts, like.expiries, like.positions.instruments
        else:
            ordered, expiries, instruments = _instruments(state, contracts)
        columns = np.full(len(state.contract_columns["is_option"]), -1)
        columns[[state.contract_columns.row(name) for name in ordered]] = np.arange(len(ordered))
        mine = np.flatnonzero((columns[of] >= 0) & np.isfinite(units))
        coin = funded[currency == coins.get(underlying, -1)]
        positions = portfolio_positions.hold(
            instruments,
            np.concatenate([account[mine], state.balance_columns["account"][coin]]),
            np.concatenate([columns[of[mine]], np.full(len(coin), len(ordered))]),
            np.concatenate([units[mine], state.balance_columns["amount"][coin]]),
        )
        arranged[underlying] = _Held(ordered, expiries, positions, np.ones(len(positions.accounts), dtype=np.bool_), None)
    return arranged


def _instruments(state: State, contracts: list[str]) -> tuple[list[str], Array, portfolio_positions.Instruments]:
    """Contracts on one underlying in the order of their columns, options first; when options expire, in s; and their terms."""
    options = sorted(name for name in contracts if state.terms[name].kind == "option")
    ordered = options + sorted(set(contracts) - set(options))
    expiry_s = np.array([(state.terms[name].expiry_ms or 0) / 1000 for name in options])
    expiries, expiry = np.unique(expiry_s, return_inverse=True)
    instruments = portfolio_positions.Instruments(
        expiry=expiry,
        strike=np.array([state.terms[name].strike_usd or math.nan for name in options], dtype=np.float64),
        is_call=np.array([state.terms[name].option_type == "call" for name in options], dtype=np.bool_),
        expiries=len(expiries),
        futures=len(ordered) - len(options),
        collaterals=1,
    )
    return ordered, expiries, instruments


def _market(state: State, parameters: Parameters, underlying: str, held: _Held, found: Valuation) -> portfolio_values.Market:
    """The prices of one underlying, all in USD."""
    contracts, instruments = state.contract_columns, held.positions.instruments
    rows = np.array([contracts.row(name) for name in held.contracts], dtype=np.int64)
    options, futures = rows[: len(instruments.strike)], rows[len(instruments.strike) :]
    usd = state.currency_columns["usd"]
    spot = float(usd[state.currency(underlying)])
    # Of all options, held or not: what accounts require depends on nobody else's positions.
    is_quoted = (contracts["is_option"] > 0) & (contracts["underlying"] == state.currency(underlying))
    is_quoted &= contracts["forward_usd"] > 0
    quotes = (contracts["forward_usd"][is_quoted & (contracts["expiry_s"] == one)] for one in held.expiries)
    forward = np.array([np.median(quoted) if len(quoted) else spot for quoted in quotes], dtype=np.float64)
    haircut = parameters.collaterals.get(underlying, Haircut(0.0, 0.0, True))
    # Of an inverse contract a unit is a USD: worth the same in USD whatever the price, as the coins it is paid in move with it.
    is_inverse = contracts["is_inverse"][futures] > 0
    settlement = usd[contracts["settlement"][futures]]
    sure = np.ones(1)
    return portfolio_values.Market(
        spot=spot,
        spot_confidence=1.0,
        stable=1.0,
        expiry_s=np.asarray(held.expiries - (state.second or 0), dtype=np.float64),
        forward=forward,
        rate=np.zeros(instruments.expiries),
        expiry_confidence=np.ones(instruments.expiries),
        vol=contracts["vol"][options],
        future_price=np.where(is_inverse, settlement / found.mark[futures], found.mark[futures] * settlement),
        future_confidence=np.ones(len(futures)),
        collateral_usd=spot * sure,
        collateral_confidence=sure,
        collateral_threshold=0.0 * sure,
        mmhaircut=haircut.mmhaircut * sure,
        imhaircut=haircut.imhaircut * sure,
        is_risk_cancelling=np.array([haircut.is_risk_cancelling]),
    )


def _micro(amounts: Array) -> Array:
    return np.where(np.isfinite(amounts), np.rint(amounts * 1e6), np.nan)


def probabilities(state: State, found: Valuation, said: list[str]) -> tuple[Array, Array]:
    """That accounts become liquidatable within each of `HORIZONS_S`, and standard errors; NaN where there is no answer."""
    rows = np.array([state.account_columns.row(name) for name in said])
    usd, count = state.currency_columns["usd"], len(rows)
    # Of all that is held only what these accounts hold, each by its place among them.
    place = np.full(len(found.equity), -1)
    place[rows] = np.arange(count)
    at = np.flatnonzero((state.position_columns["size"] != 0) & (place[state.position_columns["account"]] >= 0))
    coins = _deltas(state, at)
    contract, account = (state.position_columns[name][at] for name in ("contract", "account"))
    of, balances = state.contract_columns["underlying"][contract], state.balance_columns
    funded = np.flatnonzero((balances["amount"] != 0) & (place[balances["account"]] >= 0))
    currency, holder = balances["currency"][funded], balances["account"][funded]
    names = {row: name for name, row in state.currency_columns.rows.items()}
    drives: dict[int, Array] = {}
    for row in np.unique(np.concatenate([of, currency])).astype(int):
        if names.get(row) not in DOLLARS:
            mine, paid, S = of == row, currency == row, usd[row]
            total = _sums(place[account[mine]], coins[mine] * S, count)
            total = total + _sums(place[holder[paid]], balances["amount"][funded[paid]] * S, count)
            drives[row] = np.where(total == 0, 0.0, total / 1e6 / S)
    answer = np.full((len(rows), len(liquidation_probability.HORIZONS_S)), np.nan)
    moving = sum(((delta != 0).astype(int) for delta in drives.values()), np.zeros(len(rows), dtype=int))
    excess = found.equity[rows] - found.maintenance[rows]
    answer[(moving == 0) & ~np.isnan(excess)] = 0.0
    years = np.array([*liquidation_probability.HORIZONS_S.values()]) / SECONDS_PER_YEAR
    vols = {row: _short_vol(state, names[row]) for row in drives}
    for row, delta in drives.items():
        vol, S = vols[row], float(usd[row])
        some = np.flatnonzero((moving == 1) & (delta != 0))
        if math.isnan(vol) or not S > 0 or not len(some):
            continue
        with np.errstate(all="ignore"):
            slope = delta[some] - found.maintenance[rows][some] / S
            barrier = S - excess[some] / slope
        P = liquidation_probability.first_passage(S, np.where(barrier > 0, barrier, S)[:, np.newaxis], years, vol)
        P = np.where((barrier > 0)[:, np.newaxis], P, 0.0)
        answer[some] = np.where((excess[some] <= 0)[:, np.newaxis], 1.0, P)
    answer[(moving > 1) & (excess <= 0)] = 1.0
    is_open = (moving > 1) & (excess > 0) & (found.maintenance[rows] > 0)
    is_known = ~np.isnan(excess)
    for row, delta in drives.items():
        is_known &= ~np.isnan(delta)
        if math.isnan(vols[row]) or not usd[row] > 0:
            is_open &= delta == 0
    errors = np.full_like(answer, np.nan)
    some = np.flatnonzero(is_open & is_known)
    ratio = found.maintenance[rows[some]] / found.equity[rows[some]]
    # By name where ratios are equal: `said` is sorted, and so is the order kept.
    chosen = some[np.argsort(-ratio, kind="stable")[: ESTIMATES - state.estimates]]
    if len(chosen):
        state.estimates += len(chosen)
        state.touched.add("clock")
    for spot in chosen:
        needs = _needs(state, found, said[spot])
        moved = sorted(
            (names[row], vols[row], float(usd[row]), float(delta[spot])) for row, delta in drives.items() if delta[spot] != 0
        )
        slope = [delta - needs.get(underlying, 0.0) / S for underlying, _, S, delta in moved]
        answer[spot], errors[spot] = _estimate(
            float(excess[spot]),
            slope,
            [S for _, _, S, _ in moved],
            [vol for _, vol, _, _ in moved],
            (said[spot], state.second),
        )
    answer[~is_known & ~(excess <= 0)] = np.nan
    # Where nothing is required nothing can be liquidated.
    answer[(found.maintenance[rows] == 0) & ~np.isnan(excess)] = 0.0
    return answer, errors


def _deltas(state: State, at: Array) -> Array:
    """Of positions, by their rows: how much each moves with its underlying, in units of that."""
    contracts = state.contract_columns
    of, size, average = (state.position_columns[name][at] for name in ("contract", "size", "average"))
    is_future, each = contracts["is_future"][of] > 0, contracts["contract_size"]
    years = np.maximum(contracts["expiry_s"] - (state.second or 0), 0.0) / SECONDS_PER_YEAR
    is_call = contracts["is_call"].astype(bool)
    with np.errstate(all="ignore"):
        # An inverse's profit is paid in coin: size/average coins, less what it owes in USD.
        future = size * each[of] / np.where(contracts["is_inverse"][of] > 0, average, 1.0)
        slope = black76.greeks(_forward(state), contracts["strike_usd"], years, contracts["vol"], is_call).delta
        option = np.where(contracts["is_option"][of] > 0, size * (each * slope)[of], 0.0)
    return np.where(is_future, future, option)


def _needs(state: State, found: Valuation, name: str) -> dict[str, float]:
    """What an account requires for maintenance, by underlying."""
    account, row = state.accounts[name], state.account_columns.row(name)
    needs: dict[str, float] = {}
    if account.model != STANDARD:
        for (model, underlying, _), held in state.held.items():
            mine = np.flatnonzero((held.positions.accounts == row) & held.stands)
            if model == account.model and held.required is not None and len(mine):
                needs[underlying] = float(held.required.requirements.maintenance[mine].sum())
        return needs
    for of, (_, size, _) in sorted(account.positions.items()):
        if size:
            underlying, contract = state.terms[of].underlying, state.contract_columns.row(of)
            maintenance = float(standard_margin.by_itself(found.rates, contract, size).maintenance)
            needs[underlying] = needs.get(underlying, 0.0) + maintenance
    return needs


def _estimate(
    excess: float, slope: list[float], S: list[float], vol: list[float], seed: tuple[str, int | None]
) -> tuple[list[float], list[float]]:
    """Probabilities and standard errors for one account, by horizon."""
    exposures = liquidation_probability.Exposures(np.array([excess]), np.array([slope]), np.zeros((1, len(slope))))
    correlation = np.full((len(S), len(S)), CORRELATION)
    np.fill_diagonal(correlation, 1.0)
    number = int.from_bytes(blake2b(repr(seed).encode(), digest_size=8).digest())
    estimates = [
        liquidation_probability.monte_carlo(
            exposures, S, vol, correlation, seconds / SECONDS_PER_YEAR, number, paths=PATHS, steps=PATH_STEPS
        )
        for seconds in liquidation_probability.HORIZONS_S.values()
    ]
    return [float(one.probability[0]) for one in estimates], [float(one.standard_error[0]) for one in estimates]


def _short_vol(state: State, underlying: str) -> float:
    """The vol of the option nearest to the money in the nearest expiry; NaN where there is none."""
    options = state.contract_columns
    expiry_s, F, K, vol = (options[name] for name in ("expiry_s", "forward_usd", "strike_usd", "vol"))
    is_on = (options["is_option"] > 0) & (options["underlying"] == state.currency(underlying))
    rows = np.flatnonzero(is_on & (vol > 0) & (F > 0) & (expiry_s > (state.second or 0) + SHORTEST_S))
    distance = np.abs(np.log(K[rows] / F[rows]))
    rows, distance = rows[distance <= FURTHEST], distance[distance <= FURTHEST]
    if not len(rows):
        return math.nan
    is_first = expiry_s[rows] == expiry_s[rows].min()
    nearest = set(rows[is_first & (distance == distance[is_first].min())].tolist())
    # Of a call and a put at one strike the first by name.
    name = min(name for name, row in options.rows.items() if row in nearest)
    return float(vol[options.row(name)])


def _sums(account: Array, amounts: Array, count: int) -> Array:
    return np.bincount(account, _micro(amounts), minlength=count)


def _judge(state: State, until_ms: int) -> list[Output]:
    """Value all accounts and report on them."""
    second = until_ms // 1000
    if is_past(state, second):
        return []
    is_new_second = keep_time(state, second)
    scalings = follow_vol(state, until_ms)
    outputs = scalings + report(state, value(state), until_ms, is_new_second)
    state.due.clear()
    state.free(until_ms)
    return outputs


def report(state: State, found: Valuation, until_ms: int, is_new_second: bool) -> list[Output]:
    """The stage of margin: note the status of each account, and emit the rows that are due, by account.

    Due is who has traded or changed status, and in a new second those whose turn it is.  An account that was restored without a
    status, and is healthy, waits for its turn.
    """
    unknown = np.isnan(found.equity) | np.isnan(found.initial) | np.isnan(found.maintenance)
    with np.errstate(invalid="ignore"):
        status = np.select(
            [unknown, liquidation.is_liquidatable(found.equity, found.maintenance), found.initial > found.equity],
            [UNPRICED, LIQUIDATION, MARGIN_CALL],
            HEALTHY,
        )
    known = state.account_columns["status"]
    changed = status != known
    names = state.account_names
    state.touched |= {f"account/{name}" for name in (*state.due, *(names[row] for row in np.flatnonzero(changed)))}
    due = state.due | {names[row] for row in np.flatnonzero(changed & ((known != NO_STATUS) | (status != HEALTHY)))}
    known[:] = status

    outputs: list[Output] = []
    if is_new_second:
        holders = np.unique(state.position_columns["account"][state.position_columns["size"] != 0])
        due |= set(in_turn(state, sorted(names[row] for row in holders)))
    said = sorted(due)
    if said:
        for name, chances, errors in zip(said, *probabilities(state, found, said), strict=True):
            outputs.append(_report(state, found, name, chances, errors, until_ms - 1))
        outputs += _report_positions(state, found, said, until_ms - 1)
    return outputs


def in_turn(state: State, names: list[str]) -> list[str]:
    """Whose turn it is of accounts in the order of their names: all, or as many as can be, behind those of the last time."""
    if len(names) <= TOLD:
        return names
    first = bisect_right(names, state.turn)
    told = (names[first:] + names[:first])[:TOLD]
    state.turn = told[-1]
    return told


def _with_turn(name: str, stored: Any) -> Any:
    """As of version 3, where each second not every account is told of, and not every batch makes estimates."""
    return [*stored, "", 0] if name == "clock" else stored


def _in_parts(name: str, stored: Any) -> Any:
    """As of version 4, where each price of a contract has its own time, middle and last trade are kept apart, and contracts say
    which currency's index values them: before, none was known but that in USD."""
    if name.startswith("price/"):
        event_ms, mark, traded, forward_usd, vol = stored
        return [NOT_TOLD if told is None else (event_ms, told) for told in (mark, None, traded, forward_usd, vol)]
    if name.startswith("instrument/"):
        _, _, underlying, settlement, is_inverse, *_ = stored
        return [*stored, indices.USD if is_inverse or settlement == underlying else settlement]
    return stored


MIGRATIONS: dict[int, Migration] = {2: _with_turn, 3: _in_parts}


def is_past(state: State, second: int) -> bool:
    """Whether accounts were valued later than in this second: the host's sweep may come after batches that it is older than."""
    return state.second is not None and second < state.second


def keep_time(state: State, second: int) -> bool:
    """Note the whole second of event time; whether it is another than before."""
    if state.second == second:
        return False
    is_first, state.second, state.estimates = state.second is None, second, 0
    state.moved |= {underlying for _, underlying, _ in state.held}
    state.touched.add("clock")
    return not is_first


def follow_vol(state: State, until_ms: int) -> list[Output]:
    """Let the factors follow the vols of the underlyings on which options have spoken; a row for each that changes."""
    outputs: list[Output] = []
    rule, event_ms = vol_scaling.DEFAULT, until_ms - 1
    for underlying in sorted(state.quoted):
        vol, before = _short_vol(state, underlying), state.factors.get(underlying)
        found = vol_scaling.scale(vol, math.nan if before is None else before, rule)
        factor = float(found.level)
        if math.isnan(vol) or not found.changed:
            continue
        state.put_factor(underlying, factor)
        row = {
            "underlying": underlying,
            "event_at": instant_ms(event_ms),
            "vol": vol,
            "factor": factor,
            "previous_factor": before,
            "reason": f"vol {vol:.4g} over {rule.reference_vol:g} is {vol / rule.reference_vol:.4g}, "
            f"within {rule.floor:g} and {rule.cap:g}: {factor:.4g}" + ("" if before is None else f"; it was {before:.4g}"),
        }
        outputs.append(Output("margin_scalings", event_ms, row))
    state.touched |= {f"scaling/{underlying}" for underlying in state.quoted}
    state.quoted.clear()
    return outputs


def _report(state: State, found: Valuation, name: str, chances: Array, errors: Array, event_ms: int) -> Output:
    """The row of one account."""
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
        "model": account.model,
        "equity_usd": equity if is_priced else None,
        "initial_margin_usd": initial if is_priced else None,
        "maintenance_margin_usd": maintenance if is_priced else None,
        "margin_ratio": maintenance / equity if is_priced and equity > 0 else None,
        "status": STATUS[status],
        "reason": reason,
        "worst_scenario": found.scenarios[found.worst[row]] if is_priced and found.worst[row] >= 0 else None,
        "worst_loss_usd": float(found.worst_loss[row]) if is_priced and account.model != STANDARD else None,
    }
    for horizon, chance in zip(liquidation_probability.HORIZONS_S, chances, strict=True):
        margin[f"liquidation_probability_{horizon}"] = None if np.isnan(chance) else float(chance)
    for horizon, error in zip(liquidation_probability.HORIZONS_S, errors, strict=True):
        margin[f"liquidation_probability_{horizon}_error"] = None if np.isnan(error) else float(error)
    return Output("account_margin", event_ms, margin)


def _report_positions(state: State, found: Valuation, said: list[str], event_ms: int) -> list[Output]:
    """The rows of what these accounts hold, by account and instrument."""
    held = [(name, of) for name in said for of, (_, size, _) in sorted(state.accounts[name].positions.items()) if size]
    if not held:
        return []
    rows = np.array([state.position_columns.rows[one] for one in held])
    contract = state.position_columns["contract"][rows]
    alone = standard_margin.by_itself(found.rates, contract, state.position_columns["size"][rows])
    initial, maintenance = (np.where(_usable(state)[contract], margin, np.nan) for margin in alone)
    added, loss, worst = _contributions(state, said, rows, maintenance)
    amounts = (_known(np.rint(amount * 1e6) / 1e6) for amount in (initial, maintenance, added, loss))
    numbers = zip(state.position_columns["size"][rows].tolist(), _known(found.mark[contract]), *amounts, worst, strict=True)
    event_at, outputs = instant_ms(event_ms), []
    for (name, of), (size, mark, *margins, scenario) in zip(held, numbers, strict=True):
        venue, _, instrument = of.partition(":")
        row = {
            "account": name,
            "venue": venue,
            "instrument": instrument,
            "event_at": event_at,
            "size": size,
            "mark_price": mark,
            "initial_margin_usd": margins[0],
            "maintenance_margin_usd": margins[1],
            "contribution_usd": margins[2],
            "worst_scenario": scenario,
            "worst_loss_usd": margins[3],
        }
        outputs.append(Output("position_margin", event_ms, row))
    return outputs


def _contributions(state: State, said: list[str], rows: Array, standard: Array) -> tuple[Array, Array, list[str | None]]:
    """What positions, by their rows, add to their accounts' maintenance margin, lose in the worst scenario, and which that is.

    What those of accounts by standard margin add is `standard`; they have no scenario.
    """
    account, of = state.position_columns["account"][rows], state.position_columns["contract"][rows]
    contracts, model = state.contract_columns, state.account_columns["model"][account]
    usable, units = _usable(state)[of], _units(state, rows)
    names = {state.account_columns.row(name): name for name in said}
    added, loss = np.where(model == state.number(STANDARD), standard, np.nan), np.full(len(rows), np.nan)
    worst: list[str | None] = [None] * len(rows)
    for (chosen, underlying, _), held in sorted(state.held.items(), key=lambda one: one[0]):
        is_on = (model == state.number(chosen)) & (contracts["underlying"][of] == state.currency(underlying))
        is_here = np.isin(account, held.positions.accounts[held.stands])
        mine = np.flatnonzero(is_on & is_here & usable & np.isfinite(units))
        if held.required is None or not len(mine):
            continue
        column = np.zeros(len(contracts["underlying"]), dtype=np.int64)
        column[[contracts.row(name) for name in held.contracts]] = np.arange(len(held.contracts))
        holders, coin = np.unique(account[mine]), len(held.contracts)
        coins = [
            state.accounts[names[row]].balances.get(underlying, (0, 0.0))[1] * (underlying not in DOLLARS) for row in holders
        ]
        positions = portfolio_positions.hold(
            held.positions.instruments,
            np.concatenate([account[mine], holders]),
            np.concatenate([column[of[mine]], np.full(len(holders), coin)]),
            np.concatenate([units[mine], coins]),
        )
        parameters, market, worth, required = held.required
        parts = portfolio_margin.contributions(parameters, market, positions, worth)
        _, here, there = np.intersect1d(
            account[mine] * (coin + 1) + column[of[mine]], parts.account * (coin + 1) + parts.column, return_indices=True
        )
        added[mine[here]], loss[mine[here]] = parts.maintenance[there], 0.0 - parts.worst_pnl[there]
        scenarios = portfolio_margin.scenario_names(parameters)
        for place, scenario in zip(mine, required.worst[np.searchsorted(held.positions.accounts, account[mine])], strict=True):
            if scenario >= 0 and not math.isnan(loss[place]):
                worst[place] = f"{underlying}: {scenarios[scenario]}"
    return added, loss, worst


def _known(numbers: Array) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in numbers.tolist()]


def _missing(state: State, found: Valuation, account: Account) -> str:
    """What keeps an account from being valued: the first such thing by name."""
    usd, row_of = state.currency_columns["usd"], state.contract_columns.row
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
        if account.model != STANDARD and terms.kind == "option" and np.isnan(state.contract_columns["vol"][row_of(name)]):
            return f"{name} has no mark volatility"
        if account.model != STANDARD and np.isnan(usd[state.currency(terms.underlying)]):
            return f"{terms.underlying} has no index price"
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
        indices.own_currency(row),
    )
    known = state.terms.get(name)
    if known is None or (known.published_ms <= event_ms and known != terms):
        state.put_terms(name, terms)
        state.touched.add(f"instrument/{name}")
        if terms.kind == "option":
            state.quote(terms.underlying)


def _learn_ticker(state: State, row: dict[str, Any], event_ms: int) -> None:
    name = key("tickers", row)
    known = state.prices.get(name, NO_PRICE)
    middle: Told | None = None
    if has_quote(row):
        bid, ask = row.get("bid_price"), row.get("ask_price")
        middle = event_ms, None if bid is None or ask is None else (bid + ask) / 2
    newest = Price(
        _newer(known.mark, event_ms, row.get("mark_price")),
        middle if middle and known.middle[0] <= event_ms else known.middle,
        _newer(known.last, event_ms, row.get("last_price")),
        _newer(known.forward_usd, event_ms, row.get("forward_usd")),
        _newer(known.vol, event_ms, row.get("mark_iv")),
    )
    if newest != known:
        state.put_price(name, newest)
        state.touched.add(f"price/{name}")
        if (terms := state.terms.get(name)) and terms.kind == "option":
            state.quote(terms.underlying)
    usd = row.get("index_price_usd")
    if usd is not None and usd > 0 and (terms := state.terms.get(name)):
        of = indices.named(terms.underlying, terms.index_currency)
        index = state.indices.get(of, NO_INDEX)
        if index.ticker_ms <= event_ms:
            state.put_index(of, index._replace(ticker_ms=event_ms, ticker_usd=usd))
            state.touched.add(f"index/{of}")


def _newer(known: Told, event_ms: int, value: float | None) -> Told:
    """What stands of one price after a ticker; NULL tells nothing."""
    return known if value is None or event_ms < known[0] else (event_ms, value)


def _learn_index(state: State, row: dict[str, Any], event_ms: int) -> None:
    of = indices.named(row["underlying"], indices.quoted_in(row))
    index = state.indices.get(of, NO_INDEX)
    if index.event_ms <= event_ms:
        state.put_index(of, index._replace(event_ms=event_ms, price_usd=row["price_usd"]))
        state.touched.add(f"index/{of}")


def _learn_position(state: State, row: dict[str, Any], event_ms: int) -> tuple[str, Holding | Fault]:
    name, size, average = key("instruments", row), float(row["size"]), float(row.get("average_price") or 0)
    for column, number in (("size", size), ("average_price", average)):
        if not abs(number) < LIMIT:
            return name, Fault(column, "within DECIMAL(38, 18)", shown(row[column]))
    if size != 0 and row.get("average_price") is None:
        return name, Fault("average_price", "not NULL where size is not 0", "NULL")
    return name, (event_ms, size, average)


def _learn_balance(state: State, row: dict[str, Any], event_ms: int) -> tuple[str, Holding | Fault]:
    name, amount = row["currency"], float(row["amount"])
    if not abs(amount) < LIMIT:
        return name, Fault("amount", "within DECIMAL(38, 18)", shown(row["amount"]))
    model = row.get("margin_model")
    if model is not None and model != STANDARD and model not in margin_parameters.names():
        return name, Fault("margin_model", f"{STANDARD} or one of {', '.join(margin_parameters.names())}", shown(model))
    account = state.account(row["account"])
    if model is not None and event_ms >= account.model_ms and (model, event_ms) != (account.model, account.model_ms):
        state.put_model(row["account"], event_ms, model)
        state.tell(row["account"])
    return name, (event_ms, amount)


_LEARN: dict[str, Callable[[State, dict[str, Any], int], None]] = {
    "instruments": _learn_terms,
    "tickers": _learn_ticker,
    "index_prices": _learn_index,
}

_HOLDINGS: dict[str, Callable[[State, dict[str, Any], int], tuple[str, Holding | Fault]]] = {
    "positions": _learn_position,
    "balances": _learn_balance,
}


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


KERNEL = Kernel(
    name="margin",
    version=VERSION,
    new=new,
    step=step,
    gauges=gauges,
    migrations=MIGRATIONS,
    common=frozenset({"margin_scalings"}),
)
