"""Rounds of price feeds on Ethereum: the answers of Chainlink's proxies to `latestRoundData`, asked by JSON-RPC.

An answer is five words of 32 bytes: round, answer, time of its start, time of its update (both in seconds), and the round in
which it was answered (https://docs.chain.link/data-feeds/api-reference#latestrounddata).  It does not say which proxy was
asked: the id of the request does, which is the pair.  What is read into which table, and what is not, stands in
docs/venues/rounds.md.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from feeds import Received, Record, Rejected
from feeds.checks import Form, each, expect
from feeds.oracles import publish_time, update
from feeds.session import Ask, Limits, Session
from schemas.rows import shown

VENUE = "chainlink"
MARKETS = (VENUE,)


class Proxy(NamedTuple):
    """A feed: the contract that is asked, and how many decimals its answers have."""

    address: str
    decimals: int


PROXIES = {
    "BTC/USD": Proxy("0xF4030086522a5bEEa4988F8cA5B36dbC97BeE88c", 8),
    "ETH/USD": Proxy("0x5f4eC3Df9cbd43714FE2740f5E3616155c5b8419", 8),
    "SOL/USD": Proxy("0x4ffC43a60e009B551865A93d232E33Fce9f01507", 8),
    "USDC/USD": Proxy("0x8fFfFfd4AfB6115b954Bd326cbe7B4BA576818f6", 8),
    "USDT/USD": Proxy("0x3E7d1eAB13ad0104d2750B8863b489D65364e32D", 8),
}
"""The feeds that are read, by their pairs (https://docs.chain.link/data-feeds/price-feeds/addresses, Ethereum Mainnet)."""
_LATEST_ROUND_DATA = "0xfeaf968c"
"""The first four bytes of the Keccak-256 of latestRoundData()."""
_WORD = 64  # hexadecimal digits
_PHASE_BITS, _KEPT_BITS = 64, 48


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one answer of a node, to one request or to a batch.  Raises `Rejected`."""
    try:
        answers = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise Rejected(None, "a JSON message", shown(message)) from None
    return each(answers if type(answers) is list else [answers], lambda answer: _record(answer, received))


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """None: a price of an oracle is no contract."""
    return None


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is asked of a node of Ethereum; `rest_url` replaces a public one.  Raises `KeyError` for another market.

    A round is updated when the price has moved by half a percent, or after an hour: a request in five seconds is often enough.
    """
    if market != VENUE:
        raise KeyError(market)
    address = rest_url or url or "https://ethereum-rpc.publicnode.com"

    def ask(symbols: Sequence[str]) -> Ask:
        return Ask(address, orjson.dumps([_request(symbol) for symbol in symbols]))

    return Session(
        venue="rounds",
        market=VENUE,
        url=address,
        subscribe=lambda symbols: (),
        unsubscribe=lambda symbols: (),
        symbols=tuple(PROXIES),
        poll=ask,
        limits=Limits(symbols_per_connection=len(PROXIES), asks_per_s=0.2),
    )


def _request(pair: str) -> dict[str, Any]:
    call = {"to": PROXIES[pair].address, "data": _LATEST_ROUND_DATA}
    return {"jsonrpc": "2.0", "id": pair, "method": "eth_call", "params": [call, "latest"]}


def _record(answer: Any, received: Received) -> Record:
    if type(answer) is not dict:
        raise Rejected(None, "a JSON object, or a list of them", shown(answer))
    if answer.get("error") is not None:
        raise Rejected("error", "a result", shown(answer["error"]))
    words = _words(answer.get("result"))
    names = ("round_id", "answer", "started_at", "updated_at", "answered_in_round")
    return _ROUND.record({"id": answer.get("id"), **dict(zip(names, words, strict=True))}, received)


def _words(result: Any) -> list[int]:
    """Five words: whole numbers without a sign, but for the answer.  Raises `Rejected`."""
    digits = result.removeprefix("0x") if type(result) is str else ""
    try:
        if len(digits) != 5 * _WORD:
            raise ValueError
        words = [int.from_bytes(bytes.fromhex(digits[start : start + _WORD])) for start in range(0, len(digits), _WORD)]
    except ValueError:
        got = "missing" if result is None else shown(result)
        raise Rejected("result", "five words of 32 bytes, in hexadecimal digits after 0x", got) from None
    answer = words[1] - (1 << 256) if words[1] >> 255 else words[1]
    return [words[0], answer, *words[2:]]


def _round(data: Any, received: Received) -> Record:
    pair, round_id, updated_at = data["id"], data["round_id"], data["updated_at"]
    proxy = PROXIES[pair]
    if updated_at == 0:
        raise Rejected("updated_at", "a round that is complete, with the time of its update", "0")
    if data["started_at"] > updated_at:
        raise Rejected("started_at", f"a time not after the update, {updated_at}", str(data["started_at"]))
    if data["answered_in_round"] < round_id:
        raise Rejected("answered_in_round", f"an answer of the round itself, {round_id}", str(data["answered_in_round"]))
    underlying, _, quote = pair.partition("/")
    price = Decimal(data["answer"]).scaleb(-proxy.decimals)
    sequence = _sequence(round_id)
    return update(VENUE, (underlying, quote), updated_at, received, price=("answer", price), sequence=sequence)


def _sequence(round_id: int) -> int:
    """A round's number within 63 bits: the phase of its proxy before the round of that phase, as in the 80 bits of an id."""
    phase, number = divmod(round_id, 1 << _PHASE_BITS)
    if not (phase < 1 << 15 and number < 1 << _KEPT_BITS):
        raise ValueError
    return phase << _KEPT_BITS | number


_ROUND = Form(
    _round,
    {
        "id": expect(f"a pair that is read: {', '.join(PROXIES)}", lambda value: value in PROXIES),
        "round_id": expect(f"a phase of 15 bits and a round of {_KEPT_BITS}", lambda value: [_sequence(value)]),
        "updated_at": publish_time,
    },
)
