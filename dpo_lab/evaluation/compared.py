"""Losses on the same held-out log-probabilities, with fixed numbers, so that runs with different losses compare."""

from dpo_lab.losses.aot import AOTLoss, AOTUnpairedLoss
from dpo_lab.losses.apo import APODownLoss, APOZeroLoss
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.bco import BCOLoss
from dpo_lab.losses.cpo import CPOLoss
from dpo_lab.losses.discopop import DiscoPOPLoss
from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss, SoftLabelDPOLoss
from dpo_lab.losses.dpop import DPOPLoss
from dpo_lab.losses.exo import EXOLoss
from dpo_lab.losses.f_divergences import AlphaDivergence, FDivergenceLoss, ForwardKL, JensenShannon
from dpo_lab.losses.hinge import HingeLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.ld_dpo import LDDPOLoss
from dpo_lab.losses.mixture import MixtureLoss
from dpo_lab.losses.nca import NCALoss
from dpo_lab.losses.nll import NLLLoss
from dpo_lab.losses.odpo import ODPOLoss
from dpo_lab.losses.orpo import ORPOLoss
from dpo_lab.losses.r_dpo import RDPOLoss
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.losses.sppo import SPPOHardLoss, SPPOSoftLoss
from dpo_lab.scoring.logps import PairLogps

DPO, NLL = DPOLoss(), NLLLoss()

COMPARED: dict[str, PreferenceLoss] = {
    "dpo": DPO,
    "cdpo": DPOLoss(label_smoothing=0.1),
    "robust": RobustDPOLoss(),
    "ipo": IPOLoss(),
    "ipo_sum": IPOLoss(reduction="sum"),
    "simpo": SimPOLoss(),
    "orpo": ORPOLoss(),
    "cpo": CPOLoss(),
    "apo_zero": APOZeroLoss(),
    "apo_down": APODownLoss(),
    "sppo_hard": SPPOHardLoss(),
    "sppo_soft": SPPOSoftLoss(),
    "nll": NLL,
    "dpo_nll": MixtureLoss(losses={"dpo": DPO, "nll": NLL}, weights={"dpo": 1.0, "nll": 1.0}),
    "dpo_norm": DPOLoss(beta=5.0, reduction="mean"),
    "r_dpo": RDPOLoss(),
    "dpop": DPOPLoss(),
    "odpo": ODPOLoss(),
    "ld_dpo": LDDPOLoss(loss=DPO),
    "dpo_soft": SoftLabelDPOLoss(),
    "hinge": HingeLoss(),
    "nca": NCALoss(),
    "bco": BCOLoss(),
    "exo": EXOLoss(),
    "aot": AOTLoss(),
    "aot_unpaired": AOTUnpairedLoss(),
    "discopop": DiscoPOPLoss(),
    "dpo_forward_kl": FDivergenceLoss(divergence=ForwardKL(), loss=DPO),
    "dpo_js": FDivergenceLoss(divergence=JensenShannon(), loss=DPO),
    "dpo_alpha": FDivergenceLoss(divergence=AlphaDivergence(), loss=DPO),
    "mpo": MixtureLoss(losses={"dpo": DPO, "bco": BCOLoss(), "nll": NLL}, weights={"dpo": 0.8, "bco": 0.2, "nll": 1.0}),
}
"""Each option of conf/loss with the defaults of its class, whatever numbers the run trains with; not `wpo`, which needs more
than log-probabilities of the responses, nor `gpo`, whose points are other options."""


def compared_losses(policy: PairLogps, reference: PairLogps, *, has_reference: bool) -> dict[str, float]:
    """Return the mean of every loss that these log-probabilities suffice for, over all pairs at once.

    Args:
        policy: with labels; losses that read one which some pair lacks are left out.
        has_reference: False leaves out the losses that compare with a reference.
    """
    means: dict[str, float] = {}
    for name, loss in COMPARED.items():
        unknown = any(bool(getattr(policy.labels, label).isnan().any()) for label in loss.needs_labels)
        if not unknown and (has_reference or not loss.needs_reference):
            means[name] = float(loss(policy, reference).double().mean())
    return means
