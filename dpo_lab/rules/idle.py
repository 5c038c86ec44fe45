"""Settings that a stage takes and that make no difference beside the others: a command line that names one is refused."""

from collections.abc import Callable, Mapping

from dpo_lab.components import Component, parts_of
from dpo_lab.data.base import Data
from dpo_lab.models.spec import ModelSpec
from dpo_lab.reference.base import Reference
from dpo_lab.rules.check import fields_of
from dpo_lab.training.iteration import Iteration


def prompts_of_given_pairs(iteration: Iteration, data: Data) -> Mapping[str, str]:
    """Where the policy answers no prompts, rounds do not share them."""
    return {} if data.asks else {"iteration.prompts": "the policy answers no prompts in this run"}


def round_of_no_reference(iteration: Iteration, reference: Reference) -> Mapping[str, str]:
    """Which policy is the reference matters where there is one."""
    return {} if reference.compares else {"iteration.reference": "no reference is kept (reference=none)"}


def examples_of_given_pairs(model: ModelSpec, data: Data) -> Mapping[str, str]:
    """The tiny model is fine-tuned on examples that prompts bring; on other text it starts random."""
    names = ("sft_examples", "sft_batch_size", "sft_lr")
    why = "the model starts random on this data, which brings no examples"
    return {} if data.asks or not model.recipe else {f"model.{name}": why for name in names}


RULES: tuple[Callable[..., Mapping[str, str]], ...] = (prompts_of_given_pairs, round_of_no_reference, examples_of_given_pairs)
"""Each returns dotted fields of a stage and why they make no difference."""


def idle_settings(stage: Component) -> dict[str, str]:
    """Return the dotted fields of a stage that make no difference, and why."""
    found: dict[str, str] = {}
    for key, part in parts_of(stage):
        found |= {f"{key}.{name}" if key else name: why for name, why in part.idle().items()}
    for rule in RULES:
        if (fields := fields_of(stage, rule)) is not None:
            found |= rule(**fields)
    return found
