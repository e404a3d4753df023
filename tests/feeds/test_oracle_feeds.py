"""Pyth and rounds on a chain: what each message becomes, and which field is named when one cannot be used."""

import asyncio
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected, pyth, rounds
from feeds.capture import Converter, Line
from feeds.service import Feed
from feeds.session import Limits
from feeds.venues import VENUES
from schemas.rows import fault, instant_ms

NOW_S = 1_735_645_932
NOW_MS = 1000 * NOW_S
RECEIVED = Received(1000 * NOW_MS, None, None)
BTC, ETH = pyth.IDS["BTC/USD"], pyth.IDS["ETH/USD"]
PRICE = {"price": "9406377899526", "conf": "9401340350", "expo": -8, "publish_time": NOW_S - 2}
ITEM: dict[str, Any] = {
    "id": BTC,
    "price": PRICE,
    "ema_price": PRICE | {"price": "9392044500000"},
    "metadata": {"slot": 188181861, "proof_available_time": NOW_S, "prev_publish_time": NOW_S - 2},
}
ROUND_ID, ANSWER = 92233720368547771539, 679127145
"""A documented round: 5 << 64 | 13459."""


def hermes(*items: Any) -> bytes:
    """An answer of `/v2/updates/price/latest`, as documented."""
    return orjson.dumps({"binary": {"encoding": "hex", "data": ["504e4155"]}, "parsed": items})


def price(**changed: Any) -> dict[str, Any]:
    return ITEM | {"price": PRICE | changed}


def words(*numbers: int) -> str:
    return "0x" + "".join((number % (1 << 256)).to_bytes(32).hex() for number in numbers)


def answer(
    answer: int = ANSWER,
    updated_at: int = NOW_S - 600,
    *,
    round_id: int = ROUND_ID,
    started_at: int | None = None,
    answered_in: int | None = None,
    **changed: Any,
) -> dict[str, Any]:
    started_at = updated_at if started_at is None else started_at
    result = words(round_id, answer, started_at, updated_at, round_id if answered_in is None else answered_in)
    return {"jsonrpc": "2.0", "id": "BTC/USD", "result": result} | changed


def rows(venue: str, message: bytes) -> list[dict[str, Any]]:
    records = VENUES[venue].parse(message, RECEIVED)
    assert all(isinstance(record, Record) and fault(record.table, record.row) is None for record in records)
    return [dict(record.row) for record in records if isinstance(record, Record)]


def letters(venue: str, message: bytes) -> list[tuple[str | None, str]]:
    """The fields that the dead letters of a message name, and what was expected there."""
    records = Converter().convert(Line(venue, "capture", 1, 1000 * NOW_MS, message, "message")).records
    return [(record.row["field"], record.row["expected"]) for record in records if record.table == "dead_letters"]


def test_a_price_of_hermes_is_a_row_with_its_publish_time_and_the_receipt_as_timestamp() -> None:
    (record,) = pyth.parse(hermes(ITEM), RECEIVED)
    assert isinstance(record, Record)
    assert (record.table, record.event_ms) == ("oracle_updates", NOW_MS)
    assert record.row == {
        "venue": "pyth",
        "instrument": "BTC/USD",
        "underlying": "BTC",
        "quote_currency": "USD",
        "event_at": instant_ms(NOW_MS - 2000),
        "received_at": instant_ms(NOW_MS).replace("Z", "000Z"),
        "price": 94063.77899526,
        "confidence": 94.0134035,
        "sequence": 188181861,
    }


@pytest.mark.parametrize("message", [b"data:" + hermes(ITEM), b"data: " + hermes(ITEM) + b"\n\n", orjson.dumps([ITEM])])
def test_an_event_of_the_stream_and_a_list_of_the_older_answer_are_the_same(message: bytes) -> None:
    assert rows("pyth", message) == rows("pyth", hermes(ITEM))


@pytest.mark.parametrize("message", [b"", b":keep-alive", b": x\n\n"])
def test_a_comment_of_the_stream_holds_no_data(message: bytes) -> None:
    assert pyth.parse(message, RECEIVED) == []


@pytest.mark.parametrize(("exponent", "scale"), [(-8, 1e-8), (0, 1.0), (2, 100.0)])
def test_an_exponent_has_either_sign(exponent: int, scale: float) -> None:
    (row,) = rows("pyth", hermes(price(price="12345", conf="67", expo=exponent)))
    assert (row["price"], row["confidence"]) == (pytest.approx(12345 * scale), pytest.approx(67 * scale))


