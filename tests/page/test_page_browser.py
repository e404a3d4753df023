"""The page in a headless Chromium: what is shown is what was given; slow, lost and paused connections; sizes; keys."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from page import browser
from page.browser import NARROW, WIDE, Browser, Tab
from page.generated import write_rows
from page.sources import Finished, Live
from page.store import Store
from tests.page.given import PERP, T0, VENUE, Address, depth, event, margin, market, served, trade
from tests.page.test_page_finished import history

pytestmark = pytest.mark.skipif(browser.installed() is None, reason="no Chromium is installed")
BOOK = f"?book={quote(f'{VENUE}:{PERP}')}"
FIRST = "document.body?.dataset.firstMs"
PRICES = (
    "[...document.querySelectorAll('.ladder td:nth-child(2) span')].map(cell => cell.textContent).filter(Boolean).map(Number)"
)
MIDDLE = "document.querySelector('.ladder .mid')?.innerText ?? ''"
"""What the ladder says of the middle."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.running() as running:
        yield running


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Store, Address]]:
    store = Store()
    market(store)
    with served(Live(store)) as address:
        yield store, address


def cells(tab: Tab, heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    script = f"""(() => {{
      const panel = [...document.querySelectorAll('section')].find(node => node.innerText.startsWith({heading!r}));
      return [...panel.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent));
    }})()"""
    found: list[list[str]] = tab.run(script)
    return found


def test_the_ladder_shows_the_newest_row_given_and_how_old_it_is(chromium: Browser, live: tuple[Store, Address]) -> None:
    store, address = live
    with chromium.tab() as tab:
        tab.open(f"{address.url}/trader{BOOK}")
        for mid in (2_000.0, 2_001.0):
            row = depth(round(mid), mid)
            store.put("book_depth", [depth(round(mid) - 100, 5.0), row])
            tab.until(f"({MIDDLE}).startsWith('mid {mid:,.0f}'.replace(',', ','))")
            shown = [level[0] for level in [*reversed(row["asks"][:10]), *row["bids"][:10]]]
            assert tab.run(PRICES.replace("map(Number)", "map(text => Number(text.replaceAll(',', '')))")) == shown
        assert tab.run("document.querySelector('.badge').textContent") == "fresh"
        store.put("book_depth", [depth(2_100, 2_002.0, is_stale=True)])
        tab.until("document.querySelector('.badge').textContent.startsWith('STALE')")
        assert tab.faults == []


def test_accounts_and_decisions_are_those_given_and_a_click_opens_the_story(chromium: Browser, tmp_path: Path) -> None:
    for table, rows in history().items():
        write_rows(tmp_path, table, rows)
    source = Finished(tmp_path)
    with served(source) as address, chromium.tab() as tab:
        tab.open(f"{address.url}/risk?at={T0 + 3_000}")
        tab.until(f"{FIRST} && document.querySelectorAll('section tbody tr').length > 3")
        known = source.looking(T0 + 3_000, 0.0)()[0]
        ratios = sorted((row["margin_ratio"] for row in known.newest("account_margin")), reverse=True)
        assert [row[2] for row in cells(tab, "Accounts by")] == [f"{ratio:.3f}" for ratio in ratios]
        reasons = [row["reason"] for row in known.since("liquidation_events", 0)[0]]
        assert [row[-1] for row in cells(tab, "Liquidations")] == reasons[::-1]
        tab.run("[...document.querySelectorAll('tr.open')].find(row => row.dataset.key === 'bob').click()")
        tab.until("location.search.includes('account=bob')")
        story = source.story("bob", T0 + 3_000)["lines"]
        tab.until(f"[...document.querySelectorAll('td')].some(cell => cell.textContent === {story[-1][1]!r})")
        assert [row[1:] for row in cells(tab, "bob")[-len(story) :]] == [line[1:] for line in story[::-1]]


@pytest.mark.parametrize(("size", "kind"), [(WIDE, "full"), (NARROW, "full"), (WIDE, "empty")], ids=["wide", "narrow", "empty"])
def test_every_view_fits_and_nothing_in_it_fails(chromium: Browser, live: tuple[Store, Address], size: Any, kind: str) -> None:
    with served(Live(Store())) as empty, chromium.tab() as tab:
        address = empty if kind == "empty" else live[1]
        tab.open(f"{address.url}/trader", size)
        for key, view in (("2", "risk"), ("3", "operator"), ("4", "audit"), ("1", "trader")):
            tab.until(FIRST)
            tab.press(key)
            tab.until(f"location.pathname === '/{view}' && document.querySelectorAll('section').length > 2")
            tab.run("new Promise(done => setTimeout(done, 150))")
            assert tab.run("document.documentElement.scrollWidth <= window.innerWidth"), view
        assert tab.faults == []


def test_a_paused_page_stays_as_it_is_and_then_shows_what_is_new(chromium: Browser, live: tuple[Store, Address]) -> None:
    store, address = live
    with chromium.tab() as tab:
        tab.open(f"{address.url}/trader{BOOK}")
        store.put("book_depth", [depth(3_000, 3_000.0)])
        tab.until(f"({MIDDLE}).includes('3,000')")
        tab.run("document.getElementById('pause').click()")
        tab.until("document.getElementById('link').textContent === 'paused'")
        for _ in range(200):
            if not address.page.streams:
                break
            time.sleep(0.02)
        assert not address.page.streams, "a paused page costs nothing"
        store.put("book_depth", [depth(3_100, 3_100.0)])
        assert "3,000" in tab.run(MIDDLE)
        tab.run("document.getElementById('pause').click()")
        tab.until(f"({MIDDLE}).includes('3,100')")


def test_a_page_whose_server_was_away_says_so_and_comes_back_by_itself(chromium: Browser) -> None:
    store = Store()
    store.put("book_depth", [depth(0, 100.0)])
    with served(Live(store)) as address, chromium.tab() as tab:
        tab.open(f"{address.url}/trader{BOOK}")
        tab.until(f"({MIDDLE}).includes('mid 100')")
        store.trouble = "no Kafka broker answers at nowhere"
        tab.until(
            "!document.getElementById('trouble').hidden && document.getElementById('trouble').innerText.includes('nowhere')"
        )
        assert "mid 100" in tab.run(MIDDLE), "the last known rows stay"
        address.page.is_ending = True
        tab.until("document.getElementById('link').textContent === 'no connection'")
        store.trouble = None
        store.forget()
        store.put("book_depth", [depth(500, 200.0)])
        address.page.is_ending = False
        tab.until(f"({MIDDLE}).includes('mid 200') && document.getElementById('trouble').hidden")


def test_a_row_is_seen_soon_after_it_came(chromium: Browser, live: tuple[Store, Address]) -> None:
    store, address = live
    with chromium.tab() as tab:
        begun_s = time.monotonic()
        tab.open(f"{address.url}/trader{BOOK}")
        tab.until(f"({MIDDLE}).includes('mid')")
        first_s = time.monotonic() - begun_s
        tab.run(
            """window.seen = [];
            const look = () => window.seen.push([document.querySelector('.ladder .mid').innerText, Date.now()]);
            new MutationObserver(() => requestAnimationFrame(look))
              .observe(document.querySelector('.ladder'), {subtree: true, childList: true, characterData: true});"""
        )
        put_ms: dict[int, float] = {}
        for n in range(4_000, 4_060):
            put_ms[n] = time.time() * 1000
            store.put("book_depth", [depth(n, float(n))])
            time.sleep(0.03)
        tab.until("window.seen.some(([text]) => text.includes('4,059'))")
        seen: list[tuple[str, float]] = tab.run("window.seen")
    times_ms: dict[int, float] = {}
    for text, at_ms in seen:
        number = int(text.split()[1].replace(",", ""))
        times_ms.setdefault(number, at_ms - put_ms.get(number, at_ms))
    late_ms = sorted(times_ms.values())
    print(
        f"\nfirst data {first_s:.2f} s; source to pixel median {statistics.median(late_ms):.0f} ms, "
        f"p95 {late_ms[int(0.95 * (len(late_ms) - 1))]:.0f} ms of {len(late_ms)}"
    )
    assert len(times_ms) >= 5
    assert statistics.median(late_ms) < 1_000  # 80 ms on a quiet machine


def test_the_slider_shows_the_run_at_any_instant_and_the_address_says_which(chromium: Browser, tmp_path: Path) -> None:
    write_rows(tmp_path, "book_depth", [depth(1_000 * n, 100.0 + n) for n in range(11)])
    with served(Finished(tmp_path)) as address, chromium.tab() as tab:
        tab.open(f"{address.url}/trader{BOOK}")
        tab.until(f"({MIDDLE}).includes('mid 110')")
        tab.run(f"at = document.getElementById('at'); at.value = {T0 + 4_000}; at.dispatchEvent(new Event('input'));")
        tab.until(f"({MIDDLE}).includes('mid 104')")
        assert f"at={T0 + 4_000}" in tab.run("location.search")
        tab.run("document.activeElement.blur()")
        tab.press("ArrowRight")
        tab.until(f"({MIDDLE}).includes('mid 105')")
        tab.run("document.getElementById('speed').value = '10'; document.getElementById('play').click()")
        tab.until(f"({MIDDLE}).includes('mid 110') && document.getElementById('play').textContent === 'Play'")
        assert tab.faults == []


def test_what_rows_say_is_text_and_never_part_of_the_page(chromium: Browser, live: tuple[Store, Address]) -> None:
    store, address = live
    name = "<img src=x onerror=alert(1)>"
    store.put("account_margin", [margin(name, 0, 0.99)])
    store.put("liquidation_events", [event(name, 10, 1, "<b>bold</b>")])
    with chromium.tab() as tab:
        tab.open(f"{address.url}/risk")
        tab.until("document.body.innerText.includes('<b>bold</b>')")
        assert name in [row[0] for row in cells(tab, "Accounts by")]
        assert tab.run("document.querySelectorAll('main img, main b:not(.strip b)').length") == 0


def test_trades_are_newest_first_with_the_side_of_the_taker(chromium: Browser, live: tuple[Store, Address]) -> None:
    store, address = live
    store.put("trades", [trade(9_000, 111.0, "sell"), trade(9_001, 112.0)])
    with chromium.tab() as tab:
        tab.open(f"{address.url}/trader{BOOK}")
        tab.until("[...document.querySelectorAll('td')].some(cell => cell.textContent === '112')")
        assert [row[1:] for row in cells(tab, "Trades")[:2]] == [["112", "0.5", "buy"], ["111", "0.5", "sell"]]
