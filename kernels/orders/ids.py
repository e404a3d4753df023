"""Client order ids that follow from what was decided."""

from hashlib import sha256

LENGTH = 32
"""The shortest limit among venues: OKX takes 32 letters and digits, Binance and Bybit 36 characters, Deribit a label of 64."""


def client_order_id(*parts: object) -> str:
    """The id of a request, of the parts that name the decision: its source first.  The same parts give the same id."""
    return sha256("\x00".join(map(str, parts)).encode()).hexdigest()[:LENGTH]
