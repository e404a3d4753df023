"""Rules of oracles: named parameter sets, and one price of an underlying from its sources by them.

A set is a JSON file in `udfs/oracle_sets/` whose name is the set's; one more file is one more set.  `based_on` names another
set, whose fields count where a set has none of its own.  The job `oracles` uses `default`.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from udfs import oracles
from udfs.margin_parameters import Entry
from udfs.oracle_validity import ACTIONS, CLASSES, Holds, Limits
from udfs.oracles import Quote, Weighted

SETS = {
    file.name.removesuffix(".json"): file.read_text(encoding="utf-8")
    for file in sorted((files("udfs") / "oracle_sets").iterdir(), key=lambda file: file.name)
    if file.name.endswith(".json")
}
"""Every set's text by its name.  Read at import: a job's files are deleted when it ends, while its modules stay loaded."""
METHODS = ("weighted_median", "pyth", "upper_median", "capped_mean")
AGEING = ("index", "publisher", "last")
"""Kinds of sources whose prices age: a venue's index, a publisher of an oracle, the last trade.  A book says itself whether it
is stale."""


class Sources(NamedTuple):
    """Who counts, and for how much.  A venue's index, mid and last trade share its weight."""

    least: int  # venues, for sufficient data
    most_weight: float  # of a venue, whatever `weights` says
    weights: Mapping[str, float]  # of venues; of others 1
    own_venues: frozenset[str]  # venues that liquidate by this price: they never feed it
    assumed_rates: Mapping[str, float]  # USD per coin, of quote currencies that have no price of their own

    def weight(self, venue: str) -> float:
        """What a venue weighs."""
        return min(self.weights.get(venue, 1.0), self.most_weight)


class Confidence(NamedTuple):
    """Half widths as fractions of the price: what is taken for a narrower, a wider and an unstated one."""

    least_ratio: float
    most_ratio: float
    unstated_ratio: float

    def capped(self, price: float, confidence: float | None) -> float:
        """The confidence that counts, in the unit of the price."""
        stated = self.unstated_ratio * price if confidence is None else confidence
        return min(max(stated, self.least_ratio * price), self.most_ratio * price)


class Quality(NamedTuple):
    """What halves the weight of a source; nothing takes more of it than `least` leaves."""

    least: float
    half_age_ms: float
    half_lag_ms: float
    half_jitter_ms: float
    half_confidence_ratio: float

    def share(self, age_ms: float, lag_ms: float | None, jitter_ms: float | None, confidence_ratio: float) -> float:
        """The share of its weight that a source keeps; an unknown lag counts like none, for then its deviation tells."""
        whole = (
            (1.0 + abs(age_ms) / self.half_age_ms)
            * (1.0 + (lag_ms or 0.0) / self.half_lag_ms)
            * (1.0 + (jitter_ms or 0.0) / self.half_jitter_ms)
            * (1.0 + confidence_ratio / self.half_confidence_ratio)
        )
        return max(self.least, 1.0 / whole)


class Habits(NamedTuple):
    """How far a source may depart from its own habit."""

    least_ms: float
    gaps: float
    move: float  # a fraction of the price: what is nearer than this counts as there

    def limit_ms(self, gap_ms: float | None) -> float | None:
        """For how long a source with this median gap may do nothing; None without a habit."""
        return None if gap_ms is None else max(self.least_ms, self.gaps * gap_ms)


class Rules(NamedTuple):
    """A parameter set."""

    name: str
    version: int
    method: str
    most_share: float  # how far a price is from the median at most, in a mean of capped prices
    sources: Sources
    confidence: Confidence
    most_deviation: float  # from the middle, as a fraction: beyond, a source is left out
    half_deviation: float
    quality: Quality
    ages_ms: Mapping[str, float]  # by kind: an older price is left out
    future_ms: float  # a price from further in the future is left out
    habits: Habits
    basis_half_life_ms: float
    basis_least_ms: float  # how long a basis is measured before it is used
    average_ms: float  # time constant of the moving average
    limits: Limits  # in milliseconds
    holds: Holds

    @property
    def label(self) -> str:
        """Name and version, as rows bear them."""
        return f"{self.name}/{self.version}"


