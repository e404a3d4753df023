"""How a client calls its orders and requests: written before a request goes on, so that a crash forgets none."""

from collections import deque
from pathlib import Path

import orjson

from gateway.requests import Named

KEPT = 500_000
"""The number of newest names that are kept: more than a client has open."""


class Ledger:
    """The names of one session, in a file of one JSON array a line; None: in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier run has written, and drop what is too old; a line that a crash has cut off is left out."""
        self._by_name: dict[str, Named] = {}
        self._orders: dict[str, list[Named]] = {}
        self._file = None
        if path is None:
            return
        if path.exists():
            with path.open("rb") as file:
                lines = deque(file, KEPT)
            for line in lines:
                try:
                    self._take(Named(*orjson.loads(line)))
                except (orjson.JSONDecodeError, TypeError):
                    continue
        partial = path.with_suffix(".new")
        partial.write_bytes(b"".join(map(_line, self._by_name.values())))
        partial.replace(path)
        self._file = path.open("ab")

    def add(self, named: Named) -> None:
        """Keep a name."""
        self._take(named)
        if self._file is not None:
            self._file.write(_line(named))
            self._file.flush()

    def get(self, name: str | None) -> Named | None:
        """What a client_order_id of ours names."""
        return self._by_name.get(name or "")

    def order(self, order_key: str) -> list[Named]:
        """The requests of an order, in the order in which they came."""
        return self._orders.get(order_key, [])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _take(self, named: Named) -> None:
        self._by_name[named.name] = named
        self._orders.setdefault(named.order_key, []).append(named)
        if len(self._by_name) > KEPT:
            oldest = self._by_name.pop(next(iter(self._by_name)))
            self._orders.pop(oldest.order_key, None)


def _line(named: Named) -> bytes:
    return orjson.dumps(list(named)) + b"\n"
