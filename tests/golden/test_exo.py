"""EXO of the small golden file to the last digit, once TRL's two float32 constants stand in for ours."""

import json
import math
from pathlib import Path

import pytest
import torch

from dpo_lab.losses.exo import EXOLoss
from tests.golden.test_losses import pairs_of


def test_exo_differs_from_trl_by_its_float32_constants_alone(shared_data: Path) -> None:
    golden = json.loads((shared_data / "golden" / "trl_losses_small.json").read_text(encoding="utf-8"))
    policy, reference = (pairs_of(golden[name], torch.float64) for name in ("policy_tok", "ref_tok"))
    flipped = 1e-3
    ours = EXOLoss(beta=0.1, label_smoothing=flipped)(policy, reference)
    # q log(q / (1 - e)) + (1 - q) log((1 - q) / e): TRL takes log(1 - e) and log(e) in float32, whatever the inputs
    q, single = torch.sigmoid(0.1 * (policy.margin - reference.margin)), torch.tensor(flipped)
    first = math.log1p(-flipped) - float(torch.log1p(-single))
    second = math.log(flipped) - float(single.log())
    theirs = (ours + q * first + (1 - q) * second).mean()
    assert float(theirs) == pytest.approx(golden["trl"]["exo_pair_eps1e-3"], rel=1e-9, abs=0)
    assert float(ours.mean()) != pytest.approx(golden["trl"]["exo_pair_eps1e-3"], rel=1e-9, abs=0)
