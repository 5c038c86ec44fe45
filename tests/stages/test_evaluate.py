"""The stage `evaluate`: finished runs are told apart on the same held-out prompts, or said not to be."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpo_lab.artifacts import Plan
from dpo_lab.cli.main import main
from dpo_lab.components import ConfigError
from dpo_lab.evaluation.intervals import OBSERVED, intervals_of, observed_by, records_of
from dpo_lab.figures import ACCURACY, LOSS, MARGIN
from dpo_lab.records import write_jsonl
from dpo_lab.run_directory import CHANGING, KIND, RunDirectory
from dpo_lab.stages.evaluate import Evaluate


def run_in(outputs: Path, name: str, margins: np.ndarray, loss: str = "dpo") -> str:
    """Write a finished run whose last policy has these margins on held-out pairs, one prompt each; return its directory."""
    prompts = [f"prompt {number}" for number in range(len(margins))]
    numbers = {"eval/accuracy": (margins > 0) * 1.0, "eval/loss": -margins, "eval/margin": margins}
    observed = observed_by({each: values.tolist() for each, values in numbers.items()}, prompts)
    figures = {each: found.by_prompt.value for each, found in observed.items()} | intervals_of(observed, ["eval/accuracy"])

    def measurement(directory: Path) -> dict[str, Any]:
        write_jsonl(directory / OBSERVED, records_of(observed))
        return figures

    made = Plan(outputs, "evaluation", f"{name}-round1-after", {"margins": margins.tolist()}).make(measurement)

    def run(directory: Path) -> dict[str, Any]:
        lineage = [{"kind": "evaluation", "name": made.path.name, "id": made.id, "path": str(made.path)}]
        about = {"lineage": lineage, "figures": [each.record() for each in (LOSS, ACCURACY, MARGIN)]}
        RunDirectory(directory).begin(call=None, config={"loss": loss}, run=about)
        return {}

    return str(Plan(outputs, KIND, name, {"name": name, "loss": loss}, apart=CHANGING).make(run).path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    outputs, random = tmp_path_factory.mktemp("outputs"), np.random.default_rng(0)
    hard = random.normal(size=24)
    return {
        "trained": run_in(outputs, "trained", hard + 3),
        "hardly": run_in(outputs, "hardly", hard + random.normal(0, 0.1, 24)),
        "other loss": run_in(outputs, "other loss", hard + 3.1, loss="ipo"),
        "other pairs": run_in(outputs, "other pairs", hard[:12]),
    }


def evaluate(runs: dict[str, str], *names: str, **fields: Any) -> Evaluate:
    outputs = Path(next(iter(runs.values()))).parents[1]
    return Evaluate(runs=tuple(runs.get(name, name) for name in names), outputs=outputs, **fields)


def test_the_better_run_is_named_with_the_paired_difference_and_everything_is_written(runs: dict[str, str]) -> None:
    verdicts = evaluate(runs, "hardly", "trained").run()
    name = Path(runs["trained"]).name
    assert list(verdicts) == ["eval/accuracy", "eval/loss", "eval/margin"]  # the main figure first
    assert [each["winner"] for figure in verdicts.values() for each in figure] == [name] * 3
    (made,) = (Path(runs["trained"]).parents[1] / "comparison").glob("2-runs-*/report.json")
    report = json.loads(made.read_text(encoding="utf-8"))
    (found,) = report["figures"][2]["comparisons"]
    lines = [json.loads(line) for line in (made.parent / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    margins = [line for line in lines if line["figure"] == "eval/margin"]
    assert len(margins) == found["prompts"] == 24
    hardly = Path(runs["hardly"]).name
    assert found["difference"] == pytest.approx(sum(line[hardly] - line[name] for line in margins) / 24)
    page = (made.parent / "report.html").read_text(encoding="utf-8")
    assert f"{name} is better than {hardly} on these 24 prompts" in page
    assert "://" not in page  # self-contained


def test_figures_of_the_loss_are_not_compared_between_losses_and_the_family_is_all_pairs(runs: dict[str, str]) -> None:
    verdicts = evaluate(runs, "trained", "hardly", "other loss").run()
    assert list(verdicts) == ["eval/accuracy"]
    assert len(verdicts["eval/accuracy"]) == 3
    assert "; 3 comparisons at once" in verdicts["eval/accuracy"][0]["sentence"]
    against = evaluate(runs, "trained", "hardly", "other loss", against=runs["hardly"]).run()
    assert len(against["eval/accuracy"]) == 2


def test_runs_that_cannot_be_compared_are_refused_in_one_line(runs: dict[str, str], tmp_path: Path) -> None:
    def refused(*names: str, **fields: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            evaluate(runs, *names, **fields).run()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "a comparison takes two runs or more" in refused("trained")
    assert refused("trained", "hardly", "trained").endswith("twice; leave one of them out.")
    assert "against=x is not among the runs" in refused("trained", "hardly", against="x")
    assert "is not a directory" in refused("trained", str(tmp_path / "missing"))
    assert "is not a run of train: it has no run.json" in refused("trained", str(tmp_path))
    assert "were measured on different held-out prompts (12 stand in one alone)" in refused("trained", "other pairs")
    unfinished = Path(runs["trained"]).with_name("unfinished")
    shutil.copytree(runs["trained"], unfinished)
    (unfinished / "manifest.json").unlink()
    assert "is unfinished: it has no manifest.json" in refused("trained", str(unfinished))
    shutil.rmtree(unfinished)


def test_the_command_of_the_readme_compares_runs_and_says_what_is_wrong_in_one_line(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^python scripts/evaluate.py (runs=.*)$", readme, re.M)
    monkeypatch.chdir(Path(runs["trained"]).parents[2])
    root = Path(runs["trained"]).parents[1].name
    words = [command.replace(f"outputs/train/{name}", runs[run]) for name, run in (("A", "trained"),)]
    words = [words[0].replace("outputs/train/B", runs["hardly"]), f"paths.outputs={root}"]
    assert main(["evaluate", *words]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "is better than" in told
    assert "/report.html" in told
    assert main(["evaluate", *command.split(), f"paths.outputs={root}"]) == 2
    error = capsys.readouterr().err
    assert "outputs/train/A is not a directory" in error
    assert "Traceback" not in error
