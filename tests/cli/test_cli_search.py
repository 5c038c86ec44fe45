"""A search: which points it tries, which runs it ends early, and that a killed one ends as an undisturbed one does."""

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli.main import main
from dpo_lab.cli.search_space import Choice, Interval, corners
from dpo_lab.comparison.jobs import jobs_in, plan_in
from dpo_lab.stages.train import Train
from dpo_lab.watching import show

optuna = pytest.importorskip("optuna")
ROUND, ROUNDS = 38, 3
SPACE = ("recipe.lr=tag(log,interval(1e-5,1e-2))", "recipe.beta=0.3,1")
SEARCH = ("train", "-m", "hydra/sweeper=search", *SPACE)
RAN: list[tuple[float, float, int]] = []
"""Learning rate, beta and rounds of each run."""


def gold(stage: Any, number: int) -> float:
    """Return the figure of a run after a round: best at lr 1e-3 and beta .3, and better with every round."""
    off = abs(math.log10(stage.optim.lr) + 3) + abs(math.log10(stage.loss.beta) - math.log10(0.3))
    return number / ROUNDS - 0.2 * off


def simulated(before: Callable[[int, int], None] = lambda job, number: None) -> Callable[[Any], dict[str, float]]:
    """Return what stands in for training: its figure is known, and it is shown after every round.

    Args:
        before: is called with the number of the job and of the round before the round is over.
    """

    def run(stage: Any) -> dict[str, float]:
        RAN.append((stage.optim.lr, stage.loss.beta, 0))
        for number in range(1, ROUNDS + 1):
            before(len(RAN), number)
            RAN[-1] = (*RAN[-1][:2], number)
            show({"gold": gold(stage, number)}, number * ROUND, ROUNDS * ROUND)
        return {"gold/after": gold(stage, ROUNDS)}

    return run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    RAN.clear()
    monkeypatch.setattr(Train, "run", simulated())


def sweep() -> Path:
    (directory,) = Path("outputs/sweep").iterdir()
    return directory


def trials() -> list[tuple[Any, ...]]:
    """Return of each trial its point, how it ended and its values."""
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{(sweep() / 'study.db').absolute()}")
    return [
        (trial.number, trial.params, trial.state.name, trial.value, trial.intermediate_values) for trial in study.get_trials()
    ]


def test_a_search_ends_runs_early_and_finds_what_is_best(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "hydra.sweeper.trials=8"]) == 0
    found = trials()
    states = [state for _, _, state, _, _ in found]
    assert len(found) == len(RAN) == 8
    assert states.count("PRUNED") >= 3
    assert [rounds for _, _, rounds in RAN] == [ROUNDS if state == "COMPLETE" else 1 for state in states]
    steps = sum(rounds * ROUND for _, _, rounds in RAN)
    said = capsys.readouterr().out
    assert f"search: 8 points, {states.count('COMPLETE')} to their end, {states.count('PRUNED')} ended early" in said
    assert f"{steps} of {8 * ROUNDS * ROUND} steps" in said
    best = max((value, number) for number, _, state, value, _ in found if state == "COMPLETE")
    assert jobs_in(sweep())[best[1]].figure == ("gold/after", best[0])
    state = json.loads((sweep() / "search.json").read_text())
    assert (state["trials"], state["steps"], state["planned"]) == (8, steps, 8 * ROUNDS * ROUND)


