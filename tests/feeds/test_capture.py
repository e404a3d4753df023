"""Captured files: every line is accounted for, whatever stands in it."""

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.capture import CaptureError, Converted, Converter, Line, Tally, convert, merged, read
from feeds.venues import VENUES
from schemas.rows import fault, to_ms

NOW_MS = 1_700_000_000_000


def best(symbol: str = "BTCUSDT", **fields: object) -> bytes:
    """A USD-M best price as it stands on a line of a Binance capture, received at NOW_MS."""
    message = {
        "e": "bookTicker",
        "u": 1,
        "s": symbol,
        "b": "1",
        "B": "1",
        "a": "2",
        "A": "1",
        "T": NOW_MS,
        "E": NOW_MS + 1280,
        **fields,
    }
    return b"%d000000 %s" % (NOW_MS, orjson.dumps(message))


def written(folder: Path, *lines: bytes, name: str = "capture.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def converted(venue: str, path: Path) -> list[Converted]:
    return list(convert(read(venue, path)))


def tallied(results: list[Converted]) -> Tally:
    tally = Tally()
    for one in results:
        tally.add(one)
        assert tally.lines == tally.control + sum(tally.messages.values()) + tally.rejected
    return tally


def test_the_captures_of_deribit_and_okx_hold_what_they_did(captures: list[tuple[str, Path]]) -> None:
    tallies = {path.name: tallied(converted(venue, path)) for venue, path in captures if venue in ("deribit", "okx")}
    deribit, okx = tallies["2021-07-22.ws.log"], tallies["2022-05-13.ws.log"]
    assert deribit == Tally(139, 4, {"order_books": 46, "tickers": 89}, 0)
    assert okx.messages["order_books"] == 290
    assert okx.rejected == 0


def test_every_line_of_every_capture_is_accounted_for_and_every_row_is_as_its_ddl(
    captures: list[tuple[str, Path]],
) -> None:
    for venue, path in captures:
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
        sequences: dict[tuple[str, str], int] = {}
        described: set[tuple[str, str]] = set()
        tally = Tally()
        for i, one in enumerate(convert(read(venue, path))):
            tally.add(one)
            assert one.line.number == tally.lines
            assert one.fault is None or b'"channel":"candle' in one.line.message  # which no table holds
            for record in one.records:
                row = record.row
                # A whole check of each row takes minutes, and rows of one kind are made by one expression.
                if i % 20 == 0 or record.table != "tickers":
                    assert fault(record.table, row) is None
                if "instrument" in row:
                    name = row["venue"], row["instrument"]
                    if record.table == "instruments":
                        assert name not in described
                        described.add(name)
                    assert name in described
                if record.table == "order_books" and row["kind"] == "change" and row["prev_sequence"] is not None:
                    assert row["prev_sequence"] == sequences.get(name, row["prev_sequence"])
                if record.table == "order_books" and (row["kind"] == "change" or venue == "deribit"):
                    sequences[name] = row["sequence"]
        assert tally.lines == len(lines)
        assert tally.lines == tally.control + sum(tally.messages.values()) + tally.rejected
        if venue == "deribit":
            holds_data = (b'"method":"subscription"', b'"result":[{"tick_size"')
            assert sum(tally.messages.values()) == sum(any(part in line for part in holds_data) for line in lines)
        elif venue == "binance":
            assert tally.control == 0
        else:
            assert sum(tally.messages.values()) + tally.rejected == sum(b'"data":[' in line for line in lines)


def test_the_kinds_of_line_of_a_log(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        b"wss://venue/ws <-> 1700000000.1",
        b'wss://venue/ws <- 1700000000.2: {"method":"public/subscribe"}',
        b'1700000000.3: {"jsonrpc":"2.0","id":0,"result":[]}',
        b'https://venue/get?a=b -> 1700000000.4: {"result":[]}',
        b'configuration: {"trades":[]}',
        b"",
    )
    lines = list(read("deribit", path))
    assert [line.kind for line in lines] == ["control", "control", "message", "message", "control", "control"]
    assert [line.number for line in lines] == [1, 2, 3, 4, 5, 6]
    assert (lines[2].received_us, lines[3].received_us) == (1_700_000_000_300_000, 1_700_000_000_400_000)
    assert lines[3].message == b'{"result":[]}'
    assert (lines[2].url, lines[3].url) == ("wss://venue/ws", "https://venue/get?a=b")
    assert tallied(converted("deribit", path)) == Tally(6, 6, {}, 0)


def test_gzip_is_told_from_the_bytes_and_not_from_the_name(tmp_path: Path) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_bytes(gzip.compress(best() + b"\n") + gzip.compress(best()))
    assert [line.number for line in read("binance", path)] == [1, 2]


def test_an_unknown_venue_names_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=rf"'kraken'.*{', '.join(sorted(VENUES))}"):
        read("kraken", written(tmp_path))


