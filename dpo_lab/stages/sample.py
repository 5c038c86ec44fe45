"""The stage `sample`: a model's answers to prompts, kept with the tokens that it drew."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dpo_lab.amounts import count_of
from dpo_lab.components import Component, ConfigError, component
from dpo_lab.data.base import Prompts
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import ModelSpec
from dpo_lab.progress import say
from dpo_lab.rules.check import refuse_illegal, refuse_slowly
from dpo_lab.sampling.base import Sampler
from dpo_lab.training.settings import TrainerSettings


@component
class Sample(Component):
    """Answer prompts, as the first round of a training would, and say where the answers are."""

    model: ModelSpec
    prompts: Prompts
    sampler: Sampler
    precision: Precision = Precision()
    trainer: TrainerSettings = TrainerSettings()
    """Its accelerator is where answers are drawn."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    seed: int = 0
    force: bool = False
    """Draw again even if the answers are there."""

    def idle(self) -> Mapping[str, str]:
        """Return what belongs to training alone."""
        others = [field.name for field in fields(TrainerSettings) if field.name != "accelerator"]
        own = {f"prompts.{name}": "the model answers" for name in self.prompts.fields_of_answers}
        idle = {f"trainer.{name}": "answers are drawn on one device, and nothing is trained" for name in others}
        return {**idle, "model.checkpointing": "nothing is trained", **own}

    def check(self) -> None:
        """Raise ConfigError for a model that a training has to make first."""
        if self.model.pretrained is None:
            raise ConfigError(
                f"model={self.model.label} is made by a training for its data. Use a pretrained one (model=smollm2_135m), or the "
                "policy of a finished run: model=local model.path=outputs/policy/NAME"
            )

    def run(self) -> dict[str, Any]:
        """Draw the answers, or find them; return how many prompts, answers and tokens there are.

        Raises:
            ConfigError: if a part cannot work, alone or with the others.
        """
        from dpo_lab.pipeline.real_model import ask_hub_early, refuse_unusable_model

        ask_hub_early(self)
        refuse_illegal(self)
        refuse_slowly(self)
        refuse_unusable_model(self.model, 0)
        from dpo_lab.models.storage import storage_of  # torch and transformers, only when there is work
        from dpo_lab.pipeline.answers import CANDIDATES, sampled
        from dpo_lab.pipeline.base_model import pretrained_model
        from dpo_lab.seeding import derive

        assert self.model.pretrained is not None
        device = self.trainer.device()
        storage = storage_of(self.model, self.precision, device)
        policy = pretrained_model(self.model.pretrained, root=self.outputs, storage=storage)
        candidates = sampled(
            self.prompts.for_round(0, self.seed),
            policy,
            self.sampler,
            root=self.outputs,
            name=f"{self.model.label}-{self.prompts.label}-round1",
            seed=derive(self.seed, "round", 1),
            device=device,
            force=self.force,
        )
        facts = candidates.facts
        drawn = f"{count_of(facts['answers'], 'answer')} to {count_of(facts['prompts'], 'prompt')}, {facts['tokens']} tokens"
        rate = f"{candidates.seconds:.0f} s, {facts['tokens'] / max(candidates.seconds, 1e-9):.0f} tokens/s"
        say(
            f"candidates {candidates.path / CANDIDATES}",
            f"  {drawn}: {rate if candidates.made_now else 'drawn before; force=true draws again'}",
        )
        return facts
