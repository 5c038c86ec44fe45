"""Other losses on a run's held-out log-probabilities."""

import math
from typing import Annotated, Any, ClassVar

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pydantic import Field
from torch import Tensor

from dpo_lab.components import ConfigError, component
from dpo_lab.conf_files import CONF
from dpo_lab.evaluation.compared import compared_losses, compared_values
from dpo_lab.losses import options
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.losses.gpo import GPOLoss
from dpo_lab.losses.options import loss_of, loss_options
from dpo_lab.losses.wpo import WPOLoss
from dpo_lab.scoring.logps import PairLogps, pair_logps
from dpo_lab.tokens.labels import PairLabels

EVERY = set(compared_losses(DPOLoss(), has_reference=True))


@component
class PowerLoss(PreferenceLoss):
    """A loss that no option has: the power to a multiple of DPO's logit."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    base: float

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        return self.base ** (-self.beta * (policy.margin - reference.margin))


def labels(preference: float = 0.9, score: float = 1.0) -> PairLabels:
    return PairLabels(torch.tensor([preference]), torch.tensor([score]), torch.tensor([0.0]))


def figures(**fields: Any) -> dict[str, float]:
    loss, has_reference = fields.pop("loss", DPOLoss()), fields.pop("has_reference", True)
    policy = pair_logps(-2.0, -6.0, tokens=(2, 3), labels=labels(**fields))
    values = compared_values(loss, policy, pair_logps(-2.5, -5.0, tokens=(2, 3)), has_reference=has_reference)
    return {name: float(value.mean()) for name, value in values.items()}


def test_every_option_is_compared_but_the_full_softmax_and_the_one_whose_points_are_other_options() -> None:
    assert set(loss_options()) - EVERY == {"wpo", "gpo", "plackett_luce"}
    assert set(loss_options()) >= EVERY


@pytest.mark.parametrize("name", sorted(loss_options()))
def test_an_option_is_what_hydra_composes_at_the_default_beta(name: str) -> None:
    node: Any = OmegaConf.load(CONF / "loss" / f"{name}.yaml")
    config = OmegaConf.create({"recipe": {"beta": 0.1}, "loss": node.loss if "defaults" in node else node})
    assert instantiate(config, _convert_="all")["loss"] == loss_options()[name]


def test_values_do_not_depend_on_the_numbers_that_the_run_trains_with() -> None:
    # margin 4 - 2.5 = 1.5 at the class's beta of 0.1
    assert figures(loss=DPOLoss(beta=3.0))["dpo"] == pytest.approx(math.log(1 + math.exp(-0.15)), rel=1e-6)
    assert figures()["dpo"] == pytest.approx(float(DPOLoss()(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))))


def test_losses_that_lack_their_labels_or_reference_are_left_out() -> None:
    assert EVERY - set(figures(preference=math.nan)) == {"sppo_soft", "dpo_soft"}
    assert EVERY - set(figures(score=math.nan)) == {"odpo"}
    assert set(figures(has_reference=False)) == {"simpo", "orpo", "cpo", "nll"}


@pytest.mark.parametrize(
    "loss", [GPOLoss(link="hinge"), WPOLoss(loss=DPOLoss()), DPOLoss(reduction="mean")], ids=["gpo", "wpo", "dpo"]
)
def test_a_run_with_an_option_adds_no_figure(loss: PreferenceLoss) -> None:
    assert set(compared_losses(loss, has_reference=True)) == EVERY


def test_a_loss_beside_the_project_is_compared_in_its_own_runs_with_the_defaults_of_its_class() -> None:
    found = figures(loss=PowerLoss(beta=7.0, base=2.0))
    assert set(found) == {*EVERY, "power"}
    assert found["power"] == pytest.approx(2 ** (-0.1 * 1.5))  # beta has a default, base has none


def test_a_loss_that_says_so_is_not_compared() -> None:
    class Slow(PowerLoss):
        compared: ClassVar[bool] = False

    assert set(compared_losses(Slow(base=2.0), has_reference=True)) == EVERY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("_target_: nowhere.Loss", "No module named 'nowhere'"),
        ("_target_: dpo_lab.losses.dpo.DPOLoss\nbeta: -1", "greater than 0"),
        ("beta: 1", "not a loss"),
    ],
    ids=["no_class", "bad_value", "no_loss"],
)
def test_a_file_that_describes_no_loss_is_named(text: str, reason: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "loss" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match="(?s)mine.yaml.*" + reason):
        loss_of(path)
    monkeypatch.setattr(options, "CONF", tmp_path)
    loss_options.cache_clear()
    with pytest.raises(ConfigError):
        compared_losses(DPOLoss(), has_reference=True)
    loss_options.cache_clear()
