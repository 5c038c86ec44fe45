"""One round of preference training: pairs -> tokens -> reference -> policy, each kept on disk and found again."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_lab.alignment import Alignment
from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.data.base import Data
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.memory.check import check_fits
from dpo_lab.memory.host import give_back
from dpo_lab.models.adapted import held_in
from dpo_lab.models.directory import base_of
from dpo_lab.models.load import ModelOnDisk, load_tokenizer, save_model
from dpo_lab.models.storage import record_of
from dpo_lab.progress import Part, part
from dpo_lab.records import PreferencePair, digest_of
from dpo_lab.reference.base import ReferenceModel, ReferenceScorer
from dpo_lab.run_directory import METRICS
from dpo_lab.scoring.fitting import Fit, attention_of, fitted, made_ready, tried
from dpo_lab.scoring.randomness import without_randomness
from dpo_lab.scoring.score import score
from dpo_lab.seeding import derive
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import Batches, item_batches
from dpo_lab.training.callbacks import Questions, content_of
from dpo_lab.training.checkpoint_files import rewind
from dpo_lab.training.fit import fit
from dpo_lab.training.group import Group
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.processes import Meet, together
from dpo_lab.training.step_0 import check_step_0
from dpo_lab.training.steps import Row


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
    kept = ((pair.id, pair.finished, pair.score_chosen, pair.score_rejected, pair.preference) for pair in pairs)
    content = {"pairs": digest_of(kept), "tokenizer": base.id, "max_length": data.max_length, "truncation": data.truncation}
    plan = Plan(root, "tokens", name, content, parents=[base.id])

    def produce(directory: Path) -> dict[str, Any]:
        tokenizer = load_tokenizer(base.path, base.storage.revision)
        made = tokenise_items(pairs, tokenizer, max_length=data.max_length, truncation=data.truncation, model=base.path)
        made.store.save(directory)
        return {"pairs": made.store.num_pairs, "notes": made.notes(data.max_length, base.path), **made.counts}

    artifact = plan.make(produce, force=force)
    return TokenStore.open(artifact.path), artifact


def train_round(
    alignment: Alignment, this: Round, store: TokenStore, tell: Callable[[Row], None] = lambda row: None, *, force: bool = False
) -> Artifact:
    """Train the policy of a round on a store's pairs; return the artifact it stands in.

    Args:
        tell: hears the figures of every logged step as it is made.
    """
    content = policy_content(alignment, this, store)
    name = f"{alignment.model.label}-{alignment.loss.label}-{alignment.data.label}-seed{alignment.seed}-round{this.number}"
    plan = Plan(alignment.outputs, "policy", name, content, parents=[this.start.id, this.reference.id])
    made = plan.make(lambda directory: _produce(alignment, this, store, directory, tell), force=force, resume=True)
    give_back()  # else an evaluation stands on top of gradients and optimizer
    return made


def policy_content(alignment: Alignment, this: Round, store: TokenStore) -> dict[str, Any]:
    """Return what determines the weights that a round trains."""
    return {
        "start": this.start.id,
        "reference": [this.reference.id, alignment.reference.content()],
        "tokens": store.fingerprint(),
        "labels": [store.label_digest(name) for name in alignment.loss.needs_labels],
        "adapter": alignment.model.adapter.content(),
        "seed": [alignment.seed, this.number],
        "order": alignment.data.order,
        "precision": alignment.precision.resolved(alignment.trainer.device()),
        **{name: getattr(alignment, name).content() for name in ("loss", "optim", "trainer", "layout")},
        **content_of(alignment.callbacks, alignment.trainer.log_every),
    }


@dataclass(frozen=True)
class Prepared:
    """What a process trains."""

    module: PreferenceModule
    batches: Batches
    tokenizer: Any
    total_steps: int
    notes: tuple[str, ...]
    reference_seconds: float
    attention: str
    """Name of the attention function."""


def _prepared(alignment: Alignment, this: Round, store: TokenStore, group: Group) -> Prepared:
    device, seed = alignment.trainer.device(), derive(alignment.seed, "round", this.number)
    loaded = this.start.load(device)
    model = loaded.model
    how = fitted(model, alignment.layout, store)
    attention = attention_of(model)
    some = how.layout.rows(store, tried(store)).to(device)
    steadied = without_randomness(model, lambda: score(model, some, own_logits=how.own_logits).per_token)
    scorer, reference_seconds = _reference_scorer(alignment, this, model, store, how)
    policy = alignment.model.adapter.attach(model, derive(seed, "adapter"))
    scorer.follow(policy)
    if alignment.precision.weights != torch.float32:
        held_in(policy, alignment.precision.weights)  # adapters are made in fp32
    batches = _batches(alignment, store, how, seed, group)
    total_steps = min(batches.total_steps, alignment.trainer.max_steps or batches.total_steps)
    alignment.reference.refuse_steps(total_steps)
    module = PreferenceModule(
        policy, scorer, alignment.loss, alignment.optim, total_steps=total_steps, seed=seed, own_logits=how.own_logits
    )
    return Prepared(module, batches, loaded.tokenizer, total_steps, (*how.notes, *steadied), reference_seconds, attention)


def _produce(
    alignment: Alignment, this: Round, store: TokenStore, directory: Path, tell: Callable[[Row], None]
) -> dict[str, Any]:
    settings = alignment.trainer
    device = settings.device()
    check_fits(alignment, store)
    made = _prepared(alignment, this, store, Group(0, settings.devices))
    module, total_steps = made.module, made.total_steps
    compared = _same(alignment, this) and alignment.reference.compares
    gap = check_step_0(module, made.batches.first_step(), alignment.reference, alignment.precision, device) if compared else None
    rewind(directory)
    rows = MetricsFile(directory / METRICS)
    for row in rows.rows():  # of a process before
        tell(row)

    def record(row: Row) -> None:
        rows.write(row)
        tell(row)

    others = partial(_beside, alignment, this, store, directory)
    with together(settings.devices, device, others) as group, part(f"DPO round {this.number}", total_steps) as shown:
        figures = fit(
            module,
            made.batches,
            settings,
            alignment.precision,
            part=shown,
            directory=directory,
            record=record,
            callbacks=alignment.callbacks.values(),
            describe=lambda pairs: [_as_text(store, made.tokenizer, pair) for pair in pairs],
            group=group,
            questions=Questions(store, made.tokenizer),
        )
    save_model(module.policy, made.tokenizer, directory, base_of(this.base.path), this.base.storage.revision)
    return {
        "pairs": store.num_pairs,
        "steps": figures.newest_step,
        "notes": [*made.notes, *figures.notes],
        "precision": alignment.precision.explained(device),
        "loss/first": figures.first["loss"],
        "loss/last": figures.newest["loss"],
        "step_0_gap": gap,
        "held": record_of(this.base.storage, base_of(this.base.path)),
        "attention": made.attention,
        "trainable": sum(weight.numel() for weight in module.policy.parameters() if weight.requires_grad),
        "seconds/reference": made.reference_seconds,
        "seconds/dpo": figures.seconds,
    }


def step_0_gap(alignment: Alignment, this: Round, store: TokenStore) -> float:
    """Return the largest gap in nats between policy and reference before the first step of a round; nothing is trained."""
    made = _prepared(alignment, this, store, Group(0, 1))
    return check_step_0(
        made.module, made.batches.first_step(), alignment.reference, alignment.precision, alignment.trainer.device()
    )


def _beside(alignment: Alignment, this: Round, store: TokenStore, directory: Path, group: Group, meet: Meet) -> None:
    """Train on the pairs that a process beside the first takes; nothing is recorded or saved here."""
    made = _prepared(alignment, this, store, group)
    with meet():
        fit(
            made.module,
            made.batches,
            alignment.trainer,
            alignment.precision,
            part=Part(f"DPO round {this.number}", made.total_steps),
            directory=directory,
            callbacks=[each for each in alignment.callbacks.values() if each.changes_training],
            group=group,
        )


def _same(alignment: Alignment, this: Round) -> bool:
    """Return whether the reference is the model that training starts from, or is not asked at all."""
    return this.reference.id == this.start.id or not alignment.reference.compares


def _reference_scorer(
    alignment: Alignment, this: Round, model: nn.Module, store: TokenStore, how: Fit
) -> tuple[ReferenceScorer, float]:
    """Return the scorer of the round's reference, and the seconds of its pass."""
    device = alignment.trainer.device()
    reference = ReferenceModel(
        Path(this.reference.path),
        lambda: model if _same(alignment, this) else made_ready(this.reference.loaded(device).model, how, store),
    )
    with alignment.precision.autocast(device):  # the reference is scored as the policy will be
        return alignment.reference.scorer(reference, store, how, root=alignment.outputs, name=this.name)


def _batches(alignment: Alignment, store: TokenStore, how: Fit, seed: int, group: Group) -> Batches:
    settings = alignment.trainer
    return item_batches(
        store,
        how.layout,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        epochs=settings.epochs,
        seed=seed,
        order=alignment.data.order,
        group=group,
    )


def _as_text(store: TokenStore, tokenizer: Any, pair: int) -> dict[str, Any]:
    """Return a pair's token ids and what they say."""
    chosen, rejected = store.pairs[pair].tolist()
    ids = {"prompt": store.prompt_of(chosen), "chosen": store.response(chosen), "rejected": store.response(rejected)}
    texts = {name: tokenizer.decode(each) for name, each in ids.items()}
    return {**texts, **{f"ids/{name}": each.tolist() for name, each in ids.items()}}
