"""Keys that are never shown, signatures as the venues document them, and what is said on private connections."""

import copy
import logging
import pickle
import shutil
import subprocess
import traceback
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Rejected
from feeds.private import PrivateSession, Refusal, binance, bybit, deribit, okx, signing
from feeds.private.keys import Keys, KeysError, Secret, read_file, read_keys
from tests.feeds.private_messages import BYBIT_EXECUTION

NOW_MS = 1_746_947_400_000
KEY, SECRET, PASSPHRASE = "visible-key-id", "hidden-secret-text", "hidden-passphrase"
KEYS = Keys(Secret(KEY), Secret(SECRET), Secret(PASSPHRASE))
# Published as examples, and of no account.
BINANCE_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
BINANCE_SECRET = Secret("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j")


def _by_definition(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA256 as RFC 2104 defines it: H((K xor opad) . H((K xor ipad) . text))."""
    padded = (sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in padded) + text).digest()
    return sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


def test_a_deribit_signature_is_that_of_the_documentation() -> None:
    # docs.deribit.com, Authentication, "signature credentials (WebSocket API)": client AMANDA.
    signature = signing.deribit(Secret("AMANDASECRECT"), 1576074319000, "1iqt2wls", "")
    assert signature == "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1"


def test_a_binance_signature_is_that_of_the_documentation() -> None:
    # Binance Spot REST API, "SIGNED Endpoint security", HMAC example of POST /api/v3/order.
    query = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
    expected = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert signing.binance(BINANCE_SECRET, query) == expected


def test_the_parameters_of_a_binance_websocket_request_are_signed_by_name_as_in_the_documentation() -> None:
    # Binance Spot WebSocket API, "SIGNED request security", HMAC example of order.place.
    params: dict[str, str | int] = {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01000000",
        "price": "52000.00",
        "newOrderRespType": "ACK",
        "recvWindow": 100,
        "timestamp": 1645423376532,
        "apiKey": BINANCE_KEY,
    }
    signature = signing.binance(BINANCE_SECRET, signing.binance_query(params))
    assert signature == "cc15477742bd704c29492d96c7ead9414dfd8e0ec4a00f947bb5bb454ddbd08a"


# OKX and Bybit document what is signed, but no secret that goes with an example's signature.


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80), st.integers(0, 2**41))
def test_okx_and_bybit_sign_what_their_documentation_says(secret: str, time: int) -> None:
    # OKX API v5, WebSocket, "Login": Base64 of the HMAC of timestamp + "GET" + "/users/self/verify".
    text = f"{time}GET/users/self/verify".encode()
    assert signing.okx(Secret(secret), time) == b64encode(_by_definition(secret.encode(), text)).decode()
    # Bybit API v5, WebSocket, "Authentication": hex of the HMAC of "GET/realtime" + expires.
    assert signing.bybit(Secret(secret), time) == _by_definition(secret.encode(), f"GET/realtime{time}".encode()).hex()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_openssl_signs_the_same() -> None:
    command = ["openssl", "dgst", "-sha256", "-hmac", SECRET, "-binary"]
    digest = subprocess.run(command, input=b"GET/realtime1746947410000", capture_output=True, check=True).stdout
    assert signing.bybit(Secret(SECRET), 1746947410000) == digest.hex()


def test_a_deribit_login_sends_a_signature_and_no_secret() -> None:
    (request,) = deribit.login(KEYS, NOW_MS, "n0nce")
    assert request["method"] == "public/auth"
    assert request["params"] == {
        "grant_type": "client_signature",
        "client_id": KEY,
        "timestamp": NOW_MS,
        "nonce": "n0nce",
        "data": "",
        "signature": signing.deribit(Secret(SECRET), NOW_MS, "n0nce"),
    }


def test_a_nonce_is_used_once() -> None:
    nonces = {deribit.login(KEYS, NOW_MS)[0]["params"]["nonce"] for _ in range(20)}
    assert len(nonces) == 20


def test_an_okx_login_tells_seconds() -> None:
    (request,) = okx.login(KEYS, NOW_MS)
    (args,) = request["args"]
    assert request["op"] == "login"
    assert (args["apiKey"], args["passphrase"], args["timestamp"]) == (KEY, PASSPHRASE, "1746947400")
    assert args["sign"] == signing.okx(Secret(SECRET), 1746947400)


def test_a_bybit_login_holds_for_a_while() -> None:
    (request,) = bybit.login(KEYS, NOW_MS)
    expires_ms = NOW_MS + 10_000
    assert request == {"op": "auth", "args": [KEY, expires_ms, signing.bybit(Secret(SECRET), expires_ms)]}


def test_a_binance_login_is_a_signed_subscription() -> None:
    (request,) = binance.login(KEYS, NOW_MS)
    assert request["method"] == "userDataStream.subscribe.signature"
    signature = signing.binance(Secret(SECRET), f"apiKey={KEY}&timestamp={NOW_MS}")
    assert request["params"] == {"apiKey": KEY, "timestamp": NOW_MS, "signature": signature}


SESSIONS = [
    deribit.session(KEYS, "desk"),
    okx.session(KEYS, "desk"),
    bybit.session(KEYS, "desk"),
    *(binance.session(market, KEYS, "desk") for market in binance.MARKETS),
]
ADMITTED = {
    "deribit": {"jsonrpc": "2.0", "id": "public/auth", "result": {"access_token": "t", "expires_in": 900}},
    "okx": {"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"},
    "bybit": {"success": True, "ret_msg": "", "op": "auth", "conn_id": "c"},
    "binance_spot": {"id": "login", "status": 200, "result": {"subscriptionId": 0}},
}
REFUSED = {
    "deribit": ({"id": "public/auth", "error": {"code": 13004, "message": "invalid_credentials"}}, "13004 invalid_credentials"),
    "okx": ({"event": "error", "code": "60009", "msg": "Login failed."}, "60009 Login failed."),
    "bybit": ({"success": False, "ret_msg": "error:USVC1111", "op": "auth"}, "error:USVC1111"),
    "binance_spot": ({"id": "login", "status": 400, "error": {"code": -1022, "msg": "no"}}, "-1022 no"),
}


def _names(session: PrivateSession) -> str:
    return session.market


@pytest.mark.parametrize("session", SESSIONS, ids=_names)
def test_a_session_tells_an_admission_from_a_refusal(session: PrivateSession) -> None:
    if session.market not in ADMITTED:
        assert session.admitted(b"{}")  # by its address
        return
    admitted, (refused, words) = orjson.dumps(ADMITTED[session.market]), REFUSED[session.market]
    assert session.admitted(admitted)
    assert session.refusal(admitted) is None
    assert not session.admitted(orjson.dumps(refused))
    assert session.refusal(orjson.dumps(refused)) == Refusal(words)


@pytest.mark.parametrize("session", SESSIONS, ids=_names)
@pytest.mark.parametrize("message", [b"", b"pong", b"[]", b"\xff", b"{}", b'{"result": 1, "error": 2, "event": []}'])
def test_a_session_can_be_asked_about_any_message(session: PrivateSession, message: bytes) -> None:
    session.refusal(message)
    session.reply(message)
    session.is_over(message)
    session.admitted(message)


def test_a_session_subscribes_to_what_its_parser_reads() -> None:
    assert deribit.subscribe()[0]["params"] == {"channels": ["user.changes.any.any.raw"]}
    assert okx.subscribe() == [{"op": "subscribe", "args": [{"channel": "orders", "instType": "ANY"}]}]
    assert bybit.subscribe() == [{"op": "subscribe", "args": ["order", "execution"]}]


def test_a_session_books_for_its_account() -> None:
    message = orjson.dumps({"topic": "execution", "data": [BYBIT_EXECUTION]})
    records = bybit.session(KEYS, "desk-2").parse(message, Received(NOW_MS * 1000, None, None))
    assert {record.row["account"] for record in records if not isinstance(record, Rejected)} == {"desk-2"}


def test_a_listen_key_becomes_the_address_and_is_renewed() -> None:
    session = binance.session("binance_usdm", KEYS, "desk")
    assert session.ticket is not None
    assert (session.ticket.method, session.ticket.headers) == ("POST", {"X-MBX-APIKEY": KEY})
    assert session.renewal is not None
    assert (session.renewal.method, session.renewal.url) == ("PUT", session.ticket.url)
    assert session.address is not None
    assert session.address(b'{"listenKey": "l1sten"}') == "wss://fstream.binance.com/private/ws/l1sten"
    assert "l1sten" not in session.url
    for answer in (b"{}", b'{"listenKey": 5}', b'{"listenKey": ""}', b"no"):
        with pytest.raises(Rejected, match="listenKey"):
            session.address(answer)


@pytest.mark.parametrize("message", [{"e": "listenKeyExpired"}, {"event": {"e": "eventStreamTerminated"}}])
def test_a_stream_that_the_venue_ends_is_over(message: dict[str, Any]) -> None:
    session = binance.session("binance_spot", KEYS, "desk")
    assert session.is_over(orjson.dumps(message))
    assert not session.is_over(orjson.dumps({"e": "executionReport"}))


def test_okx_wants_a_passphrase() -> None:
    with pytest.raises(KeysError, match="passphrase"):
        okx.session(Keys(Secret(KEY), Secret(SECRET)), "desk")


def _kept(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_keys_come_from_a_file_of_their_owner_alone(tmp_path: Path) -> None:
    path = _kept(tmp_path, orjson.dumps({"key": KEY, "secret": SECRET, "passphrase": PASSPHRASE}))
    for keys in (read_file(path), read_keys("OKX", {"GAMMAFLOW_OKX_KEYS": str(path), "GAMMAFLOW_OKX_KEY": "other"})):
        assert (keys.key.reveal(), keys.secret.reveal()) == (KEY, SECRET)
        assert keys.passphrase is not None
        assert keys.passphrase.reveal() == PASSPHRASE


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o666, 0o610])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = _kept(tmp_path, orjson.dumps({"key": KEY, "secret": SECRET}), mode)
    with pytest.raises(KeysError, match=rf"keys\.json: expected a file that only its owner can read .* got mode {mode:o}"):
        read_file(path)


def test_keys_come_from_the_environment() -> None:
    keys = read_keys("BYBIT_2", {"GAMMAFLOW_BYBIT_2_KEY": KEY, "GAMMAFLOW_BYBIT_2_SECRET": SECRET})
    assert (keys.key.reveal(), keys.secret.reveal(), keys.passphrase) == (KEY, SECRET, None)


@pytest.mark.parametrize("name", ["", "okx", "OKX;", "../OKX", "_OKX"])
def test_a_name_that_could_be_anything_is_refused(name: str) -> None:
    with pytest.raises(KeysError, match="name of keys"):
        read_keys(name, {})


def test_a_missing_key_is_named_by_its_variable() -> None:
    with pytest.raises(KeysError, match="GAMMAFLOW_OKX_SECRET: expected a text, got none"):
        read_keys("OKX", {"GAMMAFLOW_OKX_KEY": KEY})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a JSON object"),
        (f"secret = {SECRET}".encode(), "a JSON object"),
        (f'["{SECRET}"]'.encode(), "a JSON object"),
        (f'{{"key": "{KEY}", "secret": "{SECRET} "}}'.encode(), "secret: expected a text of ASCII"),
        (f'{{"key": "{KEY}", "secret": ["{SECRET}"]}}'.encode(), "secret: expected a text of ASCII"),
        (f'{{"key": "{KEY}", "secret": null}}'.encode(), "secret: expected a text, got none"),
        (f'{{"key": "{KEY}", "secret": "{SECRET}", "passphrase": ""}}'.encode(), "passphrase: expected a text of ASCII"),
    ],
)
def test_an_odd_file_of_keys_is_refused_without_showing_it(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(KeysError, match=expected) as caught:
        read_file(_kept(tmp_path, content))
    shown = "".join(traceback.format_exception(caught.value))
    assert "keys.json" in shown
    assert SECRET not in shown
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"nothing\.json: expected a file with keys"):
        read_file(tmp_path / "nothing.json")
    with pytest.raises(KeysError, match="expected a"):
        read_file(tmp_path)


def test_keys_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for session in SESSIONS:
            logging.getLogger(__name__).info("%s %r", session, session)
        logging.getLogger(__name__).info("%s %r %s", KEYS, KEYS, f"{KEYS.secret} {KEYS.secret!r} {KEYS.secret:>40}")
    shown = caplog.text + repr(SESSIONS) + str(KEYS.secret) + repr([session.ticket for session in SESSIONS])
    assert not [text for text in (KEY, SECRET, PASSPHRASE) if text in shown]


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_neither_pickled_nor_copied(copying: Any) -> None:
    with pytest.raises(TypeError, match="a secret is not pickled"):
        copying(KEYS.secret)
