"""The keys of an account, from a file that only its owner can read or from the environment.  They are never shown."""

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import orjson

_FIELDS = ("key", "secret", "passphrase")
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_PRINTED = re.compile(r"[!-~]+")
_MAX_BYTES = 65_536
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeysError(ValueError):
    """Keys that are missing or not safe; the message names the file or variable and the field, never the contents."""


class Secret:
    """A text that is in no message, log, copy or pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for a signature or a login."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True, slots=True)
class Keys:
    """How a venue knows an account.  The id of the key is as secret as the rest."""

    key: Secret
    secret: Secret
    passphrase: Secret | None = None  # only OKX has one
    name: str = "the keys"  # the file or variable that they come from: for messages

    def hide(self, text: str) -> str:
        """A text from elsewhere, without these keys."""
        for secret in (self.key, self.secret, self.passphrase):
            text = text if secret is None else text.replace(secret.reveal(), "…")
        return text


def read_keys(name: str, environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys called `name`, such as OKX or OKX_DESK2.

    GAMMAFLOW_<NAME>_KEYS is the path of a file with a JSON object of key, secret and, for OKX, passphrase.  Without it they are
    GAMMAFLOW_<NAME>_KEY, GAMMAFLOW_<NAME>_SECRET and GAMMAFLOW_<NAME>_PASSPHRASE.  Raises `KeysError`.
    """
    if _NAME.fullmatch(name) is None:
        raise KeysError("name of keys: expected capital letters, digits and underscores")
    prefix = f"GAMMAFLOW_{name}_"
    path = environment.get(prefix + "KEYS")
    if path:
        return read_file(Path(path))
    values = {field: environment.get(prefix + field.upper()) or None for field in _FIELDS}
    return _keys(values, prefix + "KEY", lambda field: prefix + field.upper())


def read_file(path: Path) -> Keys:
    """The keys in a file.  Raises `KeysError`, also if anybody but its owner may read or write it."""
    try:
        values = orjson.loads(_own(path))
    except orjson.JSONDecodeError:
        values = None  # the error would show the contents
    if type(values) is not dict:
        raise KeysError(f"{path}: expected a JSON object of {', '.join(_FIELDS)}")
    return _keys(values, str(path), lambda field: f"{path}: {field}")


def read_secret(path: Path) -> Secret:
    """The first line of a file that only its owner may read.  Raises `KeysError`."""
    text = _own(path).decode(errors="replace").partition("\n")[0].rstrip("\r")
    if _PRINTED.fullmatch(text) is None:
        raise KeysError(f"{path}: expected a line of ASCII letters, digits and signs, without spaces")
    return Secret(text)


def _own(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())  # of the open file: another may be at the path by now
            if not stat.S_ISREG(status.st_mode):
                raise KeysError(f"{path}: expected a plain file")
            if status.st_mode & _OTHERS:
                mode = stat.S_IMODE(status.st_mode)
                raise KeysError(f"{path}: expected a file that only its owner can read (mode 600), got mode {mode:o}")
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise KeysError(f"{path}: expected a file with keys: {error.strerror}") from None


def _keys(values: Mapping[str, Any], name: str, described: Callable[[str], str]) -> Keys:
    secrets: dict[str, Secret] = {}
    for field in _FIELDS:
        value = values.get(field)
        if value is None and field == "passphrase":
            continue
        if value is None:
            raise KeysError(f"{described(field)}: expected a text, got none")
        if type(value) is not str or _PRINTED.fullmatch(value) is None:
            raise KeysError(f"{described(field)}: expected a text of ASCII letters, digits and signs, without spaces")
        secrets[field] = Secret(value)
    return Keys(**secrets, name=name)
