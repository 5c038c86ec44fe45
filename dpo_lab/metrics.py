"""Figures of preference training: one table of what each means, and means that are exact for ragged batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """What a figure means; every one is a mean over pairs unless its meaning says otherwise."""

    name: str
    meaning: str
    formula: str
    """With y_w the chosen and y_l the rejected response, pi the policy, ref the reference."""
    unit: str


METRICS: tuple[Metric, ...] = (
    Metric("loss", "the loss", "loss(pi, ref)", "of the loss"),
    Metric("rewards/chosen", "implicit reward of the chosen response", "beta (log pi(y_w) - log ref(y_w))", "beta x nats"),
    Metric("rewards/rejected", "implicit reward of the rejected response", "beta (log pi(y_l) - log ref(y_l))", "beta x nats"),
    Metric("rewards/margins", "by how much the chosen response is preferred", "rewards/chosen - rewards/rejected", "beta x nats"),
    Metric("rewards/accuracies", "share of pairs ranked rightly; a tie counts as wrong", "1[margin > 0]", "share"),
    Metric("rewards/accuracies_ties_half", "the same; a tie counts half", "1[margin > 0] + 1[margin = 0] / 2", "share"),
    Metric("logps/chosen", "log-probability of the chosen response", "log pi(y_w)", "nats"),
    Metric("logps/rejected", "log-probability of the rejected response", "log pi(y_l)", "nats"),
    Metric("logps/chosen_per_token", "the same per token of each response", "log pi(y_w) / tokens(y_w)", "nats per token"),
    Metric("logps/rejected_per_token", "the same per token of each response", "log pi(y_l) / tokens(y_l)", "nats per token"),
    Metric(
        "kl/implicit",
        "drift on the data: mean log-ratio of both responses; negative where the policy leaves the data",
        "(log pi(y_w) - log ref(y_w) + log pi(y_l) - log ref(y_l)) / 2",
        "nats",
    ),
    Metric("lengths/chosen", "tokens of the chosen response, end token included", "tokens(y_w)", "tokens"),
    Metric("lengths/rejected", "tokens of the rejected response, end token included", "tokens(y_l)", "tokens"),
    Metric("lr", "learning rate of the step (no mean)", "lr x factor(step)", "-"),
    Metric("grad_norm", "norm of the step's gradient before clipping (no mean)", "norm(g)", "of the loss per weight"),
    Metric("time/pairs_per_second", "pairs trained on per second since the row before", "pairs / seconds", "1/s"),
    Metric("time/tokens_per_second", "tokens through the model's body, padding included", "tokens / seconds", "1/s"),
    Metric(
        "time/tflops_per_second",
        "operations in the policy's weight matrices by all processes, without embeddings, head, attention and the reference",
        "(6 x trained + 4 x frozen weights) x tokens / seconds / 10^12",
        "TFLOP/s",
    ),
    Metric(
        "memory/peak_mib",
        "the most memory of the first process so far: resident, or on a GPU allocated by torch (no mean)",
        "bytes / 2^20",
        "MiB",
    ),
)
OF_THE_MACHINE = ("time/", "memory/")
"""How the names of figures begin that a repeated step has not again."""


def table() -> str:
    """Return the metrics as a Markdown table, which docs/method.md holds."""
    rows = [f"| `{each.name}` | {each.meaning} | {each.formula} | {each.unit} |" for each in METRICS]
    return "\n".join(["| name | meaning | formula | unit |", "|---|---|---|---|", *rows])


class MeanOverPairs:
    """Running means over pairs (or over tokens, in fine-tuning): sums and a count, never means of means.

    >>> import torch
    >>> mean = MeanOverPairs()
    >>> mean.update({"margin": torch.tensor([1.0, 2.0, -1.0, -1.0])})
    >>> mean.update({"margin": torch.tensor([-1.0])})
    >>> mean.compute()
    {'margin': 0.0}
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def update(self, values: "Mapping[str, Tensor]") -> None:
        """Add one value per pair and name; stays on the device, so that a step waits for nothing."""
        self.count += len(next(iter(values.values())))
        for name, per_pair in values.items():
            total = per_pair.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def add(self, other: "MeanOverPairs") -> None:
        """Add the pairs of another."""
        self.count += other.count
        for name, total in other._sums.items():
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def compute(self) -> dict[str, float]:
        """Return the means over every pair so far; empty without pairs."""
        return {name: float(total) / self.count for name, total in self._sums.items()}

    def state(self) -> dict[str, Any]:
        """Return count and sums as plain data and tensors."""
        return {"count": self.count, "sums": self._sums}

    @classmethod
    def from_state(cls, state: "Mapping[str, Any]") -> "MeanOverPairs":
        """Return the means that go on from a state."""
        means = cls()
        means.count, means._sums = state["count"], dict(state["sums"])
        return means
