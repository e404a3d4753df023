"""The pictures of docs/page.md: `python -m page.pictures`, from a generated run, or --from a finished one.

python -m page.pictures                    generate a run (a minute), and write docs/pictures/page-*.png
python -m page.pictures --from out/demo    of this run
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from deploy.cluster import ROOT
from page import generated
from page.browser import NARROW, WIDE, Browser, Size, running
from page.server import serving
from page.sources import Finished

COLOURS = 256
"""Of a picture: with all of them, each would have three times as many bytes."""
CRASH = 0.62
"""Where in the run the crash is at its worst, as a share of it."""


class Picture(NamedTuple):
    """One picture.

    share   of the run, where it is looked at
    ready   an expression that is true once all is drawn
    """

    name: str
    path: str
    share: float
    ready: str
    size: Size = WIDE
    is_whole: bool = True


def rows(heading: str) -> str:
    """An expression: whether the panel with this heading has rows."""
    has_rows = f"node.innerText.startsWith('{heading}') && node.querySelector('tbody tr')"
    return f"[...document.querySelectorAll('section')].some(node => {has_rows})"


PICTURES = (
    Picture("trader", "/trader?", 0.5, rows("Options round")),
    Picture("trader-crash", "/trader?", CRASH, rows("Options round"), is_whole=False),
    Picture("risk", "/risk?", 0.7, rows("Liquidations")),
    Picture("account", "/risk?account={account}&", 0.7, rows("{account}"), is_whole=False),
    Picture("operator", "/operator?job=liquidations&", 0.7, rows("Jobs")),
    Picture("narrow", "/trader?", 0.5, rows("Options round"), NARROW, is_whole=False),
)


def draw(folder: Path, out: Path, pictures: Sequence[Picture] = PICTURES) -> list[Path]:
    """Take the pictures of a finished run.  Raises `RunError`, `BrowserError`."""
    source = Finished(folder)
    first_ms, last_ms = source.run.span_ms
    account = _account(source)
    out.mkdir(parents=True, exist_ok=True)
    with serving(source) as (_, port), running() as browser:
        return [_take(browser, f"http://127.0.0.1:{port}", picture, account, (first_ms, last_ms), out) for picture in pictures]


def _take(browser: Browser, address: str, picture: Picture, account: str, span_ms: tuple[int, int], out: Path) -> Path:
    at_ms = round(span_ms[0] + picture.share * (span_ms[1] - span_ms[0]))
    with browser.tab() as tab:
        tab.open(f"{address}{picture.path.format(account=account)}at={at_ms}", picture.size)
        tab.until(picture.ready.replace("{account}", account))
        tab.run("new Promise(done => setTimeout(done, 1500))")  # what is told once a second is there as well
        path = out / f"page-{picture.name}.png"
        tab.picture(path, picture.is_whole)
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    return path


def _account(source: Finished) -> str:
    """Of whom most was decided."""
    table = source.run.table("liquidation_events")
    accounts = [] if table is None else table.rows["account"].to_pylist()
    return max(sorted(set(accounts)), key=accounts.count, default="nobody")


def main() -> None:
    """Take the pictures, and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = given.folder
        if folder is None:
            folder = Path(home) / "run"
            generated.write(folder)
        for path in draw(folder, given.out):
            print(path)


if __name__ == "__main__":
    main()
