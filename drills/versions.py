"""Other versions of our own code, made from this one, for the drills that upgrade it and go back."""

from deploy.cluster import ROOT

Version = dict[str, str]
"""The texts of the files that are other than they stand here, by their paths."""


def older() -> Version:
    """Before a field was added to what `books` stores: version 3 of its entries, by a kernel of its own."""
    own = {"kernels/older_books.py": (ROOT / "drills" / "older_books.py").read_text()}
    return own | _changed("jobs/books.sql", ("'gammaflow.kernel' = 'books'", "'gammaflow.kernel' = 'older_books'"))


def wider() -> Version:
    """With one column more in the rows of `bars`."""
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
            raise ValueError(f"{path}: {before!r} is there {text.count(before)} times, where it should be once")
        text = text.replace(before, after)
    return {path: text}
