"""Adapters: what they compute, what they start as, what is trained in full beside them, and that plain peft reads them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import ConfigError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapted import REFERENCE, AdapterSwitch, adapted_layers, in_use, saved_beside
from dpo_lab.models.adapter import LoRA, add_reference_adapter, load_adapter, save_adapter
from dpo_lab.models.load import evaluating, load_model, load_tokenizer, save_model
from dpo_lab.models.lora_linear import FusedLinear
from dpo_lab.scoring.score import body_and_head, response_logits, score
from dpo_lab.tokens.store import TokenStore

LAYOUT = PaddedLayout()
IDS = torch.arange(5, 25)[None]
KINDS: list[dict[str, Any]] = [
    {},
    {"rslora": True},
    {"dora": True},
    {"dora": True, "rslora": True, "modules_to_save": ("norm", "lm_head")},
    {"modules_to_save": ("embed_tokens", "lm_head")},
]


def qwen(tied: bool) -> Any:
    """Return a random Qwen2 of 2 layers, whose query, key and value have biases."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, int] = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    model: Any = Qwen2ForCausalLM(
        Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied)  # type: ignore[arg-type]
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(weight)
    return model


@torch.no_grad()
def shaken(policy: nn.Module) -> nn.Module:
    """Return the policy with every trained tensor moved."""
    generator = torch.Generator().manual_seed(1)
    for weight in policy.parameters():
        if weight.requires_grad:
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return policy


