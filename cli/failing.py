"""How a command fails: with one clear line."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console


@contextmanager
def one_line(console: Console, *kinds: type[Exception]) -> Iterator[None]:
    """Turn every expected error into one clear line and exit status 1, and let SIGTERM clean up as Ctrl-C does."""

    def stop(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except kinds as error:
        console.print(f"gammaflow: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyError as error:
        console.print(f"gammaflow: {error.args[0]}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("gammaflow: stopped")
        raise typer.Exit(130) from None
