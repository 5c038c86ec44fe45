"""What happens beside the training steps."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, NonNegativeFloat, NonNegativeInt, PositiveInt

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.figures import BETTER, OF_THE_MACHINE, TRAINING, Better
from dpo_lab.progress import Part
from dpo_lab.tokens.store import TokenStore

if TYPE_CHECKING:
    import lightning as L

    from dpo_lab.training.checkpoints import Signals

MINUTES = re.compile(r"(\d+(?:\.\d+)?) ?min")
REPEATABLE = tuple(figure.name for figure in TRAINING if not figure.name.startswith(OF_THE_MACHINE))
"""Figures of a step of training that are the same whenever and wherever it is repeated."""


@dataclass(frozen=True)
class Questions:
    """What the policy can be asked while it is trained."""

    store: TokenStore
    """Holds the prompts."""
    tokenizer: Any


@dataclass(frozen=True)
class Running:
    """The training that callbacks stand beside."""

    part: Part
    """The progress that the person sees."""
    directory: Path
    """Where its files go."""
    signals: "Signals"
    """Requests to end the process."""
    questions: Questions | None = None
    """None where a model learns to answer at all."""


class RunCallback(Component, ABC):
    """Something that happens beside the training steps."""

    saves: ClassVar[bool] = False
    """Whether it saves what a killed training resumes from. It then comes last: what the others made of the step is saved too."""

    @property
    def changes_training(self) -> bool:
        """Whether the trained weights depend on it. It is then part of the policy's id and of the run's, runs in every process
        unless it saves, comes before the others after every step, and has to do the same whenever the same steps are repeated."""
        return False

    @property
    def needs_steps(self) -> int:
        """How many optimizer steps a training must have for it to do its work."""
        return 0

    @property
    def reads(self) -> Mapping[str, tuple[str, Better | None]]:
        """The figures that it reads of the rows, by the field that names one, with the direction that it takes for better;
        None: both make sense."""
        return {}

    @abstractmethod
    def build(self, running: Running) -> "L.Callback":
        """Return Lightning's callback."""


def checkpoint_of(callbacks: Mapping[str, RunCallback]) -> "Checkpoint":
    """Return how a run saves what it resumes from, as its callbacks say; as usual where none of them saves."""
    return next((callback for callback in callbacks.values() if isinstance(callback, Checkpoint)), Checkpoint())


def content_of(callbacks: Mapping[str, RunCallback], log_every: int) -> dict[str, Any]:
    """Return what determines the weights among callbacks, and the rows that they look at; nothing where none does."""
    changing = {key: each.content() for key, each in callbacks.items() if each.changes_training}
    return {"callbacks": changing, "log_every": log_every} if changing else {}


@component
class ProgressBar(RunCallback):
    """Steps done, speed and the newest loss, margin and accuracy, on the terminal."""

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that moves the bar."""
        from dpo_lab.training.steps import StepProgress

        return StepProgress(running.part)


@component
class Throughput(RunCallback):
    """Adds to every row how fast training is and how much memory it has taken."""

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that counts."""
        from dpo_lab.training.throughput import Counter

        return Counter()


def steps_or_minutes(every: int | str) -> int | str:
    """Return the value if it is a number of steps or of minutes; ValueError if not."""
    if isinstance(every, int) and not isinstance(every, bool) and every > 0:
        return every
    if isinstance(every, str) and (match := MINUTES.fullmatch(every)) and float(match[1]) > 0:
        return every
    raise ValueError("a number of optimizer steps above 0, such as 100, or of minutes, such as 5min")


