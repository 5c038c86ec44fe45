"""Directories in the public layout of real models, small: sharded safetensors, tokenizer, chat template, generation_config."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GenerationConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

TEXT = [
    " the quick brown fox jumps over the lazy dog",
    " Human Assistant user model system",
    " what is a good answer, please?",
] * 3
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
}
OLD: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}

CLASSES = {
    "mistral": "LlamaTokenizer",
    "llama2": "LlamaTokenizer",
    "llama3": "PreTrainedTokenizerFast",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "gemma2": "GemmaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "pythia": "GPTNeoXTokenizer",
}

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% for m in messages %}{% set c = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set c = bos_token + c %}{% endif %}{{ c }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + "
    "m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def byte_level(special: list[str], **names: Any) -> Any:
    """Return a tokenizer as Llama-3, Qwen and GPT-2 have: BPE over bytes."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    made.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in special])
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def byte_fallback(special: list[str], **names: Any) -> Any:
    """Return a tokenizer as Mistral, Llama-2 and Gemma have: BPE over characters, bytes for those that it has not."""
    letters = sorted({*"".join(TEXT), "▁"} - {" "})
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(["<unk>", *special, *bytes_, *letters]))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in ["<unk>", *special]])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **names)


def tokenizer_of(name: str) -> Any:
    """Return the tokenizer of a family with its chat template; the base models have none, and no token for padding."""
    if name in ("mistral", "llama2"):
        return byte_fallback(["<s>", "</s>"], bos_token="<s>", eos_token="</s>", chat_template=MISTRAL)
    if name == "gemma2":
        special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
        return byte_fallback(special, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", chat_template=GEMMA)
    if name == "llama3":
        special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        return byte_level(special, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", chat_template=LLAMA_3)
    if name in ("qwen2", "qwen3"):
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        return byte_level(special, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML)
    return byte_level(["<|endoftext|>"], bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def config_of(name: str, tokens: int) -> PreTrainedConfig:
    """Return the configuration of a family with its peculiarities, small."""
    shared = {**SHAPE, "vocab_size": tokens}
    configs: dict[str, Any] = {
        "mistral": lambda: MistralConfig(**shared, sliding_window=None, max_position_embeddings=32768, tie_word_embeddings=False),
        "llama2": lambda: LlamaConfig(**shared, max_position_embeddings=4096, tie_word_embeddings=False),
        "llama3": lambda: LlamaConfig(**shared, max_position_embeddings=8192, tie_word_embeddings=False),
        "qwen2": lambda: Qwen2Config(**shared, max_position_embeddings=32768, tie_word_embeddings=True),
        "qwen3": lambda: Qwen3Config(**shared, head_dim=8, max_position_embeddings=40960, tie_word_embeddings=True),
        "gemma2": lambda: Gemma2Config(**shared, head_dim=8, query_pre_attn_scalar=8, max_position_embeddings=8192),
        "gpt2": lambda: GPT2Config(vocab_size=tokens, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0),
        "pythia": lambda: GPTNeoXConfig(**OLD, vocab_size=tokens, max_position_embeddings=2048),
    }
    made: PreTrainedConfig = configs[name]()
    return made


def model_directory(path: Path, name: str, shard: str = "20KB") -> Path:
    """Write a small model of a family in its public layout; return the path."""
    tokenizer = tokenizer_of(name)
    config = config_of(name, -(-len(tokenizer) // 8) * 8)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # as the public files are
    ends = [tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(["<end_of_turn>"] if name == "gemma2" else [])]
    model.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id, eos_token_id=ends if ends[1:] else ends[0])
    model.save_pretrained(path, max_shard_size=shard)
    tokenizer.save_pretrained(path)
    as_published(path, name)
    return path


def as_published(path: Path, name: str) -> None:
    """Name the tokenizer's class as the public files do, and put the template into tokenizer_config.json as they do."""
    written = path / "tokenizer_config.json"
    about = {**json.loads(written.read_text(encoding="utf-8")), "tokenizer_class": CLASSES[name]}
    template = path / "chat_template.jinja"
    if template.exists():
        about["chat_template"] = template.read_text(encoding="utf-8")
        template.unlink()
    written.write_text(json.dumps(about), encoding="utf-8")


def index_of(path: Path) -> dict[str, Any]:
    """Return the index of a directory's shards."""
    found: dict[str, Any] = json.loads((path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    return found
