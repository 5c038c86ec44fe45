"""The head in chunks: the same numbers as the whole softmax, the vocabulary never wider than a chunk."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.layouts.attention import NAME
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.models.adapter import LoRA
from dpo_lab.scoring import head as module
from dpo_lab.scoring.head import head_logps
from dpo_lab.scoring.score import response_logits, score
from dpo_lab.tokens.store import TokenStore

SIZE, VOCAB, TOKENS = 8, 37, 23
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
Values = tuple[Tensor, Tensor, list[Tensor]]


class OwnHead(nn.Linear):
    """A linear layer with its own forward, as quantised layers and adapters have."""

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) * 1.0


def naive(head: nn.Linear, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The whole [tokens, vocabulary]."""
    logps = (hidden @ head.weight.t() + (head.bias if head.bias is not None else 0)).log_softmax(-1)
    return logps.gather(-1, targets.unsqueeze(-1)).squeeze(-1), (2 * logps).logsumexp(-1).detach()


def values(compute: Callable[[nn.Linear, Tensor, Tensor], Any], head: nn.Linear, dtype: torch.dtype) -> Values:
    """Return log-probabilities, squares and gradients of a sum that weighs every token differently."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, SIZE, generator=draw, dtype=dtype, requires_grad=True)
    targets = torch.randint(VOCAB, (TOKENS,), generator=draw)
    head.zero_grad()
    per_token, squares = compute(head, hidden, targets)
    (per_token * torch.linspace(-1, 2, TOKENS, dtype=dtype)).sum().backward()
    found = [each.grad for each in (hidden, *head.parameters())]
    return per_token.detach(), squares, [each.clone() for each in found if each is not None]


@pytest.mark.parametrize("chunk", [1, 5 * VOCAB, 23 * VOCAB, 10**6])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [nn.Linear, OwnHead])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_chunk_gives_the_values_and_gradients_of_the_whole(
    chunk: int, bias: bool, kind: type[nn.Linear], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    torch.manual_seed(0)
    head = kind(SIZE, VOCAB, bias=bias, dtype=dtype)
    wanted = values(naive, head, dtype)
    made = values(lambda *given: head_logps(*given, full_softmax=True), head, dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert len(made[2]) == 2 + bias
    for one, other in zip((*made[:2], *made[2]), (*wanted[:2], *wanted[2]), strict=True):
        assert one.dtype == dtype
        assert float(one.abs().max()) > 0
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance)


def test_within_the_block_the_head_takes_so_many_tokens_at_a_time() -> None:
    shapes = list[int]()
    head = OwnHead(SIZE, VOCAB)
    head.register_forward_hook(lambda *given: shapes.append(len(given[2])))
    hidden = torch.ones(TOKENS, SIZE)
    with module.tokens_at_once(7):
        head_logps(head, hidden, torch.arange(TOKENS))
    assert shapes == [7] * (TOKENS // 7) + [TOKENS % 7] * (TOKENS % 7 > 0)
    shapes.clear()
    head_logps(head, hidden, torch.arange(TOKENS))
    assert shapes == [TOKENS]


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    head = nn.Linear(SIZE, VOCAB, bias=False)
    hidden = torch.randn(TOKENS, SIZE, requires_grad=True)
    per_token, _ = head_logps(head, hidden, torch.arange(TOKENS))
    gradients = [torch.autograd.grad(per_token.sum(), (hidden, head.weight), retain_graph=True) for _ in range(2)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_frozen_head_gets_no_gradient_and_passes_one_on() -> None:
    head = nn.Linear(SIZE, VOCAB, bias=False).requires_grad_(False)
    hidden = torch.randn(TOKENS, SIZE, requires_grad=True)
    head_logps(head, hidden, torch.arange(TOKENS))[0].sum().backward()
    assert head.weight.grad is None
    assert float(hidden.grad.norm()) > 0  # type: ignore[union-attr]


def test_huge_logits_stay_finite_in_value_and_gradient() -> None:
    head = nn.Linear(SIZE, VOCAB, bias=False)
    hidden = (1e4 * torch.randn(TOKENS, SIZE)).requires_grad_()
    per_token, _ = head_logps(head, hidden, torch.arange(TOKENS))
    per_token.sum().backward()
    assert torch.isfinite(per_token).all()
    assert float(per_token.min()) < -1000
    assert torch.isfinite(hidden.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["under autocast", "bf16 weights"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def test_half_precision_rounds_the_factors_of_a_logit_and_not_the_logit(weights: torch.dtype, device: str) -> None:
    """Factors that bf16 holds exactly: what is left is the rounding of a logit around 30, up to 1/16 in bf16, 1e-6 in fp32."""
    size = 64
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(TOKENS, device=device)
    head = nn.Linear(size, VOCAB, device=device).bfloat16().to(weights)
    with torch.no_grad():
        head.weight.copy_(torch.randn(VOCAB, size, generator=generator).bfloat16())
        hidden = (torch.randn(TOKENS, size, generator=generator).to(device) + 0.4 * head.weight[targets]).bfloat16().to(weights)
        exact = copy.deepcopy(head).double()(hidden.double()).log_softmax(-1)[targets, targets]
        with torch.autocast(device, torch.bfloat16, enabled=weights == torch.float32):
            made, _ = head_logps(head, hidden, targets)
            rounded = head(hidden)
    assert rounded.dtype == torch.bfloat16
    assert made.dtype == torch.float32
    assert float((rounded.double().log_softmax(-1)[targets, targets] - exact).abs().max()) > 0.04
    assert float((made - exact).abs().max()) < 1e-4
    kept = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    assert kept == "none", "what a product needs is put back"


def test_no_tensor_is_wider_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward pass: at most 4 tokens by the vocabulary at a time, of 23."""
    monkeypatch.setattr(module, "CHUNK", 4 * VOCAB)
    seen: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else (out,):
                if isinstance(each, Tensor) and each.dim() == 2 and each.shape[1] == VOCAB and each.shape[0] != SIZE:
                    seen.append(each.shape[0])
            return out

    head = nn.Linear(SIZE, VOCAB, bias=False)
    hidden = torch.randn(TOKENS, SIZE, requires_grad=True)
    with Watch():  # type: ignore[no-untyped-call]
        head_logps(head, hidden, torch.arange(TOKENS), full_softmax=True)[0].sum().backward()
    assert max(seen) == 4
    assert len(seen) >= 12  # six chunks, there and back


