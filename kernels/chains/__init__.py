"""chains: forwards, then surfaces, then every option's Greeks of an underlying, each from the rows of the one before.

One kernel, because the three must agree on the time: as separate jobs, each would have to wait until the rows of the one before
are complete.  Each is a kernel of its own; this one only passes rows on.

Entries  <stage>|<name of the stage's entry>
Late     see each stage
"""

from engine import batch
from engine.checks import checked
from engine.contract import Kernel, Lines, Message, Output
from engine.contract import State as Stage
from kernels.chains import chain_greeks, forwards, vol_surfaces

VERSION = 1
QUOTES = {"instruments", "tickers", "book_tops"}
TERMS = {"instruments", "tickers"}


class State:
    """The underlyings of one shard."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        self.forwards = forwards.new()
        self.surfaces = vol_surfaces.new()
        self.greeks = chain_greeks.new()
        self.stages: dict[str, Stage] = {"forwards": self.forwards, "surfaces": self.surfaces, "greeks": self.greeks}

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        stage, _, entry = name.partition("|")
        return self.stages[stage].encode(entry)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if the stage cannot read the version of the bytes."""
        stage, _, entry = name.partition("|")
        self.stages[stage].decode(entry, data)


def new() -> State:
    """An empty state."""
    return State()


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[Lines], bytes]:
    """Take a whole batch, the Greeks written as lines at once; nothing is left for `step`."""
    messages, letters = batch.decode(data, until_ms)
    outputs, lines = _apply(state, messages, until_ms)
    return batch.encode(letters + outputs) + lines, b""


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: rows of `forwards`, `vol_surfaces` and `chain_greeks`."""
    outputs, lines = _apply(state, messages, until_ms)
    return outputs + chain_greeks.outputs(lines)


def _apply(state: State, messages: list[Message], until_ms: int | None) -> tuple[list[Output], list[Lines]]:
    is_sweep = not messages
    good, outputs = checked(messages, until_ms)
    outputs += forwards.apply(state.forwards, good, until_ms, is_sweep=is_sweep)
    own = _handed_on(outputs) + [message for message in good if message.table in QUOTES]
    if own or is_sweep:
        outputs += vol_surfaces.apply(state.surfaces, own, until_ms, is_sweep=is_sweep)
    lines: list[Lines] = []
    own = _handed_on(outputs) + [message for message in good if message.table in TERMS]
    if own or is_sweep:
        lines = chain_greeks.apply(state.greeks, own, until_ms)
    for name, stage in state.stages.items():
        state.touched.update(f"{name}|{entry}" for entry in stage.touched)
        stage.touched.clear()
    return outputs, lines


def _handed_on(outputs: list[Output]) -> list[Message]:
    """Rows as messages for the next stage."""
    rows = (output for output in outputs if output.table != "dead_letters")
    return [Message(row.table, 0, offset, dict(row.row)) for offset, row in enumerate(rows)]


KERNEL = Kernel(
    name="chains",
    version=VERSION,
    new=new,
    step=step,
    take_plain=take_plain,
    parts=(forwards.KERNEL, vol_surfaces.KERNEL, chain_greeks.KERNEL),
)
