"""`dpo-lab compare`: which runs it takes, what it writes, and what it says of what it cannot take."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpo_lab.cli.main import main
from dpo_lab.comparison.jobs import JobRecord, SweepPlan
from tests.comparison.simulated import on_disk

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    hard = np.random.default_rng(0).normal(0, 0.3, 60)
    made = [
        on_disk(Path("outputs"), f"run{number}", 0.5 + 0.3 * number + hard, {"loss": {"beta": 0.1 * (number + 1)}, "seed": 0})
        for number in range(3)
    ]
    sweep = Path("outputs/sweep/train-loss.beta-1")
    SweepPlan(stage="train", command="dpo-lab train -m ...", jobs=tuple((f"loss.beta=0.{n}",) for n in (1, 2))).write(sweep)
    for number, path in enumerate(made[:2], start=1):
        record = JobRecord.begun(number, (f"loss.beta=0.{number}",), "")
        JobRecord(**{**record.__dict__, "state": "finished", "directory": str(path)}).write(sweep)
    return made


def compared(*words: str) -> int:
    return main(["compare", *words])


def test_runs_are_compared_by_their_directories_by_a_pattern_and_by_their_sweep(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for words, count in ((list(map(str, runs[:2])), 2), (["outputs/train/*"], 3), (["outputs/sweep/*"], 2)):
        assert compared(*words) == 0
        said = capsys.readouterr().out
        assert f"{count} {'jobs' if 'sweep' in words[0] else 'runs'}, {count} finished, 0 failed" in said
        page = Path(said.splitlines()[-1].split()[1].rstrip(","))
        assert page.name == "index.html"
        assert "gold/after" in page.read_text()
    assert compared("outputs/sweep/train-loss.beta-1", str(runs[2])) == 0  # a sweep beside a run
    assert "3 runs, 3 finished" in capsys.readouterr().out


def test_the_same_runs_have_one_page_wherever_they_stand_on_the_command_line(runs: list[Path]) -> None:
    assert compared(str(runs[0]), str(runs[1])) == compared(str(runs[1].resolve()), str(runs[0])) == 0
    assert len(list(Path("outputs/compare").iterdir())) == 1


def test_another_figure_and_another_place_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert compared("outputs/train/*", "--by", "kl", "--to", "there") == 0
    assert "runs by kl, neither direction is better" in capsys.readouterr().out
    assert (Path("there") / "index.html").is_file()


REFUSED = {
    "": "compare needs runs. Write dpo-lab compare outputs/train/A outputs/train/B, or the directory of a sweep.",
    "outputs/train/none*": "outputs/train/none*: this directory does not exist (in ",
    "outputs": "outputs holds neither a run nor a sweep.",
    "outputs/train/* --by x": "--by x: no finished run has it. Valid: gold/after, gold/low, gold/high, kl.",
    "outputs/train/* --by": "--by needs a value.",
    "outputs/train/* --sort": "--sort is not an option of compare. Valid: --by, --to.",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_compared_is_answered_in_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(*words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {REFUSED[words]}")
    assert said.count("\n") == 1


def test_one_run_is_no_comparison(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(str(runs[0])) == 2
    assert "is one run. A comparison takes two or more" in capsys.readouterr().err


def test_neither_torch_nor_hydra_is_imported_to_compare() -> None:
    code = "import sys; from dpo_lab.cli.main import main; main(['compare', 'outputs/train/*']); "
    code += "print(sorted({'torch', 'hydra', 'transformers'} & set(sys.modules)))"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
