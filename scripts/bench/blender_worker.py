"""llm-blender in its own environment: ranks the sets that it is sent, and says how many CPU-seconds that took.

Run by scripts/bench_ranking.py with another Python; it imports nothing of the project.
"""

import json
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def backbone_in(directory: Path, path: Path, config: Path) -> Path:
    """Write what llm-blender loads before the ranker's own weights: an encoder of that shape, with the ranker's tokenizer."""
    transformers = import_module("transformers")
    for file in (*path.glob("spm.model"), *path.glob("tokenizer*.json"), *config.glob("tokenizer_config.json")):
        shutil.copy(file, directory / file.name)
    transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(str(config))).save_pretrained(str(directory))
    return directory


def main(path: str, config: str) -> None:
    """Answer one JSON line (sources, candidates, batch_size) with another (scores, seconds) until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # the package prints as it loads
    import_module("torch").set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        blender: Any = import_module("llm_blender").Blender()
        model = backbone_in(Path(scratch), Path(path), Path(config))
        blender.loadranker(path, device="cpu", model_name=str(model), cache_dir=scratch)
        for line in sys.stdin:
            asked = json.loads(line)
            began = time.process_time()
            scores = blender.rank(
                asked["sources"], asked["candidates"], return_scores=True, batch_size=asked["batch_size"], disable_tqdm=True
            )
            seconds = time.process_time() - began
            print(json.dumps({"scores": scores.tolist(), "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
