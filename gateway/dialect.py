"""How a counterparty's FIX differs from the standard: a TOML file, so that a custom tag is data.

`gateway/dialects/` has those that are known; a session may name the path of another one.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway import Message, message
from gateway.words import STATUS

FOLDER = Path(__file__).parent / "dialects"


class ConfigError(ValueError):
    """A file that cannot be used; the message names it, the field, and what was expected there."""


class Strict(BaseModel):
    """A table of a file; a name that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Template(Strict):
    """A message whose fields may name {client_order_id}, {order_id}, {symbol}, {side} and {id}; empty ones are left out."""

    kind: str = Field(min_length=1)
    fields: dict[int, str]

    def filled(self, **values: str | None) -> Message:
        """The message with these values."""
        texts = {name: value or "" for name, value in values.items()}
        return message(self.kind, [(tag, text.format_map(texts)) for tag, text in self.fields.items()])


class Dialect(Strict):
    """What is special.

    version               of FIX, where a session does not say it
    login                 what a Logon bears: nothing, Username and Password, or Deribit's signature
    logon                 further tags of the Logon that we send
    cancel_on_disconnect  those by which a venue is asked to cancel our orders when the connection breaks; none: it cannot
    order                 further tags of NewOrderSingle and OrderCancelReplaceRequest
    refer                 by which ids a cancel or replace names itself and its order
    client_order_id_tags  where a report has our ClOrdID: the first that is there
    orig_tag              where it has that of the order which a cancel or replace changes; 0: nowhere
    exec_id_tags          what identifies an execution: the first that is there and not 0
    trade_date_tag        60: the UTC date of TransactTime; 75: TradeDate.  One for all sessions of a venue
    status_is_change      whether ExecType I tells every change of an order: then its OrdStatus says which
    missing_fee           of a trade without a fee: wait for another message that has it, or take it for zero
    status_request        how to ask for one order
    mass_status_request   how to ask for all open ones, where a venue has that
    unknown_order         words by which a venue says that it does not know an order, beside OrdRejReason 5
    """

    version: Literal["FIX.4.4", "FIX.5.0SP2"] = "FIX.4.4"
    login: Literal["none", "password", "deribit"] = "none"
    logon: dict[int, str] = {}
    cancel_on_disconnect: dict[int, str] = {}
    order: dict[int, str] = {}
    refer: dict[int, str] = {11: "{client_order_id}", 41: "{orig_client_order_id}", 37: "{order_id}"}
    client_order_id_tags: tuple[int, ...] = (11,)
    orig_tag: int = 41
    exec_id_tags: tuple[int, ...] = (17,)
    trade_date_tag: Literal[60, 75] = 60
    status_is_change: bool = False
    missing_fee: Literal["wait", "zero"] = "wait"
    status_request: Template = Template(
        kind=STATUS, fields={11: "{client_order_id}", 37: "{order_id}", 55: "{symbol}", 54: "{side}"}
    )
    mass_status_request: Template | None = None
    unknown_order: tuple[str, ...] = ("unknown order", "not found", "no order")


def read(path: Path) -> dict[str, object]:
    """A TOML file.  Raises `ConfigError`."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from None


def refused(path: Path, error: ValidationError) -> ConfigError:
    """The first fault of a file, in a line."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    told = first["msg"].removeprefix("Value error, ")
    words = told[0].lower() + told[1:]
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path}: {field}: no such field; is it another name?")
    if first["type"] == "missing":
        return ConfigError(f"{path}: {field}: expected a value, got none")
    return ConfigError(f"{path}: {field}: {words}, got {first['input']!r}"[:400])


@cache
def dialect(name: str) -> Dialect:
    """A dialect by its name, or by the path of its file.  Raises `ConfigError`."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml")))
        raise ConfigError(f"dialect: expected one of {known}, or the path of a .toml file, got {name!r}")
    try:
        return Dialect.model_validate(read(path))
    except ValidationError as error:
        raise refused(path, error) from None