@pytest.mark.parametrize("layout", [PaddedLayout(), PrefixLayout()])
def test_scoring_through_chunks_equals_the_softmax_over_all_logits(
    model: nn.Module, store: TokenStore, layout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1500)
    if layout.one_row:
        model.set_attn_implementation(NAME)  # type: ignore[operator]
    batch = layout.rows(store, range(store.num_responses))
    logps = torch.cat([*response_logits(model, batch)]).log_softmax(-1)
    scored = score(model, batch, full_softmax=True)
    assert torch.allclose(scored.per_token, logps.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1), atol=1e-5)
    assert scored.log_sum_squares is not None
    assert torch.allclose(scored.log_sum_squares, (2 * logps).logsumexp(-1), atol=1e-5)


def test_an_adapter_on_the_head_is_not_passed_over(model: nn.Module, store: TokenStore) -> None:
    adapted = LoRA(rank=2, target_modules=("lm_head",)).attach(model, seed=0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.constant_(weight, 0.05)
    batch = PaddedLayout().rows(store, [1, 2, 4])
    through, own = (score(adapted, batch, own_logits=own).per_token for own in (False, True))
    assert torch.allclose(through, own, atol=1e-5)
    through.sum().backward()
    trained = [weight.grad for weight in adapted.parameters() if weight.requires_grad]
    assert len(trained) == 2
    assert all(each is not None and float(each.norm()) > 0 for each in trained)


@pytest.mark.parametrize(("chunk", "products"), [(10**6, 3), (12 * VOCAB, 7)])
def test_what_fits_one_chunk_takes_three_products_with_the_weight(
    chunk: int, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two chunks: each one product forward and two back, and the first one's logits once more; 23 tokens are 12 and 11."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    made: list[str] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made.extend([str(func)] if func is torch.ops.aten.mm.default else [])
            return func(*args, **(kwargs or {}))

    head = nn.Linear(SIZE, VOCAB, bias=False)
    hidden = torch.randn(TOKENS, SIZE, requires_grad=True)
    with Watch():  # type: ignore[no-untyped-call]
        head_logps(head, hidden, torch.arange(TOKENS))[0].sum().backward()
    assert len(made) == products
