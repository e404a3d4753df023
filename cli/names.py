"""Which instrument a person means."""

import difflib
from collections.abc import Iterable

Book = tuple[str, str]
"""Venue and instrument."""


def choose(known: Iterable[Book], wanted: str, venue: str | None = None, what: str = "instrument") -> Book:
    """The known book that `wanted` names, in any case of letters; it may say the venue too: deribit:BTC-PERPETUAL.

    Raises `ValueError` with the nearest names where there is none, and with the venues where there are several; `what` is
    what the error calls it.
    """
    books = sorted(set(known))
    if not books:
        raise ValueError(f"no {what} {wanted!r}: none has come yet")
    venues = sorted({book[0] for book in books})
    first, colon, rest = wanted.partition(":")
    if venue is None and colon and first.lower() in venues:
        venue, wanted = first, rest
    if venue is not None:
        if venue.lower() not in venues:
            raise ValueError(f"no venue {venue!r}; there are {', '.join(venues)}")
        books = [book for book in books if book[0] == venue.lower()]
    found = [book for book in books if book[1].lower() == wanted.lower()]
    # Names that differ in the case of their letters alone are told apart by it.
    found = [book for book in found if book[1] == wanted] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{wanted} is traded on several venues; name one: {', '.join(':'.join(book) for book in found)}")
    names = {book[1].lower(): book for book in books}
    nearest = difflib.get_close_matches(wanted.lower(), names, n=5, cutoff=0.4)
    where = f" on {venue}" if venue else ""
    hint = f"the nearest are {', '.join(':'.join(names[name]) for name in nearest)}" if nearest else "none is like it"
    raise ValueError(f"no {what} {wanted!r}{where} among {len(names):,}; {hint}")
