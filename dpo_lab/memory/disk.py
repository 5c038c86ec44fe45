"""What a run writes to disk, in bytes, and how much there is."""

import shutil
from pathlib import Path

from dpo_lab.amounts import bytes_text
from dpo_lab.components import RunError
from dpo_lab.memory.plan import MemoryPlan
from dpo_lab.reference.base import Reference
from dpo_lab.tokens.store import TokenStore


def disk_of(
    plan: MemoryPlan, store: TokenStore, share: float, *, reference: Reference, rounds: int, checkpoints: int
) -> dict[str, float]:
    """Return the bytes that a run writes, by what.

    Args:
        share: pairs of a round for each pair of the store.
        checkpoints: how many are kept of a training.
    """
    ids = len(store.prompt_ids) + len(store.response_ids)
    once = checkpoints + 1.0 if checkpoints else 0.0  # one more while it is written
    scored = reference.compares and not reference.scores_live
    return {
        "policies": 1.0 * plan.held.trained_bytes * rounds,
        "checkpoints": once * (plan.held.trained_bytes + plan.optimizer),
        "reference": 8.0 * share * len(store.response_ids) * rounds if scored else 0.0,
        "tokens": 4.0 * share * ids * rounds,
    }


def refuse_above(free: float, takes: float) -> None:
    """Raise RunError if more would be written than is free."""
    if takes > free:
        raise RunError(f"does not fit: {bytes_text(takes)} of disk, {bytes_text(free)} free. Use paths.outputs=DIR.")


def free_disk(directory: Path) -> float:
    """Return the bytes free where a directory is or will be."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    return float(shutil.disk_usage(place).free)
