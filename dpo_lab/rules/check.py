"""Parts that work alone but not together: one small rule each, checked before anything heavy loads."""

import difflib
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch

from dpo_lab.alignment import Alignment
from dpo_lab.components import ConfigError
from dpo_lab.data.base import Given
from dpo_lab.data.sources import HubPairs
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.layouts.base import lacking
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.quant import EightBit, NoQuant, without_bitsandbytes
from dpo_lab.models.spec import PretrainedModel, TinyModel
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.rules import callbacks, prompts
from dpo_lab.rules.figures import LOSSES, summary_figures
from dpo_lab.training.optim_8bit import AdamW8bit

SMALLEST_BF16_RATE = 1e-4
"""Learning rate below which most updates of a weight in bf16 are lost."""


def quantised_base_trained_in_full(alignment: Alignment) -> str | None:
    """Quantised weights have no gradient."""
    if isinstance(alignment.model.quant, NoQuant) or not isinstance(alignment.model.adapter, NoAdapter):
        return None
    return f"a base in {alignment.model.quant.bits} bits cannot be trained in full; use adapter=lora, or quant=none."


def lengths_of_8_bit_weights(alignment: Alignment) -> str | None:
    """DoRA reads the base's weights, which peft cannot dequantise on every device."""
    model = alignment.model
    if not isinstance(model.quant, EightBit) or not isinstance(model.adapter, LoRA) or not model.adapter.dora:
        return None
    return "quant=8bit with adapter=dora: the lengths of 8-bit weights cannot be read; use quant=4bit, or adapter=lora."


def half_precision_weights_trained_in_full(alignment: Alignment) -> str | None:
    """The steps of a learning rate that suits preferences are below what half precision resolves."""
    model = alignment.model
    if not isinstance(model, PretrainedModel) or model.dtype != "bf16" or not isinstance(model.adapter, NoAdapter):
        return None
    if alignment.precision.mode == "bf16-true":
        return None  # asked for in so many words
    return (
        "model.dtype=bf16 with adapter=none would train weights of 8 significant bits, which small steps do not change; "
        "use model.dtype=auto, or adapter=lora."
    )


def quantised_without_bitsandbytes(alignment: Alignment) -> str | None:
    """Quantised weights are kept and multiplied by a library that not every machine has."""
    return None if find_spec("bitsandbytes") else _needs_bitsandbytes(alignment, "No module named 'bitsandbytes'")


def quantised_with_broken_bitsandbytes(alignment: Alignment) -> str | None:
    """The same of a library that is installed and does not load; trying takes seconds, so what is cheaper to find comes first."""
    return _needs_bitsandbytes(alignment, without_bitsandbytes()) if _needs_bitsandbytes(alignment, "...") else None


def _needs_bitsandbytes(alignment: Alignment, reason: str) -> str | None:
    quant, optim = alignment.model.quant, alignment.optim
    asked = f"quant={quant.bits}bit" if not isinstance(quant, NoQuant) else "optim=adamw_8bit" if optim.needs_bitsandbytes else ""
    if not asked or not reason:
        return None
    instead = "quant=none" if asked.startswith("quant") else "optim=adamw"
    return (
        f"{asked} needs bitsandbytes, which cannot be imported here ({reason}). "
        f"Install it (pip install bitsandbytes), or use {instead}."
    )


def more_rounds_than_given_pairs(alignment: Alignment) -> str | None:
    """Given pairs serve one round, or as many as the data set has splits."""
    rounds, available = alignment.iteration.rounds, len(alignment.data.splits) if isinstance(alignment.data, HubPairs) else 1
    if not isinstance(alignment.data, Given) or rounds <= available:
        return None
    has = "its pairs are given, and serve one round" if available == 1 else f"the data has {available} splits, one per round"
    return f"iteration.rounds={rounds}: {has}; use iteration.rounds={available}, or pairs made in each round: data=on_policy."


def held_out_pairs_of_made_pairs(alignment: Alignment) -> str | None:
    """Made pairs are all trained on; what is held out are prompts."""
    if not (alignment.evaluation.on_pairs and isinstance(alignment.data, OnPolicy)):
        return None
    return "evaluation=preference needs held-out pairs, but this data makes its pairs to train on; use evaluation=generation."


