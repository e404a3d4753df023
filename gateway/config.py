"""The gateway's one file: its sessions, what they may do, and how instruments and accounts are called there.

No secret stands in it: a password is in a file of its own, which only its owner may read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from feeds.private.keys import Secret, read_secret
from gateway.dialect import ConfigError, Dialect, Strict, dialect, read, refused

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
CompId = Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d$")]
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("expected host:port")
    return text


Address = Annotated[str, AfterValidator(_address)]


class Schedule(Strict):
    """When a session may be logged on; its sequence numbers begin again with each interval.  Without one it never ends."""

    start: Clock
    end: Clock
    start_day: Day | None = None
    end_day: Day | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _days(self) -> Self:
        if (self.start_day is None) != (self.end_day is None):
            raise ValueError("expected start_day and end_day, or neither")
        return self


class Tls(Strict):
    """Certificates, as PKCS #12 files.

    key_store     our certificate and its key; of an initiator only where the other side wants to see one
    trust_store   whom we believe; without one: the authorities that Java knows
    needs_client  of an acceptor: whether the other side must show a certificate of the trust_store
    """

    key_store: Path | None = None
    key_store_password_file: Path | None = None
    trust_store: Path | None = None
    trust_store_password_file: Path | None = None
    needs_client: bool = True

    @model_validator(mode="after")
    def _passwords(self) -> Self:
        for name in ("key_store", "trust_store"):
            if (getattr(self, name) is None) != (getattr(self, f"{name}_password_file") is None):
                raise ValueError(f"expected {name} and {name}_password_file, or neither")
        return self


class Instrument(Strict):
    """An instrument at the other side.  Its quantities are our contracts times the multiplier."""

    symbol: str = Field(min_length=1)
    multiplier: Decimal = Field(default=Decimal(1), gt=0)


class Session(Strict):
    """What all sessions have.

    connect      we open the connection, to the first of these addresses that answers
    accept       the other side opens it: the address where we listen
    settle_ms    how long a report may be with us before Kafka has acknowledged it; after a crash it is requested again
    reconnect_s  the pauses between attempts; the last one is kept
    """

    name: Name
    sender: CompId
    target: CompId
    connect: tuple[Address, ...] = ()
    accept: Address | None = None
    version: Literal["FIX.4.4", "FIX.5.0SP2"] | None = None
    dialect_name: str = Field(default="standard", alias="dialect")
    heartbeat_s: int = Field(default=30, ge=1, le=3600)
    reset_on_logon: bool = False
    reconnect_s: tuple[Annotated[int, Field(ge=1, le=3600)], ...] = (1, 2, 5, 10, 30)
    schedule: Schedule | None = None
    tls: Tls | None = None
    username: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if bool(self.connect) == (self.accept is not None):
            raise ValueError("expected either connect, a list of addresses, or accept, an address")
        return self

    @cached_property
    def dialect(self) -> Dialect:
        """How the other side speaks."""
        return dialect(self.dialect_name)

    @property
    def begin(self) -> str:
        """The version of FIX."""
        return self.version or self.dialect.version


class Venue(Session):
    """A venue that gets our orders.

    venue       its name in our rows
    accounts    what the venue calls our accounts; where there are some, only their orders go there
    account     of reports that name none, on orders that we do not know
    max_age_s   an order that waited longer than this is not sent any more: it is reported as rejected
    answer_s    how long to wait for what the venue says of an order before the others are sent
    """

    venue: Name
    accounts: dict[str, str] = Field(default={})
    account: str | None = None
    instruments: dict[str, Instrument] = Field(default={})
    max_age_s: float = Field(default=5.0, gt=0)
    answer_s: float = Field(default=5.0, gt=0)
    orders_per_s: float | None = Field(default=None, gt=0)


class DropCopy(Session):
    """A session by which a venue tells a second time what happened; `of_venue` is the `name` of the venue's session."""

    of_venue: Name
    exec_id_tags: tuple[int, ...] | None = None


