"""Other versions of our code, derived from this one, for the drills that upgrade and go back."""

from deploy.cluster import ROOT

Version = dict[str, str]
"""The texts of the files that differ from this version, by path."""


def older() -> Version:
    """The version before `books` stored another field: version 3 of its entries, by a kernel of its own."""
    own = {"kernels/older_books.py": (ROOT / "drills" / "older_books.py").read_text()}
    return own | _changed("jobs/books.sql", ("'gammaflow.kernel' = 'books'", "'gammaflow.kernel' = 'older_books'"))


def wider() -> Version:
    """A version with one more column in the rows of `bars`."""
    return _changed(
        "schemas/bars.sql",
        ("  trade_count BIGINT           NOT NULL", "  price_range DOUBLE,\n  trade_count BIGINT           NOT NULL"),
    ) | _changed(
        "jobs/bars.sql",
        ("high_price, low_price, close_price", "high_price, low_price, price_range, close_price"),
        ("  high,\n  low,\n", "  high,\n  low,\n  high - low,\n"),
    )


def _changed(path: str, *changes: tuple[str, str]) -> Version:
    text = (ROOT / path).read_text()
    for before, after in changes:
        if text.count(before) != 1:
            raise ValueError(f"{path}: expected {before!r} once, found it {text.count(before)} times")
        text = text.replace(before, after)
    return {path: text}
