"""The benchmark of a sweep: its runs differ, a peer's run that trains something else is not kept, and its sums are right."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.reference.cached import reference_pass
from scripts.bench import contestants, ours, sweep_ours, task
from scripts.bench.sweep_report import lines
from scripts.bench.sweep_task import Point, SweepTask
from scripts.bench.task import Options, Result
from scripts.bench_sweep import main

COUNT = len(SweepTask().points)


def run_of(place: int, **changes: Any) -> Result:
    """Return what a contestant reports of the run at a place of the sweep: 10 s, 2 s of reference, 5 s of start-up."""
    losses, norms = [math.log(2), 0.69 - place * 1e-6], [3.0, 2.0 + place * 1e-4]
    fixed: dict[str, Any] = {"losses": losses, "grad_norms": norms, "epoch_seconds": [10.0], "reference_seconds": [2.0]}
    counts = {"body_tokens": 1, "head_tokens": 1, "body_products": 3, "head_products": 3, "other_seconds": 5.0}
    return Result(**{"contestant": "x", "options": {}, "reference_cached": True, **counts, **fixed, **changes})


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Contestants that report at once; their arguments about the task."""
    calls: list[tuple[str, ...]] = []

    def run_all(self: contestants.Contestant, *_: object) -> list[Result]:
        calls.append(self.more)
        if self.name == "ours":
            return [run_of(place) for place in range(COUNT)]
        place = [str(point) for point in SweepTask().points].index(f"{self.more[-3]}:{self.more[-1]}")
        other = {"grad_norms": [3.0, 2.5]} if self.name == "ms-swift best" else {}
        other = {"grad_norms": [3.0, 2.0006]} if self.name == "ms-swift defaults" else other
        return [run_of(place, epoch_seconds=[50.0], reference_seconds=[20.0], reference_cached=False, **other)]

    monkeypatch.setattr(contestants.Contestant, "run_all", run_all)
    return calls


def sweep(state: Path, *words: str) -> int:
    """Run the script on a directory."""
    return main(["run", "--state", str(state), "--trl-python", "x", "--swift-python", "x", *words])


def test_the_runs_are_eight_rates_and_betas_on_the_same_pairs(asked_for: list[tuple[str, ...]], tmp_path: Path) -> None:
    points = SweepTask().points
    assert len(set(points)) == COUNT == 8
    assert {str(Point.of(str(point))) for point in points} == set(map(str, points))
    assert sweep(tmp_path, "--only", "ours") == 0
    assert sweep(tmp_path, "--only", "TRL best", "--points", "7") == 0
    first, second = asked_for
    shared = ("--warm-up", "0", "--compared", "2", "--file", str(tmp_path / "pairs.json"))
    assert first == (*shared, "--points", *map(str, points))
    assert second == (*shared, "--lr", str(points[7].lr), "--beta", str(points[7].beta))
    options = Options(
        variant="", adapter="lora", precision="", micro_batch=8, repetitions=1, threads=1, layers=1, file=shared[-1], lr=2e-5
    )
    assert options.pairs() == task.pairs()
    assert options.learning_rate == 2e-5


@pytest.mark.usefixtures("asked_for")
def test_a_peers_run_that_trains_something_else_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(tmp_path, "--only", "ours") == 0
    assert sweep(tmp_path, "--only", "ms-swift best", "--points", "3") == 1
    assert "gradient norms [3.0, 2.5] differ from ours" in capsys.readouterr().out
    assert sweep(tmp_path, "--only", "ms-swift defaults", "--points", "6") == 0
    before = (tmp_path / "sweep.json").read_text()
    assert sweep(tmp_path, "--only", "ms-swift defaults", "--points", "5") == 1  # of another rate or beta
    assert "nearer to those of our run 6 than of 5" in capsys.readouterr().out
    assert (tmp_path / "sweep.json").read_text() == before
    assert set(json.loads((tmp_path / "sweep.json").read_text())["peers"]) == {"ms-swift defaults"}


