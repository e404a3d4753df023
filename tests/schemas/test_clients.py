"""A client that does not reach its broker: how often it tries, and what it says."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from schemas import security
from schemas.clients import Unreachable, reached


@contextmanager
def slamming() -> Iterator[tuple[str, list[float]]]:
    """A server that ends every connection at once: its address, and an entry for each."""
    connections: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(0.0)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", connections
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("make", [Producer, Consumer, AdminClient])
def test_a_client_gives_up_in_time_and_does_not_storm(make: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(security.VARIABLE, raising=False)
    own = {"group.id": "x"} if make is Consumer else {}
    with slamming() as (address, connections):
        with pytest.raises(Unreachable) as refused:
            reached(make, address, security.READER, {"log_level": 0, **own}, timeout_s=1.5)
        made = len(connections)
    assert f"no Kafka broker answers at {address} within 1.5 s, in plain text" in str(refused.value)
    assert 2 <= made <= 8
