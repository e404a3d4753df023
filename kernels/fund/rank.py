"""Who is deleveraged, in which order, and who must not be."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

import numpy as np

from kernels.fund.state import State
from kernels.liquidations.accounts import STANDARD
from kernels.liquidations.pricing import Valuation
from kernels.liquidations.quotes import Quote, quoted
from kernels.positions.ledger import CONTEXT
from udfs import liquidation


class Rank:
    """All accounts, valued at one instant: what each has when all that is decided is booked."""

    def __init__(self, state: State, valuation: Valuation) -> None:
        self.state, self.valuation = state, valuation
        self._quotes: dict[str, Quote] = {}
        self._ordered: dict[tuple[str, bool], list[tuple[str, float]]] = {}
        self._gains: dict[str, float] = {}  # by account, in USD, what deleveragings that are not booked change
        for name in sorted(state.pending):
            deleveraging = state.pending[name]
            for account, sign in ((deleveraging.account, 1.0), (deleveraging.counter, -1.0)):
                if account not in deleveraging.beyond:
                    self.note(account, sign * deleveraging.gain_usd)

    def note(self, account: str, gain_usd: float) -> None:
        """Count what a deleveraging changes until it is booked."""
        self._gains[account] = self.gain(account) + gain_usd

    def gain(self, account: str) -> float:
        """What deleveragings that are not booked change of an account's equity, in USD."""
        return self._gains.get(account, 0.0)

    def equity(self, account: str) -> float:
        """In USD; NaN where a price is missing."""
        valued: float = self.valuation.equity.item(self.state.accounts.account_columns.row(account))
        return valued + self.gain(account)

    def quote(self, contract: str) -> Quote:
        """The quote of a contract whose terms are known."""
        if contract not in self._quotes:
            self._quotes[contract] = quoted(self.state.accounts, self.valuation, contract)
        return self._quotes[contract]

    def ordered(self, contract: str, is_long: bool) -> list[tuple[str, float]]:
        """The solvent accounts on one side of a contract, each with its score: the highest first, then by name."""
        if (contract, is_long) not in self._ordered:
            self._ordered[contract, is_long] = self._scored(contract, is_long)
        return self._ordered[contract, is_long]

    def _scored(self, contract: str, is_long: bool) -> list[tuple[str, float]]:
        accounts, quote = self.state.accounts.accounts, self.quote(contract)
        names = sorted(
            account
            for account, (_, size) in self.state.sizes.get(contract, {}).items()
            if size and (size > 0) == is_long and account in accounts and self.equity(account) > 0
        )
        if not names:
            return []
        holdings = [accounts[name].positions[contract] for name in names]
        held, entry = np.array([size for _, size, _ in holdings]), np.array([average for *_, average in holdings])
        equity = np.array([self.equity(name) for name in names])
        with np.errstate(divide="ignore", invalid="ignore"):
            gained = quote.mark / entry - 1 if quote.is_inverse else 1 - entry / quote.mark
        value = held * quote.unit_usd
        scores = np.nan_to_num(liquidation.adl_score(gained * value, value - gained * value, value, value - equity)).tolist()
        return sorted(zip(names, scores, strict=True), key=lambda ranked: (-ranked[1], ranked[0]))

    def stays_above(self, account: str, contract: str, change: Decimal, cost_usd: float) -> bool:
        """Whether an account has its maintenance margin after one more deleveraging.

        What portfolio margin requires of what is left is not linear: such an account must have as much as it needs now, and as
        much as standard margin needs of what is left.
        """
        accounts = self.state.accounts
        maintenance = self.valuation.maintenance.item(accounts.account_columns.row(account))
        is_standard = accounts.accounts[account].model == STANDARD
        required = maintenance if is_standard else 0.0
        for name, size in self._held(account, contract, all_of_them=not is_standard):
            left = self.state.free_size(account, name)
            if name == contract:
                left = CONTEXT.add(left, change)
            quote = self.quote(name)
            required += quote.required(float(left)) - (quote.required(size) if is_standard else 0.0)
        if not is_standard:
            required = max(required, maintenance)
        # Sums of parts of a micro-dollar.
        return self.equity(account) - cost_usd >= required - 1e-6

    def _held(self, account: str, contract: str, all_of_them: bool) -> Iterator[tuple[str, float]]:
        for name, (_, size, _) in sorted(self.state.accounts.accounts[account].positions.items()):
            if size and (all_of_them or name == contract or (account, name) in self.state.closing):
                yield name, size


class Reserves:
    """What the fund has reserved: what accounts would owe if all that they hold were closed at the mark, in USD."""

    def __init__(self, rank: Rank, accounts: Iterable[str]) -> None:
        self._rank = rank
        self._losses: dict[str, float] = {}
        self._total = 0.0
        for account in sorted(accounts):
            self.put(account)

    def put(self, account: str) -> None:
        """Reserve for an account."""
        self.drop(account)
        equity = self._rank.equity(account)
        self._losses[account] = max(-equity, 0.0) if equity == equity else 0.0
        self._total += self._losses[account]

    def drop(self, account: str) -> None:
        """Reserve for it no longer."""
        self._total -= self._losses.pop(account, 0.0)

    def besides(self, account: str) -> float:
        """What is reserved for others."""
        return max(self._total - self._losses.get(account, 0.0), 0.0)
