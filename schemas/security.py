"""The users of our Kafka clients, and how they connect to a broker: in plain text, or by the file in GAMMAFLOW_KAFKA_SECURITY.

    protocol=SASL_SSL                   or SSL, encrypted but without a name
    ca=ca.pem                           the authority that signs the brokers' certificates; by default those of the machine
    mechanism=SCRAM-SHA-512             or SCRAM-SHA-256
    user=gammaflow-{}                   {} is a job's name, feed, reader, page, operator or admin
    passwords=passwords.properties      user=password, one a line

Paths are relative to the file.  The Kafka clients in the cluster read a job's password from the same path there: a submitted
job contains only the path.
"""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "GAMMAFLOW_KAFKA_SECURITY"
FEED, READER, PAGE, ADMIN, OPERATOR = "feed", "reader", "page", "admin", "operator"
"""Our users that are not jobs: for feeds; for commands that only read; for the page, which only reads, too, and is open to
browsers; for creating topics and rights; and for controls."""
_FIELDS = {"protocol", "ca", "mechanism", "user", "passwords"}
_PROTOCOLS = ("SSL", "SASL_SSL")
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256")
# Characters that need no escape in a Java properties file or a JAAS line.
_PASSWORD = re.compile(r"[!#-\[\]-~]+")
_USER = re.compile(r"(?:[\w.-]|\{\})+", re.ASCII)
_REFERENCE = re.compile("[:}]")  # characters that would end the path in a reference to a password
_CLIENTS = "org.apache.flink.kafka.shaded.org.apache.kafka.common"
"""The package of the Java client's classes in Flink's connector."""


class SecurityError(ValueError):
    """The file, or one that it names, cannot be used; the message names it, and says what was expected."""


class Security(NamedTuple):
    """The contents of the file."""

    protocol: str
    ca: Path | None
    mechanism: str
    user: str  # a pattern
    passwords: Path


def settings(file: str | None = None) -> Security | None:
    """The contents of a file, by default the one that the environment names; None if it names none.  Raises `SecurityError`."""
    path = Path(os.environ.get(VARIABLE, "") if file is None else file)
    if not path.name:
        return None
    fields = _properties(path)
    if unknown := fields.keys() - _FIELDS:
        raise SecurityError(f"{path}: {', '.join(sorted(unknown))}: expected only {', '.join(sorted(_FIELDS))}")
    protocol = _one_of(path, "protocol", fields.get("protocol", ""), _PROTOCOLS)
    mechanism = _one_of(path, "mechanism", fields.get("mechanism", _MECHANISMS[0]), _MECHANISMS)
    folder = path.absolute().parent
    passwords = folder / fields.get("passwords", "passwords.properties")
    if _REFERENCE.search(str(passwords)):
        raise SecurityError(f"{path}: passwords: expected a path without : and }}, got {passwords}")
    pattern = fields.get("user", "gammaflow-{}")
    if not _USER.fullmatch(pattern):
        raise SecurityError(f"{path}: user: expected letters, digits, and any of . _ - {{}}, got {pattern!r}")
    return Security(protocol, folder / fields["ca"] if "ca" in fields else None, mechanism, pattern, passwords)


def user(role: str, file: str | None = None) -> str:
    """The name of a job, or of `FEED`, `READER`, `PAGE`, `OPERATOR` or `ADMIN`, on the broker."""
    security = settings(file)
    return (security.user if security else "gammaflow-{}").replace("{}", role)


def manner(role: str) -> str:
    """How a client of ours connects to a broker, for messages."""
    security = settings()
    if security is None:
        return f"in plain text ({VARIABLE} is not set)"
    return f"as {user(role)}" if security.protocol == "SASL_SSL" else "encrypted, without a name"


def librdkafka(role: str, file: str | None = None) -> dict[str, Any]:
    """The settings of a librdkafka client, by a file or the one that the environment names.

    Raises `SecurityError`, also if the file of passwords has none for its user.
    """
    security = settings(file)
    if security is None:
        return {}
    options = {"security.protocol": security.protocol}
    if security.ca is not None:
        options["ssl.ca.location"] = str(_readable(security.ca))
    if security.protocol == "SASL_SSL":
        options |= {
            "sasl.mechanism": security.mechanism,
            "sasl.username": user(role, file),
            "sasl.password": _password(security.passwords, user(role, file)),
        }
    return options


def java(role: str) -> dict[str, str]:
    """The properties of a Java client in Flink's connector; the password is a reference that the client resolves itself."""
    security = settings()
    if security is None:
        return {}
    options = {"security.protocol": security.protocol}
    if security.ca is not None:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(security.ca)}
    if security.protocol == "SASL_SSL":
        module = f"{_CLIENTS}.security.scram.ScramLoginModule"
        password = f"${{file:{security.passwords}:{user(role)}}}"
        options |= {
            "sasl.mechanism": security.mechanism,
            "sasl.jaas.config": f'{module} required username="{user(role)}" password="{password}";',
            "config.providers": "file",
            "config.providers.file.class": f"{_CLIENTS}.config.provider.FileConfigProvider",
        }
    return options


def sql_options(role: str) -> str:
    """The Java properties as options of a Kafka table, each after a comma."""
    options = {f"properties.{key}": value.replace("'", "''") for key, value in java(role).items()}
    return "".join(f",\n  '{key}' = '{value}'" for key, value in options.items())


def _properties(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in _readable(path).read_text().splitlines()]
    pairs: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise SecurityError(f"{path}, line {number}: expected key=value")  # what stands there may be a password
        pairs[key.strip()] = value.strip()
    return pairs


def _password(path: Path, name: str) -> str:
    if _readable(path).stat().st_mode & 0o007:
        raise SecurityError(f"{path}: others may read or change it; expected chmod o= of it")
    password = _properties(path).get(name)
    if password is None:
        raise SecurityError(f"{path}: no password of {name}")
    if not _PASSWORD.fullmatch(password):
        raise SecurityError(f'{path}: the password of {name}: expected visible ASCII without " and \\')
    return password


def _one_of(path: Path, field: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise SecurityError(f"{path}: {field}: expected {' or '.join(known)}, got {value!r}")
    return value


def _readable(path: Path) -> Path:
    if not os.access(path, os.R_OK) or not path.is_file():
        raise SecurityError(f"{path}: expected a file that can be read ({VARIABLE})")
    return path
