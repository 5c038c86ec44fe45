"""Plain weights of a model, under the names that its files have."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from dpo_lab.export.merged import files_groups, still_tied
from dpo_lab.export.shards import write_shards


def written(model: nn.Module, directory: Path, limit: int = 10**9) -> dict[str, torch.Tensor]:
    directory.mkdir()
    write_shards(files_groups(model, torch.float32), directory, limit)
    found: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        found |= load_file(path)
    return found


def test_experts_that_are_stacked_in_memory_are_written_as_the_library_writes_them(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_local_experts": 2}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=32, num_attention_heads=2, num_key_value_heads=2, **sizes))
    model.save_pretrained(str(tmp_path / "library"))
    expected = load_file(tmp_path / "library" / "model.safetensors")
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(tmp_path / "library"))
    found = written(loaded, tmp_path / "ours", limit=4096)
    assert any(".experts.1." in name for name in found)
    assert found.keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())


def test_a_head_that_training_has_parted_from_the_embeddings_is_written_beside_them(model: nn.Module, tmp_path: Path) -> None:
    whole: Any = model
    assert still_tied(whole) == {"lm_head.weight": "model.embed_tokens.weight"}
    before = whole.lm_head.weight.detach().clone()
    policy: Any = get_peft_model(whole, LoraConfig(r=2, lora_alpha=6, target_modules=["lm_head"], init_lora_weights=False))
    layer = policy.get_base_model().lm_head
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert still_tied(policy) == {}
    found = written(policy, tmp_path / "ours")
    assert torch.equal(found["model.embed_tokens.weight"], before)
    assert torch.allclose(found["lm_head.weight"], before + 3 * up @ down, atol=1e-6)  # alpha 6 / rank 2
    assert not [*policy.parameters()]  # given up, so that policy and shard are one model
