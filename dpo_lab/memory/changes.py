"""What could be changed so that a training takes less memory, the smallest change first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile

from dpo_lab.alignment import Alignment
from dpo_lab.components import ConfigError
from dpo_lab.memory.weights import architecture_of
from dpo_lab.models.spec import CHECKPOINTING
from dpo_lab.scoring.head import tokens_of_chunk
from dpo_lab.training.settings import TrainerSettings

SMALLER_MODELS = {"model=smollm2_135m": 135_000_000, "model=tiny": 480_000}
"""Models that every machine can have, the larger first, with their weights."""
SMALLEST_CHUNK = 16
"""Response tokens at a time below which the head takes no less memory to speak of."""


@dataclass(frozen=True)
class Change:
    """A training that takes less memory, and what to type for it."""

    text: str
    training: Alignment


def same_result(training: Alignment, longest: int = 0) -> list[Change]:
    """Return the changes of passes alone, up to rounding without effect on the result, from the smallest to the least memory.

    A pass with fewer tokens costs some speed, a smaller chunk of the head one more product with it, computing layers again
    about a third of the time: it comes last, alone and with the others.

    Args:
        longest: tokens of the longest pair. It is one pass whatever the budget, so a smaller budget is not proposed.
    """
    budgets = takewhile(lambda each: 2 * each[1].token_budget > longest, training.trainer.smaller())
    passes = [Change(text, replace(training, trainer=settings)) for text, settings in budgets]
    heads = [Change(text, replace(training, trainer=settings)) for text, settings in _chunks(training)]
    together = [_both(passes[-1], head) for head in heads] if passes else []
    plain = [*passes, *heads, *together]
    if training.model.checkpointing is True:
        return plain
    again = Change(CHECKPOINTING, _again(training))
    return [*plain, again, *(Change(f"{again.text} {each.text}", _again(each.training)) for each in plain)]


def other_results(training: Alignment) -> list[Change]:
    """Return the changes of what is trained: where its state lies, the optimizer's bits, an adapter, the base's bits."""
    on_gpu = training.trainer.device().type == "cuda"
    optimizers = [each for each in training.optim.smaller() if on_gpu or not each[1].needs_gpu]
    models = training.model.smaller()
    return [
        *(Change(text, replace(training, optim=optim)) for text, optim in optimizers),
        *(Change(text, replace(training, model=model)) for text, model in models),
    ]


def changes(training: Alignment, longest: int = 0) -> Iterator[list[Change]]:
    """Yield groups of changes, those of a group from the smallest to the one that takes the least memory."""
    yield same_result(training, longest)
    for change in other_results(training):
        more = same_result(change.training, longest)
        yield [change, *(Change(f"{change.text} {each.text}", each.training) for each in more)]


def smallest(
    training: Alignment,
    needed: Callable[[Alignment], float],
    at_least: Callable[[Alignment], float],
    has: float,
    longest: int = 0,
) -> str:
    """Return the first change with which a training fits, as it is typed; an empty text if none does.

    A group whose two least members do not fit is not looked through: each plan follows the model through its passes.

    Args:
        needed: bytes of a training.
        at_least: bytes of its weights, gradients and optimizer alone, which cost nothing to know.
        has: bytes that there are.
        longest: see `same_result`.
    """
    groups = [group for group in changes(training, longest) if group]

    @cache
    def fits(number: int, position: int) -> bool:
        changed = groups[number][position].training
        try:
            return at_least(changed) <= has and needed(changed) <= has
        except ConfigError:  # a model that cannot compute its layers again
            return False

    for number, group in enumerate(groups):
        kept = [position for position, each in enumerate(group) if each.training.model.checkpointing is not True]
        least = {len(group) - 1, *kept[-1:]}
        if any(fits(number, position) for position in least):
            return next(each.text for position, each in enumerate(group) if fits(number, position))
    return ""


def smaller_model(chosen: str, parameters: int) -> str:
    """Return what to use where no change of a training fits: a model with fewer weights that is not chosen, if there is one.

    >>> [smaller_model(*model) for model in (("mistral7b", 7_000_000_000), ("smollm2_135m", 135_000_000), ("tiny", 830_000))]
    ['model=smollm2_135m', 'model=tiny', 'a machine with more memory']

    Args:
        chosen: label of the training's model.
        parameters: its weights.
    """
    smaller = (text for text, weights in SMALLER_MODELS.items() if weights < parameters and text != f"model={chosen}")
    return next(smaller, "a machine with more memory")


def _again(training: Alignment) -> Alignment:
    return replace(training, model=replace(training.model, checkpointing=True))  # type: ignore[type-var]  # a dataclass


def _both(passes: Change, head: Change) -> Change:
    settings = replace(passes.training.trainer, head_tokens=head.training.trainer.head_tokens)
    return Change(f"{passes.text} {head.text}", replace(passes.training, trainer=settings))


def _chunks(training: Alignment) -> Iterator[tuple[str, TrainerSettings]]:
    """Yield a quarter and a sixteenth of the response tokens that the head takes at a time, as powers of two."""
    settings = training.trainer
    now = settings.head_tokens or tokens_of_chunk(architecture_of(training.model).vocab_size)
    for share in (4, 16):
        tokens = 2 ** (max(1, now // share).bit_length() - 1)
        if SMALLEST_CHUNK <= tokens < now:
            yield f"trainer.head_tokens={tokens}", replace(settings, head_tokens=tokens)
