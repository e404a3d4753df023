"""`gammaflow margin`: portfolio margin of portfolios in a file.

A file is a portfolio or a list of them.  A portfolio is an object of `scenario`, what is held and its prices, and
`parameters`, the parameter set: an object, or the name of one of `udfs/parameter_sets/`.  Other fields are ignored.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from udfs import margin_parameters, portfolio_margin, portfolio_positions
from udfs.margin_parameters import Entry, Haircut, Parameters
from udfs.portfolio_positions import Instruments, Positions
from udfs.portfolio_values import Market


class Portfolio(NamedTuple):
    """One portfolio of a file."""

    case: str  # the file's own name for it, else its number
    parameters: Parameters
    market: Market
    positions: Positions
    cash: float  # with the gains of perpetuals and their funding


class Loss(NamedTuple):
    """The loss in one scenario."""

    scenario: str
    loss: float  # negative is money lost


class Result(NamedTuple):
    """The margin of a portfolio; the names are those of `--json`.  Money is in the portfolio's settlement currency."""

    case: str
    initial_margin: float  # mark to market less the initial requirement
    maintenance_margin: float  # mark to market less the maintenance requirement; negative is liquidatable
    mark_to_market: float
    margin_ratio: float | None  # maintenance requirement over mark to market; None if that does not cover any
    is_liquidatable: bool
    worst_scenario: str | None  # None if none loses
    losses: list[Loss]  # of every scenario, in the order of the parameter set, and of the basis contingency

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {**self._asdict(), "losses": [loss._asdict() for loss in self.losses]}


def read(path: Path) -> tuple[list[Portfolio], bool]:
    """The portfolios of a file, and whether it is a list.  Raises `ValueError` naming file and field."""
    file = Entry.of_file(path)
    is_list = isinstance(file.value, list)
    entries = file.items() if is_list else [file]
    return [_portfolio(entry, str(at)) for at, entry in enumerate(entries)], is_list


def result(portfolio: Portfolio) -> Result:
    """Margin of one portfolio."""
    parameters, market, positions = portfolio.parameters, portfolio.market, portfolio.positions
    required = portfolio_margin.requirements(parameters, market, positions)
    pnl = portfolio_margin.scenario_pnl(parameters, market, positions)[0]
    margins = portfolio_margin.margins(1, portfolio.cash, [(positions, required)])
    names = portfolio_margin.scenario_names(parameters)
    worst = int(margins.worst[0])
    ratio = float(margins.ratio[0])
    return Result(
        case=portfolio.case,
        initial_margin=float(margins.initial[0]),
        maintenance_margin=float(margins.maintenance[0]),
        mark_to_market=float(margins.mark[0]),
        margin_ratio=ratio if np.isfinite(ratio) else None,
        is_liquidatable=bool(margins.maintenance[0] < 0),
        worst_scenario=names[worst] if worst >= 0 else None,
        losses=[Loss(name, float(loss)) for name, loss in zip(names, pnl, strict=True)],
    )


def show(console: Console, result: Result) -> None:
    """Print one result."""
    table = Table(title=f"Portfolio {result.case}", title_justify="left", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("initial margin", f"{result.initial_margin:,.2f}")
    table.add_row("maintenance margin", f"{result.maintenance_margin:,.2f}{' (liquidatable)' * result.is_liquidatable}")
    table.add_row("mark to market", f"{result.mark_to_market:,.2f}")
    table.add_row("margin ratio", "–" if result.margin_ratio is None else f"{result.margin_ratio:.4f}")
    for name, loss in result.losses:
        table.add_row(name, f"{loss:,.2f}", style="bold" if name == result.worst_scenario else None)
    console.print(table)
    console.print()


def _portfolio(entry: Entry, number: str) -> Portfolio:
    parameters = _parameters(entry["parameters"])
    scenario = entry["scenario"]
    feeds = scenario["option_feeds"].items()
    at_s = [feed["feed_expiry"].number() for feed in feeds]
    for feed, expiry_s in zip(feeds, at_s, strict=True):
        if at_s.count(expiry_s) > 1:
            raise feed["feed_expiry"].wrong("one feed for each expiry")
    options = scenario["options"].items()
    collaterals = scenario["collaterals"].items()
    haircuts = [_haircut(item, parameters) for item in collaterals]
    futures = scenario["num_perps"].number()
    instruments = Instruments(
        expiry=np.array([_expiry(item["expiry"], at_s) for item in options], dtype=np.int64),
        strike=_numbers(options, "strike", above=0.0),
        is_call=np.array([item["is_call"].flag() for item in options], dtype=np.bool_),
        expiries=len(feeds),
        futures=1,
        collaterals=len(collaterals),
    )
    confidences = ("forward_confidence", "rate_confidence", "option_vol_confidences")
    market = Market(
        spot=scenario["spot_price"].number(above=0.0),
        spot_confidence=scenario["spot_confidence"].number(0.0, 1.0),
        stable=scenario["stable_price"].number(above=0.0),
        expiry_s=np.array(at_s, dtype=np.float64),
        forward=_numbers(feeds, "forward", above=0.0),
        rate=_numbers(feeds, "rate"),
        expiry_confidence=np.array([min(feed[name].number(0.0, 1.0) for name in confidences) for feed in feeds]),
        vol=_numbers(options, "mark_vol", least=0.0),
        # If none is held there may be no price.
        future_price=np.array([scenario["perp_price"].number(above=0.0) if futures else 0.0]),
        future_confidence=np.array([scenario["perp_confidence"].number(0.0, 1.0)]),
        collateral_usd=_numbers(collaterals, "price", least=0.0),
        collateral_confidence=_numbers(collaterals, "confidence", least=0.0, most=1.0),
        collateral_threshold=_numbers(collaterals, "confidence_factor", least=0.0),
        mmhaircut=np.array([item.mmhaircut for item in haircuts]),
        imhaircut=np.array([item.imhaircut for item in haircuts]),
        is_risk_cancelling=np.array([item.is_risk_cancelling for item in haircuts], dtype=np.bool_),
    )
    amounts = [*_numbers(options, "amount"), futures, *_numbers(collaterals, "amount")]
    gains = ("cash", "unrealised_perp_pnl", "unrealised_funding")
    return Portfolio(
        case=str(entry["case"].value) if "case" in entry else number,
        parameters=parameters,
        market=market,
        positions=portfolio_positions.hold(instruments, np.zeros(len(amounts)), np.arange(len(amounts)), amounts),
        cash=sum(scenario[name].number() for name in gains),
    )


def _parameters(entry: Entry) -> Parameters:
    if not isinstance(entry.value, str):
        return margin_parameters.parameters(entry)
    return margin_parameters.parameter_set(entry.text(tuple(margin_parameters.names())))


def _haircut(entry: Entry, parameters: Parameters) -> Haircut:
    """A collateral's haircut: its own, else that of the parameter set."""
    name = entry["name"].text()
    if name in parameters.collaterals and "mmhaircut" not in entry:
        return parameters.collaterals[name]
    return margin_parameters.haircut(entry)


def _expiry(entry: Entry, feeds: list[float]) -> int:
    if entry.number() not in feeds:
        raise entry.wrong("the feed_expiry of one of option_feeds")
    return feeds.index(entry.number())


def _numbers(entries: list[Entry], name: str, **bounds: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array([entry[name].number(**bounds) for entry in entries], dtype=np.float64)
