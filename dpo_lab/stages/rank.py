"""The stage `rank`: scores for answers that were made elsewhere, and pairs made of them."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dpo_lab.amounts import count_of
from dpo_lab.call import Call
from dpo_lab.components import Component, ConfigError, component
from dpo_lab.data.answers.files import AnswerFiles
from dpo_lab.data.pairs import PAIRS
from dpo_lab.progress import say
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing.base import Pairing
from dpo_lab.report.next_steps import how_to_call
from dpo_lab.rules.check import refuse_illegal, refuse_slowly
from dpo_lab.training.settings import TrainerSettings


@component
class Rank(Component):
    """Rank answers, make pairs of them, and say where both are; where people said what they prefer, compare."""

    candidates: AnswerFiles
    ranker: Ranker
    pairing: Pairing
    trainer: TrainerSettings = TrainerSettings()
    """Its accelerator is where a ranker's model computes."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    force: bool = False
    """Rank again even if the scores are there."""

    def idle(self) -> Mapping[str, str]:
        """Return what belongs to training alone."""
        others = [field.name for field in fields(TrainerSettings) if field.name != "accelerator"]
        return {f"trainer.{name}": "answers are ranked on one device, and nothing is trained" for name in others}

    def check(self) -> None:
        """Raise ConfigError if the pairing reads what neither the files nor the ranker say."""
        if self.pairing.against_data:
            raise ConfigError(
                "pairing=spin sets the data's own answers against drawn ones, and files hold one kind; use pairing=best_vs_worst."
            )
        if self.pairing.makes_lists:
            raise ConfigError(
                "pairing=all_k makes ranked lists, which train makes and reads itself (data=on_policy); use pairing=all_pairs."
            )
        if why := self.pairing.unserved(self.ranker):
            raise ConfigError(why)

    def run(self, call: Call | None = None) -> dict[str, Any]:
        """Rank and pair, or find what was made before; return the counts and the comparison with people.

        Args:
            call: what the command line asked for; None from Python.

        Raises:
            ConfigError: if a part cannot work.
            DataError: if the files cannot be read.
        """
        from dpo_lab.pipeline.real_model import ask_hub_early

        ask_hub_early(self)
        refuse_illegal(self)
        refuse_slowly(self)
        from dpo_lab.evaluation.ranker_agreement import agreement_line
        from dpo_lab.evaluation.ranker_report import lines_of
        from dpo_lab.pipeline.answers import CANDIDATES
        from dpo_lab.pipeline.given_answers import gathered
        from dpo_lab.pipeline.pairs import paired
        from dpo_lab.pipeline.ranking import PAGE, agreements, ranked
        from dpo_lab.report.page import write_ranker_page
        from dpo_lab.report.screen import indented, pair_notes

        given = gathered(self.candidates, root=self.outputs, name=self.candidates.label, force=self.force)
        where: dict[str, Any] = {"root": self.outputs, "force": self.force}
        where["name"] = f"{self.candidates.label}-{self.ranker.label}"
        ranking = ranked(given, self.ranker, device=self.trainer.device(), **where)
        pairs = paired(ranking, self.ranker, self.pairing, **where)
        facts = {**given.facts, **ranking.facts, **pairs.facts}
        others = agreements(ranking)
        if "report" in facts:
            write_ranker_page(ranking.path / PAGE, self.ranker.label, facts["report"], others)
        train = how_to_call("train", shlex.split(call.command)) if call else ["python", "train.py"]
        seconds = f"{ranking.seconds:.0f} s" if ranking.made_now else "ranked before; force=true ranks again"
        failed = f", {facts['failed']} left out: {self.ranker.label} gave no number" if facts["failed"] else ""
        say(
            f"ranking {ranking.path / CANDIDATES}",
            f"  {count_of(facts['answers'], 'answer')} to {count_of(facts['prompts'], 'prompt')}{failed}: {seconds}",
            *(f"  {line}" for line in (lines_of(facts["report"]) if "report" in facts else [])),
            *(f"  {agreement_line(name, each)}" for name, each in others.items()),
            f"pairs   {pairs.path / PAIRS}",
            f"  {count_of(facts['pairs'], 'pair')}",
            *indented(pair_notes(facts), "  "),
            *([f"next    {shlex.join([*train, 'data=jsonl', f'data.path={pairs.path / PAIRS}'])}"] if facts["pairs"] else []),
        )
        return facts
