"""The kernel `books` before its entries held digits beyond 15: version 3.  Drills ship it as kernels/older_books.py."""

from dataclasses import replace

import orjson

from kernels import books

VERSION = 3


class State(books.State):
    """Books with entries of version 3."""

    def encode(self, name: str) -> bytes | None:
        """One entry as version 3 stored it: without `texts`."""
        data = super().encode(name)
        if data is None:
            return None
        head, parting, levels = data[1:].partition(b"\n")
        content = orjson.loads(head)
        content.pop("texts", None)
        return bytes([VERSION]) + orjson.dumps(content) + parting + levels

    def decode(self, name: str, data: bytes) -> None:
        """Restore an entry.  Raises `ValueError` for bytes of a newer version."""
        if data[0] > VERSION:
            raise ValueError(f"books: {name} is stored as version {data[0]}, this code reads version {VERSION}")
        super().decode(name, data)


def new() -> State:
    """No books."""
    return State()


KERNEL = replace(
    books.KERNEL,
    version=VERSION,
    new=new,
    migrations={version: migrate for version, migrate in books.MIGRATIONS.items() if version < VERSION},
)
