"""Runs a LightningModule over its batches, from the newest checkpoint if a process before was stopped."""

import logging
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import lightning as L
import torch

from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part, say
from dpo_lab.training.batches import Batches
from dpo_lab.training.callbacks import Questions, RunCallback, Running
from dpo_lab.training.checkpoint_files import DIRECTORY, DurableFiles, newest
from dpo_lab.training.checkpoints import Signals
from dpo_lab.training.evaluations import Evaluations, Evaluator
from dpo_lab.training.group import Group
from dpo_lab.training.guards import Describe, stopped
from dpo_lab.training.loss_scaling import LossScaling
from dpo_lab.training.module import NonFiniteStepError, StepModule
from dpo_lab.training.settings import TrainerSettings
from dpo_lab.training.steps import Row, StepFigures


def fit(
    module: StepModule,
    batches: Batches,
    settings: TrainerSettings,
    precision: Precision,
    *,
    part: Part,
    directory: Path,
    record: Callable[[Row], object] = lambda row: None,
    callbacks: Iterable[RunCallback] = (),
    describe: Describe | None = None,
    group: Group = Group(),  # noqa: B008
    questions: Questions | None = None,
    evaluations: Evaluations | None = None,
) -> StepFigures:
    """Train and return the figures of the first and of the last step.

    Args:
        part: the progress that the person sees.
        directory: where checkpoints are kept; training resumes from the newest one there.
        record: takes the figures of every logged step.
        describe: says what pairs hold, for a step that fails.
        group: the connected processes that train together; rank 0 alone records and saves.
        questions: what callbacks may ask the policy.
        evaluations: what is measured of the policy meanwhile; None: nothing.

    Raises:
        RunError: at a step whose gradient is not finite, before it changes the weights; in fp16, if that is so of all steps.
    """
    figures = StepFigures(settings.log_every, record, Evaluator(evaluations, directory, group) if evaluations else None)
    quiet_lightning()
    module.group = group
    module.scaling = LossScaling(settings.device()) if precision.in_products(settings.device()) == torch.float16 else None
    with Signals().held_back() as signals:
        running = Running(part, directory, signals, questions)
        ordered = sorted(callbacks, key=lambda callback: (callback.saves, not callback.changes_training))
        trainer = L.Trainer(
            accelerator=settings.accelerator,
            devices=1,
            precision=precision.lightning(settings.device()),
            max_epochs=batches.epochs,
            max_steps=settings.max_steps or -1,
            logger=False,
            callbacks=[figures, *(callback.build(running) for callback in ordered)],
            plugins=[DurableFiles(), *([module.scaling] if module.scaling else [])],
            use_distributed_sampler=False,  # it would rebuild the loader without our order
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=str(directory),
        )
        try:
            trainer.fit(module, datamodule=batches, ckpt_path=_newest_of_all(directory, group, part), weights_only=True)
        except NonFiniteStepError as error:
            if group.size > 1:
                error.batch = batches.whole_step(trainer.current_epoch, trainer.fit_loop.batch_idx)
            with precision.autocast(settings.device()):
                raise stopped(module, error, trainer.global_step + 1, directory, describe) from None
    figures.notes.extend(module.scaling.notes(figures.newest_step) if module.scaling else ())
    return figures


def _newest_of_all(directory: Path, group: Group, part: Part) -> Path | None:
    """Return the checkpoint that all processes resume from, the first one's newest, and say so."""
    kept = group.gathered(newest(directory / DIRECTORY) if group.rank == 0 else None)[0]
    if kept and group.rank == 0:
        say(f"  {part.name} resumes after step {int(kept.stem.partition('_')[2])} of {part.total}")
    return kept


def quiet_lightning() -> None:
    """Silence what Lightning prints about devices, tips and loader workers: none of it is about this run."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    eval_mode = ".*module\\(s\\) in eval mode.*"  # the frozen reference
    for message in (
        eval_mode,
        ".*does not have many workers.*",
        ".*isinstance.treespec.*",
        ".*litlogger.*",
        ".*GPU available but not used.*",
        ".*found .* in the checkpoint.*",
    ):
        warnings.filterwarnings("ignore", message)
