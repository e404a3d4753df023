"""uPlot out of its webjar, which is locked and checked like every other jar (deploy/jars.py)."""

import zipfile
from functools import cache
from typing import NamedTuple

from deploy import jars

FILES = {"uPlot.js": ("uPlot.iife.min.js", "text/javascript"), "uPlot.css": ("uPlot.min.css", "text/css")}
"""By the name that browsers ask for: the file of the distribution, and its type."""


class File(NamedTuple):
    """A file of the page."""

    content: bytes
    media_type: str


@cache
def files() -> dict[str, File]:
    """The files that browsers load.  Raises `JarError`."""
    (jar,) = jars.fetch("page")["page"]
    with zipfile.ZipFile(jar) as archive:
        by_name = {name.rpartition("/")[2]: name for name in archive.namelist() if "/dist/" in name}
        return {name: File(archive.read(by_name[file]), kind) for name, (file, kind) in FILES.items()}
