import json
from pathlib import Path
from typing import Any

import pytest

from udfs import margin_parameters
from udfs.margin_parameters import Entry, Parameters, Scenario

DRAFT: dict[str, Any] = json.loads(margin_parameters.SETS["scenario_grid"])


def parameters_in(file: Path) -> Parameters:
    return margin_parameters.parameters(Entry.of_file(file))


def written(folder: Path, *path: str | int, value: Any = None) -> Path:
    """A copy of a set with one field changed, or removed where no value is given."""
    draft = json.loads(json.dumps(DRAFT))
    at = draft
    for step in path[:-1]:
        at = at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    file = folder / "mine.json"
    file.write_text(json.dumps(draft))
    return file


@pytest.mark.parametrize("name", margin_parameters.names())
def test_every_set_reads_says_what_it_is_and_names_its_scenarios_apart(name: str) -> None:
    parameters = margin_parameters.parameter_set(name)
    names = [scenario.name for scenario in parameters.scenarios]
    assert len(set(names)) == len(names)
    assert json.loads(margin_parameters.SETS[name])["about"].endswith(".")


def test_an_unknown_set_is_refused_with_the_sets_there_are() -> None:
    with pytest.raises(KeyError, match="no parameter set 'mine'; there are deribit_like, scenario_grid, span_futures"):
        margin_parameters.parameter_set("mine")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("margin", "mm_loss_factor"), None, r"mine.json: margin.mm_loss_factor is missing"),
        (("margin", "mm_loss_factor"), "1", r'mine.json: margin.mm_loss_factor expected a number of at least 0, got "1"'),
        (("margin", "mm_loss_factor"), -1, r"mine.json: margin.mm_loss_factor expected a number of at least 0, got -1"),
        (("margin", "mm_loss_factor"), float("nan"), r"margin.mm_loss_factor expected a number of at least 0, got NaN"),
        (("margin", "mm_loss_factor"), True, r"margin.mm_loss_factor expected a number of at least 0, got true"),
        (("skew_shock", "abs_cbase"), float("inf"), r"mine.json: skew_shock.abs_cbase expected a number, got Infinity"),
        (("skew_shock", "abs_cbase"), 10**400, r"mine.json: skew_shock.abs_cbase expected a number, got 1000"),
        (("vol_shock",), [], r"mine.json: vol_shock expected an object, got \[\]"),
        (("scenarios",), [], r"mine.json: scenarios expected at least one scenario, got \[\]"),
        (("scenarios",), {}, r"mine.json: scenarios expected a list, got \{\}"),
        (("scenarios", 3, "spot_shock"), 0, r"mine.json: scenarios\[3\].spot_shock expected a number above 0, got 0"),
        (
            ("scenarios", 3, "vol_shock_direction"),
            "Sideways",
            r"scenarios\[3\].vol_shock_direction expected one of None, Up, Down, LINEAR, ABS, got \"Sideways\"",
        ),
        (
            ("collaterals", "BTC", "mmhaircut"),
            1.5,
            r"collaterals.BTC.mmhaircut expected a number of at least 0 and of at most 1",
        ),
        (("collaterals", "BTC", "is_risk_cancelling"), "yes", r"is_risk_cancelling expected true or false, got \"yes\""),
        (("collaterals",), [], r"mine.json: collaterals expected an object, got \[\]"),
    ],
)
def test_what_is_wrong_in_a_set_is_said_with_file_and_field(
    path: tuple[str | int, ...], value: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        parameters_in(written(tmp_path, *path, value=value))


def test_a_file_that_is_not_there_or_not_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json: No such file"):
        parameters_in(tmp_path / "none.json")
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(ValueError, match=r"half\.json: not JSON: "):
        parameters_in(tmp_path / "half.json")


def test_a_set_of_ones_own_is_read_like_one_that_is_there(tmp_path: Path) -> None:
    file = written(tmp_path, "margin", "mm_loss_factor", value=0.9)
    mine, model = parameters_in(file), margin_parameters.parameter_set("scenario_grid")
    assert mine == model._replace(margin=model.margin._replace(mm_loss_factor=0.9))


def test_scenarios_are_named_for_people() -> None:
    assert Scenario(0.82, "Up", 1.0).name == "spot -18 %, vol up"
    assert Scenario(1.0, "None", 1.0).name == "spot +0 %, vol same"
    assert Scenario(0.34, "Down", 0.0545).name == "spot -66 %, vol down, × 0.0545"
    assert Scenario(1.0, "LINEAR", 1.0).name == "skew linear"


def test_scaling_multiplies_vol_shocks_and_the_worst_loss_and_leaves_the_rest() -> None:
    plain = margin_parameters.parameter_set("scenario_grid")
    scaled = plain.scaled(2.0)
    assert plain.scaled(1.0) == plain
    assert scaled.vol_shock.volrangeup == 2 * plain.vol_shock.volrangeup
    assert scaled.margin.mm_loss_factor == 2 * plain.margin.mm_loss_factor
    assert scaled.scenarios == plain.scenarios and scaled.other_contingency == plain.other_contingency
