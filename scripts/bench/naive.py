"""The loop that every DPO code started from: padded rows, logits of every position, the reference computed in every step.

What eric-mitchell/direct-preference-optimization does in trainers.py, with AdamW instead of RMSprop. Run as
`python -m scripts.bench.naive`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from scripts.bench import task
from scripts.bench.meter import Meter
from scripts.bench.task import Options, Pair, Result

IGNORED = -100


def padded(batch: list[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, labels and mask of shape (rows, time): the chosen responses' rows first; a prompt has no labels."""
    rows = [(pair.prompt, pair.chosen) for pair in batch] + [(pair.prompt, pair.rejected) for pair in batch]
    time = max(len(prompt) + len(response) for prompt, response in rows)
    ids, labels = torch.zeros(len(rows), time, dtype=torch.int64), torch.full((len(rows), time), IGNORED)
    mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor(prompt + response)
        labels[row, len(prompt) : end] = torch.tensor(response)
        mask[row, :end] = 1
    return ids, labels, mask


def response_logps(model: nn.Module, ids: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the summed log-probability of each row's response, shape (rows,), by way of all logits."""
    logits: Tensor = model(input_ids=ids, attention_mask=mask).logits.float()[:, :-1]
    wanted = labels[:, 1:]
    counted = wanted != IGNORED
    per_token = logits.log_softmax(-1).gather(2, wanted.where(counted, 0).unsqueeze(2)).squeeze(2)
    return (per_token * counted).sum(-1)


def pair_losses(policy: nn.Module, reference: nn.Module, batch: list[Pair], *, beta: float, bf16: bool) -> Tensor:
    """Return the DPO loss of each pair."""
    ids, labels, mask = padded(batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        chosen, rejected = response_logps(policy, ids, labels, mask).chunk(2)
        with torch.no_grad():
            fixed_chosen, fixed_rejected = response_logps(reference, ids, labels, mask).chunk(2)
    return -nn.functional.logsigmoid(beta * ((chosen - rejected) - (fixed_chosen - fixed_rejected)))


def with_adapter(model: Any) -> Any:
    """Return the model with frozen weights and the common LoRA on it."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=task.LORA_RANK, lora_alpha=task.LORA_ALPHA, target_modules=list(task.LORA_TARGETS), task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    task.set_adapter(adapted)
    return adapted


def train(options: Options) -> Result:
    """Train for one epoch to warm up and then the timed ones."""
    base, reference = task.language_model(options.layers), task.language_model(options.layers)
    meter = Meter()
    meter.count_tokens(base.model, base.lm_head)
    meter.time_reference(reference.requires_grad_(False))
    policy = with_adapter(base) if options.adapter == "lora" else base
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0, fused=True)
    losses, norms, pairs = [], [], options.pairs()
    for _ in range(options.epochs):
        meter.begin_epoch()
        for start in range(0, len(pairs), task.PAIRS_PER_STEP):
            loss = 0.0
            for first in range(start, start + task.PAIRS_PER_STEP, options.micro_batch):
                batch = pairs[first : first + options.micro_batch]
                share = pair_losses(policy, reference, batch, beta=options.beta, bf16=options.bf16).sum() / task.PAIRS_PER_STEP
                share.backward()
                loss += share.item()
            norms.append(float(nn.utils.clip_grad_norm_(trained, float("inf"))))
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss)
        meter.end_epoch()
    products = 3 if options.adapter == "none" else 2
    return Result(
        contestant="naive",
        options=vars(options),
        losses=losses[: options.compared],
        grad_norms=norms[: options.compared],
        epoch_seconds=meter.epoch_seconds[options.warm_up :],
        reference_seconds=meter.reference_seconds[options.warm_up :],
        reference_cached=False,
        body_tokens=meter.body_tokens,
        head_tokens=meter.head_tokens,
        body_products=products,
        head_products=products,
    )


if __name__ == "__main__":
    train(task.options(task.parser().parse_args())).emit("peft")
