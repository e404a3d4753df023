"""Other versions of our own code, made from this one, for the drills that upgrade it and go back."""

from deploy.cluster import ROOT

Version = dict[str, str]
"""The texts of the files that are other than they stand here, by their paths."""


def older() -> Version:
    """Before a field was added to what `books` stores: version 3 of its entries, without digits beyond 15."""
    return _changed(
        "kernels/books.py",
        ("VERSION = 4", "VERSION = 3"),
        ("{2: _without_snapshot, 3: _without_channels}", "{2: _without_snapshot}"),
        ('            "texts": [self.ladders.texts_of(2 * book.number + side) for side in (BID, ASK)],\n', ""),
        (
            '        for side, texts in zip((BID, ASK), head["texts"], strict=True):\n'
            "            self.ladders.put_texts(2 * book.number + side, texts)\n",
            "",
        ),
    )


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
