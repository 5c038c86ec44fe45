"""One round of preference training: a store's pairs and a reference make a policy out of a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.models.adapted import held_in
from dpo_lab.models.checkpointing import recompute_layers
from dpo_lab.models.directory import base_of
from dpo_lab.models.load import save_model
from dpo_lab.models.storage import record_of
from dpo_lab.pipeline.round import Round, Training
from dpo_lab.progress import Part, part
from dpo_lab.reference.audit import not_as_drawn
from dpo_lab.reference.base import ReferenceModel, ReferenceScorer
from dpo_lab.run_directory import METRICS
from dpo_lab.scoring.fitting import Fit, attention_of, fitted, made_ready, tried
from dpo_lab.scoring.head import tokens_at_once
from dpo_lab.scoring.randomness import without_randomness
from dpo_lab.scoring.score import score
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import Batches, item_batches
from dpo_lab.training.callbacks import Questions
from dpo_lab.training.checkpoint_files import rewind
from dpo_lab.training.fit import fit
from dpo_lab.training.group import Group
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.processes import Meet, together
from dpo_lab.training.step_0 import StartGapError, check_step_0
from dpo_lab.training.steps import Row


def train_policy(
    training: Training, this: Round, store: TokenStore, directory: Path, tell: Callable[[Row], None] = lambda row: None
) -> dict[str, Any]:
    """Train the policy of a round on a store's pairs and save it into a directory; return the facts.

    Args:
        directory: holds what a process before has left, which it resumes from.
        tell: takes the figures of every logged step as it is made.
    """
    settings, device = training.trainer, training.device
    evaluations = this.evaluated.opened() if this.evaluated else None  # before a policy is in memory
    this, prepared, gap = _begun(training, this, store)
    module = prepared.module
    record, others = _recorder(directory, tell), partial(_train_as_worker, training, this, store, directory)
    with (
        together(settings.devices, device, others) as group,
        part(f"DPO round {this.number}", prepared.total_steps) as shown,
        tokens_at_once(settings.head_tokens),  # of the training alone: nothing else has it in its id
    ):
        figures = fit(
            module,
            prepared.batches,
            settings,
            training.precision,
            part=shown,
            directory=directory,
            record=record,
            callbacks=training.callbacks.values(),
            describe=lambda pairs: [_as_text(store, prepared.tokenizer, pair) for pair in pairs],
            group=group,
            questions=Questions(store, prepared.tokenizer),
            evaluations=evaluations,
        )
    save_model(module.policy, prepared.tokenizer, directory, base_of(this.base.path), this.base.storage.revision)
    return {
        "pairs": store.num_items,
        "steps": figures.newest_step,
        "notes": [*prepared.notes, *figures.notes],
        "precision": training.precision.explained(device),
        "loss/first": figures.first["loss"],
        "loss/last": figures.newest["loss"],
        "step_0_gap": gap,
        "held": record_of(this.base.storage, base_of(this.base.path)),
        "attention": prepared.attention,
        "trainable": sum(weight.numel() for weight in module.policy.parameters() if weight.requires_grad),
        "seconds/reference": prepared.reference_seconds,
        "seconds/dpo": figures.seconds,
        **({"seconds/held_out": figures.seconds_evaluating} if evaluations else {}),
    }


def _begun(training: Training, this: Round, store: TokenStore) -> tuple[Round, "Prepared", float | None]:
    """Return what the first process trains, and its gap before the first step where policy and reference are one model then.

    Log-probabilities that were drawn with the answers and leave a gap are given up: the round returned is one without them.
    """
    group = Group(0, training.trainer.devices)
    prepared = _prepared(training, this, store, group)
    if not (training.compares_with_start(this) and training.reference.compares):
        return this, prepared, None
    try:
        return this, prepared, _step_0(training, prepared)
    except StartGapError as error:
        if not prepared.module.reference.as_drawn:
            raise
        note = not_as_drawn(f"a response of the first step differs by {error.gap:.2g} nats, allowed {error.allowed:.2g}")
    del prepared  # before another model is loaded
    this = replace(this, drawn_by="")
    prepared = _prepared(training, this, store, group)
    return this, replace(prepared, notes=(*prepared.notes, note)), _step_0(training, prepared)


def step_0_gap(training: Training, this: Round, store: TokenStore) -> float:
    """Return the largest gap in nats between policy and reference before the first step of a round; nothing is trained."""
    return _step_0(training, _prepared(training, this, store, Group(0, 1)))


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


def _prepared(training: Training, this: Round, store: TokenStore, group: Group) -> Prepared:
    seed = derive(training.seed, "round", this.number)
    loaded = this.start.load(training.device)
    model = loaded.model
    how = fitted(model, training.layout, store)
    attention = attention_of(model)
    some = how.layout.rows(store, tried(store)).to(training.device)
    steadied = without_randomness(model, lambda: score(model, some, own_logits=how.own_logits).per_token)
    scorer, reference_seconds = _reference_scorer(training, this, model, store, how)
    policy = training.adapter.attach(model, derive(seed, "adapter"))
    scorer.follow(policy)
    if training.precision.weights != torch.float32:
        held_in(policy, training.precision.weights)  # adapters are made in fp32
    if training.checkpointing:
        recompute_layers(policy)
    batches = _batches(training, store, how, seed, group)
    total_steps = min(batches.total_steps, training.trainer.max_steps or batches.total_steps)
    training.reference.refuse_steps(total_steps)
    module = PreferenceModule(
        policy, scorer, training.loss, training.optim, total_steps=total_steps, seed=seed, own_logits=how.own_logits
    )
    seldom = this.evaluated.seldom(total_steps) if this.evaluated else []
    notes = (*how.notes, *steadied, *([scorer.note] if scorer.note else []), *seldom)
    return Prepared(module, batches, loaded.tokenizer, total_steps, notes, reference_seconds, attention)


def _step_0(training: Training, made: Prepared) -> float:
    """Return by how many nats policy and reference differ before the first step."""
    return check_step_0(made.module, made.batches.first_step(), training.reference, training.precision, training.device)


def _recorder(directory: Path, tell: Callable[[Row], None]) -> Callable[[Row], None]:
    """Return what takes a row: metrics.jsonl, cut back to the newest checkpoint, and `tell`, which first hears the rows there."""
    rewind(directory)
    rows = MetricsFile(directory / METRICS)
    for row in rows.rows():
        tell(row)

    def record(row: Row) -> None:
        rows.write(row)
        tell(row)

    return record


def _train_as_worker(training: Training, this: Round, store: TokenStore, directory: Path, group: Group, meet: Meet) -> None:
    """Train on the pairs that a process beside the first takes; nothing is recorded or saved here."""
    made = _prepared(training, this, store, group)
    with meet(), tokens_at_once(training.trainer.head_tokens):
        fit(
            made.module,
            made.batches,
            training.trainer,
            training.precision,
            part=Part(f"DPO round {this.number}", made.total_steps),
            directory=directory,
            callbacks=[callback for callback in training.callbacks.values() if callback.changes_training and not callback.saves],
            group=group,
            evaluations=this.evaluated.for_workers() if this.evaluated else None,
        )


def _reference_scorer(
    training: Training, this: Round, model: nn.Module, store: TokenStore, how: Fit
) -> tuple[ReferenceScorer, float]:
    """Return the scorer of the round's reference, and the seconds of its pass."""
    device, starts_as_reference = training.device, training.compares_with_start(this)
    reference = ReferenceModel(
        Path(this.reference.path),
        lambda: model if starts_as_reference else made_ready(this.reference.loaded(device).model, how, store),
        drew=this.reference_drew,
    )
    with training.precision.autocast(device):  # the reference is scored as the policy will be
        return training.reference.scorer(reference, store, how, root=training.root, name=this.name)


def _batches(training: Training, store: TokenStore, how: Fit, seed: int, group: Group) -> Batches:
    settings = training.trainer
    return item_batches(
        store,
        how.layout,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        epochs=settings.epochs,
        seed=seed,
        order=training.order,
        group=group,
    )


def _as_text(store: TokenStore, tokenizer: Any, pair: int) -> dict[str, Any]:
    """Return a pair's token ids and what they say; of a ranked list those of its best and worst answer."""
    chosen, rejected = store.first_and_last[pair].tolist()
    ids = {"prompt": store.prompt_of(chosen), "chosen": store.response(chosen), "rejected": store.response(rejected)}
    texts = {name: tokenizer.decode(each) for name, each in ids.items()}
    return {**texts, **{f"ids/{name}": each.tolist() for name, each in ids.items()}}
