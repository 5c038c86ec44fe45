"""Mean losses that TRL 1.16.0 gave for four pairs, copied from its golden file: parity also where ../shared is absent."""

import pytest
import torch

from dpo_lab.losses.aot import AOTLoss, AOTUnpairedLoss
from dpo_lab.losses.apo import APODownLoss, APOZeroLoss
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.bco import BCOLoss
from dpo_lab.losses.discopop import DiscoPOPLoss
from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss
from dpo_lab.losses.exo import EXOLoss
from dpo_lab.losses.f_divergences import FDivergenceLoss, ForwardKL, JensenShannon
from dpo_lab.losses.hinge import HingeLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.nca import NCALoss
from dpo_lab.losses.nll import NLLLoss
from dpo_lab.losses.sppo import SPPOHardLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps

TOKENS = [5, 9, 3, 12, 7, 4, 3, 20]  # of the four chosen responses, then of the four rejected ones
POLICY = [-8.864, -11.922, -6.224, -18.907, -12.067, -7.935, -4.126, -26.545]
REFERENCE = [-7.655, -16.835, -1.288, -22.096, -10.069, -2.019, -6.616, -28.136]

MEANS: list[tuple[PreferenceLoss, float]] = [  # beta 0.1
    (DPOLoss(), 0.6735988324627423),
    (DPOLoss(label_smoothing=0.1), 0.6880738324627423),  # the first DPO code's: TRL has lost it
    (DPOLoss(reduction="mean"), 0.6991053346962468),
    (RobustDPOLoss(label_smoothing=0.1), 0.6555050824627422),
    (IPOLoss(), 28.117545686465107),
    (IPOLoss(reduction="sum"), 54.4222105),  # the first DPO code's
    (HingeLoss(), 0.875975),
    (NCALoss(), 1.385422422202828),
    (BCOLoss(shift="zero"), 1.3472960714388822),
    (SPPOHardLoss(), 62.488876999999995),
    (APOZeroLoss(), 0.9649446454075166),
    (APODownLoss(), 0.9798170471013168),
    (DiscoPOPLoss(), 0.7978758770943519),
    (AOTLoss(), 0.6642705381258053),
    (AOTUnpairedLoss(), 0.6238940213329222),
    (EXOLoss(label_smoothing=1e-3), 2.5873875506939568),
    (NLLLoss(reduction="step"), 1.583344827586207),
    (FDivergenceLoss(divergence=ForwardKL(), loss=DPOLoss()), 3.7775098939303158),
    (FDivergenceLoss(divergence=JensenShannon(), loss=DPOLoss()), 0.688274348706956),
]


def pairs_of(sums: list[float]) -> PairLogps:
    """Return the four pairs, each response's log-probability spread evenly over its tokens."""
    counts = torch.tensor(TOKENS)
    per_token = (torch.tensor(sums, dtype=torch.float64) / counts).repeat_interleave(counts)
    return PairLogps(ResponseLogps(per_token, counts), torch.arange(8).view(2, 4).T)


@pytest.mark.parametrize(("loss", "mean"), MEANS, ids=lambda part: type(part).__name__)
def test_the_mean_over_four_pairs_is_that_of_the_reference_implementation(loss: PreferenceLoss, mean: float) -> None:
    ours = loss(pairs_of(POLICY), pairs_of(REFERENCE)).mean().item()
    assert ours == pytest.approx(mean, rel=1e-7 if isinstance(loss, EXOLoss) else 1e-9)  # TRL takes EXO's log(e) in float32
