"""What `train` does: the base model, then round after round, then figures, samples and the end screen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dpo_lab.alignment import Alignment
from dpo_lab.amounts import count_of
from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.call import Call
from dpo_lab.components import RunError, plain_fields
from dpo_lab.data.base import GivenPairs, PairRequest, RoundPairs
from dpo_lab.evaluation.base import Setting
from dpo_lab.evaluation.context import Context
from dpo_lab.figures import better_of, of_round
from dpo_lab.loggers.base import RunIdentity, RunLogger
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.loggers.recorder import Recorder
from dpo_lab.memory.check import check_fits, layers_again, with_layers
from dpo_lab.memory.host import give_back
from dpo_lab.models.checkpointing import decided_once, forget_decision
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.storage import storage_of
from dpo_lab.pipeline import run_record
from dpo_lab.pipeline.base_model import base_model
from dpo_lab.pipeline.ending import finish
from dpo_lab.pipeline.evaluation import Measurements
from dpo_lab.pipeline.findings import end_round, look_at, same_tokens
from dpo_lab.pipeline.policy import train_policy
from dpo_lab.pipeline.ranker import trained_for
from dpo_lab.pipeline.real_model import named, notes_on
from dpo_lab.pipeline.round import Round, Training, policy_content, steps_of
from dpo_lab.pipeline.round_evaluation import evaluate_round, while_training
from dpo_lab.pipeline.run_state import RunState
from dpo_lab.pipeline.screen import Screen, choices_of
from dpo_lab.pipeline.tokens import token_store
from dpo_lab.records import Candidates, PreferencePair
from dpo_lab.report import screen as text
from dpo_lab.report.while_training import round_note
from dpo_lab.run_directory import EVALUATIONS, METRICS, RunDirectory
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.callbacks import checkpoint_of
from dpo_lab.watching import is_watched, show


def run_rounds(
    alignment: Alignment,
    given: list[GivenPairs] | None,
    screen: Screen,
    run: RunIdentity,
    loggers: Mapping[str, RunLogger],
    call: Call | None,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Run all rounds; write the run's files into its directory; return the summary."""
    check_fits(alignment, None)
    about = run_record.about_run(run, call, alignment.precision.explained(alignment.trainer.device()))
    RunDirectory(run.directory).begin(call=call.to_record() if call else None, config=plain_fields(alignment), run=about)
    (run.directory / METRICS).unlink(missing_ok=True)  # of a process before: the policies have the rows, with digests
    run = replace(
        run, better=better_of(alignment.evaluation.figures(Setting.of(alignment.loss, alignment.reference, alignment.data)))
    )
    with Recorder(run, loggers, MetricsFile(run.directory / METRICS)) as recorder:
        state = opened(alignment, given, screen, recorder, force=force)
        play_rounds(state)
        finish(state, run.directory, about)
        recorder.finish(state.summary, about["samples"], about["lineage"])
    return state.summary


def opened(alignment: Alignment, given: list[GivenPairs] | None, screen: Screen, recorder: Recorder, *, force: bool) -> RunState:
    """Return the state of a run whose base model is there and evaluated."""

    def announce(parameters: int | None) -> None:
        choices = choices_of(alignment.model, alignment.data, alignment.trainer.devices)
        screen.say(text.header(recorder.run.name, choices, parameters, torch.get_num_threads()))
        if alignment.precision.mode == "auto":
            screen.say(f"  {alignment.precision.explained(alignment.trainer.device())}")
        screen.say(*(f"  {note}" for each in given or () for note in each.notes))

    base, pretrained = base_model(
        alignment.model,
        alignment.data,
        given[0] if given else None,
        root=alignment.outputs,
        seed=alignment.seed,
        storage=storage_of(alignment.model, alignment.precision, alignment.trainer.device()),
        announce=announce,
        checkpoint=checkpoint_of(alignment.callbacks),
    )
    name, lineage = f"{alignment.model.label}-{alignment.data.label}", [pretrained] if pretrained else []
    context = Context(
        policy=base,
        before=base,
        layout=alignment.layout,
        precision=alignment.precision,
        device=alignment.trainer.device(),
        seed=alignment.seed,
        ranker=alignment.data.ranked_by,
        outputs=alignment.outputs,
        name=f"{name}-before",
    )
    figures = alignment.evaluation.figures(Setting.of(alignment.loss, alignment.reference, alignment.data))
    measurements = Measurements(alignment.evaluation, figures, context, lineage, force)
    state = RunState(alignment, screen, recorder, name, base, given, lineage, measurements, force)
    if pretrained:
        screen.say(text.made_line("pretrain", pretrained.seconds if pretrained.made_now else None, f"{pretrained.path}/"))
    else:
        screen.say(f"1 model      {named(base)}", *(f"  {note}" for note in notes_on(base, given[0].train if given else ())))
    lineage += trained_for((alignment.data.ranked_by, alignment.evaluation), alignment.outputs, screen)
    if not alignment.evaluation.on_pairs:
        measurements.of_base()
    return state


