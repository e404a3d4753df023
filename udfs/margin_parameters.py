"""Parameter sets of portfolio margin: the scenarios and every factor, read from a file and checked.

A set is a JSON file in `udfs/parameter_sets/` whose name is the set's; one more file is one more set.  It has the form of
`parameters` in a portfolio file (`gammaflow margin`), and so do its names, with two additions: `about`, a sentence, and
`collaterals`, the haircuts by name.  Every field is required and unknown ones are ignored.
"""

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple, Self, TypeVar

SETS = {
    file.name.removesuffix(".json"): file.read_text(encoding="utf-8")
    for file in sorted((files("udfs") / "parameter_sets").iterdir(), key=lambda file: file.name)
    if file.name.endswith(".json")
}
"""Every set's text by its name.  Read at import: a job's files are deleted when it ends, while its modules stay loaded."""
VOL_DIRECTIONS = ("None", "Up", "Down")
SKEWS = ("LINEAR", "ABS")

Section = TypeVar("Section")


class Scenario(NamedTuple):
    """One thing that may happen: the spot moves and with it the vols, or the skew alone does."""

    spot_shock: float  # the spot, and the forwards' part that is not fixed yet, times this
    vol_shock_direction: str  # one of `VOL_DIRECTIONS`; or of `SKEWS`, which leave spot and forwards where they are
    dampening_factor: float  # the share of the gain or loss that counts

    @property
    def is_skew(self) -> bool:
        """Whether it moves the skew, not the spot."""
        return self.vol_shock_direction in SKEWS

    @property
    def name(self) -> str:
        """Its name: "spot -18 %, vol up"."""
        if self.is_skew:
            what = f"skew {self.vol_shock_direction.lower()}"
        else:
            vol = {"None": "same", "Up": "up", "Down": "down"}[self.vol_shock_direction]
            what = f"spot {100 * (self.spot_shock - 1):+.4g} %, vol {vol}"
        return what if self.dampening_factor == 1 else f"{what}, × {self.dampening_factor:.4g}"


class SkewShock(NamedTuple):
    """How far a skew scenario moves a vol: by at most cap = c_base √T + scale_cap, reached at a width k*."""

    linear_scale_cap: float
    linear_cbase: float
    abs_scale_cap: float
    abs_cbase: float
    min_k_star: float
    min_width_scale: float
    vol_param_static: float
    vol_param_scale: float


class VolShock(NamedTuple):
    """How far the vols move with the spot, as fractions of them, 30 days from expiry; more before, less beyond."""

    volrangeup: float
    min_vol_eval_shocked: float  # a vol shocked up is at least this
    volrangedown: float
    shorttermpower: float  # up to 30 days
    longtermpower: float
    dte_floor: float  # days; nearer expiries count as this far


class Loss(NamedTuple):
    """How the worst loss becomes a requirement, and how the value of an expiry is discounted in a scenario."""

    mm_loss_factor: float
    im_loss_factor: float
    short_rate_multscale: float
    long_rate_multscale: float
    short_rate_addscale: float
    long_rate_addscale: float
    base_static_discount: float
    base_static_discount_neg: float


class BasisContingency(NamedTuple):
    """The loss of expiries that move against one another."""

    scenario_spot_up: float
    scenario_spot_down: float
    basis_cont_add_factor: float
    basis_cont_mult_factor: float  # per year to expiry


class OtherContingency(NamedTuple):
    """What is required beside the worst loss; percentages as fractions, those of initial margin come on top."""

    peg_loss_threshold: float
    peg_loss_factor: float
    conf_threshold: float
    conf_margin: float
    mm_perp_percent: float
    im_perp_percent: float
    mm_option_percent: float
    im_option_percent: float


class Haircut(NamedTuple):
    """What a collateral is taken for."""

    mmhaircut: float
    imhaircut: float  # on top of mmhaircut, for initial margin
    is_risk_cancelling: bool  # moves with the spot, so that its gains offset losses in a scenario


class Parameters(NamedTuple):
    """A parameter set."""

    scenarios: tuple[Scenario, ...]
    skew_shock: SkewShock
    vol_shock: VolShock
    margin: Loss
    basis_contingency: BasisContingency
    other_contingency: OtherContingency
    collaterals: Mapping[str, Haircut] = {}

    def scaled(self, level: float) -> Self:
        """The set where vol is `level` times its reference: vol shocks and the factors of the worst loss times that."""
        shock, loss = self.vol_shock, self.margin
        return self._replace(
            vol_shock=shock._replace(volrangeup=shock.volrangeup * level, volrangedown=shock.volrangedown * level),
            margin=loss._replace(mm_loss_factor=loss.mm_loss_factor * level, im_loss_factor=loss.im_loss_factor * level),
        )


