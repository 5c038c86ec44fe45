"""Answers of the policy while it is trained."""

import textwrap
from pathlib import Path
from typing import Any

import lightning as L

from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.progress import say
from dpo_lab.run_directory import SAMPLES
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.module import StepModule

LINE = 150  # characters shown on the terminal


class AskPolicy(L.Callback):
    """Lets the policy answer now and then. After a stop, answers that are in the file are not sampled again."""

    def __init__(
        self,
        directory: Path,
        store: TokenStore,
        tokenizer: Any,
        *,
        every: int,
        num_prompts: int,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self.tokenizer, self.every = tokenizer, every
        self.prompts = [store.prompt(index).tolist() for index in range(min(num_prompts, store.num_prompts))]
        self.file = MetricsFile(directory / SAMPLES)
        self.sampler = HFSampler(num_samples=1, max_new_tokens=max_new_tokens, temperature=temperature)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask the policy that training starts from."""
        if trainer.global_step == 0:
            self._ask(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Ask if it is time; the last step is known here, and its checkpoint not yet saved."""
        assert isinstance(pl_module, StepModule)
        step = trainer.global_step
        last = trainer.should_stop or step == pl_module.total_steps
        if last or step % self.every == 0:
            self._ask(trainer, pl_module)

    def _ask(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, StepModule)
        step = trainer.global_step
        if step <= self.file.last_step:  # a process before was killed after it had asked
            return
        seed = derive(module.seed, "samples", step)
        model = self.sampler.of(module.policy, self.tokenizer)
        with trainer.precision_plugin.forward_context():  # in the number format of training, which surrounds its steps alone
            drawn = model.draw(self.prompts, seed)
        answers = model.texts([answer.ids.tolist() for (answer,) in drawn])
        prompts = [text.strip() for text in self.tokenizer.batch_decode(self.prompts, skip_special_tokens=True)]
        asked = [{"prompt": prompt, "answer": answer} for prompt, answer in zip(prompts, answers, strict=True)]
        self.file.write({"step": step, "samples": asked})
        prompt, answer = (textwrap.shorten(text, LINE, placeholder=" ...") for text in (prompts[0], answers[0]))
        say(f'  after step {step}  "{prompt}": {answer}')