def film_evaluation_of_given_pairs(alignment: Alignment) -> str | None:
    """Answers about films say nothing of a model that was trained on other text."""
    if not (isinstance(alignment.data, Given) and isinstance(alignment.evaluation, GenerationEvaluation)):
        return None
    if not alignment.evaluation.prompts.films:
        return None
    return "evaluation=generation asks about films, but the pairs are given and of other text; use evaluation=preference."


def reference_that_a_loss_needs(alignment: Alignment) -> str | None:
    """Most losses compare the policy with a frozen reference."""
    if alignment.reference.compares or not alignment.loss.needs_reference:
        return None
    return "reference=none leaves this loss nothing to compare with; use reference=cached, or a loss that needs none: loss=simpo."


def reference_that_a_policy_cannot_be(alignment: Alignment) -> str | None:
    """References without a second model are the policy's base, which only an adapter leaves as it was."""
    if not alignment.reference.needs_adapter:
        return None
    if isinstance(alignment.model.adapter, NoAdapter):
        name = "previous_adapter" if alignment.reference.keeps_adapter else "adapter_off"
        other = "cached" if alignment.loss.needs_reference else "none"
        return f"reference={name} is the policy's base, and adapter=none trains every weight; use reference={other}."
    if alignment.iteration.reference == "first" or alignment.iteration.rounds == 1 or alignment.reference.keeps_adapter:
        return None
    return (
        "reference=adapter_off is the model before all rounds, and iteration.reference=previous asks for that before each; "
        "use reference=previous_adapter, or iteration.reference=first."
    )


def reference_that_moves_for_nothing(alignment: Alignment) -> str | None:
    """A reference that follows the policy changes what the loss compares with; rewards against it would mean nothing."""
    if not alignment.reference.moves or alignment.loss.needs_reference:
        return None
    return "reference=ema moves what a loss compares with, and this loss compares with nothing; use reference=none."


def ranker_without_probabilities(alignment: Alignment) -> str | None:
    """Some losses read how sure the ranker is."""
    if not isinstance(alignment.data, OnPolicy) or "preference" not in alignment.loss.needs_labels:
        return None
    if alignment.data.ranker.win_probability(1.0, 0.0) is not None:
        return None
    return f"this loss reads the ranker's win probability, and ranker={alignment.data.ranker.label} gives none; use loss=dpo."


def gpu_without_one(alignment: Alignment) -> str | None:
    """A device that is asked for by name has to be there."""
    if alignment.trainer.accelerator != "gpu" or torch.cuda.is_available():
        return None
    return "trainer.accelerator=gpu, and torch sees no GPU here; use trainer=auto or trainer=cpu."


def updates_that_bf16_weights_lose(alignment: Alignment) -> str | None:
    """A weight in bf16 has 8 bits of mantissa: what changes it by less than its 256th part changes nothing."""
    lr = alignment.optim.lr
    if alignment.precision.mode != "bf16-true" or lr >= SMALLEST_BF16_RATE:
        return None
    return (
        f"precision=bf16_true with optim.lr={lr:g}: bf16 has 8 bits of mantissa, a weight of size w changes only by more than "
        "w/256, and smaller updates are lost (full fine-tuning at 5e-7 changed 0.9 % of the weights, 95.7 % with fp32 weights); "
        f"use precision=bf16, whose weights are fp32, or optim.lr={SMALLEST_BF16_RATE:g} and above."
    )


def parts_that_bf16_weights_contradict(alignment: Alignment) -> str | None:
    """A format asked for by name is the one that is taken, and DoRA's lengths have to begin as those of the base."""
    model = alignment.model
    if alignment.precision.mode != "bf16-true":
        return None
    if isinstance(model, PretrainedModel) and model.dtype == "fp32":
        return "precision=bf16_true with model.dtype=fp32: weights cannot be both; use model.dtype=auto, or precision=bf16."
    if isinstance(model.adapter, LoRA) and model.adapter.dora:
        return (
            "precision=bf16_true with adapter.dora=true: lengths rounded to bf16 begin up to 0.4 % away from the base's; "
            "use precision=bf16, or adapter=lora."
        )
    return None


