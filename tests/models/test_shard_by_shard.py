"""A base in 4 bits is loaded shard by shard: the host never holds a copy of it in full precision."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.models.quant import without_bitsandbytes
from scripts.bench import memory

SHAPE: dict[str, Any] = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 1408}
SHAPE |= {"vocab_size": 160, "tie_word_embeddings": False}
LOADING = """
import json, sys, threading, time
from pathlib import Path
import torch
from dpo_lab.models.load import load_model
from dpo_lab.models.quant import FourBit, NoQuant
from dpo_lab.models.storage import Storage

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

def loaded(path, quant):
    def watch():
        while not done.is_set():
            peaks.append(held())
            time.sleep(0.001)

    done, before, peaks = threading.Event(), held(), [0]
    thread = threading.Thread(target=watch)
    thread.start()
    model = load_model(path, Storage(quant=quant), torch.device("cpu")).model
    done.set()
    thread.join()
    after = held()
    del model
    return {"peak": max(*peaks, after) - before, "after": after - before}

whole, small = sys.argv[1:]
for quant in (FourBit(), NoQuant()):
    loaded(small, quant)  # so that what libraries hold from their first call on is not counted
print(json.dumps([loaded(whole, FourBit()), loaded(whole, NoQuant())]))
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(without_bitsandbytes()), reason="bitsandbytes is not installed")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_peak_of_loading_4_bits_is_far_below_the_weights_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    for name, layers in (("whole", 8), ("small", 1)):
        monkeypatch.setitem(memory.MODELS, name, {**SHAPE, "num_hidden_layers": layers})
        memory.make_model(tmp_path / name, name)
    model: Any = LlamaForCausalLM.from_pretrained(str(tmp_path / "whole"), dtype=torch.bfloat16)  # as models are published
    full = 4 * sum(weight.numel() for weight in model.parameters())  # 8 layers of 512 x (4 x 512 + 3 x 1408): 103 MB
    (tmp_path / "whole" / "model.safetensors").unlink()
    model.save_pretrained(str(tmp_path / "whole"), max_shard_size="5MB")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 8
    command = [sys.executable, "-c", LOADING, str(tmp_path / "whole"), str(tmp_path / "small")]
    own_pages = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}  # what is freed goes back at once
    output = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **own_pages}).stdout
    in_4_bits, in_full = json.loads(output.splitlines()[-1])
    assert in_full["peak"] > 0.8 * full  # the measure sees a copy in full precision where there is one
    assert in_4_bits["peak"] < 0.5 * full  # an eighth is the weights in 4 bits
    assert in_4_bits["peak"] - in_4_bits["after"] < 0.25 * full  # above what stays, a shard or two
