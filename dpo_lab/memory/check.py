"""Whether a training fits this machine, how long it takes, and the smallest change that makes it fit."""

import time
from collections.abc import Iterator
from dataclasses import fields, replace

import torch

from dpo_lab.alignment import Alignment
from dpo_lab.amounts import bytes_text, weights_text
from dpo_lab.components import ConfigError
from dpo_lab.memory.host import host_memory
from dpo_lab.memory.plan import MemoryPlan, memory_plan
from dpo_lab.memory.weights import architecture_of
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.quant import EightBit, FourBit, NoQuant, without_bitsandbytes
from dpo_lab.models.spec import PretrainedModel, TinyModel
from dpo_lab.progress import say
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.optim import AdamW
from dpo_lab.training.optim_8bit import AdamW8bit

CLEARLY = 1.1
"""How far above what a device has a plan must be before a run is refused: plans are right within 15 %."""
LARGE = 1_000_000_000  # weights from which training without a GPU is a matter of hours
REACHED = 0.6  # share of a matrix product's speed that training reaches (docs/benchmarks.md)
SMALLER = "model=smollm2_135m"


def available(device: torch.device) -> float:
    """Return the bytes that a device has for this process: of a GPU's free memory, of the host's within its control groups."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    return host_memory()


def changes(alignment: Alignment) -> Iterator[tuple[str, Alignment]]:
    """Yield what could be changed, the smallest change first: as it is written on the command line, and the changed training."""
    settings, model = alignment.trainer, alignment.model
    assert isinstance(model, PretrainedModel | TinyModel)
    budget = settings.token_budget // 2
    while budget >= 256:
        yield f"recipe.token_budget={budget}", replace(alignment, trainer=replace(settings, token_budget=budget))
        budget //= 2
    text, adapter = "", model.adapter
    if isinstance(adapter, NoAdapter):
        text, adapter = "adapter=lora ", LoRA()
        yield text.strip(), replace(alignment, model=replace(model, adapter=adapter))
    if without_bitsandbytes():
        return
    if type(alignment.optim) is AdamW:
        own = {each.name: getattr(alignment.optim, each.name) for each in fields(AdamW)}
        yield "optim=adamw_8bit", replace(alignment, optim=AdamW8bit(**own))
    for name, quant in (("8bit", EightBit()), ("4bit", FourBit())):
        if isinstance(model, PretrainedModel) and (isinstance(model.quant, NoQuant) or model.quant.bits > quant.bits):
            smaller = replace(alignment, model=replace(model, adapter=adapter, quant=quant))
            yield f"{text}quant={name}", smaller
    if isinstance(model, PretrainedModel) and not isinstance(model.quant, FourBit):
        least = replace(settings, token_budget=256)
        yield f"{text}quant=4bit recipe.token_budget=256", replace(smaller, trainer=least)


def smallest_change(alignment: Alignment, store: TokenStore | None, limit: float) -> str:
    """Return the first change with which a training needs no more than a limit; if none does, a smaller model."""
    for text, changed in changes(alignment):
        if memory_plan(changed, store).needed <= limit:
            return text
    return SMALLER


def refusal(alignment: Alignment, store: TokenStore | None, plan: MemoryPlan, has: float) -> str:
    """Return why a training does not fit and what makes it fit, or an empty text."""
    if plan.needed <= CLEARLY * has:
        return ""
    part = max(plan.parts, key=lambda name: plan.parts[name])
    where = "the GPU" if alignment.trainer.device().type == "cuda" else "this machine"
    least = "" if store else " at least"
    return (
        f"model={alignment.model.label} needs{least} {bytes_text(plan.needed)} for {part}, and {where} has {bytes_text(has)}. "
        f"Use {smallest_change(alignment, store, has)}; `dpo-lab doctor` shows the plan."
    )


def check_fits(alignment: Alignment, store: TokenStore | None) -> None:
    """Say nothing if a training fits; one line if it will take hours without a GPU, or if nobody knows whether it fits.

    Args:
        store: the pairs; None before they are known: then weights, gradients and optimizer alone are counted.

    Raises:
        ConfigError: if it needs clearly more memory than there is, with the smallest change that makes it fit.
    """
    device = alignment.trainer.device()
    has = available(device)
    try:
        plan = memory_plan(alignment, None)
        if store and plan.needed + crude(alignment, store) > has:
            plan = memory_plan(alignment, store)
    except ConfigError:
        raise
    except Exception as error:  # an architecture that cannot be followed: nothing is refused
        if store:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
            say(f"  memory is not estimated: this model cannot be followed without its weights ({reason})")
        return
    if message := refusal(alignment, store, plan, has):
        raise ConfigError(message)
    if store and device.type == "cpu" and plan.held.parameters >= LARGE:
        hours = hours_of_1000_pairs(alignment, store, plan)
        size = f"{weights_text(plan.held.parameters)} weights and no GPU"
        say(f"  {size}: works, about {hours:.2g} hours per 1000 pairs here; try {SMALLER}")


def crude(alignment: Alignment, store: TokenStore) -> float:
    """Return more than the passes of any decoder take, from a few numbers: where even that fits, nothing is followed."""
    config = architecture_of(alignment.model)
    tokens = max(alignment.trainer.token_budget, 2 * int(store.row_lengths.max()))
    width = 30 * config.hidden_size + 10 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    numbers = tokens * config.num_hidden_layers * width + 2**27 + 4 * config.vocab_size * config.hidden_size
    return float(2 * 4 * numbers)


def hours_of_1000_pairs(alignment: Alignment, store: TokenStore, plan: MemoryPlan) -> float:
    """Return an estimate: products with every weight for every token, at the speed of a matrix product measured now.

    Forward, gradient by input, gradient by weight where weights are trained, and the reference's forward: 2 operations each.
    """
    products = 2 + (plan.held.trained > plan.held.parameters / 2) + bool(alignment.reference.compares)
    responses = list(dict.fromkeys(store.item_responses.tolist()))
    tokens = alignment.layout.num_tokens(store, responses) / store.num_items
    operations = 2.0 * products * plan.held.parameters * tokens * 1000
    half = alignment.precision.resolved(alignment.trainer.device()) == "bf16-mixed"
    rate = REACHED * gemm_rate(alignment.trainer.device(), torch.bfloat16 if half else torch.float32)
    return float(operations / rate / 3600)


def gemm_rate(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Return the operations per second of a square matrix product, the best of three."""
    left = torch.ones(size, size, dtype=dtype, device=device)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        float((left @ left)[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - began)
    return float(2 * size**3 / min(seconds[1:]))
