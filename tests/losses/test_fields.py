"""Values that a loss refuses, because its formula has no meaning there."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from dpo_lab.losses.aot import AOTLoss, AOTUnpairedLoss
from dpo_lab.losses.cpo import CPOLoss
from dpo_lab.losses.discopop import DiscoPOPLoss
from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss
from dpo_lab.losses.dpop import DPOPLoss
from dpo_lab.losses.exo import EXOLoss
from dpo_lab.losses.f_divergences import AlphaDivergence
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.ld_dpo import LDDPOLoss
from dpo_lab.losses.mixture import MixtureLoss
from dpo_lab.losses.nll import NLLLoss
from dpo_lab.losses.odpo import ODPOLoss
from dpo_lab.losses.r_dpo import RDPOLoss
from dpo_lab.losses.simpo import SimPOLoss

REFUSED: dict[str, Callable[[], object]] = {
    "beta 0": lambda: DPOLoss(beta=0.0),
    "beta below 0": lambda: IPOLoss(beta=-0.1),
    "a smoothing of 1/2, which leaves nothing to learn": lambda: DPOLoss(label_smoothing=0.5),
    "a smoothing below 0": lambda: DPOLoss(label_smoothing=-0.1),
    "a smoothing of 1/2, by which robust DPO divides 0": lambda: RobustDPOLoss(label_smoothing=0.5),
    "no smoothing of EXO, which is infinite then": lambda: EXOLoss(label_smoothing=0.0),
    "a smoothing of 1/2 in AOT": lambda: AOTLoss(label_smoothing=0.5),
    "a smoothing of 1/2 in unpaired AOT": lambda: AOTUnpairedLoss(label_smoothing=0.5),
    "tau 1, where e^-x wins": lambda: DiscoPOPLoss(tau=1.0),
    "alpha 0, which is DPO": lambda: AlphaDivergence(alpha=0.0),
    "alpha 1, which is the forward KL": lambda: AlphaDivergence(alpha=1.0),
    "tokens that count more than once": lambda: LDDPOLoss(alpha=1.1, loss=DPOLoss()),
    "a negative price of length": lambda: RDPOLoss(alpha=-0.1),
    "a negative penalty": lambda: DPOPLoss(penalty=-1.0),
    "a negative offset": lambda: ODPOLoss(alpha=-1.0),
    "a negative target margin": lambda: SimPOLoss(gamma=-1.0),
    "a negative weight of the likelihood": lambda: CPOLoss(nll_weight=-1.0),
    "a negative weight of a mixture": lambda: MixtureLoss(losses={"dpo": DPOLoss()}, weights={"dpo": -1.0}),
    "a mixture of nothing but zeros": lambda: MixtureLoss(losses={"dpo": DPOLoss()}, weights={"dpo": 0.0}),
    "an unknown reduction": lambda: NLLLoss(reduction="tokens"),  # type: ignore[arg-type]
    "a field that a loss does not have": lambda: IPOLoss(label_smoothing=0.1),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_without_meaning_is_refused(case: str) -> None:
    with pytest.raises(ValidationError):
        REFUSED[case]()
