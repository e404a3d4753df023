"""Messages as received, in files that `gammaflow replay --capture` can read."""

import gzip
import time
from datetime import UTC, datetime
from pathlib import Path

MAX_BYTES = 256 << 20
"""The size of the messages in one file, before compression."""


class RecordingError(Exception):
    """Messages that cannot be stored; the error names the file and the reason."""


class Recording:
    """A series of gzipped files, `<path>.<time in UTC>.gz`: a new one after every `max_bytes` of messages.

    A truncated file, as after a power failure, can be read up to that point.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Open the first file.  Raises `RecordingError`."""
        self._path, self._max_bytes = path, max_bytes
        self._file: gzip.GzipFile | None = None
        self.kept_bytes = 0  # in all files, before compression
        self._open()

    def _open(self) -> None:
        stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.current = self._path.with_name(f"{self._path.name}.{stamp}.gz")
        self._bytes, self._url = 0, ""
        try:
            self.current.parent.mkdir(parents=True, exist_ok=True)
            self._file = gzip.open(self.current, "wb", compresslevel=3)  # noqa: SIM115 - it stays open
        except OSError as error:
            raise RecordingError(f"{self.current}: {error.strerror or error}") from error

    def keep(self, url: str, received_us: int, message: bytes) -> None:
        """Store one message of a connection, or one HTTP response.  Raises `RecordingError`."""
        assert self._file is not None
        seconds = b"%d.%06d" % divmod(received_us, 1_000_000)
        text = message.replace(b"\n", b" ").replace(b"\r", b" ")
        if url.startswith("http"):
            line = b"%s -> %s: %s\n" % (url.encode(), seconds, text)
        else:
            # A reader applies the address of the last such line.
            opened = b"%s <-> %s\n" % (url.encode(), seconds) if url != self._url else b""
            self._url = url
            line = b"%s%s: %s\n" % (opened, seconds, text)
        try:
            self._file.write(line)
        except OSError as error:
            raise self._full(error) from error
        self._bytes += len(line)
        self.kept_bytes += len(line)
        if self._bytes >= self._max_bytes:
            self.close()
            self._open()

    def close(self) -> None:
        """Close the current file.  Raises `RecordingError` where what is left cannot be written."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise self._full(error) from error

    def _full(self, error: OSError) -> RecordingError:
        return RecordingError(f"{self.current}: {error.strerror or error}; free some space, or record elsewhere")
