"""Golden parity: every number that the reference implementations gave for losses, through our own scoring and losses.

Each file has its tolerance from ../shared/data/golden/README.md. Every comparison counts the numbers that it compared, and each
test holds the count against all numbers of its file: none is passed over but those named here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpo_lab.evaluation.pair_figures import pair_figures
from dpo_lab.losses.aot import AOTLoss, AOTUnpairedLoss
from dpo_lab.losses.apo import APODownLoss, APOZeroLoss
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.bco import BCOLoss
from dpo_lab.losses.cpo import CPOLoss
from dpo_lab.losses.discopop import DiscoPOPLoss
from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss, SoftLabelDPOLoss
from dpo_lab.losses.exo import EXOLoss
from dpo_lab.losses.f_divergences import AlphaDivergence, Divergence, FDivergenceLoss, ForwardKL, JensenShannon
from dpo_lab.losses.hinge import HingeLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.ld_dpo import LDDPOLoss
from dpo_lab.losses.mixture import MixtureLoss
from dpo_lab.losses.nca import NCALoss
from dpo_lab.losses.nll import NLLLoss
from dpo_lab.losses.orpo import ORPOLoss, log_odds
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.losses.sppo import SPPOHardLoss
from dpo_lab.losses.wpo import WPOLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps
from dpo_lab.tokens.labels import PairLabels

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


class Comparison:
    """Compares numbers within a tolerance, relative to the larger of the expected number and `floor`, and counts them."""

    def __init__(self, tolerance: float, floor: float = 1.0) -> None:
        self.tolerance, self.floor, self.count = tolerance, floor, 0

    def same(self, ours: Tensor | float, theirs: Any, where: object) -> None:
        """Assert that numbers agree."""
        expected = torch.as_tensor(theirs, dtype=torch.float64)
        got = torch.as_tensor(ours).detach().double()
        assert got.shape == expected.shape, where
        error = ((got - expected).abs() / expected.abs().clamp(min=self.floor)).max().item()
        assert error <= self.tolerance, f"{where}: {error:.1e}"
        self.count += expected.numel()


def numbers(node: Any) -> Iterator[float]:
    """Yield every number below a node of a file."""
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from numbers(child)
    elif isinstance(node, int | float):
        yield node


def opened(shared_data: Path, name: str) -> Any:
    """Return a golden file."""
    return json.loads((shared_data / "golden" / name).read_text(encoding="utf-8"))


def flat(rows: list[list[float]]) -> list[float]:
    """Return the numbers of all rows, one after the other."""
    return [value for row in rows for value in row]


def pairs_of(per_token: list[list[float]], dtype: torch.dtype, squares: list[list[float]] | None = None) -> PairLogps:
    """Return pairs of responses given one after the other: all chosen ones, then all rejected ones."""
    counts = torch.tensor([len(each) for each in per_token])
    places = torch.arange(len(per_token)).view(2, -1).T
    of_vocabulary = torch.tensor(flat(squares), dtype=dtype) if squares else None
    return PairLogps(ResponseLogps(torch.tensor(flat(per_token), dtype=dtype), counts, of_vocabulary), places)


def alone(pairs: PairLogps, index: int) -> PairLogps:
    """Return one of the pairs, for a loss that is called on it alone."""
    return PairLogps(pairs.responses, pairs.pairs[index : index + 1])


def eric_loss(config: dict[str, Any]) -> PreferenceLoss:
    """Return our loss for a configuration of `preference_loss`."""
    if config["ipo"]:
        return IPOLoss(beta=config["beta"], reduction="sum")
    if config["label_smoothing"] == 0.5:  # refused as a constant; as labels it says that nobody can decide
        return SoftLabelDPOLoss(beta=config["beta"])
    return DPOLoss(beta=config["beta"], label_smoothing=config["label_smoothing"])


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
def test_preference_loss_of_the_first_dpo_code(shared_data: Path, precision: str, tolerance: float) -> None:
    golden, compared = opened(shared_data, "eric_preference_loss.json"), 0
    sides = {name: [[value] for value in values] for name, values in golden["inputs"].items()}
    reference = pairs_of(sides["reference_chosen_logps"] + sides["reference_rejected_logps"], PRECISIONS[precision])
    nothing = pairs_of([[0.0]] * 2 * len(reference.pairs), PRECISIONS[precision])
    undecided = PairLabels(*torch.full((3, len(reference.pairs)), 0.5))
    for result in golden["results"]:
        config, theirs = result["config"], result[precision]
        # a gradient of two that cancel, by 1/2 each, has fewer digits in float32: absolute below 1e-3 then
        cancelling = config["label_smoothing"] == 0.5 and precision == "float32"
        compare = Comparison(tolerance, floor=1e-3 if cancelling else 1e-30)
        policy = pairs_of(sides["policy_chosen_logps"] + sides["policy_rejected_logps"], PRECISIONS[precision])
        policy = PairLogps(policy.responses, policy.pairs, undecided)
        policy.responses.per_token.requires_grad_()
        losses = eric_loss(config)(policy, nothing if config["reference_free"] else reference)
        (gradient,) = torch.autograd.grad(losses.mean(), policy.responses.per_token)
        figures = pair_figures(policy, reference, losses, config["beta"])
        ours = {
            "losses": losses,
            "mean_loss": losses.mean(),
            "chosen_rewards": figures["rewards/chosen"],
            "rejected_rewards": figures["rewards/rejected"],
            "margins": figures["rewards/margins"],
            "accuracies": figures["rewards/accuracies"],
            "grad_policy_chosen_logps_of_mean": gradient.view(2, -1)[0],
            "grad_policy_rejected_logps_of_mean": gradient.view(2, -1)[1],
        }
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            compare.same(value, theirs[name], (config, name))
        assert compare.count == len(list(numbers(theirs))) == 24 * 7 + 1
        compared += 1
    assert compared == len(golden["results"]) == 14


def trl_links(beta: float, smoothing: float) -> dict[str, PreferenceLoss]:
    """Return our loss for each loss type of TRL but `sft`."""
    return {
        "sigmoid": DPOLoss(beta=beta),  # TRL ignores label_smoothing here
        "hinge": HingeLoss(beta=beta),
        "ipo": IPOLoss(beta=beta),
        "nca_pair": NCALoss(beta=beta),
        "bco_pair": BCOLoss(beta=beta, shift="zero"),
        "sppo_hard": SPPOHardLoss(beta=beta),
        "aot": AOTLoss(beta=beta, label_smoothing=smoothing),
        "aot_unpaired": AOTUnpairedLoss(beta=beta, label_smoothing=smoothing),
        "apo_zero": APOZeroLoss(beta=beta),
        "apo_down": APODownLoss(beta=beta),
        "discopop": DiscoPOPLoss(beta=beta),
        "sigmoid_norm": DPOLoss(beta=beta, reduction="mean"),
        "robust": RobustDPOLoss(beta=beta, label_smoothing=smoothing),
        "exo_pair": EXOLoss(beta=beta, label_smoothing=smoothing or 1e-3),
        "sft": NLLLoss(reduction="step"),
    }


def trl_divergence(config: dict[str, Any]) -> Divergence | None:
    """Return our divergence for a configuration of TRL; its alpha coefficient 1 is the reverse KL, DPO itself."""
    if config.get("fdiv") == "alpha_divergence":
        return None if config["fcoef"] == 1.0 else AlphaDivergence(alpha=1 - config["fcoef"])
    return {None: None, "forward_kl": ForwardKL(), "js_divergence": JensenShannon()}[config.get("fdiv")]


def trl_loss(config: dict[str, Any]) -> PreferenceLoss:
    """Return our loss for a configuration of `DPOTrainer._compute_loss`."""
    links = trl_links(config.get("beta", 0.1), config.get("label_smoothing", 0.0))
    if isinstance(config["loss_type"], list):
        names = config["loss_type"]
        weights = dict(zip(names, config.get("weights", [1.0] * len(names)), strict=True))
        return MixtureLoss(losses={name: links[name] for name in names}, weights=weights)
    if "tau" in config:
        return DiscoPOPLoss(beta=config.get("beta", 0.1), tau=config["tau"])
    loss = links[config["loss_type"]]
    if divergence := trl_divergence(config):
        return FDivergenceLoss(divergence=divergence, loss=loss)  # type: ignore[arg-type]  # pydantic refuses what it is not for
    if "ld_alpha" in config:
        return LDDPOLoss(alpha=config["ld_alpha"], loss=loss)
    return WPOLoss(loss=loss) if config.get("use_weighting") else loss


def trl_pairs(golden: dict[str, Any], dtype: torch.dtype) -> tuple[PairLogps, PairLogps]:
    """Return policy and reference of trl_losses.json: the response tokens of each row.

    The file's numbers were rounded to float32 before TRL saw them, in float64 too: so rounded, ours are equal to the bit.
    """
    mask = torch.tensor(golden["inputs"]["completion_mask"])[:, 1:].bool()

    def tokens(name: str) -> list[list[float]]:
        rows = torch.tensor(golden["inputs"][name], dtype=torch.float32)
        return [row[of_response].tolist() for row, of_response in zip(rows, mask, strict=True)]

    policy = pairs_of(tokens("per_token_logps_policy"), dtype, tokens("log_sum_sq_probs"))
    return policy, pairs_of(tokens("per_token_logps_reference"), dtype)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses_of_trl(shared_data: Path, precision: str) -> None:
    golden, compared = opened(shared_data, "trl_losses.json"), 0
    for result in golden["results"]:
        config, theirs, loss = result["config"], result[precision], trl_loss(result["config"])
        if "error" in theirs:  # TRL itself cannot compute it in float64; its float32 value is compared
            assert (config["fdiv"], precision) == ("alpha_divergence", "float64")
            continue
        of_exo = config["loss_type"] == "exo_pair"  # TRL takes its log(e) from a float32 tensor in either precision
        compare = Comparison(5e-6 if precision == "float32" else 1e-7 if of_exo else 1e-10)
        policy, reference = trl_pairs(golden, PRECISIONS[precision])
        policy.responses.per_token.requires_grad_()
        losses = loss(policy, reference)
        compare.same(losses.mean(), theirs["loss"], (config, "loss"))
        if singly := theirs["loss_per_pair_as_batch_of_one"]:  # none where pairs are sorted
            each = [loss(alone(policy, index), alone(reference, index)) for index in range(len(singly))]
            compare.same(torch.cat(each), singly, (config, "batches of one"))
        if rows := theirs.get("grad_per_token_logps_policy"):
            (gradient,) = torch.autograd.grad(losses.mean(), policy.responses.per_token)
            compare.same(gradient, flat(rows), (config, "gradient"))
        seen = [loss.desensitized(side) if isinstance(loss, LDDPOLoss) else side for side in (policy, reference)]
        figures = pair_figures(seen[0], seen[1], losses, config.get("beta", 0.1))
        for name, value in theirs["metrics"].items():
            figure = figures[name].float() if name == "rewards/accuracies" else figures[name]  # TRL's mean of it is float32
            compare.same(figure.mean(), value, (config, name))
        assert compare.count == len(list(numbers(theirs))), config
        compared += 1
    assert compared == {"float64": 46, "float32": 47}[precision]
    sums = torch.cat([policy.responses.sums, reference.responses.sums])
    Comparison(5e-7).same(sums, golden["derived"]["policy"] + golden["derived"]["reference"], "derived, which is float32")
    assert policy.responses.counts.tolist() == golden["derived"]["n_tokens_shifted"]


SMALL_CONFIGS: dict[str, dict[str, Any]] = {  # the names of trl_losses_small.json that are not a loss type
    "robust_eps0.1": {"loss_type": "robust", "label_smoothing": 0.1},
    "exo_pair_eps1e-3": {"loss_type": "exo_pair", "label_smoothing": 1e-3},
    "aot_eps0.1": {"loss_type": "aot", "label_smoothing": 0.1},
    "sigmoid_f_forward_kl": {"loss_type": "sigmoid", "fdiv": "forward_kl"},
    "sigmoid_f_js_divergence": {"loss_type": "sigmoid", "fdiv": "js_divergence"},
    "sigmoid_f_alpha_divergence": {"loss_type": "sigmoid", "fdiv": "alpha_divergence", "fcoef": 0.5},
    "ld_alpha0.5": {"loss_type": "sigmoid", "ld_alpha": 0.5},
    "ld_alpha0.0": {"loss_type": "sigmoid", "ld_alpha": 0.0},
    "wpo": {"loss_type": "sigmoid", "use_weighting": True},
    "mpo_0.8_0.2_1.0": {"loss_type": ["sigmoid", "bco_pair", "sft"], "weights": [0.8, 0.2, 1.0]},
}
ERIC_SMALL = {"dpo": DPOLoss(), "cdpo_eps0_1": DPOLoss(label_smoothing=0.1), "ipo_sum": IPOLoss(reduction="sum")}


def test_the_small_file(shared_data: Path) -> None:
    golden, compared = opened(shared_data, "trl_losses_small.json"), 0
    policy = pairs_of(golden["policy_tok"], torch.float64, golden["log_sum_sq_probs"])
    reference = pairs_of(golden["ref_tok"], torch.float64)
    compare = Comparison(1e-9)
    compare.same(policy.responses.sums, golden["policy_sum"], "policy_sum")
    compare.same(reference.responses.sums, golden["ref_sum"], "ref_sum")
    compare.same(policy.responses.counts, golden["lens"], "lens")
    for name, mean in golden["trl"].items():
        loss = trl_loss(SMALL_CONFIGS.get(name, {"loss_type": name}))
        tolerance = {"sigmoid_f_alpha_divergence": 1e-5, "exo_pair_eps1e-3": 1e-7}.get(name, 1e-9)  # in part float32 there
        Comparison(tolerance).same(loss(policy, reference).mean(), mean, name)
        compared += 1
    nothing = pairs_of([[0.0] * count for count in golden["lens"]], torch.float64)
    for name, theirs in golden["mitchell"].items():
        losses = ERIC_SMALL.get(name, DPOLoss())(policy, nothing if name == "reference_free" else reference)
        figures = pair_figures(policy, reference, losses, 0.1)
        compare.same(losses, theirs["losses"], name)
        compare.same(losses.mean(), theirs["mean"], name)
        compare.same(figures["rewards/chosen"], theirs["chosen_rewards"], name)
        compare.same(figures["rewards/rejected"], theirs["rejected_rewards"], name)
    assert compared == len(golden["trl"]) == 23
    held = [golden[name] for name in ("policy_sum", "ref_sum", "lens", "mitchell")]
    assert compare.count == len(list(numbers(held))) == 3 * 8 + 4 * 13


def reference_free_loss(config: dict[str, Any]) -> PreferenceLoss:
    """Return our loss for a configuration of `CPOTrainer.cpo_loss`, which is the contrast without the likelihood term."""
    if config["loss_type"] == "simpo":
        return SimPOLoss(beta=config["beta"], gamma=config["simpo_gamma"], label_smoothing=config["label_smoothing"])
    link: Any = {"sigmoid": "logistic", "hinge": "hinge", "ipo": "squared"}[config["loss_type"]]
    return CPOLoss(beta=config["beta"], link=link, nll_weight=0.0)


def test_reference_free_losses_of_trl(shared_data: Path) -> None:
    golden = opened(shared_data, "trl_reference_free_losses.json")
    sides = [[[mean] for mean in golden["inputs"][f"policy_{side}_average_logps"]] for side in ("chosen", "rejected")]
    policy = pairs_of(sides[0] + sides[1], torch.float64)  # responses of one token: its log-probability is their mean
    nothing = pairs_of([[0.0]] * len(sides[0] + sides[1]), torch.float64)
    compare = Comparison(1e-12)
    for theirs in golden["cpo_and_simpo"]:
        losses = reference_free_loss(theirs)(policy, nothing)
        figures = pair_figures(policy, nothing, losses, theirs["beta"])
        compare.same(losses, theirs["losses"], theirs)
        compare.same(figures["rewards/chosen"], theirs["chosen_rewards"], theirs)
        compare.same(figures["rewards/rejected"], theirs["rejected_rewards"], theirs)
    assert compare.count == len(list(numbers(golden["cpo_and_simpo"]))) - 6 * 3 == 6 * 3 * 12  # without the three settings
    compare = Comparison(1e-6)
    for theirs in golden["orpo"]:
        losses = ORPOLoss(beta=theirs["beta"])(policy, nothing)
        figures = pair_figures(policy, nothing, losses, theirs["beta"])
        apart = log_odds(policy.chosen) - log_odds(policy.rejected)
        compare.same(-losses - policy.chosen, theirs["odds_ratio_losses_float32"], theirs)  # without the likelihood, negative
        compare.same(figures["rewards/chosen"], theirs["chosen_rewards"], theirs)
        compare.same(figures["rewards/rejected"], theirs["rejected_rewards"], theirs)
        compare.same(apart.mean(), theirs["mean_log_odds"], theirs)
        compare.same(apart.sigmoid().log().mean(), theirs["mean_log_sigmoid"], theirs)
    assert compare.count == len(list(numbers(golden["orpo"]))) - len(golden["orpo"]) == 2 * (3 * 12 + 2)
