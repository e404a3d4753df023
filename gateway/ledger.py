"""How a client calls its orders and requests: written before a request goes on, so that a crash forgets none."""

from pathlib import Path

import orjson

from gateway.requests import Named


class Ledger:
    """The names of one session, in a file of one JSON object a line; None: in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier run has written; a last line that was cut off by a crash is left out."""
        self.by_name: dict[str, Named] = {}
        self._orders: dict[str, list[Named]] = {}
        self._file = None
        if path is not None:
            if path.exists():
                for line in path.read_bytes().splitlines():
                    try:
                        self._take(Named(**orjson.loads(line)))
                    except (orjson.JSONDecodeError, TypeError):
                        continue
            self._file = path.open("ab")
            if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")

    def add(self, named: Named) -> None:
        """Keep a name."""
        self._take(named)
        if self._file is not None:
            self._file.write(orjson.dumps(named) + b"\n")
            self._file.flush()

    def get(self, name: str | None) -> Named | None:
        """What a client_order_id of ours names."""
        return self.by_name.get(name or "")

    def order(self, order_key: str) -> list[Named]:
        """The requests of an order, in the order in which they came."""
        return self._orders.get(order_key, [])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _take(self, named: Named) -> None:
        self.by_name[named.name] = named
        self._orders.setdefault(named.order_key, []).append(named)