@component
class Checkpoint(RunCallback):
    """Saves what a killed training resumes from; SIGTERM and Ctrl-C save too, at the end of the step."""

    saves: ClassVar[bool] = True

    every: Annotated[int | str, BeforeValidator(steps_or_minutes)] = "5min"
    """Optimizer steps (100) or minutes (5min) between two checkpoints."""
    keep: PositiveInt = 1
    """Newest checkpoints that stay; when training ends, the finished model takes the place of the newest."""
    best: str = ""
    """Figure whose best checkpoint stays as well, such as rewards/margins, or eval/loss with evaluation.every; empty: none.
    Looked at in each row of metrics.jsonl that has it."""
    mode: Literal["max", "min"] = "max"
    """Whether the highest or the lowest value of `best` is the best."""
    final: Literal["last", "best"] = "last"
    """Which step's weights the policy has when training ends; the best is that by the figure `best`."""

    @property
    def changes_training(self) -> bool:
        """Where it chooses the weights that stay."""
        return self.final == "best"

    def idle(self) -> Mapping[str, str]:
        """Return the direction of a figure that is not looked at."""
        return {} if self.best else {"mode": "no best checkpoint is kept (best is empty)"}

    def content(self) -> dict[str, Any]:
        """Return what chooses the weights that stay; how often it saves changes none."""
        return {name: value for name, value in super().content().items() if name not in ("every", "keep")}

    def check(self) -> None:
        """Raise ConfigError if the worst step would be kept as the best, or the best is asked for and no figure says which."""
        if self.final == "best" and not self.best:
            raise ConfigError("final=best, and no figure says which step that is; add callbacks.checkpoint.best=eval/loss, say.")
        better = BETTER.get(self.best, self.mode)
        if self.mode != better:
            raise ConfigError(f"best={self.best} with mode={self.mode} would keep the worst step; use mode={better}.")

    @property
    def reads(self) -> Mapping[str, tuple[str, Better | None]]:
        """The figure whose best step is kept."""
        return {"best": (self.best, self.mode)} if self.best else {}

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that saves."""
        from dpo_lab.training.checkpoints import DIRECTORY, Checkpoints

        minutes = MINUTES.fullmatch(str(self.every))
        return Checkpoints(
            running.directory / DIRECTORY,
            steps=None if minutes else int(self.every),
            seconds=float(minutes[1]) * 60 if minutes else None,
            keep=self.keep,
            best=self.best,
            mode=self.mode,
            takes_best=self.final == "best",
            signals=running.signals,
        )


@component
class EarlyStopping(RunCallback):
    """Ends training when a figure of the steps has stopped improving, or has reached a value.

    In the first epoch a step's figures are taken before the step, of pairs that were not trained on yet: as honest as held-out
    ones, and free. From the second epoch on they are of pairs seen before, and improve while held-out ones may not.

    It looks at the loss unless told otherwise: the loss is what training lowers, whichever it is, and it flattens when there is
    nothing left to learn from the pairs. The margin grows without bound under most losses, also where the ranking is right.
    """

    @property
    def changes_training(self) -> bool:
        """It ends training."""
        return True

    metric: str = "loss"
    """Figure of the rows of metrics.jsonl: of training, or of held-out data with evaluation.every."""
    mode: Literal["min", "max"] = "min"
    """Whether it is better lower or higher."""
    window: PositiveInt = 5
    """Number of rows averaged, because single steps are noisy; checks start once there are that many. A figure of held-out data
    has a row each time it is measured."""
    patience: PositiveInt | None = 10
    """Rows in a row without a better mean after which training ends; null: it never ends early."""
    min_delta: NonNegativeFloat = 0.0
    """By how much a mean has to be better than the best so far to count."""
    threshold: float | None = None
    """Mean at which training ends at once: that or more with mode=max, that or less with mode=min. null: none."""

    def idle(self) -> Mapping[str, str]:
        """Return what an improvement is, if none is waited for."""
        return {"min_delta": "no improvement is waited for (patience=null)"} if self.patience is None else {}

    @property
    def reads(self) -> Mapping[str, tuple[str, Better | None]]:
        """The figure that it looks at; a threshold alone may be a budget of what gets worse."""
        return {"metric": (self.metric, None if self.patience is None else self.mode)}

    def check(self) -> None:
        """Raise ConfigError if it could never end training, or would end it for getting better."""
        if self.patience is None and self.threshold is None:
            raise ConfigError("patience=null and threshold=null: it would never stop; give one of them a number.")
        better = BETTER.get(self.metric, self.mode)
        if self.patience is not None and self.mode != better:
            how = "falling" if better == "min" else "growing"
            raise ConfigError(
                f"mode={self.mode} would end training because it works: {self.metric} gets better by {how}; use mode={better}."
            )

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that ends training."""
        from dpo_lab.training.early_stopping import StopEarly

        return StopEarly(
            metric=self.metric,
            mode=self.mode,
            window=self.window,
            patience=self.patience,
            min_delta=self.min_delta,
            threshold=self.threshold,
        )


@component
class Samples(RunCallback):
    """Lets the policy answer a few prompts of the training while it runs; samples.jsonl beside the metrics keeps the answers.

    No random number of training is drawn for it, so that the weights are those of a training without it.
    """

    every: PositiveInt = 10
    """Optimizer steps between two times; also before the first step and after the last."""
    num_prompts: PositiveInt = 3
    """The first so many prompts of the training."""
    max_new_tokens: PositiveInt = 128
    """An answer that has not ended by then is cut."""
    temperature: NonNegativeFloat = 0.0
    """0: the likeliest token each time, so that answers differ by what was trained alone; 1: drawn as the policy is."""

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that asks."""
        from dpo_lab.training.samples import AskPolicy

        assert running.questions, "there are no prompts to answer"
        return AskPolicy(
            running.directory,
            running.questions.store,
            running.questions.tokenizer,
            every=self.every,
            num_prompts=self.num_prompts,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
        )


@component
class Profile(RunCallback):
    """Records a few steps operator by operator: a trace to look at and a table of the most expensive ones, beside the metrics."""

    wait: NonNegativeInt = 1
    """Steps that are skipped first: they allocate memory and choose kernels."""
    warmup: PositiveInt = 1
    """Steps that are recorded and thrown away: the first ones recorded are slow."""
    active: PositiveInt = 3
    """Steps that are recorded."""

    @property
    def needs_steps(self) -> int:
        """All that are skipped, thrown away and recorded."""
        return self.wait + self.warmup + self.active

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that records."""
        from dpo_lab.training.profiling import Profiling

        return Profiling(running.directory, wait=self.wait, warmup=self.warmup, active=self.active)
