"""Whether what is about to be loaded fits its device; nothing heavier than torch is imported."""

import torch

from dpo_lab.amounts import bytes_text
from dpo_lab.components import ConfigError
from dpo_lab.memory.host import host_memory
from dpo_lab.ranking.base import Ranker

CLEARLY = 1.1
"""How far above what a device has a plan must be before a run is refused: plans are right within 15 %."""


def available(device: torch.device) -> float:
    """Return the bytes that a device has for this process: of a GPU's free memory, of the host's within its control groups."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    return host_memory()


def check_ranker_fits(ranker: Ranker, device: torch.device) -> None:
    """Raise ConfigError if what a ranker loads needs clearly more memory than its device has."""
    needs, has = ranker.bytes_needed(device.type), available(device)
    if needs > CLEARLY * has:
        where = "the GPU" if device.type == "cuda" else "this machine"
        raise ConfigError(
            f"ranker={ranker.label} needs about {bytes_text(needs)}, and {where} has {bytes_text(has)} free. Use a smaller model "
            "as ranker, or a machine with more memory; answers that are ranked are kept."
        )
