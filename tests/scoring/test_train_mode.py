"""What a module does in train mode alone, beside drawing: statistics of a batch, other state, draws where gradients are taken."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.components import RunError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.load import evaluating
from dpo_lab.scoring.fitting import fitted
from dpo_lab.tokens.store import TokenStore
from tests.scoring.test_randomness import STEADY, built, per_token, steadied


class Drawing(nn.Module):
    """An MLP with noise where gradients are taken."""

    def __init__(self, inner: nn.Module, *, always: bool) -> None:
        super().__init__()
        self.inner, self.always = inner, always

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.inner(hidden)
        return out * (1 + 1e-3 * torch.rand([])) if torch.is_grad_enabled() and (self.training or self.always) else out


class Batched(nn.Module):
    """An MLP with a norm over the rows of a batch behind it."""

    def __init__(self, inner: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.inner, self.norm = inner, norm

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.norm(self.inner(hidden).transpose(1, 2)).transpose(1, 2)
        return out


class Following(nn.Module):
    """An MLP that is divided by a running mean of its size in a buffer, and by twice that in train mode if it is `loud`."""

    scale: Tensor

    def __init__(self, inner: nn.Module, *, moves: bool, loud: bool) -> None:
        super().__init__()
        self.inner, self.moves, self.loud = inner, moves, loud
        self.register_buffer("scale", torch.ones([]))

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.inner(hidden)
        if self.training and self.moves:
            with torch.no_grad():
                self.scale.mul_(0.9).add_(0.1 * out.abs().mean())
        return out / self.scale * (2 if self.training and self.loud else 1)


def changed(wrap: Any) -> Any:
    model = built(STEADY["llama"])
    for layer in model.model.layers:
        layer.mlp = wrap(layer.mlp)
    return model


def norm(**settings: Any) -> Any:
    return lambda inner: Batched(inner, nn.BatchNorm1d(32, **settings))


WRAPPED: dict[str, tuple[Any, str]] = {
    "draws where gradients are taken": (lambda inner: Drawing(inner, always=False), "Drawing draws random numbers"),
    "batch norm": (norm(), "BatchNorm1d changes what it computes with"),
    "batch norm that has settled": (norm(momentum=0.0), "BatchNorm1d "),
    "a running mean": (lambda inner: Following(inner, moves=True, loud=False), "Following "),
    "another scale": (lambda inner: Following(inner, moves=False, loud=True), "Following computes otherwise"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_differs_in_train_mode_is_switched_off_and_named(name: str, store: TokenStore) -> None:
    wrap, words = WRAPPED[name]
    model = changed(wrap)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    (note,) = steadied(model, store)
    assert note.startswith(words)
    assert "while it is trained: switched off (model.layers.0.mlp" in note
    trained = per_token(model.train(), store)
    with evaluating(model), torch.no_grad():
        assert torch.equal(per_token(model, store), trained)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "no state moves"


def test_a_module_that_draws_in_every_pass_with_gradients_is_refused_by_name(store: TokenStore) -> None:
    with pytest.raises(RunError, match=r"also in evaluation mode \(Drawing: model.layers.0.mlp, model.layers.1.mlp\)"):
        steadied(changed(lambda inner: Drawing(inner, always=True)), store)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.InstanceNorm1d])
def test_a_norm_without_running_statistics_is_refused_by_name(kind: Any, store: TokenStore) -> None:
    model = changed(lambda inner: Batched(inner, kind(32, track_running_stats=False)))
    words = rf"{kind.__name__} without running statistics \(model.layers.0.mlp.norm and 1 more\) computes with those of the batch"
    with pytest.raises(RunError, match=words):
        fitted(model, PaddedLayout(), store)


def test_the_probe_keeps_nothing_for_gradients(store: TokenStore) -> None:
    model = built(STEADY["llama"])
    assert steadied(model, store) == ()
    assert all(weight.grad is None for weight in model.parameters())
