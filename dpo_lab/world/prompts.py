"""The prompts of the film world: six questions about each film, split by film."""

from dpo_lab.seeding import random_for
from dpo_lab.world.grammar import titles

PROMPT_TEMPLATES = (
    "Write a short review of {title}.",
    "What did you think of {title}?",
    "Please review {title}.",
    "Is {title} any good?",
    "Tell me about {title}.",
    "Should I go and see {title}?",
)


def train_prompts() -> list[str]:
    """Return all 5826 prompts about training films, in a fixed order."""
    return _prompts(held_out=False)


def held_out_prompts() -> list[str]:
    """Return all 318 prompts about held-out films, in a fixed order."""
    return _prompts(held_out=True)


def train_prompts_for(seed: int, start: int, count: int) -> list[str]:
    """Return `count` training prompts from position `start` (from 0) of the order that `seed` shuffles them into.

    Rounds that take consecutive slices of one seed never see a prompt twice. Raise ValueError when the slice is not
    within the prompts that exist.
    """
    prompts = train_prompts()
    if start < 0 or count < 0 or start + count > len(prompts):
        raise ValueError(
            f"{count} training prompts from position {start} were asked for, but the film world has {len(prompts)}, "
            f"at positions 0 to {len(prompts) - 1}. Rounds share no prompts."
        )
    random_for(seed, "films").shuffle(prompts)
    return prompts[start : start + count]


def _prompts(*, held_out: bool) -> list[str]:
    return [template.format(title=title) for title in titles(held_out=held_out) for template in PROMPT_TEMPLATES]
