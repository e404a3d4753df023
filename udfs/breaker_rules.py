"""Sets of circuit breakers: rules as data, read from a file and checked.

A set is a JSON file in `udfs/breaker_sets/` whose name is the set's; one more file is one more set.  A rule has a name, a
`kind`, what it watches and stops, and the figures of its kind (`udfs.breakers`).  There are two sorts of kinds:

instant   one price breaks it: price_band, fill_band, maker_band, order_price_protection, price_range, price_variation, dynamic,
          session_limit, market_wide, deviation, volatility
lasting   a state of the market breaks it once it has held for `hold_s`: luld, spread, depth, oracle_fault
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.resources import files
from typing import Any

from udfs import bands
from udfs.bands import LuldStep
from udfs.breakers import (
    STEPS,
    Condition,
    DepthCollapse,
    Deviation,
    Dynamic,
    FillBand,
    Luld,
    MakerBand,
    MarketWide,
    OracleFault,
    PriceBand,
    Protection,
    Range,
    SessionLimit,
    Spread,
    Variation,
    Volatility,
)
from udfs.margin_parameters import Entry

SETS = {
    file.name.removesuffix(".json"): file.read_text(encoding="utf-8")
    for file in sorted((files("udfs") / "breaker_sets").iterdir(), key=lambda file: file.name)
    if file.name.endswith(".json")
}
"""Every set's text by its name.  Read at import: a job's files are deleted when it ends, while its modules stay loaded."""

INSTRUMENT, UNDERLYING, VENUE = "instrument", "underlying", "venue"
TRADES, INDICES, FAULTS = "trades", "index_prices", "oracle_faults"


@dataclass(frozen=True)
class Rule:
    """A rule of a set.

    watches      trades (with marks and books beside them) of an instrument, index_prices of an underlying, or its oracle_faults
    stops        what a break stops: the instrument, its underlying or its venue; `passes_exits`: but orders that only reduce
    halt_s       how long; None: until the condition has not held for `calm_s`
    hold_s       how long a lasting condition must hold
    window_ms    of its rolling window; `window_of` is what is in it: price, index or depth
    fixings      references that it takes from earlier prices: the last before this time of each day, in ms since midnight, UTC
    """

    name: str
    kind: str
    condition: Condition
    watches: str
    stops: str
    venues: tuple[str, ...]
    underlyings: tuple[str, ...]
    instruments: tuple[str, ...]
    kinds: tuple[str, ...]  # of instruments
    halt_s: float | None
    hold_s: float
    calm_s: float
    window_ms: int
    window_of: str
    fixings: Mapping[str, int]
    passes_exits: bool

    @cached_property
    def is_lasting(self) -> bool:
        """Whether it is judged by a state of the market, and not by one price."""
        return isinstance(self.condition, Luld | Spread | DepthCollapse | OracleFault)

    @cached_property
    def has_window(self) -> bool:
        """Whether its condition asks for the window."""
        condition = self.condition
        is_of_mean = isinstance(condition, PriceBand) and condition.reference == "mean"
        return is_of_mean or isinstance(condition, FillBand | Range | Dynamic | Volatility | Luld | DepthCollapse)

    def applies(self, watches: str, venue: str, instrument: str | None, underlying: str | None, kind: str | None) -> bool:
        """Whether it is a rule for this instrument; or without one for an index or the oracle of the underlying.

        A rule that names underlyings or kinds, or stops an underlying, waits until they are known.
        """
        if self.watches != watches or (self.stops == UNDERLYING and underlying is None):
            return False
        pairs = ((self.venues, venue), (self.underlyings, underlying), (self.instruments, instrument), (self.kinds, kind))
        return all("*" in patterns or (name is not None and _matches(patterns, name)) for patterns, name in pairs)


def _matches(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def names() -> list[str]:
    """The sets there are."""
    return list(SETS)


def rule_set(name: str) -> tuple[Rule, ...]:
    """The rules of the set of that name.  Raises `KeyError` where there is none, `ValueError` naming file and field."""
    if name not in SETS:
        raise KeyError(f"no set of breakers {name!r}; there are {', '.join(names())}")
    return rules(Entry.of_text(SETS[name], f"{name}.json"))


def rules(entry: Entry) -> tuple[Rule, ...]:
    """The rules of a file's content.  Raises `ValueError` naming file and field where it is wrong."""
    whole = tuple(_rule(item) for item in entry["rules"].items())
    seen: set[str] = set()
    for rule, item in zip(whole, entry["rules"].items(), strict=True):
        if rule.name in seen:
            raise item["name"].wrong("a name that no other rule has")
        seen.add(rule.name)
    return whole


