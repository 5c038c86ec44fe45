"""Pairs that a run will make, as far as they are known before: how many there are, and how long they may be."""

from dpo_lab.data.base import Data
from dpo_lab.tokens.store import StoreBuilder, TokenStore


def pairs_of_a_round(data: Data, max_pairs: int | None, store: TokenStore) -> int:
    """Return the pairs of a round: those of the store, or as many as a round's prompts can give."""
    if not data.makes_pairs:
        return store.num_items
    prompts: int = getattr(data.asks, "num_prompts", store.num_items)  # a user's own may not say
    return min(prompts, max_pairs or prompts)


def longest_rows(max_length: int, pairs: int, responses: int = 2) -> TokenStore:
    """Return a store of pairs with rows of so many tokens, a third of them the prompt's.

    Args:
        responses: in each; more than two in ranked lists.
    """
    builder = StoreBuilder()
    prompt = max(1, max_length // 3)
    for number in range(pairs):
        sides = [builder.add_response([number] * prompt, [side] * (max_length - prompt)) for side in range(responses)]
        builder.add_item(sides)
    return builder.build()