def test_a_price_without_a_slot_has_no_sequence_and_an_id_may_begin_with_0x() -> None:
    (row,) = rows("pyth", hermes({**ITEM, "id": "0x" + ETH, "metadata": {}}))
    assert (row["instrument"], row["sequence"]) == ("ETH/USD", None)


@pytest.mark.parametrize(
    ("changed", "field", "expected"),
    [
        ({"price": "-9406377899526"}, "price", "a price above 0"),
        ({"price": "0"}, "price", "a price above 0"),
        ({"price": 9406377899526}, "price", "a whole number, as text"),
        ({"price": "1e5"}, "price", "a whole number, as text"),
        ({"expo": 9}, "price", "a price above 0, up to 1e+12"),
        ({"expo": 19}, "expo", "from -18 to 18"),
        ({"expo": "-8"}, "expo", "from -18 to 18"),
        ({"expo": True}, "expo", "from -18 to 18"),
        ({"conf": "0"}, "conf", "above 0 and below the price"),
        ({"conf": "-1"}, "conf", "above 0 and below the price"),
        ({"conf": PRICE["price"]}, "conf", "above 0 and below the price"),
        ({"publish_time": NOW_S + 61}, "publish_time", "at most 60 s ahead"),
        ({"publish_time": NOW_S - 86_401}, "publish_time", "at most 86400 s behind"),
        ({"publish_time": NOW_MS}, "publish_time", "seconds since 1970, not milliseconds"),
        ({"publish_time": str(NOW_S)}, "publish_time", "whole seconds since 1970"),
    ],
)
def test_a_bad_price_is_named_and_costs_the_others_nothing(changed: dict[str, Any], field: str, expected: str) -> None:
    message = hermes(price(**changed), {**ITEM, "id": ETH})
    ((named, told),) = letters("pyth", message)
    assert (named, expected in told) == (field, True)
    good = [item for item in pyth.parse(message, RECEIVED) if isinstance(item, Record)]
    assert [record.row["instrument"] for record in good] == ["ETH/USD"]


@pytest.mark.parametrize("item", [{**ITEM, "id": "00"}, {**ITEM, "id": None}, {**ITEM, "id": []}])
def test_a_feed_that_is_not_known_is_named(item: Any) -> None:
    assert letters("pyth", hermes(item))[0][0] == "id"


@pytest.mark.parametrize("message", [b"x", b"{}", b'{"parsed": {}}', b"data: {", b'"x"'])
def test_a_message_without_prices_is_a_dead_letter(message: bytes) -> None:
    assert len(letters("pyth", message)) == 1


def test_a_round_is_a_row_whose_pair_is_the_id_of_the_request() -> None:
    (record,) = rounds.parse(orjson.dumps(answer()), RECEIVED)
    assert isinstance(record, Record)
    assert record.event_ms == NOW_MS
    row = record.row
    assert (row["venue"], row["instrument"], row["underlying"], row["quote_currency"]) == ("chainlink", "BTC/USD", "BTC", "USD")
    assert (row["price"], row["confidence"], row["event_at"]) == (6.79127145, None, instant_ms(NOW_MS - 600_000))
    assert row["sequence"] == 5 << 48 | 13459


def test_rounds_of_a_later_phase_have_a_greater_sequence() -> None:
    ids = [5 << 64 | 13459, 5 << 64 | 13460, 6 << 64 | 1]
    message = orjson.dumps([answer(round_id=round_id) for round_id in ids])
    sequences = [row["sequence"] for row in rows("rounds", message)]
    assert sequences == sorted(set(sequences))


