"""Whole runs on seed 0: every band of the embedded world holds, and real preferences are learned."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from scripts.bands import BANDS, Band, Summary, run

PREFERENCE: Path = runpy.run_path(str(Path(__file__).with_name("preference.py")))["PREFERENCE"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, pretrained: Callable[..., Path]) -> Summary:
    """The summary of `python train.py`."""
    return run("films", 0, pretrained(tmp_path_factory.mktemp("films")))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """The summary of the tiny model on a file of real preferences."""
    if not PREFERENCE.is_file():
        pytest.skip(f"{PREFERENCE} is absent: the reference data sets are not part of the repository")
    return run("pairs", 0, tmp_path_factory.mktemp("pairs"), PREFERENCE)


@pytest.mark.parametrize("band", BANDS["films"], ids=str)
def test_the_film_world_is_learned_within_its_bands(films: Summary, band: Band) -> None:
    assert band.holds(films), f"found {band.figure(films)}"


@pytest.mark.parametrize("band", BANDS["pairs"], ids=str)
def test_real_preferences_are_learned_within_their_bands(pairs: Summary, band: Band) -> None:
    assert band.holds(pairs), f"found {band.figure(pairs)}"


def test_the_last_round_is_what_the_run_ends_with(films: Summary) -> None:
    assert films["gold/after"] == films["gold/round_3"]