class Client(Session):
    """A client who trades over us.

    accounts              our accounts that it may trade; the first one where an order names none
    venue                 where its orders go, unless they name a SecurityExchange or ExDestination
    instruments           what it calls our instruments, by venue:instrument
    source                of its requests: person or algorithm
    cancel_on_disconnect  whether all its orders are cancelled when its connection breaks
    """

    accounts: tuple[Name, ...] = Field(min_length=1)
    venue: Name
    instruments: dict[str, Instrument] = Field(default={})
    source: Literal["person", "algorithm"] = "algorithm"
    cancel_on_disconnect: bool = False


class Risk(Session):
    """A system that gets a copy of every order and fill; of some accounts, or of all."""

    accounts: tuple[Name, ...] = ()
    instruments: dict[str, Instrument] = Field(default={})


class Gateway(Strict):
    """The file.

    store       where sequence numbers, sent messages and positions are kept; only its owner may read it
    lookback_h  how far back orders and reports are read at the start: longer than any order rests
    """

    name: Name
    store: Path
    lookback_h: float = Field(default=24.0, gt=0)
    settle_ms: int = Field(default=100, ge=10, le=10_000)
    venue: tuple[Venue, ...] = ()
    drop_copy: tuple[DropCopy, ...] = ()
    client: tuple[Client, ...] = ()
    risk: tuple[Risk, ...] = ()

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All of them."""
        return (*self.venue, *self.drop_copy, *self.client, *self.risk)

    @model_validator(mode="after")
    def _names(self) -> Self:
        sessions = self.sessions
        if not sessions:
            raise ValueError("expected at least one [[venue]], [[client]], [[drop_copy]] or [[risk]]")
        seen: dict[object, str] = {}
        for session in sessions:
            for key in (session.name, (session.begin, session.sender, session.target)):
                if key in seen:
                    raise ValueError(f"two sessions have the same name or comp ids: {seen[key]} and {session.name}")
                seen[key] = session.name
        known = {venue.name for venue in self.venue}
        for copy in self.drop_copy:
            if copy.of_venue not in known:
                raise ValueError(f"drop_copy {copy.name}: of_venue: expected the name of a [[venue]], got {copy.of_venue!r}")
        return self


@dataclass(frozen=True)
class Secrets:
    """The secrets of a session, never shown."""

    password: Secret | None
    key_store: Secret | None
    trust_store: Secret | None


def load(path: Path) -> Gateway:
    """The file, its paths relative to itself, with every dialect.  Raises `ConfigError`."""
    content = read(path)
    try:
        gateway = Gateway.model_validate(content)
    except ValidationError as error:
        raise refused(path, error) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return _placed(gateway, path.absolute().parent)


def _placed(gateway: Gateway, folder: Path) -> Gateway:
    def session(own: Session) -> Session:
        changed: dict[str, object] = {}
        if own.password_file is not None:
            changed["password_file"] = folder / own.password_file
        if own.tls is not None:
            paths = {name: value for name, value in own.tls if isinstance(value, Path)}
            changed["tls"] = own.tls.model_copy(update={name: folder / value for name, value in paths.items()})
        return own.model_copy(update=changed)

    kinds = {kind: tuple(session(own) for own in getattr(gateway, kind)) for kind in ("venue", "drop_copy", "client", "risk")}
    return gateway.model_copy(update={"store": folder / gateway.store, **kinds})


def secrets(session: Session) -> Secrets:
    """The secrets of a session, from its files.  Raises `ConfigError`, also for a login without one."""
    if session.dialect.login != "none" and (session.username is None or session.password_file is None):
        expected = f"expected username and password_file, for a login of {session.dialect_name}"
        raise ConfigError(f"session {session.name}: {expected}")
    paths: Mapping[str, Path | None] = {
        "password": session.password_file,
        "key_store": session.tls.key_store_password_file if session.tls else None,
        "trust_store": session.tls.trust_store_password_file if session.tls else None,
    }
    try:
        return Secrets(**{name: None if path is None else read_secret(path) for name, path in paths.items()})
    except ValueError as error:
        raise ConfigError(f"session {session.name}: {error}") from None