def rules(name: str = "default") -> Rules:
    """The set of that name.  Raises `KeyError` where there is none, `ValueError` naming file and field where it is wrong."""
    return from_entry(name, Entry(_merged(name, ()), f"{name}.json:"))


def _merged(name: str, derived: tuple[str, ...]) -> dict[str, Any]:
    if name not in SETS:
        raise KeyError(f"no set of rules {name!r}; there are {', '.join(SETS)}")
    if name in derived:
        raise ValueError(f"{name}.json: based_on leads back to it")
    entry = Entry.of_text(SETS[name], f"{name}.json")
    own: dict[str, Any] = {field: value.value for field, value in entry.fields()}
    return _merged(own["based_on"], (*derived, name)) | own if "based_on" in own else own


def from_entry(name: str, entry: Entry) -> Rules:
    """A set from the content of a file.  Raises `ValueError` naming file and field where it is wrong."""

    def shares(section: str, *fields: str) -> list[float]:
        return [entry[section][field].number(least=0.0) for field in fields]

    def halves(section: str, *fields: str) -> list[float]:
        return [entry[section][field].number(above=0.0) for field in fields]

    sources, ages = entry["sources"], entry["ages_ms"]
    return Rules(
        name,
        int(entry["version"].number(least=1)),
        entry["method"].text(METHODS),
        entry["most_share"].number(least=0.0),
        Sources(
            int(sources["least"].number(least=1)),
            sources["most_weight"].number(above=0.0),
            {venue: item.number(above=0.0) for venue, item in sources["weights"].fields()},
            frozenset(item.text() for item in sources["own_venues"].items()),
            {quote: item.number(above=0.0) for quote, item in sources["assumed_rates"].fields()},
        ),
        Confidence(*shares("confidence", *Confidence._fields)),
        entry["deviation"]["most"].number(above=0.0),
        entry["deviation"]["half"].number(above=0.0),
        Quality(entry["quality"]["least"].number(above=0.0, most=1.0), *halves("quality", *Quality._fields[1:])),
        {kind: ages[kind].number(least=0.0) for kind in AGEING},
        ages["future"].number(least=0.0),
        Habits(*shares("habits", *Habits._fields)),
        entry["basis"]["half_life_ms"].number(above=0.0),
        entry["basis"]["least_ms"].number(least=0.0),
        entry["average_ms"].number(above=0.0),
        Limits(*shares("limits", "stale_ms", "stale_for_margin_ms", "most_confidence_ratio", "most_volatile_ratio")),
        _holds(entry["holds"]),
    )


def _holds(entry: Entry) -> Holds:
    table = {name: frozenset(item.text(ACTIONS) for item in held.items()) for name, held in entry.fields()}
    if unknown := sorted(table.keys() - set(CLASSES)):
        raise entry.wrong(f"classes among {', '.join(CLASSES)}, not {', '.join(unknown)}")
    return table


def aggregate(rules: Rules, quotes: Sequence[Quote]) -> Weighted | None:
    """One price from those that count, by the method of a set; None without any.

    Without weights of its own a method takes all quotes alike.
    """
    if rules.method == "weighted_median" or not quotes:
        return oracles.weighted_median(quotes, rules.most_deviation, rules.half_deviation) if quotes else None
    prices = [quote.price for quote in quotes]
    weights = [1.0] * len(quotes)
    if rules.method == "pyth":
        estimate = oracles.of_intervals(prices, [quote.confidence for quote in quotes])
        assert estimate is not None
        price, confidence = estimate
    else:
        if rules.method == "upper_median":
            price = oracles.upper_median(prices) or math.nan
        else:
            weights = [quote.weight for quote in quotes]
            capped = oracles.capped_mean(prices, rules.most_share, weights)
            if capped is None:
                return None
            prices, price = capped.capped, capped.mean
        ordered, quarter = sorted(prices), len(prices) >> 2
        confidence = max(price - ordered[quarter], ordered[-1 - quarter] - price)
        # What a median of few is made of may agree by chance; its parts are no surer for that.
        confidence = max(confidence, min(quote.confidence for quote in quotes))
    total = math.fsum(weights)
    deviations = [quote.price / price - 1.0 for quote in quotes]
    return Weighted(price, confidence, price, deviations, [weight / total for weight in weights])
