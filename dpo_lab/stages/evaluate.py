"""The stage `evaluate`: models measured on held-out pairs and prompts, or finished runs told apart by what they measured."""

from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from dpo_lab.components import Component, ConfigError, component, plain_fields
from dpo_lab.data.base import Given
from dpo_lab.evaluation.base import Measure
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.loggers.base import RunLogger
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import NoQuant, Quant
from dpo_lab.models.spec import ModelSpec
from dpo_lab.reference.base import Reference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.rules.check import refuse_illegal, refuse_slowly
from dpo_lab.training.settings import TrainerSettings

NOTHING = """nothing to evaluate. Use models=[DIR,...] with pairs (data=jsonl data.path=FILE) or prompts (evaluation=generation \
prompts=jsonl prompts.path=FILE), or runs=[outputs/train/A,outputs/train/B]"""


@component
class Evaluate(Component):
    """Measure models with 95 % intervals, compare them prompt by prompt, and write report.json, .html and verdicts.jsonl."""

    runs: tuple[str, ...] = ()
    """Directories of finished runs of train: what their last policies measured is compared, and nothing is measured again."""
    models: tuple[str, ...] = ()
    """What is measured, behind `model`: directories of runs, PEFT adapters and models, or Hub ids."""
    model: ModelSpec | None = None
    base: str | None = None
    """The model that they are compared with; null: the one that a run or an adapter was trained from."""
    against: str | None = None
    """The run or model, as it stands above, that each other one is compared with; null: every pair."""
    data: Given | None = None
    """Held-out pairs: those that a training with the same settings holds out."""
    sets: dict[str, Given] = field(default_factory=dict)
    category: str | None = None
    """Column of the pairs' and the prompts' files for tables by category; null: none."""
    evaluation: Measure = PreferenceEvaluation()
    benchmark: Measure | None = None
    """Public test sets that the models are asked too."""
    loss: PreferenceLoss = DPOLoss()
    reference: Reference = CachedReference()
    layout: Layout = PrefixLayout()
    precision: Precision = Precision()
    quant: Quant = NoQuant()
    trainer: TrainerSettings = TrainerSettings()
    seed: int = 0
    logger: dict[str, RunLogger] = field(default_factory=dict)
    outputs: Path = Path("outputs")
    force: bool = False

    def idle(self) -> Mapping[str, str]:
        """Return what belongs to training alone."""
        idle = [f"trainer.{each.name}" for each in fields(TrainerSettings) if each.name != "accelerator"]
        sent = {"logger": "runs have been sent when they were trained"} if self.runs else {}
        return dict.fromkeys([*idle, "evaluation.every", "benchmark.every"], "nothing is trained") | sent

    def check(self) -> None:
        """Raise ConfigError if there is nothing to measure or compare, or too much at once."""
        asked = [*self.models, *([self.model.label] if self.model else [])]
        if self.runs and asked:
            raise ConfigError("runs compares what runs have measured; to measure them anew, name them in models.")
        if not self.runs and not asked:
            raise ConfigError(NOTHING)
        if self.reference.needs_adapter or self.reference.moves:
            raise ConfigError("this reference belongs to a training; use reference=cached, reference=frozen, or reference=none.")

    def run(self) -> dict[str, Any]:
        """Measure and compare, or find what was measured; return the report, of runs the verdicts by figure."""
        from dpo_lab.pipeline.real_model import ask_hub_early

        ask_hub_early(self)
        refuse_illegal(self)
        if self.runs:
            from dpo_lab.pipeline.compared_runs import compare_finished

            return compare_finished(self.runs, self.against, outputs=self.outputs, force=self.force)
        refuse_slowly(self)
        from dpo_lab.pipeline.evaluated import evaluate_models
        from dpo_lab.pipeline.evaluated_models import Finder
        from dpo_lab.pipeline.evaluated_parts import parts_of
        from dpo_lab.pipeline.evaluation_sent import send_evaluation
        from dpo_lab.pipeline.measuring import Measuring

        shared: dict[str, Any] = {"outputs": self.outputs, "precision": self.precision, "device": self.trainer.device()}
        models = Finder(quant=self.quant, **shared).found(self.models, self.model, self.base)
        parts = parts_of(self.evaluation, self.data, self.sets, self.category, self.benchmark)
        how: dict[str, Any] = {name: getattr(self, name) for name in ("loss", "reference", "layout", "seed", "force")}
        report, made = evaluate_models(Measuring(**shared, **how), models, parts, self.against, self.category)
        send_evaluation(report, made, self.logger, plain_fields(self))
        return report
