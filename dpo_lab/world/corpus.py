"""The corpus that the tiny model learns the film world from, before any preference."""

from dpo_lab.seeding import random_for
from dpo_lab.world.grammar import titles, write_review
from dpo_lab.world.prompts import PROMPT_TEMPLATES


def sft_corpus(count: int, seed: int, *, clean_share: float = 0.5, title_share: float = 0.7) -> list[tuple[str, str]]:
    """Return `count` examples (prompt text, review) about training films, in the order they are to be learned.

    The first `clean_share` of them always name the asked film, the later ones with probability `title_share`, which
    leaves the preferences something to improve. The clean start is a curriculum: with wrong titles from the first
    example on, a small model learns to copy the title at a random time or never. Raise ValueError when a share is
    not within [0, 1].
    """
    for name, share in (("clean_share", clean_share), ("title_share", title_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}, but it is a share of the examples; set {name} to a number from 0 to 1.")
    rng = random_for(seed, "corpus")
    examples = []
    for position in range(count):
        title = rng.choice(titles(held_out=False))
        prompt_text = rng.choice(PROMPT_TEMPLATES).format(title=title)
        share = 1.0 if position < clean_share * count else title_share
        examples.append((prompt_text, write_review(title, rng, title_share=share)))
    return examples
