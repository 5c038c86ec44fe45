"""The tiny Mistral: its tokenizer, learned from text, and its untrained weights."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dpo_lab.models.spec import TinyModel

SPECIAL = ("<s>", "</s>", "<pad>", "[INST]", "[/INST]")
MAX_POSITIONS = 4096

# Mistral-Instruct's form: [INST] question [/INST] answer</s>, alternating, without a system role
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate between user and assistant') }}{% endif %}"
    "{% if turn['role'] == 'user' %}{{ '[INST] ' + turn['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + turn['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)


def learn_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Return a byte-level BPE tokenizer learned from texts; any text comes back unchanged from its ids.

    Every word that is frequent enough becomes one token; whatever is not in the texts falls back to bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def architecture(spec: TinyModel, vocab_size: int, **special: Any) -> Any:
    """Return the configuration of the tiny model with a vocabulary and the ids of its special tokens."""
    from transformers import MistralConfig

    return MistralConfig(
        vocab_size=vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_heads,
        head_dim=spec.hidden_size // spec.num_heads,
        max_position_embeddings=MAX_POSITIONS,
        sliding_window=None,
        tie_word_embeddings=True,
        **special,
        attention_dropout=0.0,
        dtype="float32",
    )


def untrained(spec: TinyModel, tokenizer: Any, seed: int) -> nn.Module:
    """Return a Mistral with random weights.

    Matrices start at a standard deviation of 1/sqrt(fan_in): the library's 0.02 starts a model of this width so small
    that the film titles are not copied after 300 steps (.01 against .945 of answers).
    """
    from transformers import MistralForCausalLM

    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = architecture(spec, len(tokenizer), **special)
    model: nn.Module = MistralForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                std = 0.05 if "embed" in name else weight.shape[1] ** -0.5
                weight.normal_(0.0, std, generator=generator)
    return model