@pytest.mark.usefixtures("asked_for")
def test_what_cannot_be_compared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="Type: run --only ours first"):
        sweep(tmp_path, "--only", "TRL best")
    with pytest.raises(SystemExit, match=r"--points: \[8\]; runs are numbered from 0 to 7"):
        sweep(tmp_path, "--only", "TRL best", "--points", "8")
    with pytest.raises(SystemExit, match="'Trl'"):
        sweep(tmp_path, "--only", "Trl")
    assert sweep(tmp_path, "--only", "ours") == 0
    with pytest.raises(SystemExit, match="another --state"):
        main(["report", "--state", str(tmp_path), "--adapter", "lora"])
    monkeypatch.setattr(contestants.Contestant, "run_all", lambda *_: [run_of(0) for _ in range(COUNT)])
    with pytest.raises(SystemExit, match="two runs of the sweep have the same losses"):
        sweep(tmp_path, "--only", "ours")


def test_a_sweep_of_a_peer_is_its_mean_run_times_their_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = [asdict(run_of(place, reference_seconds=[0.5 if place else 6.5])) for place in range(COUNT)]  # 80 + 10
    cached = asdict(run_of(0, epoch_seconds=[30.0], reference_seconds=[10.0]))
    live = {str(place): [asdict(run_of(place, epoch_seconds=[s], reference_cached=False))] for place, s in ((0, 100), (7, 140))}
    peers = {"TRL defaults": live, "TRL best": {"0": [cached]}}
    made = {"settings": SweepTask().settings(), "machine": "a machine", "ours": [first], "peers": peers}
    (tmp_path / "sweep.json").write_text(json.dumps(made))
    assert main(["report", "--state", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "a machine; 2 steps a run"
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in printed[3:7]}
    assert rows["ours"] == ["1 x 8 runs", "90.00 [90.00, 90.00]", "10.00 [10.00, 10.00]", "40.00 [40.00, 40.00]", "1 |"]
    assert rows["TRL defaults"][:2] == ["2 of 8 runs", "960.00 [800.00, 1120.00]"]
    assert rows["TRL best"][:2] == ["1 of 8 runs", "320.00 [320.00, 320.00]"]
    # 8 epochs of 30 s and one pass of 10 s
    assert rows["TRL best, one reference"][:3] == ["computed", "250.00 [250.00, 250.00]", "10.00 [10.00, 10.00]"]
    assert printed[7:9] == ["TRL defaults: 10.67x, target 10x, reached", "TRL best: 3.56x, target 4.2x, missed"]
    assert lines({"settings": SweepTask().settings()}) == [
        "Our sweep was not run, so there is nothing to compare with. Type: run --only ours"
    ]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A vocabulary that is drawn and multiplied in no time, and torch's threads as they were."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(task, "VOCABULARY", 300)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_small")
def test_our_sweep_makes_one_reference_pass_and_trains_what_single_runs_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_now: list[bool] = []
    right = reference_pass

    def watched(*positional: Any, **named: Any) -> Any:
        scorer, artifact = right(*positional, **named)
        made_now.append(artifact.made_now)
        return scorer, artifact

    monkeypatch.setattr(ours, "reference_pass", watched)
    SweepTask().write_pairs(tmp_path / "pairs.json")
    command = ["--layers", "1", "--warm-up", "0", "--compared", "2", "--file", str(tmp_path / "pairs.json")]
    options = task.options(task.parser().parse_args(command))
    points = [Point(5e-6, 0.05), Point(1e-5, 0.1)]
    swept = list(sweep_ours.sweep(options, points, 2048))
    assert made_now == [True, False]
    alone = ours.train(Options(**{**vars(options), "lr": 1e-5, "beta": 0.1}), "prefix", 2048, "lightning")
    assert (swept[1].losses, swept[1].grad_norms) == (alone.losses, alone.grad_norms)
    assert swept[0].losses[1] != swept[1].losses[1]