def trained(policy: nn.Module) -> set[str]:
    return {name for name, weight in policy.named_parameters() if weight.requires_grad}


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_saved_plain_peft_loads_with_equal_outputs(kind: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    from peft import PeftModel

    policy: Any = shaken(LoRA(rank=4, **kind).attach(qwen(tied), seed=0))
    assert save_adapter(policy, tmp_path, "base")
    wanted = policy(IDS).logits
    loaded: Any = PeftModel.from_pretrained(qwen(tied), str(tmp_path))
    assert not any(isinstance(layer, FusedLinear) for layer in loaded.modules())
    assert float((loaded(IDS).logits - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert float((qwen(tied)(IDS).logits - wanted).abs().max()) > 0.01 * float(wanted.abs().max())
    again: Any = load_adapter(qwen(tied), tmp_path)
    assert torch.equal(again(IDS).logits, wanted)
    assert trained(again) == trained(policy)
    assert LoRA(rank=4, **kind).attach(again, seed=0) is again


@torch.no_grad()
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_at_the_start_every_kind_is_its_base_to_the_bit(
    kind: dict[str, Any], dropout: float, autocast: bool, store: TokenStore
) -> None:
    model, batch = qwen(tied=False).eval(), LAYOUT.rows(store, [0, 4, 8])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        base = score(model, batch).per_token
        policy = LoRA(rank=4, dropout=dropout, **kind).attach(model, seed=0)
        with evaluating(policy):
            assert torch.equal(score(policy, batch).per_token, base)


def one_layer(**kind: Any) -> Any:
    """Return a layer of two inputs and one output, W = [3, 4], with an adapter of rank 1, alpha 2."""
    from peft import LoraConfig, get_peft_model

    net: Any = nn.Sequential(nn.Linear(2, 1, bias=False))
    net[0].weight.data = torch.tensor([[3.0, 4.0]])
    return FusedLinear.put_into(get_peft_model(net, LoraConfig(target_modules=["0"], **kind))).get_submodule("base_model.model.0")


@torch.no_grad()
def test_dora_of_one_output_by_hand() -> None:
    # scale 2/1, B A = [1] [1, 4]: W + 2 B A = [5, 12], length 13; with m = 26 the row is [10, 24], and [10, 24] . [1, 1] = 34
    layer = one_layer(r=1, lora_alpha=2, use_dora=True)
    assert layer.lora_magnitude_vector["default"].weight.tolist() == [5.0]
    layer.lora_A["default"].weight.data = torch.tensor([[1.0, 4.0]])
    layer.lora_B["default"].weight.data = torch.tensor([[1.0]])
    layer.lora_magnitude_vector["default"].weight.data = torch.tensor([26.0])
    assert layer(torch.ones(1, 2)).tolist() == [[34.0]]


@torch.no_grad()
def test_rslora_of_one_output_by_hand() -> None:
    # scale 6 / sqrt(4) = 3, B A = [1 1 1 1] [[1, 2]] * 4 = [4, 8]: [3, 4] + 3 [4, 8] = [15, 28], and its sum is 43
    layer = one_layer(r=4, lora_alpha=6, use_rslora=True)
    layer.lora_A["default"].weight.data = torch.tensor([[1.0, 2.0]]).repeat(4, 1)
    layer.lora_B["default"].weight.data = torch.ones(1, 4)
    assert layer(torch.ones(1, 2)).tolist() == [[43.0]]


def test_what_the_fields_ask_for_is_what_peft_is_given() -> None:
    policy: Any = LoRA(rank=4, alpha=6, dora=True, rslora=True, modules_to_save=("norm",)).attach(qwen(tied=False), seed=0)
    config = policy.peft_config["default"]
    assert (config.r, config.lora_alpha, config.use_dora, config.use_rslora) == (4, 6, True, True)
    assert policy.get_submodule("base_model.model.model.layers.0.mlp.up_proj").scaling == {"default": 3.0}


def test_a_name_means_whole_modules_of_that_name() -> None:
    policy = LoRA(rank=2, modules_to_save=("norm",)).attach(qwen(tied=False), seed=0)
    assert saved_beside(policy) == {"model.norm"}  # peft alone would take input_layernorm too
    assert {name for name in trained(policy) if "lora" not in name} == {
        "base_model.model.model.norm.modules_to_save.default.weight"
    }


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_without_the_adapter_and_under_the_one_before_the_modules_are_the_frozen_ones(
    tied: bool, store: TokenStore, tmp_path: Path
) -> None:
    model, batch = qwen(tied).eval(), LAYOUT.rows(store, [0, 4, 8])
    base = score(model, batch).per_token
    adapter = LoRA(rank=2, modules_to_save=("embed_tokens", "lm_head", "norm"))
    policy = shaken(adapter.attach(model, seed=0))
    assert save_adapter(policy, tmp_path, "base")
    first = score(policy, batch).per_token
    add_reference_adapter(policy, tmp_path)
    before = trained(policy)
    shaken(policy)
    now = score(policy, batch).per_token
    with AdapterSwitch(policy, None)():
        assert torch.equal(score(policy, batch).per_token, base)
    with AdapterSwitch(policy, REFERENCE)():
        assert torch.equal(score(policy, batch).per_token, first)
    assert torch.equal(score(policy, batch).per_token, now)
    assert min(float((one - other).abs().max()) for one, other in ((base, first), (first, now), (base, now))) > 1e-2
    assert trained(policy) == before
    assert not any(REFERENCE in name for name in before)


def test_tied_embeddings_stay_tied_whichever_is_named() -> None:
    for names in (("embed_tokens",), ("lm_head",), ("lm_head", "embed_tokens")):
        policy: Any = LoRA(rank=2, modules_to_save=names).attach(qwen(tied=True), seed=0)
        assert saved_beside(policy) == {"model.embed_tokens", "lm_head"}
        inner = policy.get_base_model()
        head, embedding = (in_use(each) for each in (inner.get_output_embeddings(), inner.get_input_embeddings()))
        assert head.weight is embedding.weight
        assert head.weight.requires_grad
        assert [name for name in trained(policy) if "lora" not in name] == [
            "base_model.model.model.embed_tokens.modules_to_save.default.weight"
        ]


def test_the_gradient_of_tied_embeddings_is_that_of_a_model_trained_in_full(store: TokenStore) -> None:
    batch = LAYOUT.rows(store, [0, 4, 8])
    whole = qwen(tied=True)
    score(whole, batch).per_token.sum().backward()
    policy: Any = LoRA(rank=2, modules_to_save=("lm_head",)).attach(qwen(tied=True), seed=0)
    score(policy, batch).per_token.sum().backward()
    gradient = body_and_head(policy)[1].weight.grad
    wanted = whole.lm_head.weight.grad
    assert float((gradient - wanted).norm()) <= 1e-5 * float(wanted.norm())


def test_logits_of_a_trained_head_come_in_chunks_of_its_vocabulary(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_lab.scoring.head.CHUNK", 600)  # two tokens of 300
    policy = LoRA(rank=2, modules_to_save=("lm_head",)).attach(qwen(tied=True), seed=0)
    assert {part.shape[0] for part in response_logits(policy, LAYOUT.rows(store, [1]))} <= {1, 2}


def test_a_module_that_the_model_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(ConfigError, match=r"modules_to_save=embeddings: the model has no such module. It has .*embed_tokens"):
        LoRA(modules_to_save=("embeddings",)).attach(qwen(tied=True), seed=0)
    with pytest.raises(ConfigError, match=r"adapter.modules_to_save=layers: the model has no such module"):
        LoRA(modules_to_save=("layers",)).attach(qwen(tied=True), seed=0)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("q_prj", r"adapter.target_modules=q_prj: the model has no such module. It has .*q_proj"),
        (["v_proj", "q_prj"], r"adapter.target_modules=q_prj: the model has no such module"),
        (["norm"], r"adapter.target_modules=\[norm\]: .*not supported"),
    ],
)
def test_modules_that_an_adapter_cannot_be_on_are_named(names: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        LoRA(target_modules=names).attach(qwen(tied=False), seed=0)
    assert "\n" not in str(caught.value)


def test_one_module_is_named_without_a_list() -> None:
    one: Any = "q_proj"
    policy: Any = LoRA(target_modules=one).attach(qwen(tied=False), seed=0)
    assert {name.rpartition(".")[2] for name in adapted_layers(policy)} == {"q_proj"}


def test_a_module_is_trained_in_full_or_by_an_adapter() -> None:
    with pytest.raises(ValueError, match="q_proj stands in target_modules too; leave it out of one of the two"):
        LoRA(target_modules=("q_proj", "v_proj"), modules_to_save=("q_proj", "norm"))


@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ({"dora": False}, "Use adapter.dora=true."),
        ({"rslora": True}, "Use adapter.rslora=false."),
        ({"modules_to_save": ()}, r"Use adapter.modules_to_save=\[norm\]."),
        ({"modules_to_save": ("norm", "lm_head")}, r"Use adapter.modules_to_save=\[norm\]."),
        ({"rank": 8, "dropout": 0.5}, "Use adapter.rank=4 adapter.dropout=0.0."),
        (
            {"target_modules": ("up_proj",)},
            r"Use adapter.target_modules=\[down_proj,gate_proj,k_proj,o_proj,q_proj,up_proj,v_proj\].",
        ),
    ],
    ids=str,
)
def test_an_adapter_that_differs_in_any_field_is_refused_with_what_to_say(asked: dict[str, Any], remedy: str) -> None:
    fields: dict[str, Any] = {"rank": 4, "dora": True, "modules_to_save": ("norm",)}
    policy = LoRA(**fields).attach(qwen(tied=False), seed=0)
    assert LoRA(**fields).attach(policy, seed=0) is policy
    named = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert LoRA(**{**fields, "modules_to_save": ("model.norm",), "target_modules": named}).attach(policy, seed=0) is policy
    with pytest.raises(ConfigError, match=remedy):
        LoRA(**{**fields, **asked}).attach(policy, seed=0)


@pytest.mark.parametrize("other", ["biases", "kind"])
def test_adapters_that_cannot_be_trained_on_are_refused(other: str) -> None:
    from peft import IA3Config, LoraConfig, get_peft_model

    config: Any = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", bias="all", task_type="CAUSAL_LM")
    policy = get_peft_model(qwen(tied=False), config if other == "biases" else IA3Config(task_type="CAUSAL_LM"))
    with pytest.raises(ConfigError, match="also trains biases" if other == "biases" else "of the kind IA3"):
        LoRA().attach(policy, seed=0)


def test_the_name_on_the_end_screen_says_the_kind() -> None:
    assert [LoRA(**kind).label for kind in KINDS[:4]] == ["lora", "rslora", "dora", "dora rslora"]


def test_an_adapter_without_a_tokenizer_has_that_of_its_base(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    save_model(model, tokenizer, tmp_path / "base", "")
    policy = LoRA(rank=2).attach(model, seed=0)
    assert save_adapter(policy, tmp_path / "plain", str(tmp_path / "base"))
    assert load_tokenizer(str(tmp_path / "plain")).get_vocab() == tokenizer.get_vocab()
    tokenizer_with_more = load_tokenizer(str(tmp_path / "base"))
    tokenizer_with_more.add_tokens(["<new>"])
    save_model(policy, tokenizer_with_more, tmp_path / "own", str(tmp_path / "base"))
    assert "<new>" in load_model(str(tmp_path / "own")).tokenizer.get_vocab()


def test_an_adapter_of_another_size_than_its_base_is_refused(tmp_path: Path) -> None:
    larger = qwen(tied=False)
    larger.resize_token_embeddings(310)
    assert save_adapter(LoRA(rank=2, modules_to_save=("embed_tokens",)).attach(larger, seed=0), tmp_path, "base")
    with pytest.raises(ConfigError, match=r"the adapter was made on a model of other sizes .*310.* new tokens, save its base"):
        load_adapter(qwen(tied=False), tmp_path)