def test_a_run_is_the_one_of_the_study_and_carries_the_swept_keys_in_its_name() -> None:
    assert main([*SEARCH, "hydra.sweeper.trials=3"]) == 0
    plan = plan_in(sweep())
    assert plan is not None
    assert plan.keys == ("recipe.lr", "recipe.beta")
    for (_, point, _, _, _), (lr, beta, _), job in zip(trials(), RAN, plan.jobs, strict=True):
        assert lr == pytest.approx(point["recipe.lr"], rel=1e-3)
        assert beta == point["recipe.beta"]
        assert job == (f"recipe.lr={lr:.4g}", f"recipe.beta={beta:.4g}")


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "job", "number", "left"), [("tpe", 7, 1, 2), ("grid", 3, 1, 3), ("grid", 5, 2, 1)])
def test_a_search_that_is_killed_ends_with_the_points_states_and_values_of_an_undisturbed_one(
    sampler: str, job: int, number: int, left: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    space, total = (SPACE, 8) if sampler == "tpe" else (("recipe.lr=1e-3,1e-2", SPACE[1]), 4)
    words = ["train", "-m", "hydra/sweeper=search", f"hydra.sweeper.sampler={sampler}", *space, f"hydra.sweeper.trials={total}"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    monkeypatch.chdir(undisturbed)
    assert main(words) == 0
    expected = trials()
    killed.mkdir()
    monkeypatch.chdir(killed)
    RAN.clear()

    def kill(at: int, of: int) -> None:
        if (at, of) == (job, number):
            os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if process == 0:
        monkeypatch.setattr(Train, "run", simulated(kill))
        os._exit(main(words))
    assert os.waitpid(process, 0)[1] == signal.SIGKILL
    assert len(trials()) == (job if sampler == "tpe" else total)
    RAN.clear()
    assert main(words) == 0
    assert trials() == expected
    assert len(RAN) == left
    RAN.clear()
    assert main(words) == 0
    assert RAN == [], "a third call has nothing to run"


@pytest.mark.slow
def test_a_search_that_is_killed_while_it_draws_a_point_draws_it_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = [*SEARCH, "hydra.sweeper.trials=2", "hydra.sweeper.sampler=random"]
    (tmp_path / "undisturbed").mkdir()
    monkeypatch.chdir(tmp_path / "undisturbed")
    assert main(words) == 0
    expected = trials()
    (tmp_path / "killed").mkdir()
    monkeypatch.chdir(tmp_path / "killed")
    draw = Choice.draw

    def killed(dimension: Choice, trial: Any, key: str) -> str:
        if trial.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(dimension, trial, key)

    process = os.fork()
    if process == 0:
        monkeypatch.setattr(Choice, "draw", killed)
        os._exit(main(words))
    os.waitpid(process, 0)
    assert [list(point) for _, point, _, _, _ in trials()][-1] == ["recipe.lr"]
    assert main(words) == 0
    assert trials() == expected


@pytest.mark.slow
def test_a_job_that_fails_does_not_stop_the_others_and_is_run_again_by_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def third_fails(job: int, number: int) -> None:
        if job == 3:
            raise RuntimeError("no memory")

    monkeypatch.setattr(Train, "run", simulated(third_fails))
    words = [*SEARCH, "hydra.sweeper.trials=4"]
    assert main(words) == 1
    assert [state for _, _, state, _, _ in trials()].count("RUNNING") == 1
    assert [job.state for job in jobs_in(sweep())][2] == "failed"
    RAN.clear()
    monkeypatch.setattr(Train, "run", simulated())
    assert main(words) == 0
    assert len(RAN) == 1
    assert {state for _, _, state, _, _ in trials()} <= {"COMPLETE", "PRUNED"}


@pytest.mark.slow
def test_more_points_continue_the_same_search_and_force_begins_anew() -> None:
    assert main([*SEARCH, "hydra.sweeper.trials=1"]) == 0
    assert main([*SEARCH, "hydra.sweeper.trials=2"]) == 0
    assert len(RAN) == len(trials()) == 2
    assert main([*SEARCH, "hydra.sweeper.trials=1", "force=true"]) == 0
    assert len(RAN) == 3


def test_a_grid_has_all_its_points_in_order_and_they_get_as_far_before_the_best_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["train", "sweep=beta_grid", "hydra.sweeper.prune_by=null"]) == 0
    assert [beta for _, beta, _ in RAN] == (betas := [0.03, 0.1, 0.3, 1, 3])
    RAN.clear()

    def second_wave_fails(job: int, number: int) -> None:
        if number == 2:
            raise RuntimeError("no memory")

    monkeypatch.setattr(Train, "run", simulated(second_wave_fails))
    assert main(["train", "sweep=beta_grid"]) == 1
    assert [(beta, rounds) for _, beta, rounds in RAN] == [*((beta, 1) for beta in betas), (0.3, 1)]
    RAN.clear()
    monkeypatch.setattr(Train, "run", simulated())
    assert main(["train", "sweep=beta_grid"]) == 0
    assert [(beta, rounds) for _, beta, rounds in RAN] == [(0.3, ROUNDS)]


def test_more_points_are_compared_with_those_of_the_search_before() -> None:
    words = ["train", "-m", "hydra/sweeper=search", "hydra.sweeper.sampler=grid", "recipe.lr=1e-3,1e-2,2e-3,3e-3", SPACE[1]]
    assert main([*words, "hydra.sweeper.trials=3"]) == 0
    assert [state for _, _, state, _, _ in trials()] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert main([*words, "hydra.sweeper.trials=6"]) == 0
    assert [state for _, _, state, _, _ in trials()].count("COMPLETE") == 2, "the first, and the best of the new ones"
    assert max(value for _, _, _, value, _ in trials() if value is not None) == trials()[0][3]


MEASURED = 7
"""How often a run is measured that begins worse the better it ends, before two of seven parts of its steps are over."""


def test_a_run_that_begins_as_the_worst_one_and_ends_as_the_best_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: dict[float, int] = {}

    def run(stage: Any) -> dict[str, float]:
        for number in range(1, MEASURED + 1):
            ended[stage.optim.lr] = number
            show({"gold": gold(stage, ROUNDS) * (number - 2.5)}, number * 2, MEASURED * 2)
        return {"gold/after": gold(stage, ROUNDS)}

    monkeypatch.setattr(Train, "run", run)
    words = ("hydra.sweeper.sampler=grid", "recipe.lr=1e-5,3e-5,1e-4,3e-4,1e-3", "recipe.beta=0.3", "hydra.sweeper.seed=1")
    assert main([*SEARCH[:3], *words]) == 0
    best = json.loads((sweep() / "summary.json").read_text())["runs"][0]
    assert best["values"]["recipe.lr"] == 1e-3, "with prune_from=1 it is 3e-5"
    assert set(ended.values()) == {3, MEASURED}, "runs are compared once, after a third of the steps"


REFUSED = {  # what stands behind the space: what the message says
    "hydra.sweeper.prune_by=eval/los": "hydra.sweeper.prune_by=eval/los: there is no such figure. Valid: same, gold, ",
    "hydra.sweeper.prune_by=kl": "hydra.sweeper.prune_by=kl: there is no such figure.",
    "iteration.rounds=1": "gold is measured once, after training, so it can end no run early. Add evaluation.every=N",
    "optimized_metric=gold/befor": "optimized_metric=gold/befor: this run's summary will not have it.",
    "optimized_metric=kl": "optimized_metric=kl gets better in no direction",
    "hydra.sweeper.sampler=tpee": "hydra.sweeper.sampler=tpee: there is no such sampler. Valid: tpe, random, grid.",
    "hydra.sweeper.trials=0": "hydra.sweeper.trials=0: it is at least 1.",
    "hydra.sweeper.prune_factor=1": "hydra.sweeper.prune_factor=1: it is at least 2.",
    "hydra.sweeper.sampler=grid": "recipe.lr is an interval, and a grid needs values",
    "recipe.batch_size=int(interval(0,8))": "recipe.batch_size=0) cannot run: recipe.batch_size=0: ",
    "seed=interval(-3,3)": "seed=-0.708) cannot run: seed=-0.708: Input should be a whole number",
    "optim.eps=interval(2,1)": "optim.eps=interval(2,1): an interval goes from a lower to a higher number.",
    "optim.eps=tag(log,interval(0,1))": "a logarithmic interval begins above 0.",
}


@pytest.mark.parametrize("command", REFUSED)
def test_a_search_that_cannot_work_is_refused_before_anything_trains(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, command]) == 2
    shown = capsys.readouterr()
    assert REFUSED[command] in shown.err
    assert shown.err.count("\n") == 1
    assert RAN == []
    assert list(Path().iterdir()) == []