def more_devices_than_gpus(alignment: Alignment) -> str | None:
    """Two processes on one GPU would only wait for each other."""
    asked, device = alignment.trainer.devices, alignment.trainer.device()
    if asked == 1 or device.type != "cuda" or asked <= torch.cuda.device_count():
        return None
    found = torch.cuda.device_count()
    return f"trainer.devices={asked}, and torch sees {found} GPU{'s'[: found > 1]}; use trainer.devices={found}."


def kernel_without_a_gpu(alignment: Alignment) -> str | None:
    """FlexAttention has no backward on a CPU, and FlashAttention is not there; on a GPU FlexAttention has to be compiled."""
    kernel = alignment.layout.attention
    if kernel == "sdpa":
        return None
    if alignment.trainer.device().type != "cuda":
        return f"layout.attention={kernel} needs a GPU; use layout.attention=sdpa."
    missing = lacking(kernel)
    return f"layout.attention={kernel}: {missing}; use layout.attention=varlen." if missing else None


def paging_without_a_gpu(alignment: Alignment) -> str | None:
    """The optimizer's state moves from a GPU's memory to the host's; on a CPU there is nowhere to move it."""
    if not isinstance(alignment.optim, AdamW8bit) or not alignment.optim.paged or alignment.trainer.device().type == "cuda":
        return None
    return "optim.paged=true needs a GPU; use optim.paged=false."


def heads_that_do_not_divide(alignment: Alignment) -> str | None:
    """Attention heads share the width evenly, in even parts for the rotary positions."""
    model = alignment.model
    if not isinstance(model, TinyModel) or model.hidden_size % (2 * model.num_heads) == 0:
        return None
    return (
        f"model.hidden_size={model.hidden_size} is no multiple of 2 x model.num_heads={model.num_heads}; "
        f"use model.hidden_size={-(-model.hidden_size // (2 * model.num_heads)) * 2 * model.num_heads}."
    )


def figure_that_the_summary_will_not_have(alignment: Alignment) -> str | None:
    """A search that reads a figure which is not there finds out after its first run."""
    wanted, figures = getattr(alignment, "optimized_metric", ""), summary_figures(alignment)
    if not wanted or wanted in figures:
        return None
    if not figures:
        return f"optimized_metric={wanted}: nothing is held out, so the run will have no figures; use data.held_out=N."
    near = difflib.get_close_matches(wanted, figures, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    listed = [name for name in figures if not name.startswith(LOSSES)]
    losses = f", {LOSSES}NAME of a loss" if len(listed) < len(figures) else ""
    return f"optimized_metric={wanted}: this run's summary will not have it.{meant} Valid: {', '.join(listed)}{losses}."


RULES: tuple[Callable[[Alignment], str | None], ...] = (
    quantised_base_trained_in_full,
    lengths_of_8_bit_weights,
    half_precision_weights_trained_in_full,
    quantised_without_bitsandbytes,
    more_rounds_than_given_pairs,
    held_out_pairs_of_made_pairs,
    film_evaluation_of_given_pairs,
    *prompts.RULES,
    reference_that_a_loss_needs,
    reference_that_a_policy_cannot_be,
    reference_that_moves_for_nothing,
    ranker_without_probabilities,
    gpu_without_one,
    updates_that_bf16_weights_lose,
    parts_that_bf16_weights_contradict,
    more_devices_than_gpus,
    kernel_without_a_gpu,
    paging_without_a_gpu,
    heads_that_do_not_divide,
    *callbacks.RULES,
    figure_that_the_summary_will_not_have,
)
"""Each returns what is wrong and what to use instead, or None."""
SLOW_RULES = (quantised_with_broken_bitsandbytes, prompts.prompts_run_out)
"""Those that import seconds of libraries or read data; applied once the model is found to be there."""


def refuse_illegal(alignment: Alignment, rules: Sequence[Callable[[Alignment], str | None]] = RULES) -> None:
    """Raise ConfigError with everything that is wrong with the parts of a stage taken together."""
    if messages := [message for rule in rules if (message := rule(alignment))]:
        raise ConfigError(" Also: ".join(messages))
