from base64 import b64decode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import batch
from engine.contract import Kernel, Lines, Message, Output
from schemas.rows import fault

T0 = 1_700_000_000_000
TOPIC = "order_books.v1"
FAULT = {"venue": "v", "kind": "gap", "sequence": 1, "expected": None, "got": None}

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


def is_one(value: Any) -> bool:
    """Whether a value is no array of rows, nor begins like one."""
    return not (isinstance(value, list) and value and isinstance(value[0], dict))


ones = json.filter(is_one)
objects = st.dictionaries(st.text(), json, max_size=3)
broken = st.sampled_from(
    [
        b"",
        b"{",
        b'{"a":"\xff"}',
        b"NaN",
        b"1" + b"0" * 400,
        b"{} {}",
        b"1,2",  # would be JSON between its neighbours
        b'1],["a"',
        b"1\x1eorder_books.v1\x1f0",  # begins like a record, and is none
        b'{"a":[1,\n["b",2,3,',
        b"[" * 1100 + b"]" * 1100,
    ]
)


def joined(values: list[bytes]) -> bytes:
    """As engine/_inbox.sql and engine/_batches.sql join them."""
    return b"\x1e".join(b"%s\x1f%d\x1f%d\x1f%s" % (TOPIC.encode(), n % 3, n, value) for n, value in enumerate(values))


def sent(outputs: list[Output]) -> dict[str, list[tuple[str, int, Any]]]:
    """Key, timestamp and row as engine/_records.sql splits them and the sink writes them, by table."""
    records: dict[str, list[tuple[str, int, Any]]] = {}
    for table, heads, values in batch.encode(outputs):
        for head, value in zip(heads.decode().split("\n"), values.decode().split("\n"), strict=True):
            records.setdefault(table, []).append((head[13:], int(head[:13]), orjson.loads(value)))
    return records


@given(st.lists(ones), st.booleans())
def test_values_arrive_as_they_were_sent(values: list[Any], is_pretty: bool) -> None:
    option = orjson.OPT_INDENT_2 if is_pretty else 0
    messages, letters = batch.decode(joined([orjson.dumps(value, option=option) for value in values]), T0)
    assert [m[:4] for m in messages] == [("order_books", n % 3, n, value) for n, value in enumerate(values)]
    assert letters == []


@given(st.lists(st.tuples(st.booleans(), ones, broken), min_size=1, max_size=8))
def test_each_broken_value_is_one_dead_letter_and_costs_its_neighbours_nothing(
    values: list[tuple[bool, Any, bytes]],
) -> None:
    texts = [orjson.dumps(value) if is_good else bad for is_good, value, bad in values]
    messages, letters = batch.decode(joined(texts), T0)
    assert [(m.offset, m.row) for m in messages] == [(n, value) for n, (is_good, value, _) in enumerate(values) if is_good]
    assert [(x.row["offset"], b64decode(x.row["original"])) for x in letters] == [
        (n, bad) for n, (is_good, _, bad) in enumerate(values) if not is_good
    ]
    for letter in letters:
        assert letter.table == "dead_letters"
        assert letter.event_ms == T0
        assert fault("dead_letters", letter.row) is None
        assert letter.row["source"] == TOPIC
        assert letter.row["field"] is None


@given(st.lists(st.lists(objects, min_size=1, max_size=4), max_size=4), st.booleans())
def test_each_row_of_an_array_is_a_message_as_it_was_sent(arrays: list[list[Any]], is_pretty: bool) -> None:
    option = orjson.OPT_INDENT_2 if is_pretty else 0
    messages, letters = batch.decode(joined([orjson.dumps(rows, option=option) for rows in arrays]), T0)
    expected = [("order_books", n % 3, n, row) for n, rows in enumerate(arrays) for row in rows]
    assert [m[:4] for m in messages] == expected
    assert [orjson.loads(m.value) for m in messages] == [row for *_, row in expected]
    assert letters == []


@given(st.lists(st.integers(1, 4), max_size=4))
def test_a_batch_is_counted_by_its_rows(rows: list[int]) -> None:
    row = {"venue": "v", "bids": [[1, 2], [3, 4]], "asks": []}
    data = joined([orjson.dumps([row] * number) for number in rows])
    assert batch.count(data) == sum(rows) == len(batch.decode(data, T0)[0])


def test_an_empty_batch_holds_nothing() -> None:
    assert batch.decode(b"", T0) == ([], [])
    assert batch.encode([]) == []