def play_rounds(state: RunState) -> None:
    """Run each round from where the one before ended."""
    policy = state.base
    for number in range(1, state.alignment.iteration.rounds + 1):
        this = round_of(state, number, policy)
        round_data = round_pairs(state, this, policy)
        this = replace(this, drawn_by=round_data.drawn_by)
        pairs = at_most(state, round_data.train)
        store = store_of(state, pairs, this.name)
        held_out = store_of(state, round_data.held_out, f"{this.name}-held-out") if round_data.held_out else None
        how = round_data.origin or f"{count_of(store.num_items, 'pair')}, {held_out.num_items if held_out else 0} held out"
        state.health.begin_round(number, store.num_items, same_tokens(state.lineage))
        prompts = [pair.prompt for pair in round_data.held_out]
        this = replace(this, evaluated=while_training(state, this, held_out, prompts))
        trained_policy = trained(state, this, store)
        tell_of_round(state, this, trained_policy, how, round_data.notes)
        if policy is not state.base:
            policy.release()
        policy = state.base.trained(str(trained_policy.path), trained_policy.id)
        facts = {name: trained_policy.facts[name] for name in ("pairs", "steps", "loss/first", "loss/last")}
        left_out = len(round_data.train) - len(pairs)
        facts |= {"pairs/left_out": left_out} if left_out else {}
        state.summary |= of_round(state.alignment.data.round_figures, round_data.figures, number)
        measured = evaluate_round(state, this, policy, held_out)
        end_round(state)
        state.rounds.append({"number": number, **facts, **measured, "made_by": dict(round_data.made_by)})
        show_round(state)


def round_of(state: RunState, number: int, policy: ModelOnDisk) -> Round:
    """Return a round with its models; `policy` is the newest."""
    iteration, base = state.alignment.iteration, state.base
    start = policy if iteration.start == "previous" else base
    reference = policy if iteration.reference == "previous" else base
    return Round(number, f"{state.name}-round{number}", base, start, reference)


def at_most(state: RunState, available: list[PreferencePair] | list[Candidates]) -> list[PreferencePair] | list[Candidates]:
    """Return the pairs that a round trains on, trainer.max_pairs at most, and say how many are left out."""
    pairs = available[: state.alignment.trainer.max_pairs]
    if left_out := len(available) - len(pairs):
        state.screen.say(f"  trainer.max_pairs={len(pairs)}: {count_of(left_out, 'pair')} left out")
    return pairs


def training_of(alignment: Alignment) -> Training:
    """Return how each round of a run trains its policy."""
    return Training(
        adapter=alignment.model.adapter,
        loss=alignment.loss,
        reference=alignment.reference,
        optim=alignment.optim,
        layout=alignment.layout,
        precision=alignment.precision,
        trainer=alignment.trainer,
        callbacks=alignment.callbacks,
        checkpointing=alignment.model.checkpointing is True,
        order=alignment.data.order,
        seed=alignment.seed,
        root=alignment.outputs,
    )


