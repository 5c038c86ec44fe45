"""The first screen of a run's page says of what the run is, and the rest folds what few people read."""

from pathlib import Path
from typing import Any

import pytest

from dpo_lab.figures import KL
from dpo_lab.report.charts import curves
from dpo_lab.report.facts import facts_of
from dpo_lab.report.page import write_report
from dpo_lab.report.record import read_record
from dpo_lab.run_directory import RunDirectory

RUN: dict[str, Any] = {
    "name": "tiny-dpo-films-3f9c2a10",
    "of": {"model": "tiny", "data": "films", "ranker": "gold", "adapter": "none"},
    "held_out": "held-out films (318 prompts)",
    "rounds": [{"number": 1, "pairs": 600}, {"number": 2, "pairs": 598}],
    "differences": [
        {"key": "loss.beta", "default": 1.0, "value": 0.5},
        {"key": "data._target_", "default": "a.B", "value": "dpo_lab.data.sources.FilePairs"},
        {"key": "outputs", "default": "outputs", "value": "elsewhere"},
    ],
    "environment": {"python": "3.11.7", "memory": 25_276_510_208, "packages": {"torch": "2.13.0"}, "variables": {"A_B": "1"}},
}


def written(directory: Path) -> Path:
    config = {"loss": {"class": "dpo_lab.losses.dpo.DPOLoss", "beta": 0.5}, "seed": 3}
    run = RunDirectory(directory)
    run.begin(call=None, config=config, run=RUN)
    run.finish(screen=[], summary={"kl": 4.9}, run=RUN)
    return directory


def test_model_data_ranker_loss_beta_seed_pairs_and_held_out_stand_before_the_verdict(tmp_path: Path) -> None:
    assert facts_of(read_record(written(tmp_path))) == [
        ("model", "tiny"),
        ("data", "films"),
        ("ranker", "gold"),
        ("adapter", "none"),
        ("loss", "DPO"),
        ("beta", "0.5"),
        ("seed", "3"),
        ("rounds", "2"),
        ("pairs", "600 + 598"),
        ("held out", "films (318 prompts)"),
        ("differs from the defaults", "loss.beta=0.5, data=FilePairs"),
    ]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.index("<dt>beta</dt><dd>0.5</dd>") < page.index('class="verdict"')


def test_memory_is_in_gb_and_packages_are_folded(tmp_path: Path) -> None:
    page = write_report(written(tmp_path)).read_text(encoding="utf-8")
    environment = page[page.index('<h2 id="environment">') :]
    assert "25.3 GB" in environment
    assert environment.index("<summary>2 packages and variables</summary>") < environment.index("packages.torch")


def test_a_kl_has_a_scale(tmp_path: Path) -> None:
    page = write_report(written(tmp_path)).read_text(encoding="utf-8")
    assert KL.detail in page


def test_peak_memory_is_drawn_in_gb_and_units_are_words() -> None:
    rows = [
        {"step": step, "round": 1, "memory/peak_mib": 953.67431640625, "rewards/accuracies_ties_half": 0.5} for step in (1, 2)
    ]
    found = curves(rows)
    assert found is not None
    (memory,) = [chart for chart in found.folded if chart.title == "memory/peak_mib"]
    assert (memory.unit, memory.series[0].last) == ("GB", "1")
    (accuracy,) = [chart for chart in found.shown if chart.title == "Accuracy, ties half"]
    assert accuracy.unit == "share of pairs"


@pytest.mark.parametrize("rows", [1, 3])
def test_a_step_that_stands_alone_is_a_larger_dot(rows: int) -> None:
    found = curves([{"step": step, "round": 1, "loss": 0.5} for step in range(1, rows + 1)])
    assert found is not None
    assert ('d="M 0 2.5 ' in found.shown[0].svg) == (rows == 1)  # the outline of a dot of 5 points
