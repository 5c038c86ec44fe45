"""What holds of every loss of conf/loss, found by walking it: finite extremes, signs, true declarations."""

import pytest
import torch
from torch import Tensor

from dpo_lab.conf_files import CONF
from dpo_lab.losses.options import loss_options
from dpo_lab.scoring.logps import PairLogps, ResponseLogps
from dpo_lab.tokens.labels import PairLabels

LOSSES = loss_options()
every_loss = pytest.mark.parametrize("name", LOSSES)


def pairs_of(rows: list[list[float]] | Tensor, labels: PairLabels | None = None, squares: float | Tensor = -2.5) -> PairLogps:
    """Return pairs of responses, chosen ones first; a tensor holds one token per response."""
    counts = torch.tensor([len(row) for row in rows]) if isinstance(rows, list) else torch.ones(len(rows), dtype=torch.int64)
    per_token = torch.tensor([value for row in rows for value in row]) if isinstance(rows, list) else rows
    places = torch.arange(len(counts)).view(2, -1).T
    return PairLogps(ResponseLogps(per_token, counts, torch.zeros_like(per_token).detach() + squares), places, labels)


def labels_of(pairs: int, preference: float = 0.8, better: float = 2.0, worse: float = 0.5) -> PairLabels:
    """Return the same labels for some pairs."""
    return PairLabels(*(torch.full((pairs,), value) for value in (preference, better, worse)))


def some_pairs() -> tuple[PairLogps, PairLogps]:
    """Return three pairs of responses of several lengths under a policy and a reference."""
    policy = [[-1.0, -2.0], [-0.5], [-2.0, -0.3, -0.2], [-3.0], [-1.0, -1.0, -2.5], [-0.7, -0.1]]
    reference = [[-1.5, -2.5], [-0.4], [-1.0, -0.5, -0.1], [-2.0], [-0.5, -1.0, -1.0], [-0.2, -0.9]]
    return pairs_of(policy, labels_of(3)), pairs_of(reference)


@every_loss
@pytest.mark.parametrize("nats", [100.0, 1e4])
def test_extreme_log_ratios_have_finite_values_and_gradients(name: str, nats: float) -> None:
    corners = -nats * torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)  # policy and reference of chosen and rejected
    leaf = corners[:, :2].T.reshape(-1).requires_grad_()
    losses = LOSSES[name](pairs_of(leaf, labels_of(16), squares=-1.0), pairs_of(corners[:, 2:].T.reshape(-1)))
    (gradient,) = torch.autograd.grad(losses.mean(), leaf)
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    assert gradient.isfinite().all()


@every_loss
def test_a_policy_that_prefers_the_chosen_response_has_the_smaller_loss(name: str) -> None:
    policy = pairs_of([[-1.0, -2.0], [-12.0, -12.0]], labels_of(1))
    reference = pairs_of([[-8.0, -8.0], [-8.0, -8.0]])  # 21 nats apart: nearer to 0 DiscoPOP, not convex, is the other way round
    swapped = PairLogps(policy.responses, policy.pairs.flip(1), policy.labels)
    assert torch.equal(swapped.margin, -policy.margin)
    assert (LOSSES[name](policy, reference) < LOSSES[name](swapped, reference)).all()


@every_loss
def test_a_loss_couples_pairs_exactly_if_it_says_so(name: str) -> None:
    policy, reference = some_pairs()

    def alone(pairs: PairLogps, index: int) -> PairLogps:
        return PairLogps(pairs.responses, pairs.pairs[index : index + 1], labels_of(1))

    singly = torch.cat([LOSSES[name](alone(policy, index), alone(reference, index)) for index in range(3)])
    assert torch.allclose(LOSSES[name](policy, reference), singly, rtol=1e-6) is not LOSSES[name].couples_pairs


@every_loss
def test_a_loss_reads_the_reference_exactly_if_it_says_so(name: str) -> None:
    policy, reference = some_pairs()
    nothing = pairs_of([[0.0] * count for count in reference.responses.counts.tolist()])
    assert torch.equal(LOSSES[name](policy, reference), LOSSES[name](policy, nothing)) is not LOSSES[name].needs_reference


@every_loss
def test_a_loss_reads_the_full_softmax_exactly_if_it_says_so(name: str) -> None:
    policy, reference = some_pairs()
    without = PairLogps(ResponseLogps(policy.responses.per_token, policy.responses.counts), policy.pairs, policy.labels)
    if LOSSES[name].needs_full_softmax:
        with pytest.raises(ValueError, match="full_softmax=True"):
            LOSSES[name](without, reference)
    else:
        assert torch.equal(LOSSES[name](without, reference), LOSSES[name](policy, reference))


@every_loss
def test_a_loss_reads_exactly_the_labels_that_it_says(name: str) -> None:
    policy, reference = some_pairs()
    usual, read = LOSSES[name](policy, reference), set()
    other = {"preference": {"preference": 0.6}, "score_chosen": {"better": 3.0}, "score_rejected": {"worse": 1.0}}
    for field, change in other.items():
        changed = PairLogps(policy.responses, policy.pairs, labels_of(3, **change))
        read |= {field} if not torch.equal(LOSSES[name](changed, reference), usual) else set()
    assert read == set(LOSSES[name].needs_labels)
    unlabelled = PairLogps(policy.responses, policy.pairs)
    if read:
        with pytest.raises(ValueError, match="have no labels"):
            LOSSES[name](unlabelled, reference)
    else:
        assert torch.equal(LOSSES[name](unlabelled, reference), usual)


@every_loss
def test_a_loss_gives_one_value_per_pair_in_the_precision_of_the_log_probs(name: str) -> None:
    policy, reference = some_pairs()

    def doubled(pairs: PairLogps) -> PairLogps:
        of = pairs.responses
        assert of.log_sum_squares is not None
        return PairLogps(ResponseLogps(of.per_token.double(), of.counts, of.log_sum_squares.double()), pairs.pairs, pairs.labels)

    precise = LOSSES[name](doubled(policy), doubled(reference))
    assert precise.shape == (3,)
    assert precise.dtype == torch.float64
    assert torch.allclose(precise.float(), LOSSES[name](policy, reference), rtol=1e-5)


@every_loss
def test_a_loss_without_reference_chooses_none_itself(name: str) -> None:
    chooses = "override /reference: none" in (CONF / "loss" / f"{name}.yaml").read_text()
    assert chooses is not LOSSES[name].needs_reference
