"""The LightningModules: supervised fine-tuning and preference training, one optimizer step per batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dpo_lab.components import RunError
from dpo_lab.evaluation.pair_figures import pair_figures
from dpo_lab.layouts.base import ItemBatch, ResponseBatch
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.metrics import MeanOverItems
from dpo_lab.reference.base import ReferenceScorer
from dpo_lab.scoring.logps import PairLogps, ResponseLogps, joined
from dpo_lab.scoring.score import score
from dpo_lab.seeding import derive
from dpo_lab.training.group import Group
from dpo_lab.training.loss_scaling import LossScaling
from dpo_lab.training.optim import Optim

Result = TypeVar("Result")


class NonFiniteStepError(Exception):
    """The gradient of a step is not finite; `batch` holds its micro-batches."""

    def __init__(self, batch: list[Any], norm: float) -> None:
        super().__init__(norm)
        self.batch, self.norm = batch, norm


class StepModule(L.LightningModule, ABC):
    """Trains `policy`; a batch is a list of micro-batches whose losses add up to the loss of one optimizer step.

    Of several processes each has its own batch, and their losses add up to that of the step: gradients are added, not
    averaged, and every figure is that of the whole step.

    A checkpoint holds the trainable tensors, the unfinished sums of figures, and the reference if it moves. The seed of dropout
    is a function of seed, step, micro-batch and rank: nothing to checkpoint, nothing that an evaluation in between could shift.
    """

    item: ClassVar[str]
    """What a batch is made of."""

    def __init__(
        self, policy: nn.Module, optim: Optim, total_steps: int, seed: int, reference: ReferenceScorer | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step is a list of micro-batches of uneven size
        self.strict_loading = False  # a checkpoint does not hold the frozen weights
        self.policy = policy.train()
        self.optim, self.total_steps, self.seed, self.reference = optim, total_steps, seed, reference
        self.group = Group()
        self.scaling: LossScaling | None = None
        """Of the loss, where products are in fp16."""
        self.taken = (0, 0)
        """Items and tokens of the newest step, of all processes."""
        self._rate, self._norm = 0.0, torch.zeros(())
        self._own, self._means = MeanOverItems(), MeanOverItems()  # of this process's step so far; since the last `collect`

    @abstractmethod
    def logps(self, micro_batch: Any) -> tuple[Any, ...]:
        """Return what the loss reads of a micro-batch, first the policy's log-probabilities (`per_token`), with their graph."""

    @abstractmethod
    def step_losses(self, parts: Sequence[tuple[Any, ...]]) -> Tensor:
        """Return the loss of each term of some micro-batches that are taken together, and note their figures.

        Args:
            parts: what `logps` returned of each micro-batch.
        """

    @property
    def couples_items(self) -> bool:
        """True if the loss of one item depends on the other items of the optimizer step."""
        return False

    def num_terms(self, micro_batch: Any) -> int:
        """Return over how many terms of a micro-batch the loss is a mean: its items, unless said otherwise."""
        return len(micro_batch)

    def item_figures(self, micro_batch: Any) -> dict[str, Tensor]:
        """Return figures of each item of a micro-batch, (items,), for a step that fails; nothing where items have no numbers."""
        return {}

    def note(self, figures: Mapping[str, Tensor]) -> None:
        """Add figures, one value per item and name, to those of the step."""
        self._own.update(figures)

    def micro_batch_loss(self, micro_batch: Any, terms: int) -> Tensor:
        """Return this micro-batch's share of the step's loss, a mean over `terms` terms; the shares of a step add up to it."""
        return self.step_losses([self.logps(micro_batch)]).sum() / terms

    def collect(self) -> dict[str, float]:
        """Return the means of the figures since the last call; the only place that waits for the device."""
        figures, self._means = self._means.compute(), MeanOverItems()
        return figures

    def figures(self) -> dict[str, float]:
        """Return `collect` with the learning rate and the gradient norm (before clipping) of the last step that was taken."""
        scaling = self.scaling.figures() if self.scaling else {}
        return {**self.collect(), "lr": self._rate, "grad_norm": float(self._norm), **scaling}

    def accumulate(self, step: Sequence[Any]) -> None:
        """Add the gradient of a step's loss to the weights, micro-batch by micro-batch."""
        terms = self._measure(step)
        if self.couples_items and (self.group.size > 1 or len(step) > 1):
            self._accumulate_coupled(step)
        else:
            for position, micro_batch in enumerate(step):
                self.manual_backward(self._seeded(position, self.micro_batch_loss, micro_batch, terms))
        self.share_figures()

    def _accumulate_coupled(self, step: Sequence[Any]) -> None:
        """Add the gradient of a loss that sees all items of a step at once: scores first, gradients second.

        The step is scored without gradients, the loss gives the derivative by every response token's log-probability, and a
        second pass multiplies it in: the same gradient for any split, at twice the forwards.
        """
        with torch.no_grad():
            scored = [self._seeded(position, self.logps, micro_batch) for position, micro_batch in enumerate(step)]
        shares = self.group.gathered(scored)
        leaves = [policy.per_token.requires_grad_() for policy, *_ in shares[self.group.rank]]
        losses = self.step_losses([part for share in shares for part in share])
        if self.group.rank:
            self._own = MeanOverItems()  # every process saw the whole step; its figures count once
        by_token = torch.autograd.grad(losses.mean(), leaves) if leaves else ()
        for position, (micro_batch, derivative) in enumerate(zip(step, by_token, strict=True)):
            again, *_ = self._seeded(position, self.logps, micro_batch)
            self.manual_backward((again.per_token * derivative).sum())

    def _measure(self, step: Sequence[Any]) -> int:
        """Return the terms of the step's loss, of all processes; note its items and tokens."""
        items, tokens = sum(map(len, step)), sum(micro_batch.num_tokens for micro_batch in step)
        *taken, terms = self.group.totals([items, tokens, sum(map(self.num_terms, step))], self.device)
        self.taken = (taken[0], taken[1])
        return terms

    def share_figures(self) -> None:
        """Add the figures of a whole step, of all processes, to those since the last `collect`."""
        own, self._own = self._own, MeanOverItems()
        for state in self.group.gathered(own.state()):  # in the same order everywhere: all have the same figures to the bit
            self._means.add(MeanOverItems.from_state(state))

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
        if self.scaling:
            self.scaling.unscale(optimizer.optimizer)
        norm = nn.utils.clip_grad_norm_(trainable, self.optim.clip or float("inf"))
        if not torch.isfinite(norm):  # waits for the device once a step: a step that is not finite must not be taken
            self._skip(optimizer, batch, float(norm))
            return
        self._norm, self._rate = norm, optimizer.param_groups[0]["lr"]
        optimizer.step()
        self.after_step()
        optimizer.zero_grad(set_to_none=True)
        schedule: Any = self.lr_schedulers()
        schedule.step()

    def _skip(self, optimizer: Any, batch: list[Any], norm: float) -> None:
        """Leave weights, schedule and reference as they are and lower the loss scale; raise where there is nothing to lower."""
        if not self.scaling or self.scaling.scale <= 1:
            raise NonFiniteStepError(batch, norm)
        self.scaling.overflowed, before = True, self.scaling.scale
        optimizer.step()  # counts the step
        self.scaling.overflowed = False
        optimizer.zero_grad(set_to_none=True)
        if self.scaling.scale == before:  # each gradient is finite, and their norm is not
            raise NonFiniteStepError(batch, norm)

    def after_step(self) -> None:
        """Let the reference follow an update of the weights, if it does; before any callback, so that a checkpoint has it."""
        if self.reference:
            self.reference.after_step(self.policy, self.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer of the trainable weights and its schedule over `total_steps`."""
        optimizer = self.optim.optimizer([weight for weight in self.policy.parameters() if weight.requires_grad])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.optim.factor(self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the trainable tensors."""
        return {name: weight.detach() for name, weight in self.named_parameters() if weight.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sums since the last `collect`, and the reference if it moves."""
        checkpoint["window"] = self._means.state()
        if self.reference:
            checkpoint["reference"] = self.reference.state(self.policy)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume the sums and the reference.

        Raises:
            RunError: if the checkpoint holds other tensors than are trained, which Lightning would pass over in silence.
        """
        here, there = set(self.state_dict()), set(checkpoint["state_dict"])
        if here != there:
            raise RunError(
                f"the checkpoint has {len(there - here)} tensors that are not trained here and lacks {len(here - there)} "
                f"that are, such as {min(here ^ there)}. Remove checkpoints/ beside metrics.jsonl to begin anew."
            )
        self._means = MeanOverItems.from_state(checkpoint["window"])
        if self.reference:
            self.reference.continue_from(checkpoint.get("reference", {}), self.policy)


class SFTModule(StepModule):
    """Supervised fine-tuning on responses: the mean over response tokens of -log p."""

    item = "example"

    def logps(self, micro_batch: ResponseBatch) -> tuple[ResponseLogps]:
        """Return the policy's log-probabilities."""
        return (score(self.policy, micro_batch),)

    def step_losses(self, parts: Sequence[tuple[ResponseLogps]]) -> Tensor:
        """Return minus the log-probability of each response token."""
        losses = -torch.cat([policy.per_token for (policy,) in parts])
        self.note({"loss": losses})
        return losses

    def num_terms(self, micro_batch: ResponseBatch) -> int:
        """Return the response tokens."""
        return len(micro_batch.targets)


class PreferenceModule(StepModule):
    """Trains the policy on preference pairs against a reference.

    The loss of a step is the mean over all its pairs: splitting it into micro-batches does not change the result.
    """

    item = "pair"
    reference: ReferenceScorer

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
        super().__init__(policy, optim, total_steps, seed, reference)
        self.loss, self.own_logits = loss, own_logits

    @property
    def couples_items(self) -> bool:
        """True if the loss couples pairs."""
        return self.loss.couples_pairs

    def logps(self, micro_batch: ItemBatch) -> tuple[PairLogps, PairLogps]:
        """Return what policy and reference say of a batch's pairs."""
        rows, pairs = micro_batch.rows, micro_batch.pairs
        policy = score(self.policy, rows, own_logits=self.own_logits, full_softmax=self.loss.needs_full_softmax)
        ranked = micro_batch.ranked
        labels = micro_batch.labels.of_pairs if ranked is None else None  # what is said of lists is their order
        return PairLogps(policy, pairs, labels, ranked), PairLogps(self.reference(rows), pairs, ranked=ranked)

    def step_losses(self, parts: Sequence[tuple[PairLogps, PairLogps]]) -> Tensor:
        """Return the loss of each pair, and note the figures."""
        policy, reference = parts[0] if len(parts) == 1 else map(joined, zip(*parts, strict=True))
        with torch.autocast(self.device.type, enabled=False):
            losses = self.loss(policy, reference)
        self.note(pair_figures(policy, reference, losses, self.loss.beta))
        return losses

    def item_figures(self, micro_batch: ItemBatch) -> dict[str, Tensor]:
        """Return the loss of each pair and the four log-probabilities that it is made of."""
        policy, reference = self.logps(micro_batch)
        sides = {"policy": policy, "reference": reference}
        logps = {f"logps/{name}": (pairs.chosen, pairs.rejected) for name, pairs in sides.items()}
        named = {f"{name}/{side}": both[at] for name, both in logps.items() for at, side in enumerate(("chosen", "rejected"))}
        return {"loss": self.loss(policy, reference), **named}