@pytest.mark.parametrize(
    ("message", "field", "expected"),
    [
        (answer(-1), "answer", "a price above 0"),
        (answer(0), "answer", "a price above 0"),
        (answer(1 << 200), "answer", "a price above 0"),
        (answer(updated_at=0), "updated_at", "a round that is complete"),
        (answer(updated_at=NOW_S + 61), "updated_at", "at most 60 s ahead"),
        (answer(updated_at=NOW_MS), "updated_at", "seconds since 1970, not milliseconds"),
        (answer(updated_at=NOW_S - 86_401), "updated_at", "at most 86400 s behind"),
        (answer(started_at=NOW_S), "started_at", "a time not after the update"),
        (answer(answered_in=ROUND_ID - 1), "answered_in_round", "an answer of the round itself"),
        (answer(round_id=(1 << 256) - 1), "round_id", "a phase of 15 bits"),
        (answer(id="DOGE/USD"), "id", "a pair that is read"),
        (answer(id=1), "id", "a pair that is read"),
        (answer(id={}), "id", "a pair that is read"),
        (answer(result="0x"), "result", "five words of 32 bytes"),
        (answer(result=None), "result", "five words of 32 bytes"),
        (answer(result="0x" + "g" * 320), "result", "five words of 32 bytes"),
        ({"jsonrpc": "2.0", "id": "BTC/USD", "error": {"code": -32000, "message": "limit"}}, "error", "a result"),
        (5, None, "a JSON object"),
    ],
)
def test_a_round_that_cannot_be_used_is_named_and_costs_the_others_nothing(message: Any, field: str, expected: str) -> None:
    ((named, told),) = letters("rounds", orjson.dumps(message))
    assert (named, expected in told) == (field, True)
    both = rounds.parse(orjson.dumps([message, answer(id="ETH/USD")]), RECEIVED)
    assert [type(item) for item in both] == [Rejected, Record]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("0x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(["id", *PRICE, "slot"]), ANYTHING, st.sampled_from(["id", "result", "error"]))
def test_anything_in_a_field_gives_valid_rows_or_is_rejected(name: str, value: Any, field: str) -> None:
    item = price(**{name: value}) if name in PRICE else {**ITEM, "metadata": {name: value}, name: value}
    for venue, whole in (("pyth", {"parsed": [item]}), ("rounds", answer() | {field: value})):
        try:
            message = orjson.dumps(whole)
        except TypeError:  # an integer of more than 64 bits
            continue
        records = Converter().convert(Line(venue, "capture", 1, 1000 * NOW_MS, message, "message")).records
        assert all(fault(record.table, record.row) is None for record in records)


@pytest.mark.parametrize("venue", [pyth, rounds])
def test_what_has_no_terms_is_not_described_and_only_its_own_market_has_a_session(venue: Any) -> None:
    assert venue.describe(venue.VENUE, "BTC/USD", RECEIVED) is None
    with pytest.raises(KeyError):
        venue.session("none")


def test_one_question_asks_for_all_feeds() -> None:
    poll = pyth.session("pyth", rest_url="https://node").poll
    assert poll is not None
    assert poll(["BTC/USD", "ETH/USD"]).url == f"https://node/v2/updates/price/latest?ids[]={BTC}&ids[]={ETH}"
    poll = rounds.session("chainlink", rest_url="https://node").poll
    assert poll is not None
    url, body = poll(["BTC/USD"])
    (request,) = orjson.loads(body or b"")
    assert (url, request["id"], request["method"]) == ("https://node", "BTC/USD", "eth_call")
    assert request["params"] == [{"to": rounds.PROXIES["BTC/USD"].address, "data": "0xfeaf968c"}, "latest"]


@contextmanager
def node(answers: list[bytes]) -> Iterator[str]:
    """A server that gives these answers, one after the other, and the last one for ever."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_market_without_a_stream_is_asked_again_and_an_answer_that_comes_again_says_nothing() -> None:
    now_s = int(time.time())
    first, second = (hermes(price(publish_time=now_s, conf=conf)) for conf in ("5", "6"))

    class Collected:
        def __init__(self) -> None:
            self.records: list[Record] = []
            self.stop = asyncio.Event()

        def publish(self, record: Record) -> None:
            self.records.append(record)
            if record.row["confidence"] == 6e-8:
                self.stop.set()

        def ship(self) -> None:
            pass

    async def scenario(url: str) -> list[Record]:
        sink = Collected()
        session = replace(pyth.session("pyth", rest_url=url), limits=Limits(asks_per_s=1000))
        async with asyncio.timeout(10):
            await Feed(session, ["btc/*"], sink).serve(sink.stop)
        return sink.records

    with node([first, first, first, second]) as url:
        records = asyncio.run(scenario(url))
    assert [record.row["confidence"] for record in records] == [5e-8, 6e-8]
