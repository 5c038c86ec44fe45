"""Writing a plain model in Hugging Face layout, shard by shard, so that no more than a shard of it is in memory."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def write_shards(groups: Iterable[dict[str, Tensor]], directory: Path, limit: int) -> dict[str, Any]:
    """Write tensors as one safetensors file, or as several with their index; return counts.

    Args:
        groups: tensors on the CPU; what a group holds may stand in two files.
        limit: bytes of a file; one tensor may be larger.
    """
    files: list[list[str]] = []
    waiting: dict[str, Tensor] = {}
    total = 0

    def write() -> None:
        files.append(list(waiting))
        save_file(waiting, directory / f".{len(files)}.tmp", metadata={"format": "pt"})
        waiting.clear()

    size = 0
    for group in groups:
        for name, tensor in group.items():
            if waiting and size + tensor.nbytes > limit:
                write()
                size = 0
            waiting[name] = tensor.contiguous()
            size += tensor.nbytes
            total += tensor.nbytes
    write()
    names = [WEIGHTS] if len(files) == 1 else [f"model-{at:05}-of-{len(files):05}.safetensors" for at in range(1, len(files) + 1)]
    for at, name in enumerate(names, start=1):
        (directory / f".{at}.tmp").rename(directory / name)
    if len(files) > 1:
        places = {tensor: name for name, tensors in zip(names, files, strict=True) for tensor in tensors}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return {"files": len(files), "bytes": total}