def test_a_missing_file_and_a_directory_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"none\.log: No such file"):
        read("deribit", tmp_path / "none.log")
    with pytest.raises(CaptureError, match=f"{tmp_path}: a directory"):
        read("deribit", tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_gzip_keeps_every_line_that_can_be_read_and_names_the_last(tmp_path: Path, kept: float) -> None:
    lines = [best(u=i, b=f"{1 + i % 7919 / 1e4}") for i in range(20_000)]
    packed = gzip.compress(b"\n".join(lines))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(packed[: int(len(packed) * kept)])
    *good, last = convert(read("binance", path))
    assert len(good) > 20_000 * kept * 0.8
    assert [one.line.message for one in good] == [line.partition(b" ")[2] for line in lines[: len(good)]]
    assert all(one.fault is None for one in good)
    assert last.fault is not None
    assert last.fault.got is not None
    assert f"after line {len(good)}" in last.fault.got
    assert (last.records[0].row["source"], last.records[0].row["offset"]) == (str(path), len(good) + 1)
    assert lines[len(good)].startswith(base64.b64decode(last.records[0].row["original"]))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b'{"e":"trade"}', "received"),
        (b"what is this", "received"),
        (b'99 {"e":"trade"}', "received"),
        (b'99999999999999999999 {"e":"trade"}', "received"),
        (b'nan: {"e":"trade"}', "received"),
        (b"1700000000000000000 {", None),
        (b"1700000000000000000 ", None),
        (best(b="NaN"), "b"),
        (best(E=NOW_MS + 10**9), "E"),
    ],
)
def test_a_line_that_cannot_be_used_becomes_a_dead_letter_and_the_rest_goes_on(
    tmp_path: Path, line: bytes, field: str | None
) -> None:
    path = written(tmp_path, best(), line, best())
    results = converted("binance", path)
    assert [one.fault is None for one in results] == [True, False, True]
    (record,) = results[1].records
    assert record.table == "dead_letters"
    assert fault("dead_letters", record.row) is None
    assert (record.row["source"], record.row["offset"], record.row["field"]) == (str(path), 2, field)
    assert record.row["partition"] is None
    assert record.event_ms == NOW_MS
    assert line.endswith(base64.b64decode(record.row["original"]))
    assert tallied(results) == Tally(3, 0, {"tickers": 2}, 1)


@given(st.lists(st.binary(max_size=40) | st.just(best()), max_size=8))
def test_no_line_is_lost_whatever_stands_in_it(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    data = b"\n".join(lines)
    path = tmp_path_factory.mktemp("any") / "capture"
    path.write_bytes(data)
    if data.startswith(b"\x1f\x8b"):
        return
    tally = tallied(converted("binance", path))
    assert tally.lines == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


def test_an_instrument_is_described_once_before_its_first_record(tmp_path: Path) -> None:
    path = written(tmp_path, best("BTCUSDT"), best("ETHUSDT"), best("BTCUSDT"))
    results = converted("binance", path)
    assert [[record.table for record in one.records] for one in results] == [
        ["instruments", "tickers"],
        ["instruments", "tickers"],
        ["tickers"],
    ]
    assert tallied(results).messages == {"tickers": 3}


def test_a_listing_makes_a_description_needless(tmp_path: Path) -> None:
    listing = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "contractType": "PERPETUAL"}
    message = orjson.dumps({"symbols": [{**listing, "marginAsset": "USDT"}]})
    path = written(tmp_path, b"%d000000 %s" % (NOW_MS, message), best())
    assert [[record.table for record in one.records] for one in converted("binance", path)] == [
        ["instruments"],
        ["tickers"],
    ]


def test_a_description_has_the_timestamp_of_the_record_that_it_goes_before(tmp_path: Path) -> None:
    path = written(tmp_path, best("BTCUSDT", E=NOW_MS + 700), best("ETHUSDT", E=NOW_MS))
    for one, event_ms in zip(converted("binance", path), (NOW_MS + 700, NOW_MS), strict=True):
        assert [record.event_ms for record in one.records] == [event_ms, event_ms]
        assert to_ms(one.records[0].row["event_at"]) < event_ms


