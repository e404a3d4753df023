"""A kernel's state as a host keeps it: entries, stored when they are touched, and put back into a new state."""

import random
from typing import Any


class Stored:
    """The state of one shard, and what is stored of it; `kernel` is the module."""

    def __init__(self, kernel: Any, state: Any = None) -> None:
        self.kernel = kernel
        self.state = kernel.new() if state is None else state
        self.entries: dict[str, bytes] = {}

    def store(self) -> None:
        """Store what was touched, and forget what is gone."""
        for name in sorted(self.state.touched):
            data = self.state.encode(name)
            if data is None:
                self.entries.pop(name, None)
            else:
                self.entries[name] = data
        self.state.touched.clear()

    def restart(self, chance: random.Random | None = None) -> None:
        """Go on with a new state, made of what is stored: in any order, for the backend keeps none."""
        names = sorted(self.entries)
        self.state = self.kernel.new()
        for name in (chance or random.Random(len(names))).sample(names, len(names)):
            self.state.decode(name, self.entries[name])
