"""liquidations: which accounts must be liquidated, how much of each now, what are equity, margin and exposures?

Accounts are valued once a batch (`valuation`), and not at all if nothing has moved.  The stages read the valuation one after
the other: `decisions` (whom to liquidate), then `margin` (rows of every account), then `exposures` (of those with limits).
`stage` defines a stage.

Entries    those of `accounts`, `market` and of each stage
Order      all messages of a batch are applied, then accounts are valued, then the stages emit their rows
Late       messages behind the watermark only change the state: the next batch values what they changed
"""

from collections.abc import Callable, Mapping
from typing import Any

from engine.checks import checked
from engine.contract import Kernel, Message, Output
from kernels.limits import sound
from kernels.liquidations import cases, market
from kernels.liquidations.accounts import Accounts
from kernels.liquidations.decisions import Decisions
from kernels.liquidations.exposures import Exposures
from kernels.liquidations.margin import Margin
from kernels.liquidations.messages import in_time, learn
from kernels.liquidations.pricing import Valuation
from kernels.liquidations.stage import Batch, Stage
from kernels.liquidations.valuation import is_past, keep_time, value
from kernels.liquidations.volatility import follow_vol

STORE_SHARE = 1.0
"""An account seldom trades again before its entry is stored: entries that wait become a long pause, in which no order is
emitted."""


class State:
    """The accounts of one shard, the whole market, and what each stage remembers."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.touched = self.accounts.touched
        self.decisions, self.margin = Decisions(self.accounts), Margin(self.accounts)
        self.exposures = Exposures(self.accounts)
        self.stages: tuple[Stage, ...] = (self.decisions, self.margin, self.exposures)  # in this order: decisions must be quick
        self.valuation: Valuation | None = None
        self._by_kind = {kind: stage for stage in self.stages for kind in stage.KINDS}

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        return self._by_kind.get(name.partition("/")[0], self.accounts).encode(name)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        self._by_kind.get(name.partition("/")[0], self.accounts).decode(name, data)


def new() -> State:
    """An empty state."""
    return State()


def set_keys(state: State, partition_of: Callable[[str], int], own: int) -> None:
    """Tell which partition the rows of a key are in, and that of this shard."""
    state.exposures.partition_of, state.exposures.part = partition_of, own


def gauges(state: State) -> dict[str, float]:
    """The number of accounts, and the gauges of each stage."""
    numbers: dict[str, float] = {"accounts": len(state.accounts.accounts)}
    for stage in state.stages:
        numbers |= stage.gauges()
    return numbers


def obeyed(state: State) -> Mapping[str, Mapping[str, Any]]:
    """The controls in force, by scope."""
    return state.decisions.gate.controls


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: the rows of every stage, and `dead_letters`."""
    good, outputs = checked(messages, until_ms)
    good, letters = sound(good, until_ms)
    outputs += letters
    good.sort(key=in_time)
    outputs += learn(state.accounts, good, until_ms)
    for stage in state.stages:
        stage.learn(good)
    if until_ms is not None and not is_past(state.accounts, until_ms // 1000):
        outputs += _answered(state, until_ms)
    return outputs


def _answered(state: State, until_ms: int) -> list[Output]:
    """Value the accounts, and collect the rows of each stage."""
    accounts = state.accounts
    is_new_second = keep_time(accounts, until_ms // 1000)
    scalings = follow_vol(accounts, until_ms)
    if state.valuation is None or not accounts.is_valued:
        state.valuation = value(accounts)
    batch = Batch(state.valuation, until_ms, is_new_second, frozenset(accounts.due), scalings)
    outputs = [output for stage in state.stages for output in stage.rows(batch)]
    accounts.touched |= {f"account/{name}" for name in accounts.due}
    accounts.due.clear()
    expired = accounts.forget_expired(until_ms)
    for stage in state.stages:
        stage.forget(expired, until_ms)
    return outputs


ACCOUNTS = Kernel(name="margin", version=market.VERSION, new=new, step=step, migrations=market.MIGRATIONS)
"""The entries of accounts, market and margin: in savepoints they have their own version, under this name."""

KERNEL = Kernel(
    name="liquidations",
    version=cases.VERSION,
    new=new,
    step=step,
    set_keys=set_keys,
    gauges=gauges,
    migrations=cases.MIGRATIONS,
    parts=(ACCOUNTS,),
    common=frozenset({"margin_scalings"}),
    obeyed=obeyed,
    store_share=STORE_SHARE,
)