def test_a_listing_is_late_for_nobody_whenever_it_comes(tmp_path: Path) -> None:
    """Else what its readers do with it depends on how far they have come."""
    listing = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "contractType": "PERPETUAL"}
    terms = b"%d000000 %s" % (NOW_MS, orjson.dumps({"symbols": [{**listing, "marginAsset": "USDT"}]}))
    between = best("ETHUSDT", E=NOW_MS + 700), best("ETHUSDT", E=NOW_MS)
    first, *_, again = converted("binance", written(tmp_path, terms, *between, terms))
    assert first.records[0].event_ms == to_ms(first.records[0].row["event_at"])
    assert again.records[0].event_ms == NOW_MS + 700
    assert again.records[0].row == first.records[0].row


def test_the_statuses_of_a_listing_date_none_of_its_terms(tmp_path: Path) -> None:
    contracts = [
        {"symbol": symbol, "baseAsset": symbol, "quoteAsset": "USDT", "contractType": "PERPETUAL", "status": "TRADING"}
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    message = orjson.dumps({"symbols": [{**contract, "marginAsset": "USDT"} for contract in contracts]})
    (listing,) = converted("binance", written(tmp_path, b"%d000000 %s" % (NOW_MS, message)))
    assert [record.table for record in listing.records] == ["instruments", "trading_halts"] * 2
    for record in listing.records:
        assert record.event_ms == to_ms(record.row["event_at"])
        assert (record.event_ms < NOW_MS - 60_000) == (record.table == "instruments")


def test_a_message_belongs_to_the_connection_before_it(tmp_path: Path) -> None:
    message = b'1700000000.3: {"jsonrpc":"2.0","id":0,"result":[]}'
    path = written(
        tmp_path,
        message,
        b"wss://venue/first <-> 1700000000.1",
        message,
        b'https://venue/get?a=b -> 1700000000.4: {"result":[]}',
        message,
        b"wss://venue/second <-> 1700000000.1",
        message,
    )
    assert [line.url for line in read("deribit", path) if line.kind == "message"] == [
        None,
        "wss://venue/first",
        "https://venue/get?a=b",
        "wss://venue/first",
        "wss://venue/second",
    ]


def okx_line(data: object, *, url: str | None = None, channel: str | None = None, symbol: str = "ETH-USDT") -> Line:
    head = {"code": "0", "msg": ""} if channel is None else {"arg": {"channel": channel, "instId": symbol}}
    message = orjson.dumps({**head, "data": [data]})
    return Line("okx", "capture", 1, NOW_MS * 1000, message, "message", url=url)


OKX_TICKER = {"instId": "ETH-USDT", "last": "1", "askPx": "2", "askSz": "1", "bidPx": "1", "bidSz": "1", "ts": str(NOW_MS)}
OKX_BOOK = {"bids": [["1", "1"]], "asks": [], "ts": str(NOW_MS), "seqId": 5}
OKX_URL = "https://www.okx.com/api/v5/market/books"


def test_an_answer_is_about_what_was_asked_for_and_not_about_what_its_connection_speaks_of() -> None:
    converter = Converter()
    converter.convert(okx_line(OKX_TICKER, channel="tickers"))
    by_url = converter.convert(okx_line(OKX_BOOK, url=f"{OKX_URL}?instId=BTC-USDT&sz=400"))
    assert by_url.records[-1].row["instrument"] == "BTC-USDT"
    unnamed = converter.convert(okx_line(OKX_BOOK, url=OKX_URL))
    assert unnamed.fault is not None
    assert unnamed.fault.field == "instId"
    # The connection itself has still shown one symbol.
    without_url = converter.convert(okx_line(OKX_BOOK))
    assert without_url.records[-1].row["instrument"] == "ETH-USDT"


def test_a_symbol_that_was_asked_for_is_taken_from_the_line() -> None:
    line = okx_line(OKX_BOOK, url=OKX_URL)._replace(symbol="SOL-USDT")
    assert Converter().convert(line).records[-1].row["instrument"] == "SOL-USDT"


def traded(venue: str, trades: list[tuple[int, int]]) -> list[tuple[int, str]]:
    """(event time, id) of the trades of one message of (ms, number) each, as they become records."""
    if venue == "okx":
        head = {"tradeId": "", "instId": "BTC-USDT", "px": "1", "sz": "1", "side": "buy"}
        message: dict[str, object] = {
            "arg": {"channel": "trades", "instId": "BTC-USDT"},
            "data": [{**head, "tradeId": str(number), "ts": str(NOW_MS + ms)} for ms, number in trades],
        }
    else:
        form = {"instrument_name": "ETH-PERPETUAL", "direction": "buy", "price": 1, "amount": 1}
        items = [{**form, "trade_id": f"ETH-{number}", "timestamp": NOW_MS + ms} for ms, number in trades]
        message = {"result": {"trades": items, "has_more": True}}
    line = Line(venue, "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message")
    records = [record for record in Converter().convert(line).records if record.table == "trades"]
    return [(record.event_ms - NOW_MS, record.row["trade_id"].rpartition("-")[2]) for record in records]


@given(st.sampled_from(["okx", "deribit"]), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10**12)), unique=True))
def test_trades_of_one_message_come_oldest_first_in_whatever_order_they_stand(
    venue: str, trades: list[tuple[int, int]]
) -> None:
    assert traded(venue, trades) == [(ms, str(number)) for ms, number in sorted(trades)]


