"""The published PairRM against its authors' numbers: 1.7 GB of the Hub, so only where it is asked for.

DPO_LAB_HUB=1 python -m pytest -m slow tests/e2e/test_hub_pairrm.py
"""

import os

import pytest
import torch

from dpo_lab.ranking.pairrm.network import size_of
from dpo_lab.ranking.pairrm.ranker import PARAMETERS, PairRM
from dpo_lab.records import Candidates, Prompt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("DPO_LAB_HUB"), reason="DPO_LAB_HUB=1 fetches PairRM (1.7 GB) from the Hub"),
]
SETS = [
    ("hello!", ("hi!", "f**k off!")),
    ("I love you!", ("I hate you!", "I love you, too!")),
    ("hello, how are you!", ("get out!", "hi! I am fine, thanks!", "bye!")),
    ("I love you!", ("I love you too!", "I hate you!", "Thanks! You're a good guy!")),
]


@pytest.mark.parametrize("path", ["llm-blender/PairRM", "llm-blender/PairRM-hf"])
def test_the_published_weights_have_the_logits_of_its_authors_notebook_and_the_ranks_of_their_readme(path: str) -> None:
    ranker = PairRM(path=path)
    assert size_of(ranker.directory()) == (1024, PARAMETERS)
    with ranker.open(torch.device("cpu")) as opened:
        verdicts = opened.rank([Candidates(prompt=Prompt.from_text(prompt), responses=answers) for prompt, answers in SETS])
    assert [verdict.pairwise[0][1] for verdict in verdicts[:2]] == pytest.approx([1.9003, -1.2547], abs=1e-3)
    ranks = [[sorted(verdict.scores, reverse=True).index(score) + 1 for score in verdict.scores] for verdict in verdicts[2:]]
    assert ranks == [[3, 1, 2], [1, 3, 2]]
