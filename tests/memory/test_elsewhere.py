"""The doctor plans for a GPU that is not here: its number format and allocator, and the smallest change that fits."""

from pathlib import Path

import pytest

from dpo_lab.alignment import Alignment
from dpo_lab.cli.main import main
from dpo_lab.memory import check
from dpo_lab.tokens.store import TokenStore
from tests.stages.test_doctor import SMALL

PAIRS = Path(__file__).resolve().parents[2] / "docs" / "example_pairs.jsonl"


def planned(outputs: Path, memory: str, *more: str) -> int:
    """Return the exit code of the doctor for a card."""
    words = ("data=jsonl", f"data.path={PAIRS}", *SMALL, f"memory={memory}", f"paths.outputs={outputs}")
    return main(["doctor", *words, *more])


def test_a_training_that_fits_a_card_is_planned_for_it_and_nothing_else_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(tmp_path, "16GB") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "fits a GPU of 16GB; computed, not tried"
    assert lines[-2].endswith("a GPU of 16GB, less 500 MB for CUDA, has 15.5 GB")
    assert not any(line.startswith(("disk", "time", "step 0")) for line in lines)


def test_a_card_that_is_too_small_is_answered_with_the_smallest_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, float]] = []

    # tests/memory/test_smaller.py has the real one
    def smallest_change(alignment: Alignment, store: TokenStore, limit: float) -> str:
        asked.append((alignment.trainer.device().type, limit))
        return "trainer.token_budget=64"

    monkeypatch.setattr(check, "smallest_change", smallest_change)
    assert planned(tmp_path, "502MB") == 1
    assert capsys.readouterr().err.endswith("a GPU of 502MB has 2 MB. Use trainer.token_budget=64\n")
    assert asked == [("cuda", 2e6)]


def test_a_card_elsewhere_may_page_the_optimizer_though_nothing_here_could(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bitsandbytes")
    assert planned(tmp_path, "16GB", "optim=adamw_8bit", "optim.paged=true", "trainer.head_tokens=16") == 0
    (optimizer,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  optimizer "))
    assert optimizer.split()[1:] == ["0", "MB"]


@pytest.mark.parametrize("memory", ["16", "big", "0GB"])
def test_what_is_not_an_amount_is_refused(memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(tmp_path, memory) != 0
    assert "memory" in capsys.readouterr().err
