"""A broken clock of the receiver does no harm to a replay."""

from pathlib import Path

from deploy.runtime import Runtime
from feeds.capture import Tally, convert, read
from feeds.publish import Publisher, replay


def test_a_time_of_receipt_in_the_future_stops_no_replay(suite: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    path.write_text('3926993723.8: {"jsonrpc":"2.0","meth\n')
    tally = Tally()
    with Publisher(suite.kafka) as publisher:
        for tally in replay(convert(read("deribit", path)), publisher):  # noqa: B007 - the last is kept
            pass
    assert tally.rejected == 1
