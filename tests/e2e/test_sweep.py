"""Whole sweeps: parts are made once, runs are those of single commands, a kill loses nothing, and equal runs have no winner."""

import json
import os
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli.plugins import PACKAGES, is_installed
from dpo_lab.comparison.jobs import jobs_in
from tests.e2e.forked import ROOT, Command, finished

pytestmark = pytest.mark.slow
WORDS = ("data=jsonl", "data.path=pairs.jsonl", "debug=fast", "model.sft_examples=160")


COUNTING = """
import os
from dpo_lab.artifacts import Plan

make = Plan._made


def made(plan, *arguments, **named):
    with open(os.environ["MADE"], "a") as file:
        file.write(plan.kind + chr(10))
    return make(plan, *arguments, **named)


Plan._made = made
"""
"""Python runs it at the start of every process that finds it as sitecustomize: a line for each part that is made."""


def started(directory: Path, *words: str, forks: bool = False, **variables: str) -> Command:
    """Start a run or a sweep on a copy of the example pairs."""
    directory.mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs" / "example_pairs.jsonl", directory / "pairs.jsonl")
    return Command("train.py", *words, *WORDS, directory=directory, leads=True, forks=forks, **variables)


def ended(directory: Path, *words: str, forks: bool = False) -> str:
    """Return what a run or a sweep prints."""
    return finished(started(directory, *words, forks=forks))


def manifests(directory: Path, kind: str) -> list[dict[str, Any]]:
    found = (directory / "outputs" / kind).glob("*/manifest.json")
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(found)]


def test_a_sweep_of_eight_makes_one_reference_pass_of_the_pairs_and_one_tokenisation(tmp_path: Path) -> None:
    said = ended(tmp_path, "-m", "optim.lr=1e-4,3e-4,1e-3,3e-3", "recipe.beta=0.1,0.5")
    assert "8 jobs, 8 finished, 0 failed" in said
    assert len(manifests(tmp_path, "train")) == len(manifests(tmp_path, "policy")) == 8
    assert len(manifests(tmp_path, "model")) == 1
    assert len(manifests(tmp_path, "tokens")) == 2  # of training and of held-out pairs
    assert len(manifests(tmp_path, "reference")) == 2  # likewise
    (sweep,) = (tmp_path / "outputs" / "sweep").iterdir()
    assert {path.name for path in sweep.iterdir()} >= {"index.html", "summary.csv", "summary.json", "best.yaml", "jobs.json"}
    summary = json.loads((sweep / "summary.json").read_text(encoding="utf-8"))
    assert sorted(row["values"]["recipe.beta"] for row in summary["runs"]) == [0.1] * 4 + [0.5] * 4
    assert len(summary["best_against"]) == 7


