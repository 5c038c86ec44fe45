"""The stage `chat`: models answer side by side what a person types, or all prompts of a file."""

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from dpo_lab.amounts import count_of
from dpo_lab.call import Call
from dpo_lab.components import Component, ConfigError, component
from dpo_lab.data.base import Prompts
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import NoQuant, Quant
from dpo_lab.models.spec import ModelSpec
from dpo_lab.progress import say, side_by_side, typed_lines
from dpo_lab.report.next_steps import how_to_call
from dpo_lab.rules.check import refuse_illegal, refuse_slowly
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.training.settings import TrainerSettings


@component
class Chat(Component):
    """Talk to a run, an adapter or models, beside what each was trained from; or write their answers to prompts as one file."""

    models: tuple[str, ...] = ()
    """Directories of runs, PEFT adapters and models, or Hub ids; the model that one was trained from answers too."""
    model: ModelSpec | None = None
    """One more, in front of them."""
    sampler: HFSampler = HFSampler()
    system: str = ""
    """The system turn of the conversation; empty: none."""
    prompts: Prompts | None = None
    """Prompts that are answered instead of what is typed."""
    precision: Precision = Precision()
    quant: Quant = NoQuant()
    trainer: TrainerSettings = TrainerSettings()
    """Its accelerator is where models compute."""
    seed: int = 0
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    force: bool = False
    """Draw the answers to prompts again even if they are there."""

    def idle(self) -> Mapping[str, str]:
        """Return what belongs to training alone, and how many answers a person gets."""
        others = [field.name for field in fields(TrainerSettings) if field.name != "accelerator"]
        one = {} if self.prompts else {"sampler.num_samples": "each model gives one answer", "force": "nothing is kept"}
        system = {"system": "prompts have their own turns"} if self.prompts else {}
        return {**{f"trainer.{name}": "nothing is trained" for name in others}, **one, **system}

    def check(self) -> None:
        """Raise ConfigError if there is nobody to talk to."""
        if not self.models and self.model is None:
            raise ConfigError("nobody to talk to. Use models=[outputs/train/RUN], or model=local model.path=DIR")

    def run(self, call: Call | None = None) -> dict[str, Any]:
        """Answer until the lines end; return how many questions were answered, or what was written.

        Args:
            call: what the command line asked for; None from Python.
        """
        from dpo_lab.pipeline.real_model import ask_hub_early

        ask_hub_early(self)
        refuse_illegal(self)
        refuse_slowly(self)
        from dpo_lab.pipeline.evaluated_models import Finder

        device = self.trainer.device()
        finder = Finder(outputs=self.outputs, quant=self.quant, precision=self.precision, device=device)
        models = finder.found(self.models, self.model, None)
        models = [model for model in models if model.is_start] + [model for model in models if not model.is_start]
        if self.prompts:
            from dpo_lab.pipeline.answers import CANDIDATES, answers_of_several

            policies = {model.name: model.policy for model in models}
            how: dict[str, Any] = {"root": self.outputs, "seed": self.seed, "device": device, "force": self.force}
            made = answers_of_several(self.prompts.held_out(), policies, self.sampler, name=self.prompts.label, **how)
            path, answers = made.path / CANDIDATES, count_of(made.facts["answers"], "answer")
            say(f"candidates {path}", f"  {answers} to {count_of(made.facts['prompts'], 'prompt')}, of {', '.join(policies)}")
            rank = how_to_call("rank", shlex.split(call.command)) if call else ["python", "scripts/rank.py"]
            say(f"next       {shlex.join([*rank, f'candidates.path={path}', 'ranker=pairrm'])}")
            return made.facts
        from dpo_lab.pipeline.chat import HELP, Speaker, converse

        with ExitStack() as opened:
            speakers = [Speaker(model.name, opened.enter_context(self.sampler.open(model.policy, device))) for model in models]
            say(f"{' | '.join(speaker.name for speaker in speakers)}   {HELP}")
            asked = converse(speakers, typed_lines(), side_by_side, system=self.system, seed=self.seed)
        return {"questions": asked}
