"""The ranking benchmark: its texts, and that scores which differ are not timed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.ranking.base import Verdict
from dpo_lab.ranking.pairrm.ranker import PairRM
from scripts import bench_ranking
from scripts.bench_ranking import main, sets_of


def test_texts_have_the_lengths_that_the_table_names_and_are_the_same_each_time() -> None:
    for kind, least, most in (("short", 6, 40), ("long", 6, 380)):
        sets = sets_of(kind, 20)
        assert sets == sets_of(kind, 20)
        lengths = [len(text.split()) for candidates in sets for text in (candidates.prompt.text, *candidates.responses)]
        assert least <= min(lengths) <= max(lengths) <= most
        assert {len(candidates.responses) for candidates in sets} == {5}


class Fixed:
    """Stands for a ranker and for llm-blender: all scores are 0, or `other`, and take 6 seconds."""

    def __init__(self, *_: Any, other: float = 0.0) -> None:
        self.other = other

    def __enter__(self) -> Any:
        return type("Ours", (), {"rank": lambda _, sets: [Verdict(scores=(0.0,) * 5) for _ in sets]})()

    def __exit__(self, *_: object) -> None: ...

    def rank(self, sets: Any, batch_size: int) -> tuple[list[list[float]], float]:
        return [[self.other] * 5 for _ in sets], 6.0


@pytest.mark.parametrize(("other", "code"), [(0.0, 0), (0.1, 1)])
def test_scores_that_differ_are_not_timed(
    other: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(float(2 * tick) for tick in range(1000))
    monkeypatch.setattr("scripts.bench_ranking.time.process_time", lambda: next(clock))
    monkeypatch.setattr(bench_ranking, "Blender", lambda *_: Fixed(other=other))
    monkeypatch.setattr(PairRM, "open", lambda *_: Fixed())
    threads = torch.get_num_threads()
    try:
        found = main(["--python", "", "--path", str(Path()), "--backbone", "", "--prompts", "2", "--rounds", "1"])
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert found == code
    assert ("| 3.00 [3.00, 3.00] |" in printed) == (code == 0)
    assert ("nothing is timed" in printed) == (code == 1)
