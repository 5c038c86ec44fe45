"""One round of preference training: pairs -> tokens -> reference -> policy, each kept on disk and found again."""

import copy
import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import ConfigError, RunError
from dpo_lab.data.base import Data
from dpo_lab.layouts.base import PairBatch
from dpo_lab.models.load import ModelOnDisk, load_model, load_tokenizer, save_model
from dpo_lab.progress import part
from dpo_lab.records import PreferencePair
from dpo_lab.reference.base import ReferenceScorer
from dpo_lab.reference.cached import CachedReference, reference_pass
from dpo_lab.reference.frozen import FrozenReference, FrozenScorer
from dpo_lab.scoring.score import needs_own_logits
from dpo_lab.tokens.build import tokenise_pairs
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import pair_batches
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule

if TYPE_CHECKING:
    from dpo_lab.stages.train import Train

STEP_0_TOLERANCE = {"32-true": 1e-3, "bf16-mixed": 5e-2}  # nats; a cached reference was scored in other batch shapes


@dataclass(frozen=True)
class Round:
    """What one round starts from."""

    number: int
    """Counted from 1."""
    name: str
    """Readable part of the directories' names."""
    base: ModelOnDisk
    """The model before all rounds."""
    start: ModelOnDisk
    """The policy before this round."""
    reference: ModelOnDisk
    """The frozen reference of this round."""


def token_store(
    pairs: list[PreferencePair], data: Data, base: ModelOnDisk, *, root: Path, name: str, force: bool
) -> tuple[TokenStore, Artifact]:
    """Return the token store of some pairs and the artifact it stands in."""
    digest = hashlib.sha256(
        repr([(pair.id, pair.score_chosen, pair.score_rejected, pair.preference) for pair in pairs]).encode()
    ).hexdigest()
    content = {"pairs": digest, "tokenizer": base.id, "max_length": data.max_length, "truncation": data.truncation}
    plan = Plan(root, "tokens", name, content, parents=[base.id])

    def produce(directory: Path) -> dict[str, Any]:
        tokenizer = load_tokenizer(base.path, base.revision)
        made = tokenise_pairs(pairs, tokenizer, max_length=data.max_length, truncation=data.truncation)
        made.store.save(directory)
        return {"pairs": made.store.num_pairs, "notes": made.notes(data.max_length), **made.counts}

    artifact = plan.make(produce, force=force)
    return TokenStore.open(artifact.path), artifact


def train_round(train: "Train", this: Round, store: TokenStore) -> Artifact:
    """Train the policy of a round on a store's pairs; return the artifact it stands in."""
    content = {
        "start": this.start.id,
        "reference": [this.reference.id, train.reference.content()],
        "tokens": store.fingerprint(),
        "adapter": train.model.adapter.content(),
        "seed": [train.seed, this.number],
        **{name: getattr(train, name).content() for name in ("loss", "optim", "trainer", "precision", "layout")},
    }
    plan = Plan(train.outputs, "policy", this.name, content, parents=[this.start.id, this.reference.id])
    return plan.make(lambda directory: _produce(train, this, store, directory), force=train.force)


def reference_scorer(
    train: "Train", model: nn.Module, store: TokenStore, name: str, *, own_logits: bool
) -> tuple[ReferenceScorer, float]:
    """Return the scorer of a store under a reference model, and the seconds that its pass took when it was made."""
    if isinstance(train.reference, FrozenReference):
        return FrozenScorer(copy.deepcopy(model), own_logits=own_logits), 0.0
    if isinstance(train.reference, CachedReference):
        scorer, artifact = reference_pass(
            model, store, train.layout, train.reference, root=train.outputs, name=name, own_logits=own_logits
        )
        return scorer, artifact.seconds
    raise ConfigError(f"reference: {type(train.reference).__name__} is neither cached nor frozen; use one of them.")


def _produce(train: "Train", this: Round, store: TokenStore, directory: Path) -> dict[str, Any]:
    device, seed = train.trainer.device(), train.seed * 1000 + this.number
    loaded = load_model(this.start.path, this.start.revision)
    model = loaded.model.to(device)
    own_logits = needs_own_logits(model, train.layout.rows(store, [0]).to(device))
    same = this.reference.id == this.start.id
    reference_model = model if same else this.reference.loaded(device).model
    scorer, reference_seconds = reference_scorer(train, reference_model, store, this.name, own_logits=own_logits)
    policy = train.model.adapter.attach(model)
    settings = train.trainer
    batches = pair_batches(
        store,
        train.layout,
        batch_size=settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        epochs=settings.epochs,
        seed=seed,
    )
    total_steps = min(batches.total_steps, settings.max_steps or batches.total_steps)
    module = PreferenceModule(policy, scorer, train.loss, train.optim, total_steps=total_steps, seed=seed, own_logits=own_logits)
    gap = check_step_0(module, batches.collate(next(iter(batches.sampler))), train) if same else None
    started = time.monotonic()
    with part(f"DPO round {this.number}", total_steps) as shown:
        figures = fit(
            module,
            batches,
            settings,
            train.precision,
            part=shown,
            directory=directory,
            loggers=train.logger.values(),
            callbacks=train.callbacks.values(),
        )
    save_model(policy, loaded.tokenizer, directory, _absolute(this.base.path))
    return {
        "pairs": store.num_pairs,
        "steps": total_steps,
        "loss/first": figures.first["loss"],
        "loss/last": figures.newest["loss"],
        "step_0_gap": gap,
        "trainable": sum(weight.numel() for weight in policy.parameters() if weight.requires_grad),
        "seconds/reference": reference_seconds,
        "seconds/dpo": time.monotonic() - started,
    }


@torch.no_grad()
def check_step_0(module: PreferenceModule, step: list[PairBatch], train: "Train") -> float:
    """Return the largest gap in nats between policy and reference before the first step; they are the same model.

    Raises:
        RunError: if they disagree, for then every margin of the run would be wrong by as much.
    """
    module.to(train.trainer.device())
    gap = 0.0
    for batch in step:
        policy, reference = module.pair_logps(batch.to(train.trainer.device()))
        gap = max(
            gap,
            *(
                float((ours - theirs).abs().max())
                for ours, theirs in zip((policy.chosen, policy.rejected), (reference.chosen, reference.rejected), strict=True)
            ),
        )
    allowed = 0.0 if isinstance(train.reference, FrozenReference) else STEP_0_TOLERANCE[train.precision.resolved()]
    if math.isnan(gap) or gap > allowed:
        raise RunError(
            f"policy and reference are the same model before the first step, yet differ by {gap:.2g} nats (allowed {allowed:g}). "
            "Dropout in the base model, or weights in another number format, would do this; use precision=fp32."
        )
    return gap


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path