def luld_steps(name: str) -> tuple[LuldStep, ...]:
    """The percentage parameters of a set of Limit Up-Limit Down."""
    if name not in SETS:
        raise KeyError(f"no set of breakers {name!r}; there are {', '.join(names())}")
    return tuple(_luld_step(item) for item in Entry.of_text(SETS[name], f"{name}.json")["steps"].items())


def _luld_step(entry: Entry) -> LuldStep:
    def tiers(item: Entry) -> frozenset[int]:
        return frozenset(int(tier.number()) for tier in item.items())

    is_least_in = "above" not in entry
    return LuldStep(
        entry["least" if is_least_in else "above"].number(least=0.0),
        is_least_in,
        {int(tier): share.number(above=0.0) for tier, share in entry["fractions"].fields()},
        entry["amount"].number(above=0.0) if "amount" in entry else None,
        {period: tiers(item) for period, item in entry["doubled"].fields()},
    )


def _rule(entry: Entry) -> Rule:
    kind = entry["kind"].text(tuple(KINDS))
    name = entry["name"].text()
    if not name or "/" in name:
        raise entry["name"].wrong("a name without a slash")

    def patterns(what: str) -> tuple[str, ...]:
        return tuple(item.text() for item in entry[what].items()) if what in entry else ("*",)

    def seconds(what: str, otherwise: float) -> float:
        return entry[what].number(least=0.0) if what in entry else otherwise

    fixings = (
        {what: int(1000 * at.number(0.0, 86_399.0)) for what, at in entry["fixings"].fields()} if "fixings" in entry else {}
    )
    watches = FAULTS if kind == "oracle_fault" else TRADES
    if "watches" in entry:
        watches = entry["watches"].text((FAULTS,) if kind == "oracle_fault" else (TRADES, INDICES))
    if (
        entry["stops"].value
        not in {TRADES: (INSTRUMENT, UNDERLYING, VENUE), INDICES: (UNDERLYING, VENUE), FAULTS: (UNDERLYING,)}[watches]
    ):
        raise entry["stops"].wrong(f"what {watches} tell of")
    is_endless = "halt_s" not in entry
    if is_endless and kind not in ("spread", "depth", "oracle_fault"):
        raise entry.wrong("halt_s: only spread, depth and oracle_fault end by themselves")
    window_of = {"fill_band": "index", "depth": "depth"}.get(kind, "price")
    window_s = entry["window_s"].number(least=STEPS / 1000, most=86_400.0) if "window_s" in entry else 300.0
    return Rule(
        name,
        kind,
        KINDS[kind](entry),
        watches,
        entry["stops"].text((INSTRUMENT, UNDERLYING, VENUE)),
        patterns("venues"),
        patterns("underlyings"),
        patterns("instruments"),
        patterns("kinds"),
        None if is_endless else entry["halt_s"].number(above=0.0),
        seconds("hold_s", 0.0),
        seconds("calm_s", 0.0),
        int(1000 * window_s),
        window_of,
        fixings,
        entry["passes_exits"].flag() if "passes_exits" in entry else False,
    )