def test_trades_whose_ids_tell_no_order_keep_that_of_the_list_or_its_reverse() -> None:
    form = {"price": "1", "size": "1", "side": "buy"}
    for times in ([0, 1, 1, 2], [2, 1, 1, 0]):
        items = [{**form, "tradeId": f"{name}-x", "ts": str(NOW_MS + ms)} for name, ms in zip("abcd", times, strict=True)]
        message = {"action": "update", "arg": {"instType": "SPOT", "channel": "trade", "instId": "BTCUSDT"}, "data": items}
        line = Line("bitget", "capture", 1, NOW_MS * 1000, orjson.dumps({**message, "ts": NOW_MS}), "message")
        names = [record.row["trade_id"][0] for record in Converter().convert(line).records if record.table == "trades"]
        assert "".join(names) == ("abcd" if times[0] == 0 else "dcba")


SNAPSHOT = b'%d000000 {"lastUpdateId":9,"E":%d,"T":%d,"bids":[["1","1"]],"asks":[]}' % (NOW_MS, NOW_MS, NOW_MS)


@pytest.mark.parametrize(("symbols", "is_taken"), [(["BTCUSDT"], True), ([], False), (["BTCUSDT", "ETHUSDT"], False)])
def test_a_snapshot_without_a_symbol_is_of_the_only_one_that_its_file_has_shown(
    tmp_path: Path, symbols: list[str], is_taken: bool
) -> None:
    last = converted("binance", written(tmp_path, *map(best, symbols), SNAPSHOT))[-1]
    assert (last.fault is None) is is_taken
    if is_taken:
        assert last.records[0].row["instrument"] == "BTCUSDT"


def test_a_message_without_a_time_takes_the_newest_exchange_time_of_its_own_file(tmp_path: Path) -> None:
    spot = b'%d000000 {"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}' % NOW_MS
    first = written(tmp_path, spot, best(), spot, best(E=NOW_MS + 5), spot, name="first")
    other = written(tmp_path, spot, name="other")
    by_file: dict[str, list[int]] = {}
    for one in convert(merged([("binance", first), ("binance", other)])):
        by_file.setdefault(Path(one.line.path).name, []).append(one.records[-1].event_ms)
    newest = NOW_MS + 1280
    assert by_file == {"first": [NOW_MS, newest, newest, NOW_MS + 5, newest], "other": [NOW_MS]}


TIMES = st.lists(st.integers(0, 5), max_size=6)


@given(st.lists(TIMES, min_size=1, max_size=3))
def test_merged_files_come_in_the_order_of_receipt(tmp_path_factory: pytest.TempPathFactory, files: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("merge")
    captures = [
        ("binance", written(folder, *[b"%d000000 {}" % (NOW_MS + t) for t in sorted(times)], name=str(i)))
        for i, times in enumerate(files)
    ]
    lines = list(merged(captures))
    assert lines == list(merged(captures))
    assert [(line.received_us, line.path, line.number) for line in lines] == sorted(
        (line.received_us, line.path, line.number) for line in lines
    )
    assert len(lines) == sum(map(len, files))


def test_files_merge_without_being_read_ahead(tmp_path: Path) -> None:
    paths = [written(tmp_path, *[best()] * 1000, name=name) for name in ("a", "b")]
    lines: Iterator[Line] = merged([("binance", path) for path in paths])
    assert next(lines).path == str(paths[0])
