"""All comparisons of all golden sets in both directory layouts, the cut ones too: minutes of a CPU for the long texts."""

import json
from pathlib import Path

import pytest
import torch

from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.records import Candidates, Prompt

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "golden" / "pairrm"
pytestmark = pytest.mark.slow


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden scores of llm-blender are not here")
@pytest.mark.parametrize("layout", ["PairRM", "PairRM-hf"])
def test_all_golden_sets_ranked_together_have_llm_blenders_logits_and_scores(layout: str) -> None:
    sets = json.loads((GOLDEN / "expected.json").read_text())["sets"]
    ranker = PairRM(path=str(GOLDEN / layout), backbone=str(GOLDEN / "backbone") if layout == "PairRM" else None)
    ranker.check()
    asked = [Candidates(prompt=Prompt.from_text(each["source"]), responses=tuple(each["candidates"])) for each in sets]
    with ranker.open(torch.device("cpu")) as opened:
        verdicts = opened.rank(asked)
    for verdict, each in zip(verdicts, sets, strict=True):
        found, expected = torch.tensor(verdict.pairwise), torch.tensor(each["logits"])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.tensor(verdict.scores), torch.tensor(each["scores"]), rtol=0, atol=1e-5)