def _share(entry: Entry, name: str) -> float:
    return entry[name].number(above=0.0)


def _price_band(entry: Entry) -> PriceBand:
    by_side = entry["is_by_side"].flag() if "is_by_side" in entry else False
    reference = entry["reference"].text(("mark", "index", "last", "mean"))
    return PriceBand(reference, _share(entry, "down"), _share(entry, "up"), by_side)


def _protection(entry: Entry) -> Protection:
    def step(item: Entry) -> tuple[float | None, float]:
        return (item["up_to"].number(above=0.0) if "up_to" in item else None), _share(item, "fraction")

    return Protection(tuple(step(item) for item in entry["steps"].items()))


def _pair(entry: Entry) -> tuple[float, float]:
    values = [item.number(above=0.0) for item in entry.items()]
    if len(values) != 2:
        raise entry.wrong("two multipliers")
    return values[0], values[1]


def _variation(entry: Entry) -> Variation:
    def step(item: Entry) -> tuple[float, float | None, float]:
        return item["from"].number(least=0.0), (item["up_to"].number() if "up_to" in item else None), _share(item, "tick")

    ticks = tuple(step(item) for item in entry["ticks"].items()) if "ticks" in entry else None
    where = entry["where"].text((bands.ADVANTAGE, bands.DISADVANTAGE, bands.BOTH))
    return Variation(_share(entry, "limit"), where, ticks)


def _dynamic(entry: Entry) -> Dynamic:
    late = entry["late_halt_s"].number(above=0.0) if "late_halt_s" in entry else entry["halt_s"].number(above=0.0)
    return Dynamic(_share(entry, "fraction"), _share(entry, "tick"), entry["halt_s"].number(above=0.0), late)


def _session(entry: Entry) -> SessionLimit:
    def limits(name: str) -> tuple[tuple[str, float], ...]:
        return tuple((item["reference"].text(), _share(item, "fraction")) for item in entry[name].items())

    return SessionLimit(limits("up"), limits("down"))


def _market_wide(entry: Entry) -> MarketWide:
    def level(item: Entry) -> tuple[float, float | None]:
        return _share(item, "fraction"), (item["halt_s"].number(above=0.0) if "halt_s" in item else None)

    return MarketWide(tuple(level(item) for item in entry["levels"].items()))


def _oracle_fault(entry: Entry) -> OracleFault:
    kinds = ("frozen", "withheld", "delayed", "deviating", "stepping_back", "depegged")
    return OracleFault(tuple(item.text(kinds) for item in entry["faults"].items()), int(entry["least"].number(least=1.0)))


def _luld(entry: Entry) -> Luld:
    return Luld(
        luld_steps(entry["bands"].text(tuple(names()))),
        int(entry["tier"].number()),
        entry["leverage"].number(above=0.0) if "leverage" in entry else 1.0,
        _share(entry, "update_fraction"),
        int(1000 * entry["update_s"].number(least=0.0)),
    )


KINDS: dict[str, Callable[[Entry], Any]] = {
    "price_band": _price_band,
    "fill_band": lambda entry: FillBand(_share(entry, "index"), _share(entry, "mean")),
    "maker_band": lambda entry: MakerBand(_share(entry, "fraction")),
    "order_price_protection": _protection,
    "price_range": lambda entry: Range(_pair(entry["bid"]), _pair(entry["ask"])),
    "price_variation": _variation,
    "dynamic": _dynamic,
    "session_limit": _session,
    "market_wide": _market_wide,
    "deviation": lambda entry: Deviation(entry["factor"].number(above=1.0)),
    "volatility": lambda entry: Volatility(_share(entry, "most")),
    "luld": _luld,
    "spread": lambda entry: Spread(_share(entry, "most")),
    "oracle_fault": _oracle_fault,
    "depth": lambda entry: DepthCollapse(_share(entry, "within"), _share(entry, "least")),
}
"""How the figures of each kind of rule are read."""
