"""The server: who may look, what is shown, slow browsers, and what it is made of."""

import re
import socket
import threading
import time
from typing import Any
from urllib.parse import quote

import pytest

from page import guard, views, webjar
from page.server import MOST_STREAMS, STATIC
from page.sources import Live
from page.store import Store
from tests.page.given import PERP, VENUE, Address, depth, market, served

MOST_BYTES = 200_000
STREAM = f"/stream/trader?book={quote(f'{VENUE}:{PERP}')}"
TOKEN = "0123456789abcdef-of-a-test"


def waited(condition: Any, timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return bool(condition())


def test_what_is_told_is_the_newest_row_given() -> None:
    store = Store()
    market(store)
    with served(Live(store)) as address, address.frames(STREAM) as frames:
        first = next(frames)
        assert first["parts"]["depth"] == [depth(100, 101.0)]
        store.put("book_depth", [depth(n, 100.0 + n) for n in range(200, 300)])
        last = next(frame for frame in frames if frame["parts"].get("depth", [{}])[0].get("sequence") == 299)
        assert last["parts"]["depth"] == [depth(299, 399.0)]


def test_ten_browsers_are_told_the_same_and_one_that_takes_nothing_holds_up_nobody_and_is_let_go() -> None:
    store = Store()
    market(store)
    with served(Live(store), stalled_s=1.0) as address:
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            stalled.connect(("127.0.0.1", address.port))
            stalled.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1:{address.port}\r\n\r\n".encode())
            assert waited(lambda: len(address.page.streams) == 1)
            seen: list[list[int]] = [[] for _ in range(10)]
            threads = [threading.Thread(target=follow, args=(address, number)) for number in seen]
            for thread in threads:
                thread.start()
            assert waited(lambda: len(address.page.streams) == 11)
            deadline_s, beat = time.monotonic() + 20, 1_000
            # Large rows, so that the buffers of the one that takes nothing are full soon.
            while address.page.streams and time.monotonic() < deadline_s:
                beat += 1
                store.put("book_depth", [depth(beat, beat, levels=1_500)])
                time.sleep(0.02)
            for thread in threads:
                thread.join(timeout=10)
            assert not address.page.streams, "the stalled one was let go, and the others went"
        assert all(len(times) == 15 for times in seen)
        assert all(times == sorted(times) and len(set(times)) == len(times) for times in seen)


def follow(address: Address, seen: list[int]) -> None:
    """Take frames until this browser has been told of 15 books."""
    with address.frames(STREAM) as frames:
        for frame in frames:
            if rows := frame["parts"].get("depth"):
                seen.append(rows[0]["sequence"])
            if len(seen) == 15:
                return


def test_only_so_many_look_at_once_and_one_that_goes_makes_room() -> None:
    with served(Live(Store())) as address:
        open_ones = [address.ask("/stream/audit") for _ in range(MOST_STREAMS)]
        assert waited(lambda: len(address.page.streams) == MOST_STREAMS)
        assert address.ask("/stream/audit").status == 503
        open_ones.pop().close()
        assert waited(lambda: len(address.page.streams) < MOST_STREAMS)
        for answer in open_ones:
            answer.close()


def test_tables_are_watched_while_somebody_looks_and_no_longer() -> None:
    watched: list[set[str]] = []
    with served(Live(Store(), watched.append)) as address:
        with address.frames("/stream/risk") as frames:
            next(frames)
            assert watched[-1] == views.tables(views.wants("risk", {}))
        assert waited(lambda: watched[-1] == set())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/stream/nothing", 404),
        ("/stream/trader?at=noon", 400),
        ("/stream/trader?speed=-1", 400),
        ("/stream/trader?speed=nan", 400),
    ],
)
def test_a_wrong_question_is_refused(path: str, status: int) -> None:
    with served(Live(Store())) as address:
        assert address.ask(path).status == status


def test_a_story_that_cannot_be_read_says_why() -> None:
    with served(Live(Store())) as address:
        answer = address.ask("/story?account=ann")
        assert answer.status == 409
        assert b"no broker" in answer.read()


def test_another_name_and_another_site_are_refused() -> None:
    with served(Live(Store())) as address:
        assert address.ask("/trader").status == 200
        assert address.ask("/trader", Host=f"localhost:{address.port}").status == 200
        assert address.ask("/trader", Host="evil.example").status == 421
        assert address.ask("/stream/risk", Origin="http://evil.example").status == 403
        assert address.ask("/stream/risk", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status == 403
        assert address.ask("/trader", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
        assert address.ask("/catalogue.json", Origin=address.url).status == 200


def test_every_answer_has_the_policy_also_a_refusal() -> None:
    with served(Live(Store()), TOKEN) as address:
        for path in ("/trader", "/login", "/static/nothing", "/stream/risk"):
            answer = address.ask(path)
            assert answer.getheader("content-security-policy") == guard.POLICY
            assert answer.getheader("x-content-type-options") == "nosniff"


def test_with_a_token_nothing_is_shown_without_it() -> None:
    with served(Live(Store()), TOKEN) as address:
        for path in ("/trader", "/stream/risk", "/story?account=ann", "/catalogue.json", "/static/app.js", "/vendor/uPlot.js"):
            assert address.ask(path).status == 401, path
        assert address.ask("/trader", Accept="text/html").getheader("location") == "/login"
        assert address.ask("/catalogue.json", Authorization="Bearer wrong").status == 401
        assert address.ask("/catalogue.json", Authorization=f"Bearer {TOKEN}").status == 200
        assert address.ask("/catalogue.json", Cookie=f"{guard.COOKIE}=guess").status == 401


def test_who_gives_the_token_gets_a_cookie_that_scripts_and_other_sites_do_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("page.server.WRONG_S", 0.0)
    with served(Live(Store()), TOKEN) as address:
        form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": address.url}
        assert address.ask("/login", "POST", "token=wrong", **form).status == 401
        answer = address.ask("/login", "POST", f"token={TOKEN}", **form)
        cookie = answer.getheader("set-cookie") or ""
        assert answer.status == 303
        assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
        assert address.ask("/catalogue.json", Cookie=cookie.partition(";")[0]).status == 200
        assert address.ask("/login", "POST", f"token={TOKEN}", Origin="http://evil.example").status == 403


def test_the_page_is_small_and_asks_nobody_else() -> None:
    ours = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    files = ours | {name: file.content for name, file in webjar.files().items()}
    assert sum(map(len, files.values())) < MOST_BYTES
    for name, content in ours.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.|\beval\(|innerHTML|insertAdjacentHTML|\son[a-z]+=\"|style=\"", text), name


def test_every_module_that_is_imported_is_there() -> None:
    for path in STATIC.glob("*.js"):
        for name in re.findall(r"from \"\./([\w.]+)\"", path.read_text()):
            assert (STATIC / name).exists(), f"{path.name}: {name}"