def trained(state: RunState, this: Round, store: TokenStore) -> Artifact:
    """Return the policy of a round; its rows go to the run's record as they are made, or all at once if it was there."""
    alignment, training = state.alignment, training_of(state.alignment)
    before, left = sum(round_["steps"] for round_ in state.rounds), alignment.iteration.rounds - len(state.rounds)
    planned = before + left * steps_of(training, this, store) if is_watched() else 0
    if store.num_items < (size := alignment.trainer.batch_size):
        state.screen.say(f"  fewer pairs ({store.num_items}) than trainer.batch_size={size}: an epoch is one step")

    def tell(row: Mapping[str, Any]) -> None:
        told = {"round": this.number, **row, "step": row["step"] + before}
        if state.recorder.tell(told):
            look_at(state, told)
            show(told, told["step"], planned)

    def produce(directory: Path) -> dict[str, Any]:
        again, why = decided_once(directory, partial(layers_again, alignment, store))
        state.screen.say(*([f"  {why}"] if why else []))
        check_fits(with_layers(alignment, again=again), store)
        facts = train_policy(replace(training, checkpointing=again), this, store, directory, tell)
        forget_decision(directory)
        return {**facts, "checkpointing": again}

    name = f"{alignment.model.label}-{alignment.loss.label}-{alignment.data.label}-seed{alignment.seed}-round{this.number}"
    plan = Plan(alignment.outputs, "policy", name, policy_content(training, this, store), parents=this.parents)
    policy = plan.make(produce, force=state.force, resume=True)
    give_back()  # else an evaluation stands on top of gradients and optimizer
    for row in run_record.rows_of(policy.path / METRICS):  # those that are recorded already are skipped
        tell(row)
    state.lineage.append(policy)
    return policy


def show_round(state: RunState) -> None:
    """Show the figures of the newest round to whom they concern."""
    number, steps = len(state.rounds), sum(round_["steps"] for round_ in state.rounds)
    keys = {figure.name: f"{figure.name}/round_{number}" for figure in state.measurements.figures if figure.each_round}
    figures = {name: state.summary[key] for name, key in keys.items() if key in state.summary}
    show(figures, steps, steps * state.alignment.iteration.rounds // number)


def tell_of_round(state: RunState, this: Round, policy: Artifact, how: str, notes: Sequence[str]) -> None:
    """Say what was noted while a round's policy was trained, and how it went.

    Args:
        how: where its pairs came from.
        notes: what else is said of the pairs.
    """
    state.screen.say(*(f"  {note}" for note in policy.facts["notes"]))
    if this.number == 1 and state.base.given:
        state.screen.say(f"  attention {policy.facts['attention']}, {state.base.storage}")
    lines = text.round_lines(this.number, state.alignment.iteration.rounds, how, policy.facts, notes)
    times = run_record.rows_of(policy.path / EVALUATIONS)
    measured = [round_note(state.measurements.figures, times, policy.facts["steps"])] if times else []
    state.screen.say(*lines, *text.indented(measured))


def store_of(state: RunState, pairs: Sequence[PreferencePair | Candidates], name: str) -> TokenStore:
    """Return the token store of some pairs and say what was cut or left out."""
    store, made = token_store(pairs, state.alignment.data, state.base, root=state.alignment.outputs, name=name, force=state.force)
    state.lineage.append(made)
    where = "held out: " if name.endswith("held-out") else ""
    state.screen.say(*(f"  {where}{note}" for note in made.facts["notes"]))
    return store


def round_pairs(state: RunState, this: Round, policy: ModelOnDisk) -> RoundPairs:
    """Return a round's pairs, for training and held out, and note what they were made from."""
    alignment = state.alignment
    asked = PairRequest(
        number=this.number,
        prompts=this.number - 1 if alignment.iteration.prompts == "disjoint" else 0,
        seed=alignment.seed,
        policy=policy,
        root=alignment.outputs,
        name=this.name,
        device=alignment.trainer.device(),
        force=state.force,
        given=state.given[this.number - 1] if state.given else None,
    )
    pairs = alignment.data.pairs(asked)
    if not pairs.train:
        raise RunError(f"round {this.number}: data={alignment.data.label} has no pairs to train on.")
    state.lineage += pairs.artifacts
    return pairs
