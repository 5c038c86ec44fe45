"""The fused LoRA layer equals peft's own in outputs and gradients, and steps aside where it would not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from torch import Tensor, nn

from dpo_lab.models.lora_linear import FusedLinear, LowRankLinear


class Net(nn.Module):
    """Two linear layers, the first with a bias as Qwen2 has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 40), nn.Linear(40, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs of shape (..., 8)."""
        outputs: Tensor = self.second(torch.tanh(self.first(x)))
        return outputs


def adapted(dtype: torch.dtype = torch.float64, **options: Any) -> nn.Module:
    """Return a net with an adapter of rank 4 whose B is not zero."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["first", "second"], **options)
    model: nn.Module = get_peft_model(Net().to(dtype), config, autocast_adapter_dtype=False)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    return model


def outcome(model: nn.Module, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return outputs and all gradients, that of the inputs included, for some inputs of shape (3, 5, 24)."""
    inputs = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()
    model.zero_grad(set_to_none=True)
    torch.manual_seed(2)  # of dropout
    outputs = model(inputs)
    (outputs.float() ** 3).sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {"outputs": outputs.detach(), "inputs": inputs.grad, **gradients}


def same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> bool:
    """Return whether two outcomes have the same tensors, each to a relative tolerance."""
    return one.keys() == other.keys() and all(
        (tensor - other[name]).norm() <= tolerance * other[name].norm() and bool(other[name].norm() > 0)
        for name, tensor in one.items()
    )


@pytest.mark.parametrize("options", [{"use_rslora": True}, {"use_dora": True}, {"use_dora": True, "use_rslora": True}], ids=str)
def test_scaled_by_the_root_of_the_rank_and_with_trained_lengths_too(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = adapted(**options)
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            if "magnitude" in name:
                weight.mul_(1.5)
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    wanted = outcome(plain)
    monkeypatch.setattr(Linear, "forward", lambda *_, **__: pytest.fail("peft's own forward ran"))
    assert same(outcome(fused), wanted, 1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_outputs_and_every_gradient_equal_pefts(dtype: torch.dtype, tolerance: float) -> None:
    plain = adapted(dtype)
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    assert [type(layer) for layer in fused.modules()].count(FusedLinear) == 2
    assert same(outcome(fused, dtype), outcome(plain, dtype), tolerance)
    assert set(outcome(fused, dtype)) == {"outputs", "inputs"} | {
        f"base_model.model.{layer}.lora_{matrix}.default.weight" for layer in ("first", "second") for matrix in "AB"
    }


def test_under_autocast_the_two_differ_by_rounding_alone() -> None:
    plain = adapted(torch.float32)
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    exact = outcome(plain, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        half, fused_half = outcome(plain, torch.float32), outcome(fused, torch.float32)
    assert {name: tensor.dtype for name, tensor in half.items()} == {name: tensor.dtype for name, tensor in fused_half.items()}
    for name, tensor in exact.items():
        rounding = (half[name] - tensor).norm()
        assert (fused_half[name] - tensor).norm() < 1.5 * rounding


def test_the_fused_function_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FusedLinear.put_into(adapted())
    monkeypatch.setattr(Linear, "forward", lambda *_, **__: pytest.fail("peft's own forward ran"))
    outcome(model)


def merge(model: Any) -> None:
    """Add the adapter to the weights."""
    model.merge_adapter()


def switch_off(model: Any) -> None:
    """Read the base alone."""
    for layer in model.modules():
        if hasattr(layer, "_disable_adapters"):
            layer._disable_adapters = True


def second_adapter(model: Any) -> None:
    """Add up two adapters."""
    model.add_adapter("other", LoraConfig(r=2, target_modules=["first", "second"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])


def train_base(model: Any) -> None:
    """Let the base learn too."""
    model.requires_grad_(True)


CHANGES: list[Callable[[Any], None]] = [merge, switch_off, second_adapter, train_base]


@pytest.mark.parametrize("change", CHANGES)
def test_where_it_does_not_apply_pefts_own_way_is_gone(change: Callable[[Any], None]) -> None:
    plain = adapted()
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    for model in (plain, fused):
        torch.manual_seed(3)
        change(model)
    assert same(outcome(fused), outcome(plain), 1e-13)


@pytest.mark.filterwarnings("ignore:.*lora_bias=True.*")  # peft: such an adapter cannot be merged
@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.5}, {"lora_dropout": 0.5, "use_dora": True}, {"lora_bias": True}], ids=str
)
def test_dropout_and_adapter_biases_are_pefts(options: dict[str, Any]) -> None:
    plain = adapted(**options)
    assert same(outcome(FusedLinear.put_into(copy.deepcopy(plain))), outcome(plain), 1e-13)


def test_a_second_adapter_can_be_read_alone() -> None:
    plain = adapted()
    plain.add_adapter("other", LoraConfig(r=2, target_modules=["first", "second"], init_lora_weights=False))  # type: ignore[operator]
    plain.set_adapter("other")  # type: ignore[operator]
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    assert same(outcome(fused), outcome(plain), 1e-13)
    assert any("other" in name for name in outcome(fused))


def test_the_backward_may_run_under_another_autocast_than_the_forward() -> None:
    plain = adapted(torch.float32)
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    inputs = torch.randn(3, 24, requires_grad=True)
    (expected,) = torch.autograd.grad(plain(inputs).sum(), inputs)
    outputs = fused(inputs).sum()
    with torch.autocast("cpu", torch.bfloat16):
        (gradient,) = torch.autograd.grad(outputs, inputs)
    assert float((gradient - expected).norm()) <= 1e-6 * float(expected.norm())


def ran_fused(model: nn.Module, monkeypatch: pytest.MonkeyPatch, *inputs: Any, **others: Any) -> bool:
    """Return whether any layer took the fused way."""
    calls: list[int] = []
    apply: Any = LowRankLinear.apply

    def counted(*each: Any) -> Tensor:
        calls.append(1)
        outputs: Tensor = apply(*each)
        return outputs

    with monkeypatch.context() as patched:
        patched.setattr(LowRankLinear, "apply", counted)
        model(*inputs, **others)
    return bool(calls)


def test_types_that_do_not_agree_go_pefts_way_unless_autocast_settles_them(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["first", "second"])
    model = FusedLinear.put_into(get_peft_model(Net().bfloat16(), config))  # a half base: peft keeps its adapters in float32
    inputs = torch.randn(2, 24).bfloat16()
    assert not ran_fused(model, monkeypatch, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert ran_fused(model, monkeypatch, inputs)


def test_an_adapter_that_a_layer_lacks_leaves_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = adapted()
    plain.add_adapter("other", LoraConfig(r=2, target_modules=["first"], init_lora_weights=False))
    plain.set_adapter("other")
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    assert same(outcome(fused), outcome(plain), 1e-13)


def test_adapters_chosen_row_by_row_go_pefts_way() -> None:
    plain = adapted().eval()
    fused = FusedLinear.put_into(copy.deepcopy(plain))
    layer, other = plain.get_submodule("base_model.model.first"), fused.get_submodule("base_model.model.first")
    inputs, names = torch.randn(2, 24, dtype=torch.float64), ["default", "__base__"]
    assert torch.equal(other(inputs, adapter_names=names), layer(inputs, adapter_names=names))
    assert not torch.equal(other(inputs, adapter_names=names), other(inputs))


def test_layers_over_something_else_than_a_linear_one_stay_pefts() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))
    adapted_model = FusedLinear.put_into(get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)))
    assert {type(layer) for layer in adapted_model.modules() if isinstance(layer, Linear)} == {Linear}