def test_the_search_of_another_process_is_not_disturbed(capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    words = [*SEARCH, "hydra.sweeper.trials=1"]
    assert main(words) == 0
    with FileLock(sweep() / ".search.lock"):
        assert main(words) == 2
    assert "another process runs the search" in capsys.readouterr().err


def test_corners_hold_every_choice_and_both_ends_of_an_interval() -> None:
    space = {f"k{number}": Choice(tuple("abcdef")) for number in range(4)} | {"lr": Interval(1, 2, False)}
    found = list(corners(space))
    assert len(found) == 6 + 1
    assert all({point[f"k{number}"] for point in found} == set("abcdef") for number in range(4))
    assert {point["lr"] for point in found[:-1]} == {"1", "2"}


@pytest.mark.slow
def test_without_a_figure_to_prune_by_every_run_goes_to_its_end_and_the_importance_of_keys_is_known() -> None:
    assert main([*SEARCH, "hydra.sweeper.trials=5", "hydra.sweeper.prune_by=null"]) == 0
    assert [rounds for _, _, rounds in RAN] == [ROUNDS] * 5
    state = json.loads((sweep() / "search.json").read_text())
    assert (state["complete"], state["pruned"], state["steps"]) == (5, 0, state["planned"])
    assert sum(state["importance"].values()) == pytest.approx(1)