def test_a_value_that_is_not_utf8_reaches_the_dead_letter_byte_for_byte() -> None:
    value = bytes(range(256))
    _, (letter,) = batch.decode(joined([value]), T0)
    ((key, event_ms, row),) = sent([letter])["dead_letters"]
    assert (key, event_ms, b64decode(row["original"])) == (TOPIC, T0, value)


@given(st.lists(st.tuples(st.text(), st.text(), st.integers(0, 10**13 - 1)), min_size=1))
def test_rows_leave_whole_whatever_their_text(faults: list[tuple[str, str, int]]) -> None:
    outputs = [
        Output("feed_faults", event_ms, {**FAULT, "instrument": instrument, "got": got}) for instrument, got, event_ms in faults
    ]
    records = sent(outputs)["feed_faults"]
    assert [(event_ms, row) for _, event_ms, row in records] == [(output.event_ms, output.row) for output in outputs]
    for (key, _, row), (instrument, _, _) in zip(records, faults, strict=True):
        if "\n" not in instrument:
            assert key == f"v:{row['instrument']}"


@pytest.mark.parametrize(("instrument", "key"), [("A\tB", "v:A\tB"), ("A\nB", r"v:A\nB"), ("币安", "v:币安")])
def test_a_key_is_one_field_of_its_line(instrument: str, key: str) -> None:
    row = {**FAULT, "instrument": instrument}
    assert sent([Output("feed_faults", T0, row)])["feed_faults"] == [(key, T0, row)]


def test_rows_are_parted_by_table_and_keep_their_order() -> None:
    outputs = [
        Output(table, T0 + n, {**FAULT, "instrument": f"{n}"}) for n, table in enumerate(["feed_faults", "book_tops"] * 3)
    ]
    encoded = sent(outputs)
    assert [event_ms for _, event_ms, _ in encoded["feed_faults"]] == [T0, T0 + 2, T0 + 4]
    assert [event_ms for _, event_ms, _ in encoded["book_tops"]] == [T0 + 1, T0 + 3, T0 + 5]


ROWS = st.lists(st.tuples(st.sampled_from(["feed_faults", "book_tops"]), st.sampled_from("ABC"), st.integers(T0, T0 + 2)))


@given(ROWS, ROWS)
def test_conflated_each_key_keeps_its_newest_row_and_other_tables_keep_all(
    first: list[tuple[str, str, int]], second: list[tuple[str, str, int]]
) -> None:
    given_ = [
        [(table, T0 + n, {**FAULT, "instrument": name, "got": str(ms)}) for n, (table, name, ms) in enumerate(part)]
        for part in (first, second)
    ]
    outputs = [[Output(table, int(str(row["got"])), row) for table, _, row in part] for part in given_]
    lines = batch.conflated([one for part in outputs for one in batch.encode(part)], ("book_tops",))
    kept = [
        (one.table, head, value)
        for one in lines
        for head, value in zip(one.heads.split(b"\n"), one.values.split(b"\n"), strict=True)
    ]
    every = [output for part in outputs for output in part]
    assert len([row for row in kept if row[0] == "feed_faults"]) == len([o for o in every if o.table == "feed_faults"])
    tops = [output for output in every if output.table == "book_tops"]
    newest = {
        output.row["instrument"]: max(o.event_ms for o in tops if o.row["instrument"] == output.row["instrument"])
        for output in tops
    }
    assert {head[13:].decode().partition(":")[2]: int(head[:13]) for table, head, _ in kept if table == "book_tops"} == newest
    assert len([row for row in kept if row[0] == "book_tops"]) == len(newest)


@pytest.mark.parametrize("until_ms", [T0, None])
@pytest.mark.parametrize("has_plain", [False, True])
def test_a_batch_that_nobody_can_read_is_a_dead_letter_and_no_sweep(until_ms: int | None, has_plain: bool) -> None:
    steps: list[int] = []
    plain: list[bytes] = []

    def step(state: object, messages: list[Message], until: int | None) -> list[Output]:
        steps.append(len(messages))
        return []

    def take_plain(state: object, data: bytes, until: int) -> tuple[list[Lines], bytes]:
        plain.append(data)
        return [], data

    kernel = Kernel("books", 1, new=dict, step=step, take_plain=take_plain if has_plain else None)
    data = batch.FIELD.join((TOPIC.encode(), b"0", b"7", b"no JSON"))
    lines = batch.run(kernel, kernel.new(), data, until_ms)
    assert [line.table for line in lines] == ["dead_letters"] and steps == []
    # What is due in a window without messages is due in this one, too.
    assert plain == ([data, b""] if has_plain and until_ms is not None else [])
    batch.run(kernel, kernel.new(), b"", until_ms)
    assert steps == [0]
