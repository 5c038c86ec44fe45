"""The LightningModules: supervised fine-tuning and preference training, one optimizer step per batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dpo_lab.components import RunError
from dpo_lab.evaluation.figures import pair_figures
from dpo_lab.layouts.base import PairBatch, ResponseBatch
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.metrics import MeanOverPairs
from dpo_lab.reference.base import ReferenceScorer
from dpo_lab.scoring.logps import PairLogps, joined
from dpo_lab.scoring.score import score
from dpo_lab.seeding import derive
from dpo_lab.training.group import Group
from dpo_lab.training.optim import Optim

Result = TypeVar("Result")


class NonFiniteStepError(Exception):
    """The gradient of a step is not finite; `batch` holds its micro-batches."""

    def __init__(self, batch: list[Any], norm: float) -> None:
        super().__init__(norm)
        self.batch, self.norm = batch, norm


class StepModule(L.LightningModule, ABC):
    """Trains `policy`; a batch is a list of micro-batches whose losses add up to the loss of one optimizer step.

    Of several processes each has a batch of its own, and their losses add up to that of the step: gradients are added, not
    averaged, and every figure is that of the whole step.

    A checkpoint holds the trainable tensors and the unfinished sums of figures. The seed of dropout is a function of seed,
    step, micro-batch and rank: nothing to checkpoint, nothing that an evaluation in between could shift.
    """

    def __init__(self, policy: nn.Module, optim: Optim, total_steps: int, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step is a list of micro-batches of uneven size
        self.strict_loading = False  # a checkpoint does not hold the frozen weights
        self.policy = policy.train()
        self.optim, self.total_steps, self.seed = optim, total_steps, seed
        self.group = Group()
        self.taken = (0, 0)
        """Items and tokens of the newest step, of all processes."""
        self._rate, self._norm = 0.0, torch.zeros(())
        self._own, self._means = MeanOverPairs(), MeanOverPairs()  # of this process's step so far; since the last `collect`

    @abstractmethod
    def micro_batch_loss(self, micro_batch: Any, terms: int) -> Tensor:
        """Return this micro-batch's share of the step's loss, a mean over `terms` terms; the shares of a step add up to it."""

    items: ClassVar[str]
    """What a batch is made of."""

    @abstractmethod
    def sizes(self, micro_batch: Any) -> tuple[int, int]:
        """Return how many items a micro-batch holds, and its tokens through the model's body, padding included."""

    @abstractmethod
    def num_terms(self, micro_batch: Any) -> int:
        """Return over how many terms of a micro-batch the loss is a mean."""

    def collect(self) -> dict[str, float]:
        """Return the means of the figures since the last call; the only place that waits for the device."""
        figures, self._means = self._means.compute(), MeanOverPairs()
        return figures

    def figures(self) -> dict[str, float]:
        """Return `collect` with the learning rate and the gradient norm (before clipping) of the last step."""
        return {**self.collect(), "lr": self._rate, "grad_norm": float(self._norm)}

    def accumulate(self, step: Sequence[Any]) -> None:
        """Add the gradient of a step's loss to the weights, micro-batch by micro-batch."""
        terms = self._measure(step)
        for position, micro_batch in enumerate(step):
            self.manual_backward(self._seeded(position, self.micro_batch_loss, micro_batch, terms))
        self.share_figures()

    def _measure(self, step: Sequence[Any]) -> int:
        """Return the terms of the step's loss, of all processes; note its items and tokens."""
        items, tokens = (sum(each) for each in zip(*map(self.sizes, step), strict=True)) if step else (0, 0)
        *taken, terms = self.group.totals([items, tokens, sum(map(self.num_terms, step))], self.device)
        self.taken = (taken[0], taken[1])
        return terms

    def share_figures(self) -> None:
        """Add the figures of a whole step, of all processes, to those since the last `collect`."""
        own, self._own = self._own, MeanOverPairs()
        for state in self.group.gathered(own.state()):  # in the same order everywhere: all have the same figures to the bit
            self._means.add(MeanOverPairs.from_state(state))

    def _seeded(self, position: int, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function with the random numbers of one micro-batch of the current step."""
        torch.manual_seed(derive(self.seed, "dropout", self.global_step, position, self.group.rank))
        return function(*arguments)

    def training_step(self, batch: list[Any], batch_idx: int) -> None:
        """Run one optimizer step."""
        optimizer: Any = self.optimizers()
        self.accumulate(batch)
        self.group.add_gradients([weight for weight in self.policy.parameters() if weight.requires_grad])
        trainable = [weight for weight in self.policy.parameters() if weight.grad is not None]
        self._norm = nn.utils.clip_grad_norm_(trainable, self.optim.clip or float("inf"))
        if not torch.isfinite(self._norm):  # waits for the device once a step: a step that is not finite must not be taken
            raise NonFiniteStepError(batch, float(self._norm))
        self._rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        self.after_step()
        optimizer.zero_grad(set_to_none=True)
        schedule: Any = self.lr_schedulers()
        schedule.step()

    def after_step(self) -> None:
        """Do what follows an update of the weights; before any callback, so that a checkpoint has it."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer of the trainable weights and its schedule over `total_steps`."""
        optimizer = self.optim.optimizer([weight for weight in self.policy.parameters() if weight.requires_grad])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.optim.factor(self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the trainable tensors."""
        return {name: weight.detach() for name, weight in self.named_parameters() if weight.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sums since the last `collect`."""
        checkpoint["window"] = self._means.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums.

        Raises:
            RunError: if the checkpoint holds other tensors than are trained, which Lightning would pass over in silence.
        """
        here, there = set(self.state_dict()), set(checkpoint["state_dict"])
        if here != there:
            raise RunError(
                f"the checkpoint has {len(there - here)} tensors that are not trained here and lacks {len(here - there)} "
                f"that are, such as {min(here ^ there)}. Remove checkpoints/ beside metrics.jsonl to begin anew."
            )
        self._means = MeanOverPairs.from_state(checkpoint["window"])


class SFTModule(StepModule):
    """Supervised fine-tuning on responses: the mean over response tokens of -log p."""

    items = "examples"

    def micro_batch_loss(self, micro_batch: ResponseBatch, terms: int) -> Tensor:
        """Return minus the micro-batch's log-probabilities over the step's number of tokens."""
        per_token = score(self.policy, micro_batch).per_token
        self._own.update({"loss": -per_token})
        return -per_token.sum() / terms

    def sizes(self, micro_batch: ResponseBatch) -> tuple[int, int]:
        """Return responses and tokens, padding included."""
        return len(micro_batch.counts), micro_batch.inputs["input_ids"].numel()

    def num_terms(self, micro_batch: ResponseBatch) -> int:
        """Return the response tokens."""
        return len(micro_batch.targets)


class PreferenceModule(StepModule):
    """Trains the policy on preference pairs against a reference.

    The loss of a step is the mean over all its pairs: splitting it into micro-batches does not change the result.
    """

    items = "pairs"

    def __init__(
        self,
        policy: nn.Module,
        reference: ReferenceScorer,
        loss: PreferenceLoss,
        optim: Optim,
        *,
        total_steps: int,
        seed: int,
        own_logits: bool = False,
    ) -> None:
        super().__init__(policy, optim, total_steps, seed)
        self.reference, self.loss, self.own_logits = reference, loss, own_logits

    def pair_logps(self, batch: PairBatch) -> tuple[PairLogps, PairLogps]:
        """Return what policy and reference say of a batch's pairs."""
        policy = score(self.policy, batch.rows, own_logits=self.own_logits, full_softmax=self.loss.needs_full_softmax)
        return PairLogps(policy, batch.pairs, batch.labels), PairLogps(self.reference(batch.rows), batch.pairs)

    def step_losses(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return the loss of each pair, and note the figures."""
        with torch.autocast(self.device.type, enabled=False):
            losses = self.loss(policy, reference)
        self._own.update(pair_figures(policy, reference, losses, self.loss.beta))
        return losses

    def micro_batch_loss(self, micro_batch: PairBatch, terms: int) -> Tensor:
        """Return the sum of the micro-batch's losses over the step's number of pairs."""
        policy, reference = self.pair_logps(micro_batch)
        return self.step_losses(policy, reference).sum() / terms

    def accumulate(self, step: Sequence[PairBatch]) -> None:
        """Add the gradient of a step's loss; a loss that couples pairs sees all of them at once.

        Then the step is scored without gradients, the loss gives the derivative by every response token's
        log-probability, and a second pass multiplies it in: the same gradient for any split, at twice the forwards.
        """
        if not self.loss.couples_pairs or (self.group.size == 1 and len(step) == 1):
            super().accumulate(step)
            return
        self._measure(step)
        with torch.no_grad():
            scored = [self._seeded(position, self.pair_logps, batch) for position, batch in enumerate(step)]
        shares = self.group.gathered(scored)
        policy, reference = (joined([each[side] for share in shares for each in share]) for side in (0, 1))
        leaf = policy.responses.per_token.requires_grad_()
        losses = self.step_losses(policy, reference)
        if self.group.rank:
            self._own = MeanOverPairs()  # every process saw the whole step; its figures count once
        (by_token,) = torch.autograd.grad(losses.mean(), leaf)
        tokens = [[len(policy.responses.per_token) for policy, _ in share] for share in shares]
        mine = by_token.split([sum(share) for share in tokens])[self.group.rank].split(tokens[self.group.rank])
        for position, (batch, part) in enumerate(zip(step, mine, strict=True)):
            again, _ = self._seeded(position, self.pair_logps, batch)
            self.manual_backward((again.responses.per_token * part).sum())
        self.share_figures()

    def after_step(self) -> None:
        """Let the reference follow, if it does."""
        self.reference.after_step(self.policy, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the unfinished window, and the reference if it moves."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["reference"] = self.reference.state(self.policy)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the window and the reference; RunError if other tensors are trained here."""
        super().on_load_checkpoint(checkpoint)
        self.reference.continue_from(checkpoint.get("reference", {}), self.policy)

    def sizes(self, micro_batch: PairBatch) -> tuple[int, int]:
        """Return pairs and tokens, padding included."""
        return len(micro_batch), micro_batch.rows.inputs["input_ids"].numel()

    def num_terms(self, micro_batch: PairBatch) -> int:
        """Return the pairs."""
        return len(micro_batch)
