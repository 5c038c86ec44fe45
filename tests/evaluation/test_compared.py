"""Other losses on a run's held-out log-probabilities."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dpo_lab.evaluation.compared import COMPARED, compared_losses
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.scoring.logps import pair_logps
from dpo_lab.tokens.labels import PairLabels

OPTIONS = {path.stem: path for path in (Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml")}


def labels(preference: float = 0.9, score: float = 1.0) -> PairLabels:
    return PairLabels(torch.tensor([preference]), torch.tensor([score]), torch.tensor([0.0]))


def figures(**fields: Any) -> dict[str, float]:
    has_reference = fields.pop("has_reference", True)
    policy = pair_logps(-2.0, -6.0, tokens=(2, 3), labels=labels(**fields))
    return compared_losses(policy, pair_logps(-2.5, -5.0, tokens=(2, 3)), has_reference=has_reference)


def test_every_option_is_compared_but_the_full_softmax_and_the_one_that_is_all_others() -> None:
    assert set(OPTIONS) - set(COMPARED) == {"wpo", "gpo"}
    assert set(COMPARED) <= set(OPTIONS)


@pytest.mark.parametrize("name", list(COMPARED))
def test_an_entry_is_its_option_at_the_default_beta(name: str) -> None:
    node = OmegaConf.load(OPTIONS[name])
    config = OmegaConf.create({"recipe": {"beta": 0.1}, "loss": node.loss if "defaults" in node else node})
    assert instantiate(config, _convert_="all")["loss"] == COMPARED[name]


def test_values_do_not_depend_on_the_numbers_that_the_run_trains_with() -> None:
    # margin 4 - 2.5 = 1.5 at the class's beta of 0.1
    assert figures()["dpo"] == pytest.approx(math.log(1 + math.exp(-0.15)), rel=1e-6)
    assert figures()["dpo"] == pytest.approx(float(DPOLoss()(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))))


def test_losses_that_lack_their_labels_or_reference_are_left_out() -> None:
    assert set(COMPARED) - set(figures(preference=math.nan)) == {"sppo_soft", "dpo_soft"}
    assert set(COMPARED) - set(figures(score=math.nan)) == {"odpo"}
    assert set(figures(has_reference=False)) == {"simpo", "orpo", "cpo", "nll"}