class Entry:
    """A value in a JSON file with its path, so that an error names the field in one line."""

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    @classmethod
    def of_file(cls, path: Any) -> "Entry":
        """The whole of a file.  Raises `ValueError` naming it."""
        try:
            return cls.of_text(path.read_text(encoding="utf-8"), path.name)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name}: not JSON: {error}") from None

    @classmethod
    def of_text(cls, text: str, name: str) -> "Entry":
        """The whole of a file that has been read.  Raises `ValueError` naming it."""
        try:
            return cls(json.loads(text), f"{name}:")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}: not JSON: {error}") from None

    def wrong(self, expected: str) -> ValueError:
        """The error that this is not what was expected."""
        got = json.dumps(self.value, default=str)
        return ValueError(f"{self.where} expected {expected}, got {got if len(got) <= 60 else got[:60] + ' …'}")

    def __contains__(self, name: str) -> bool:
        return isinstance(self.value, dict) and name in self.value

    def __getitem__(self, name: str) -> "Entry":
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        separator = " " if self.where.endswith(":") else "."
        where = f"{self.where}{separator}{name}"
        if name not in self.value:
            raise ValueError(f"{where} is missing")
        return Entry(self.value[name], where)

    def items(self) -> "list[Entry]":
        """The elements of a list."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        separator = " " if self.where.endswith(":") else ""
        return [Entry(value, f"{self.where}{separator}[{i}]") for i, value in enumerate(self.value)]

    def fields(self) -> "list[tuple[str, Entry]]":
        """The fields of an object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return [(name, self[name]) for name in self.value]

    def number(self, least: float = -math.inf, most: float = math.inf, above: float = -math.inf) -> float:
        """A finite number within the bounds."""
        value = self.value
        try:
            number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        except OverflowError:
            number = math.nan
        if not (math.isfinite(number) and least <= number <= most and number > above):
            bounds = [f"above {above:g}"] * (above > -math.inf)
            bounds += [f"of at least {least:g}"] * (least > -math.inf) + [f"of at most {most:g}"] * (most < math.inf)
            raise self.wrong(" ".join(["a number", " and ".join(bounds)]).strip())
        return number

    def flag(self) -> bool:
        """True or false; 1 and 0 are accepted."""
        if not (isinstance(self.value, bool) or self.value in (0, 1)):
            raise self.wrong("true or false")
        return bool(self.value)

    def text(self, among: tuple[str, ...] = ()) -> str:
        """A string; one of `among`, where given."""
        if not isinstance(self.value, str) or (among and self.value not in among):
            raise self.wrong(f"one of {', '.join(among)}" if among else "a string")
        return self.value


def names() -> list[str]:
    """The parameter sets there are."""
    return list(SETS)


def parameter_set(name: str) -> Parameters:
    """The set of that name.  Raises `KeyError` where there is none, `ValueError` naming file and field where it is wrong."""
    if name not in SETS:
        raise KeyError(f"no parameter set {name!r}; there are {', '.join(names())}")
    return parameters(Entry.of_text(SETS[name], f"{name}.json"))


def parameters(entry: Entry) -> Parameters:
    """A set from the content of a file.  Raises `ValueError` naming file and field where it is wrong."""
    scenarios = tuple(_scenario(item) for item in entry["scenarios"].items())
    if not scenarios:
        raise entry["scenarios"].wrong("at least one scenario")
    # What is not named here is a factor or a threshold, and not negative.
    any_sign = {"linear_cbase", "abs_cbase", "vol_param_scale", "shorttermpower", "longtermpower"}

    def section(kind: type[Section], name: str) -> Section:
        fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
        return kind(*(entry[name][field].number(least=-math.inf if field in any_sign else 0.0) for field in fields))

    return Parameters(
        scenarios,
        section(SkewShock, "skew_shock"),
        section(VolShock, "vol_shock"),
        section(Loss, "margin"),
        section(BasisContingency, "basis_contingency"),
        section(OtherContingency, "other_contingency"),
        {name: haircut(item) for name, item in entry["collaterals"].fields()} if "collaterals" in entry else {},
    )


def haircut(entry: Entry) -> Haircut:
    """What a collateral is taken for, from an object that has the fields of `Haircut`."""
    return Haircut(
        entry["mmhaircut"].number(least=0.0, most=1.0),
        entry["imhaircut"].number(least=0.0, most=1.0),
        entry["is_risk_cancelling"].flag(),
    )


def _scenario(entry: Entry) -> Scenario:
    return Scenario(
        entry["spot_shock"].number(above=0.0),
        entry["vol_shock_direction"].text((*VOL_DIRECTIONS, *SKEWS)),
        entry["dampening_factor"].number(least=0.0),
    )
