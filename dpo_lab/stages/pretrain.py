"""The stage `pretrain`: make the model that training starts from."""

from collections.abc import Mapping
from pathlib import Path

from dpo_lab.amounts import weights_text
from dpo_lab.components import Component, ConfigError, component
from dpo_lab.data.base import Data
from dpo_lab.models.spec import ModelSpec
from dpo_lab.progress import say
from dpo_lab.rules.check import refuse_illegal
from dpo_lab.training.callbacks import Checkpoint


@component
class Pretrain(Component):
    """Make the tiny model that training on this data starts from."""

    model: ModelSpec
    data: Data
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    seed: int = 0
    force: bool = False
    """Make it again even if it is there."""
    checkpoint: Checkpoint = Checkpoint()
    """How often the model is saved while it is made."""

    def idle(self) -> Mapping[str, str]:
        """Return what making the model does not read of its parts: that is for training on."""
        of_model = dict.fromkeys(("model.quant", "model.adapter"), "every weight is made as it is; train quantises and adapts")
        of_model["model.checkpointing"] = "the model is made before any training on preferences"
        of_model |= dict.fromkeys(("checkpoint.best", "checkpoint.final"), "the model that is made is that of the last step")
        names = ("max_length", "truncation", "order", "sampler", "ranker", "pairing", "prompts.num_prompts")
        return {**of_model, **{f"data.{name}": "the model is made from the data's text alone" for name in names}}

    def check(self) -> None:
        """Raise ConfigError if the model is pretrained already."""
        if not self.model.recipe:
            raise ConfigError(f"model={self.model.label} is already pretrained; this stage only makes model=tiny.")

    def run(self) -> None:
        """Make the model, or say that it exists.

        Raises:
            ConfigError: if a part cannot work, alone or with the others.
        """
        refuse_illegal(self)
        from dpo_lab.pipeline.base_model import base_model  # only when there is work: it loads Lightning

        given = next(iter(self.data.load()), None)
        _, made = base_model(
            self.model, self.data, given, root=self.outputs, seed=self.seed, force=self.force, checkpoint=self.checkpoint
        )
        assert made is not None
        say(f"{made.path}/  {weights_text(made.facts['parameters'])} parameters, made in {made.seconds:.0f} s")
