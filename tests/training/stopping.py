"""A training small enough to be stopped and continued in a test, and what has to be equal afterwards."""

import copy
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from dpo_lab.components import component
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapted import held_in
from dpo_lab.models.adapter import Adapter, NoAdapter
from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part
from dpo_lab.reference.base import Reference, ReferenceModel
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.run_directory import METRICS
from dpo_lab.scoring.fitting import fitted
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.callbacks import Checkpoint, Questions, RunCallback, Running
from dpo_lab.training.evaluations import Evaluations
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from dpo_lab.training.steps import StepFigures

PAIRS, BATCH, EPOCHS = 11, 4, 2  # three steps an epoch, the last of each with three pairs
STEPS = 6


class Killed(BaseException):
    """Stands in for a process that ends."""


def checkpoint_activations(model: Any) -> None:
    """Have a transformers model compute activations again in the backward pass."""
    # transformers 5.17 knows the old name alone; later ones warn of it and version 6 removes it
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


@component
class KillAfter(RunCallback):
    """Ends training after a step, or after its first micro-batch."""

    step: int
    inside: bool = False
    with_signal: int = 0

    def build(self, running: Running) -> L.Callback:
        wanted = self

        class Callback(L.Callback):
            def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
                if trainer.global_step != wanted.step:
                    return
                if wanted.with_signal:
                    os.kill(os.getpid(), wanted.with_signal)
                elif wanted.inside:
                    cut_after_one_micro_batch(pl_module)
                else:
                    raise Killed

        return Callback()


def cut_after_one_micro_batch(module: Any) -> None:
    """Let the next step end in the middle of its accumulation."""
    calls: list[int] = []
    whole = module.micro_batch_loss

    def once(*arguments: Any) -> Tensor:
        if calls:
            raise Killed
        calls.append(1)
        loss: Tensor = whole(*arguments)
        return loss

    module.micro_batch_loss = once


def some_pairs() -> TokenStore:
    generator = torch.Generator().manual_seed(0)
    builder = StoreBuilder()
    for _ in range(PAIRS):
        prompt, chosen, rejected = (torch.randint(5, 60, (count,), generator=generator).tolist() for count in (6, 5, 4))
        builder.add_item([builder.add_response(prompt, chosen), builder.add_response(prompt, rejected)])
    return builder.build()


def tiny() -> nn.Module:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
    model: nn.Module = MistralForCausalLM(config)
    return model


class Outcome:
    """Everything that must not depend on having been stopped."""

    def __init__(self, module: PreferenceModule, optimizer: Any, directory: Path, figures: StepFigures, steps: int) -> None:
        self.steps = steps  # that this process took
        self.taken, self.notes, self.figures = figures.newest_step, figures.notes, figures
        moved = module.reference.state(module.policy)
        self.weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        self.weights |= {f"reference.{name}": tensor.clone() for name, tensor in moved.items()}
        self.optimizer = copy.deepcopy(optimizer.state_dict())
        self.rows, self.first = [repeatable(row) for row in rows_of(directory)], repeatable(figures.first)

    def assert_equals(self, other: "Outcome") -> None:
        assert self.rows == other.rows
        assert self.first == other.first
        assert (self.taken, self.notes) == (other.taken, other.notes)
        assert self.weights.keys() == other.weights.keys()
        assert all(torch.equal(tensor, other.weights[name]) for name, tensor in self.weights.items())
        mine, theirs = self.optimizer, other.optimizer
        assert mine["param_groups"] == theirs["param_groups"]
        assert mine["state"].keys() == theirs["state"].keys() != set()
        for number, state in mine["state"].items():
            assert all(torch.equal(tensor, theirs["state"][number][name]) for name, tensor in state.items())


def repeatable(row: dict[str, float]) -> dict[str, float]:
    """Return the figures that a repeated step has again."""
    return {name: value for name, value in row.items() if not name.startswith(("time/", "memory/"))}


class Letters:
    """Stands in for a tokenizer: every token is a character, the one before the first pair's tokens ends an answer."""

    eos_token_id = 4

    def batch_decode(self, rows: list[list[int]], *, skip_special_tokens: bool) -> list[str]:
        return ["".join(chr(32 + token) for token in row if token != self.eos_token_id) for row in rows]


def rows_of(directory: Path) -> list[dict[str, float]]:
    return MetricsFile(directory / METRICS).rows()


def train(
    store: TokenStore,
    directory: Path,
    *callbacks: RunCallback,
    adapter: Adapter = NoAdapter(),  # noqa: B008
    log_every: int = 1,
    checkpoint: Checkpoint = Checkpoint(every=1),  # noqa: B008
    reference: Reference = FrozenReference(),  # noqa: B008
    precision: Precision = Precision(mode="fp32"),  # noqa: B008
    lr: float = 1e-2,
    evaluations: Evaluations | None = None,
) -> Outcome:
    """Train a fresh tiny model as a separate process would, from the checkpoints in the directory if there are any."""
    layout = PrefixLayout()
    model = tiny()
    held_in(model, precision.weights)
    how = fitted(model, layout, store)
    scorer, _ = reference.scorer(ReferenceModel(directory, lambda: model), store, how, root=directory, name="r")
    batches = item_batches(store, layout, batch_size=BATCH, token_budget=40, epochs=EPOCHS, seed=5)
    policy = adapter.attach(model, seed=1)
    scorer.follow(policy)
    held_in(policy, precision.weights)
    module = PreferenceModule(policy, scorer, DPOLoss(beta=0.5), AdamW(lr=lr), total_steps=batches.total_steps, seed=2)
    assert batches.total_steps == STEPS
    directory.mkdir(exist_ok=True)
    rows = MetricsFile(directory / METRICS)
    kept: list[Any] = []
    taken: list[int] = []

    @component
    class Keep(RunCallback):
        """Keeps the optimizer."""

        def build(self, running: Running) -> L.Callback:
            class Callback(L.Callback):
                def on_train_batch_end(self, *args: Any) -> None:
                    taken.append(1)

                def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                    kept.extend(trainer.optimizers)

            return Callback()

    settings = TrainerSettings(accelerator="cpu", batch_size=BATCH, token_budget=40, epochs=EPOCHS, log_every=log_every)
    figures = fit(
        module,
        batches,
        settings,
        precision,
        part=Part("test", STEPS),
        directory=directory,
        record=rows.write,
        callbacks=[*callbacks[:1], checkpoint, *callbacks[1:], Keep()],  # in the middle: its place in the list must not matter
        questions=Questions(store, Letters()),
        evaluations=evaluations,
    )
    return Outcome(module, kept[0], directory, figures, len(taken))
