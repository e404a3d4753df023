"""Finding an instrument by its name."""

import difflib
from collections.abc import Iterable

Book = tuple[str, str]
"""Venue and instrument."""


def choose(known: Iterable[Book], wanted: str, venue: str | None = None, what: str = "instrument") -> Book:
    """The known book that `wanted` names, in upper or lower case; it may include the venue: deribit:BTC-PERPETUAL.

    Raises `ValueError` with the nearest names if there is none, and with the venues if there are several; `what` is the noun in
    the error.
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
    matches = [book for book in books if book[1].lower() == wanted.lower()]
    # Names that differ only in case are distinguished by it.
    matches = [book for book in matches if book[1] == wanted] or matches
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"{wanted} is traded on several venues; name one: {', '.join(':'.join(book) for book in matches)}")
    names = {book[1].lower(): book for book in books}
    nearest = difflib.get_close_matches(wanted.lower(), names, n=5, cutoff=0.4)
    where = f" on {venue}" if venue else ""
    hint = f"the nearest are {', '.join(':'.join(names[name]) for name in nearest)}" if nearest else "none is like it"
    raise ValueError(f"no {what} {wanted!r}{where} among {len(names):,}; {hint}")
