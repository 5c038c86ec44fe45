"""Runs a LightningModule over its batches."""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path

import lightning as L

from dpo_lab.progress import Part
from dpo_lab.training.batches import Batches
from dpo_lab.training.callbacks import RunCallback
from dpo_lab.training.loggers import RunLogger
from dpo_lab.training.module import StepModule
from dpo_lab.training.precision import Precision
from dpo_lab.training.settings import TrainerSettings
from dpo_lab.training.steps import StepFigures


def fit(
    module: StepModule,
    batches: Batches,
    settings: TrainerSettings,
    precision: Precision,
    *,
    part: Part,
    directory: Path,
    loggers: Iterable[RunLogger] = (),
    callbacks: Iterable[RunCallback] = (),
) -> StepFigures:
    """Train and return the figures of the first and of the last step.

    Args:
        part: the progress that the person sees.
        directory: where loggers write.
    """
    figures = StepFigures(settings.log_every)
    quiet_lightning()
    trainer = L.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision=precision.resolved(settings.device()),
        max_epochs=batches.epochs,
        max_steps=settings.max_steps or -1,
        logger=[each.build(directory) for each in loggers],
        callbacks=[figures, *(each.build(part) for each in callbacks)],
        use_distributed_sampler=False,  # it would rebuild the loader without our order
        log_every_n_steps=settings.log_every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(directory),
    )
    trainer.fit(module, datamodule=batches)
    return figures


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
    ):
        warnings.filterwarnings("ignore", message)
