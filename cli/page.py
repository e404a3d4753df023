"""`gammaflow page`: what the suite knows, in a browser."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli import explain
from cli.feeding import servers
from deploy import cluster, processes, runtime
from deploy.processes import StartError
from deploy.runtime import Runtime
from schemas.security import PAGE

if TYPE_CHECKING:
    from page.sources import Source

PORT = 8090
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST = 16
"""Characters that a token has at least."""


def page(
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder of a finished run's Parquet files, as `replay --out` writes it.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = PORT,
    host: Annotated[
        str, typer.Option(help="Another address than this machine's own needs a token and a certificate.")
    ] = "127.0.0.1",
    names: Annotated[
        list[str] | None, typer.Option("--name", help="A name by which browsers may call the page; several times.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="GAMMAFLOW_PAGE_TOKEN_FILE", help=f"File of a token, {SHORTEST} characters or more, to log in with."
        ),
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the certificate, for https.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
) -> None:
    """Show the suite in a browser until it is stopped: books, surfaces, accounts, liquidations, the flow and its faults.

    It reads the broker of `gammaflow up`, or GAMMAFLOW_KAFKA and, for the state of jobs, GAMMAFLOW_FLINK; and writes nothing.
    """
    from page import server
    from page.guard import Access
    from page.guard import names as known_as

    console = Console(highlight=False, soft_wrap=True)
    token = None if token_file is None else read_token(token_file)
    if (certificate is None) != (key is None):
        raise ValueError("--certificate and --key belong together")
    if host not in LOOPBACK and (token is None or certificate is None):
        raise ValueError(f"--host {host}: others may reach it; name --token-file, --certificate and --key")
    pair = None if certificate is None or key is None else (certificate, key)
    for file in pair or ():
        if not os.access(file, os.R_OK):
            raise ValueError(f"{file}: expected a PEM file that can be read")
    scheme = "http" if pair is None else "https"
    with ExitStack() as stack:
        source, shown = _source(folder, stack)
        listening = stack.enter_context(server.bound(host, port))
        port = listening.getsockname()[1]
        access = Access(known_as(host, port, names or ()), scheme, token)
        address = f"{scheme}://{(names or [f'[{host}]' if ':' in host else host])[0]}:{port}"
        try:
            server.serve(source, access, listening, pair, lambda: console.print(f"{shown}: {address}   (Ctrl-C leaves)"))
        except KeyboardInterrupt:
            console.print("gammaflow: stopped")
    # Nothing is to be saved, and to take numpy, LLVM and Arrow down would take a second.
    sys.stdout.flush()
    os._exit(130)


def _source(folder: Path | None, stack: ExitStack) -> tuple["Source", str]:
    """Where rows come from, and its name.  Raises `RunError`, `StartError`, `ValueError`."""
    from page.sources import STORY_RECORDS, Finished, Live
    from page.store import Store

    if folder is not None:
        return Finished(folder), str(folder)
    from page.flink import Cluster
    from page.listening import GROUP, Listening
    from page.tables import CLUSTER

    broker, store = servers(), Store()
    listening = Listening(broker, store)
    stack.callback(listening.close)
    cluster = Cluster(broker, flink_address(), store)
    stack.callback(cluster.close)

    def watch(tables: set[str]) -> None:
        listening.watch(tables)
        cluster.watch(CLUSTER in tables)

    def read(account: str) -> explain.Rows:
        return explain.read_topics(broker, account, most=STORY_RECORDS, reader=(f"{GROUP}-story", PAGE))

    return Live(store, watch, read), broker


@contextmanager
def beside(running: Runtime, say: Callable[[str], None]) -> Iterator[None]:
    """Show a runtime in a process of its own until the block ends, and say where."""
    port = processes.free_port(PORT)
    command = [sys.executable, "-m", "cli.main", "page", "--port", str(port)]
    own = {**os.environ, "GAMMAFLOW_HOME": running.home, "PYTHONPATH": str(cluster.ROOT)}
    pid = processes.start(command, running.logs / "page.log", own)
    say(f"the page is at http://127.0.0.1:{port}")
    try:
        yield
    finally:
        processes.stop([pid])


def flink_address() -> str | None:
    """host:port of the cluster's REST interface: GAMMAFLOW_FLINK, or that of `gammaflow up`; None where there is neither."""
    told = os.environ.get("GAMMAFLOW_FLINK")
    if told:
        return told
    try:
        return runtime.current(runtime.default_home()).flink
    except StartError:
        return None


def read_token(path: Path) -> str:
    """The token in a file.  Raises `ValueError`."""
    if not os.access(path, os.R_OK) or not path.is_file():
        raise ValueError(f"--token-file {path}: expected a file that can be read")
    if path.stat().st_mode & 0o077:
        raise ValueError(f"--token-file {path}: others may read or change it; expected chmod go= of it")
    token = path.read_text().strip()
    if len(token) < SHORTEST:
        raise ValueError(f"--token-file {path}: expected {SHORTEST} characters or more")
    return token
