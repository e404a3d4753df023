"""The accounts of a shard: positions, balances and margin model of each.

Entries   account/<account>: positions, balances, margin model, and whether it has changed since it was last valued
          and those of `kernels.liquidations.market`
"""

from typing import NamedTuple

from engine.entries import packed, unpacked
from kernels.liquidations.columns import Array, Columns
from kernels.liquidations.market import KEPT_MS, MIGRATIONS, VERSION, Market
from udfs import margin_parameters, portfolio_margin, portfolio_positions, portfolio_values
from udfs.margin_parameters import Parameters

STANDARD = "standard"


class Account:
    """One account, as stored."""

    def __init__(self) -> None:
        self.positions: dict[str, tuple[int, float, float]] = {}  # event time, size, average price
        self.balances: dict[str, tuple[int, float]] = {}  # event time, amount
        self.model = STANDARD
        self.model_ms = -(1 << 62)  # since when


class Required(NamedTuple):
    """The requirements of the accounts of one model on one underlying, and the prices behind them."""

    parameters: Parameters  # as scaled
    market: portfolio_values.Market
    worth: portfolio_values.Values
    requirements: portfolio_margin.Requirements


class Held(NamedTuple):
    """The holdings of the accounts of one model on one underlying."""

    contracts: list[str]  # the columns: options by expiry, then futures; the coin comes last
    expiries: Array  # seconds since 1970
    positions: portfolio_positions.Positions
    is_current: Array  # whether this is still the holding of each of its accounts
    required: Required | None


class Accounts(Market):
    """The accounts of one shard, and the whole market."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, Account] = {}
        self.due: set[str] = set()  # accounts that have changed since they were last valued

        self.sets: dict[str, Parameters] = {}
        self.held: dict[tuple[str, str, bool], Held] = {}
        """By model, underlying and whether it is for accounts in `restless`: the holdings, with their requirements."""
        self.restless: dict[str, set[int]] = {}
        """By model, the rows of accounts whose holdings have changed since all accounts of the model were arranged in
        `held`."""
        self.priceless: dict[str, set[int]] = {}
        """By model, the rows of accounts with a holding that has no margin, as of `held`."""

        self.account_names: list[str] = []  # by their rows: no account is freed
        self.account_columns: Columns[str] = Columns(model=0)
        self.position_columns: Columns[tuple[str, str]] = Columns(account=0, contract=0, size=0.0, average=0.0)
        self.balance_columns: Columns[tuple[str, str]] = Columns(account=0, currency=0, amount=0.0)

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, key = name.partition("/")
        if kind != "account":
            return super().encode(name)
        account = self.accounts.get(key)
        if account is None:
            return None
        return packed(VERSION, [account.positions, account.balances, key in self.due, account.model, account.model_ms])

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, key = name.partition("/")
        if kind != "account":
            super().decode(name, data)
            return
        positions, balances, is_due, model, model_ms = unpacked("margin", name, data, VERSION, MIGRATIONS)
        for contract, (ms, size, average) in positions.items():
            self.put_position(key, contract, ms, size, average)
        for currency, (ms, amount) in balances.items():
            self.put_balance(key, currency, ms, amount)
        self.put_model(key, model_ms, model)
        if is_due:
            self.due.add(key)

    def account(self, name: str) -> Account:
        """An account, created if it is new."""
        if name not in self.accounts:
            self.accounts[name] = Account()
            self.is_valued = False
            self.account_columns.row(name)
            self.account_names.append(name)
        return self.accounts[name]

    def put_position(self, account: str, contract: str, event_ms: int, size: float, average: float) -> None:
        """Set a position.  A flat one is kept with its time, so that an older row does not bring it back."""
        self.account(account).positions[contract] = (event_ms, size, average)
        self.drop(account)
        self.is_valued = False
        if size == 0:
            self.position_columns.free((account, contract))
            return
        rows = {"account": self.account_columns.row(account), "contract": self.contract_columns.row(contract)}
        self.position_columns.put((account, contract), **rows, size=size, average=average)

    def note_change(self, account: str) -> None:
        """Note that an account's positions, balances or model have changed."""
        self.due.add(account)
        self.touched.add(f"account/{account}")

    def put_balance(self, account: str, currency: str, event_ms: int, amount: float) -> None:
        """Set a balance."""
        self.account(account).balances[currency] = (event_ms, amount)
        self.drop(account)
        self.is_valued = False
        rows = {"account": self.account_columns.row(account), "currency": self.currency(currency)}
        self.balance_columns.put((account, currency), **rows, amount=amount)

    def put_model(self, account: str, event_ms: int, model: str) -> None:
        """Set the margin model."""
        self.drop(account)
        self.is_valued = False
        held = self.account(account)
        held.model, held.model_ms = model, event_ms
        if model != STANDARD and model not in self.sets:
            self.sets[model] = margin_parameters.parameter_set(model)
        self.account_columns["model"][self.account_columns.row(account)] = self.number(model)
        self.drop(account)

    def number(self, model: str) -> int:
        """A model as a number, in the order in which models were first chosen: it only distinguishes accounts."""
        return 0 if model == STANDARD else 1 + list(self.sets).index(model)

    def drop(self, account: str) -> None:
        """Mark an account whose holdings have changed: they must be arranged again."""
        model = self.accounts[account].model if account in self.accounts else STANDARD
        if model == STANDARD:
            return
        row = self.account_columns.row(account)
        restless = self.restless.setdefault(model, set())
        is_new = row not in restless
        restless.add(row)
        for held_key, held in list(self.held.items()):
            if held_key[0] == model and held_key[2]:
                del self.held[held_key]
            elif held_key[0] == model and is_new:
                held.is_current[held.positions.accounts == row] = False

    def forget_expired(self, until_ms: int) -> set[str]:
        """Forget the contracts that expired a day and more before `until_ms` and that no account holds; returns their names."""
        if self._first_expiry_ms + KEPT_MS > until_ms:
            return set()
        expired = self.free(until_ms, {contract for _, contract in self.position_columns.rows})
        for name, account in self.accounts.items() if expired else ():
            if flat := expired & account.positions.keys():
                for contract in flat:
                    del account.positions[contract]
                self.touched.add(f"account/{name}")
        return expired
