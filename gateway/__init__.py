"""FIX at the edge: orders out to venues, reports in; clients' orders in, reports and drop copies out.

Conversions are pure functions of rows and `Message`s.  `engine` alone knows Java: QuickFIX/J keeps the sessions.  `service` is
the loop that gives rows to sessions and messages to topics.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

SOH = "\x01"


@dataclass(frozen=True, slots=True)
class Message:
    """A FIX message as an application sees it: without BeginString, BodyLength and CheckSum."""

    kind: str  # MsgType
    pairs: tuple[tuple[int, str], ...]  # in the order of the message; a repeating group is as it came
    _first: dict[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_first", dict(reversed(self.pairs)))

    def get(self, tag: int) -> str | None:
        """The first value of a tag; None where there is none or it is empty."""
        return self._first.get(tag) or None

    def all(self, tag: int) -> list[str]:
        """Every value of a tag, as a repeating group has it."""
        return [value for own, value in self.pairs if own == tag]

    @property
    def number(self) -> int:
        """MsgSeqNum, or 0."""
        value = self.get(34)
        return int(value) if value is not None and value.isdecimal() else 0

    @property
    def is_repeat(self) -> bool:
        """Whether its sender says that it may have come before."""
        return self.get(43) == "Y" or self.get(97) == "Y"


_FRAME = frozenset({8, 9, 10, 35})


def parsed(text: str) -> Message:
    """The message in a text with SOH between its fields; what is no field is left out."""
    kind, pairs = "", []
    for part in text.split(SOH):
        tag, equals, value = part.partition("=")
        if not equals or not tag.isdecimal():
            continue
        number = int(tag)
        if number == 35:
            kind = value
        elif number not in _FRAME:
            pairs.append((number, value))
    return Message(kind, tuple(pairs))


def message(kind: str, fields: Iterable[tuple[int, str | None]]) -> Message:
    """A message of these fields; those that are None or empty are left out."""
    return Message(kind, tuple([(tag, value.replace(SOH, " ")) for tag, value in fields if value]))
