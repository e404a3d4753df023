"""The product gives the known answers."""

import pytest

from tests.truth.answers import TRUTH, agrees, verdicts

FILES = {
    "oracle_aggregation": 29,
    "oracle_validity": 24,
    "breakers_and_bands": 60,
    "fix_order_states": 32,
    "execution_quality": 15,
    "risk_vectors": 47,
}


@pytest.mark.parametrize(("name", "count"), FILES.items())
def test_every_case_has_its_known_answer(name: str, count: int) -> None:
    path = TRUTH / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    found = list(verdicts(path))
    assert [verdict for verdict in found if not verdict.ok] == []
    assert len(found) == count


def test_numbers_agree_to_nine_digits_or_to_the_tolerance_beside_them_and_whole_ones_exactly() -> None:
    assert agrees(1.0 + 1e-12, 1.0) and not agrees(1.0 + 1e-6, 1.0)
    assert agrees({"index": 100.224, "more": 1}, {"index": 100.22, "tolerance": 0.005})
    assert not agrees({"index": 100.23}, {"index": 100.22, "tolerance": 0.005})
    assert agrees([101.0], [100.0], 0.02, is_relative=True) and not agrees([103.0], [100.0], 0.02, is_relative=True)
    assert not agrees(10**18, 10**18 + 1)
    assert not agrees(True, 1) and not agrees(0, False) and not agrees(None, "")


def test_a_case_that_nothing_answers_differs(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "cases.json"
    path.write_text(
        '{"cases": [{"ref": "x", "kind": "fortune_telling", "expected": 1}, {"kind": "oracle_validity", "inputs": {}}]}'
    )
    unknown, broken = verdicts(path)
    assert (unknown.id, unknown.ok) == ("x", False) and "fortune_telling" in unknown.got
    assert not broken.ok and "KeyError" in broken.got
