"""The stage `doctor`: what a training will need, before it runs."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from dpo_lab.alignment import Alignment
from dpo_lab.amounts import memory_typed
from dpo_lab.components import component, refused_parts
from dpo_lab.data.base import GivenPairs
from dpo_lab.pipeline.given_pairs import given_pairs
from dpo_lab.pipeline.real_model import ask_hub_early, refuse_unusable_model, template_notes
from dpo_lab.progress import say
from dpo_lab.rules.check import RULES, broken, refuse, refuse_slowly
from dpo_lab.training.callbacks import checkpoint_of

if TYPE_CHECKING:
    from dpo_lab.models.load import ModelOnDisk
    from dpo_lab.tokens.store import TokenStore


@component
class Doctor(Alignment):
    """Look at a training without running it: reference, memory, disk, lengths, the step-0 self-test, time."""

    memory: Annotated[str, BeforeValidator(memory_typed)] | None = None
    """Of a GPU that need not be here, such as 16GB, for which the memory is planned alone; null: this machine."""

    def run(self) -> dict[str, Any]:
        """Print what the training will need; return its figures.

        Raises:
            ConfigError: if a part cannot work, alone or with the others.
            RunError: if it does not fit, with the smallest change that makes it fit.
        """
        ask_hub_early(self.model, self.data, self.evaluation)
        there = replace(self, trainer=replace(self.trainer, accelerator="gpu")) if self.memory else self  # where it will run
        refuse([*refused_parts(self), *broken(there, RULES)])
        refuse_unusable_model(self.model, self.data.max_length)
        refuse_slowly(self)
        from dpo_lab.memory import check, disk, lines  # the parts that load Lightning, only when there is work
        from dpo_lab.memory.unmade import pairs_of_a_round

        rounds, device, reference = self.iteration.rounds, self.trainer.device(), self.reference
        given = next(iter(given_pairs(self.data, self.loss, rounds)), None)
        if self.memory:
            return check.plan_elsewhere(self, self._store(given)[1], self.memory)
        check.check_fits(self, None)  # before a large model's tokenizer and data are worked on
        base, store = self._store(given)
        planned, plan, why = check.as_decided(self, store, has := check.available(device))
        share = pairs_of_a_round(self.data, self.trainer.max_pairs, store) / store.num_items
        say(*why, lines.reference_line(reference, plan, store, share, rounds=rounds, made=self.data.makes_pairs))
        say(*lines.memory_lines(plan, has, device.type), *lines.uncounted_lines(self))
        say(*lines.length_lines(store, self.data.max_length, known=given is not None))
        checkpoints = max((getattr(callback, "keep", 0) for callback in self.callbacks.values()), default=0)
        written = disk.disk_of(plan, store, share, reference=reference, rounds=rounds, checkpoints=checkpoints)
        takes, free = sum(written.values()), disk.free_disk(self.outputs)
        say(lines.disk_line(written, free))
        hours = check.hours_of_1000_pairs(planned, store, plan)
        say(f"time       an estimate: {hours:.2g} hours per 1000 pairs on this machine ({device.type})")
        check.refuse_above(has, planned, store, plan, where="this machine")
        disk.refuse_above(free, takes)
        gap = self._step_0(given, base) if given and base else None
        agree = "made in the run: no pairs exist yet" if gap is None else f"policy and reference agree within {gap:.2g} nats"
        say(f"step 0     {agree}", "fits")
        return {"memory/peak": plan.peak, "memory/available": has, "disk/needed": takes, "hours": hours, "step_0_gap": gap}

    def _store(self, given: GivenPairs | None) -> "tuple[ModelOnDisk | None, TokenStore]":
        """Return the model and the token store of the first round; of pairs to be made, one with rows as long as they may be."""
        from dpo_lab.memory.unmade import longest_rows
        from dpo_lab.models.storage import storage_of
        from dpo_lab.pipeline.base_model import base_model
        from dpo_lab.pipeline.tokens import token_store

        if given is None:
            return None, longest_rows(self.data.max_length, 2 * self.trainer.batch_size, self.data.responses_of_item)  # two steps
        storage, checkpoint = storage_of(self.model, self.precision, self.trainer.device()), checkpoint_of(self.callbacks)
        place: dict[str, Any] = {"root": self.outputs, "seed": self.seed}
        base, made_here = base_model(self.model, self.data, given, **place, storage=storage, checkpoint=checkpoint)
        name = f"{self.model.label}-{self.data.label}-round1"
        pairs = given.train[: self.trainer.max_pairs]  # as the run takes them
        store, made = token_store(pairs, self.data, base, root=self.outputs, name=name, force=False)
        of_template = () if made_here else template_notes(base, given.train)
        say(*(f"data       {note}" for note in (*given.notes, *of_template, *made.facts["notes"])))
        return base, store

    def _step_0(self, given: GivenPairs, base: "ModelOnDisk") -> float:
        """Return by how many nats policy and reference differ on a few pairs before the first step."""
        from dpo_lab.pipeline.policy import step_0_gap
        from dpo_lab.pipeline.round import Round
        from dpo_lab.pipeline.rounds import training_of
        from dpo_lab.pipeline.tokens import token_store

        with tempfile.TemporaryDirectory() as directory:
            training = replace(training_of(self), root=Path(directory))
            store, _ = token_store(given.train[:8], self.data, base, root=training.root, name="doctor", force=False)
            return step_0_gap(training, Round(1, "doctor", base, base, base), store)
