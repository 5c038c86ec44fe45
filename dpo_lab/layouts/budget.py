"""Batches by tokens: how many items fit one forward pass."""

from collections.abc import Callable, Iterable, Iterator, Sequence


def fill(units: Iterable[Sequence[int]], num_tokens: Callable[[list[int]], int], budget: int) -> Iterator[list[int]]:
    """Yield batches of items, in order, each of at most `budget` tokens; a longer item gets its own batch.

    The items of a unit stay together where the budget lets them.

    >>> list(fill([[5], [3], [1, 4], [2], [9]], num_tokens=sum, budget=8))
    [[5, 3], [1, 4, 2], [9]]
    """
    batch: list[int] = []
    for unit in units:
        if batch and num_tokens([*batch, *unit]) > budget:
            yield batch
            batch = []
        if not batch and len(unit) > 1 and num_tokens(list(unit)) > budget:
            *full, batch = fill(([item] for item in unit), num_tokens, budget)
            yield from full
        else:
            batch = [*batch, *unit]
    if batch:
        yield batch