@pytest.mark.skipif(not is_installed("hydra-joblib-launcher"), reason="hydra-joblib-launcher is not installed")
def test_two_processes_make_each_part_once_and_a_job_that_fails_is_told_of_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "counting").mkdir()
    (tmp_path / "counting" / "sitecustomize.py").write_text(COUNTING)
    found = os.pathsep.join([str(tmp_path / "counting"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "optim.lr=1e-4,3e-4,1e-3,1e9")
    process = started(tmp_path, *words, PYTHONPATH=found, MADE=str(tmp_path / "made"))
    said, error = process.communicate()
    assert process.returncode == 1
    assert "4 jobs, 3 finished, 1 failed" in said
    assert error.endswith("1 of 4 jobs did not finish; the lines above say why. The same command runs what is missing.\n")
    (sweep,) = (tmp_path / "outputs" / "sweep").iterdir()
    jobs = jobs_in(sweep)
    assert [job.state for job in jobs] == ["finished", "finished", "finished", "failed"]
    assert "Traceback" in jobs[3].log(sweep).read_text(encoding="utf-8")
    assert len({job.pid for job in jobs}) == 2
    made = Counter((tmp_path / "made").read_text(encoding="utf-8").split())
    assert made["policy"] == 4
    assert made["model"] == 1
    assert (made["tokens"], made["reference"]) == (2, 2), "of the training pairs, and of those that are held out"
    assert [len(manifests(tmp_path, kind)) for kind in ("model", "tokens", "reference")] == [1, 2, 2]


@pytest.mark.skipif(not is_installed("hydra-submitit-launcher"), reason="hydra-submitit-launcher is not installed")
def test_submitit_runs_two_jobs_at_a_time_which_share_parts(tmp_path: Path) -> None:
    said = ended(tmp_path, "-m", "hydra/launcher=submitit_local", "optim.lr=1e-4,3e-4,1e-3")
    assert "3 jobs, 3 finished, 0 failed" in said
    assert [len(manifests(tmp_path, kind)) for kind in ("model", "tokens", "reference")] == [1, 2, 2]
    (sweep,) = (tmp_path / "outputs" / "sweep").iterdir()
    jobs = jobs_in(sweep)
    assert jobs[0].pid != jobs[1].pid
    began = [datetime.fromisoformat(job.started).timestamp() for job in jobs]
    assert began[2] + 1 >= min(at + (job.seconds or 0) for at, job in zip(began[:2], jobs, strict=False))


SEARCH = (
    *("-m", "hydra/sweeper=search", "optim.lr=tag(log,interval(1e-5,1e-2))", "recipe.beta=0.1,1"),
    *("evaluation.every=1", "optimized_metric=eval/loss", "hydra.sweeper.sampler=random", "hydra.sweeper.trials=3"),
)
"""Its random points are compared together, so that what becomes of them does not depend on how many jobs run at a time."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a search of three points, one after another in one process."""
    if not is_installed("optuna"):
        pytest.skip("dpo-lab[sweeps] is not installed")
    directory = tmp_path_factory.mktemp("undisturbed")
    ended(directory, *SEARCH)
    return directory


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_a_search_that_is_killed_ends_as_an_undisturbed_one(undisturbed: Path, tmp_path: Path, launcher: str) -> None:
    if launcher != "basic" and not is_installed(PACKAGES["hydra/launcher"][launcher]):
        pytest.skip("dpo-lab[sweeps] is not installed")
    for kind in ("model", "tokens", "reference"):  # that a model is made is not what is killed here
        shutil.copytree(undisturbed / "outputs" / kind, tmp_path / "outputs" / kind)
    words = (*SEARCH, f"hydra/launcher={launcher}")
    command = started(tmp_path, *words, forks=True)
    command.stop_when(lambda: any((tmp_path / "outputs" / "sweep").glob("*/jobs/002.json")))
    ended(tmp_path, *words, forks=True)
    assert trials(tmp_path) == trials(undisturbed)
    assert len(trials(tmp_path)) == 3


def trials(directory: Path) -> list[tuple[Any, ...]]:
    """Return of each trial of the search its point, how it ended and its values."""
    import optuna

    (study_file,) = (directory / "outputs" / "sweep").glob("*/study.db")
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{study_file}")
    return [(trial.params, trial.state.name, trial.value, trial.intermediate_values) for trial in study.get_trials()]


def test_a_sweep_of_two_equals_two_single_runs_to_the_bit(tmp_path: Path) -> None:
    ended(tmp_path / "sweep", "-m", "loss=dpo,ipo")
    for loss in ("dpo", "ipo"):
        ended(tmp_path / "single", f"loss={loss}")
    together, alone = ({each["id"]: each for each in manifests(tmp_path / where, "policy")} for where in ("sweep", "single"))
    assert together.keys() == alone.keys()
    assert len(together) == 2
    for identity, manifest in together.items():
        weights = [name for name in manifest["files"] if name.endswith(".safetensors")]
        assert weights
        assert all(manifest["files"][name] == alone[identity]["files"][name] for name in weights)
    figures = [
        {
            path.parent.name: {
                key: value
                for key, value in json.loads(path.read_text(encoding="utf-8")).items()
                if not key.startswith("seconds/")
            }
            for path in (tmp_path / where / "outputs" / "train").glob("*/summary.json")
        }
        for where in ("sweep", "single")
    ]
    assert figures[0] == figures[1]


def test_a_sweep_that_is_killed_runs_what_is_missing_and_three_seeds_have_no_winner(tmp_path: Path) -> None:
    started(tmp_path, "-m", "seed=0,1,2").stop_when(lambda: any((tmp_path / "outputs" / "sweep").glob("*/jobs/002.json")))
    (sweep,) = (tmp_path / "outputs" / "sweep").iterdir()
    assert [job.state for job in jobs_in(sweep)] == ["finished", "killed", "not started"]
    said = ended(tmp_path, "-m", "seed=0,1,2")
    assert said.count("this run was finished before") == 1
    assert "3 jobs, 3 finished, 0 failed" in said
    assert "No winner: the 3 runs are one configuration and differ in the seed alone" in said
    assert json.loads((sweep / "summary.json").read_text(encoding="utf-8"))["winner"] is None
