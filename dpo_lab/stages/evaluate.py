"""The stage `evaluate`: models measured on pairs and prompts, or finished runs or files of answers told apart."""

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from dpo_lab.components import Component, component, plain_fields
from dpo_lab.data.answers.columns import AnswerColumns
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
from dpo_lab.pipeline.evaluated_asked import idle_of, refuse_asked
from dpo_lab.ranking.base import Ranker
from dpo_lab.reference.base import Reference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.rules.check import refuse_illegal, refuse_slowly
from dpo_lab.training.settings import TrainerSettings


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
    answers: tuple[Path, ...] = ()
    """Files with one answer to each prompt, which the judge compares on the same prompts, each with the first."""
    judge: Ranker | None = None
    columns: AnswerColumns = AnswerColumns()
    shared: bool = False
    against: str | None = None
    """The run, model or file, as it stands above, that each other one is compared with; null: every pair."""
    data: Given | None = None
    """Held-out pairs: those that a training with the same settings holds out."""
    sets: dict[str, Given] = field(default_factory=dict)
    category: str | None = None
    """Column of the files of pairs, prompts or answers for tables by category; null: none."""
    evaluation: Measure = PreferenceEvaluation()
    benchmark: Measure | None = None
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
        """Return what belongs to training alone, and what only models or only answers have."""
        return idle_of(runs=bool(self.runs), answers=bool(self.answers))

    def check(self) -> None:
        """Raise ConfigError if there is nothing to measure or compare, or too much at once."""
        asked = {"runs": self.runs, "models": self.models or self.model, "answers": self.answers}
        refuse_asked([name for name, given in asked.items() if given], self.reference, self.judge)

    def run(self) -> dict[str, Any]:
        """Measure and compare, or find what was measured; return the report, of runs the verdicts by figure."""
        from dpo_lab.pipeline.real_model import ask_hub_early

        ask_hub_early(read := self if self.answers else replace(self, judge=None))  # an idle judge may be missing
        refuse_illegal(self)
        if self.runs:
            from dpo_lab.pipeline.compared_runs import compare_finished

            return compare_finished(self.runs, self.against, outputs=self.outputs, force=self.force)
        from dpo_lab.pipeline.evaluation_sent import send_evaluation

        how: dict[str, Any] = {"outputs": self.outputs, "force": self.force, "device": self.trainer.device()}
        if self.answers:
            from dpo_lab.pipeline.compared_answers import compare_answers

            how |= {name: getattr(self, name) for name in ("judge", "columns", "shared", "category")}
            report, made = compare_answers(self.answers, self.against, **how)
        else:
            refuse_slowly(self)
            from dpo_lab.pipeline.evaluated import evaluate_found

            how |= {name: getattr(self, name) for name in ("loss", "reference", "layout", "seed", "precision")}
            parts = {name: getattr(self, name) for name in ("evaluation", "data", "sets", "category", "benchmark")}
            report, made = evaluate_found(how, (self.models, self.model, self.base), self.quant, parts, self.against)
        send_evaluation(report, made, self.logger, plain_fields(read))
        return report
