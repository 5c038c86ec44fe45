"""What `train` does: the base model, then round after round, then figures, samples and the end screen."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dpo_lab.artifacts import Artifact
from dpo_lab.components import RunError, plain_fields
from dpo_lab.data.base import GivenPairs
from dpo_lab.data.sources import FilePairs
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation, too_few
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.records import PreferencePair, read_jsonl, write_jsonl
from dpo_lab.report import screen as text
from dpo_lab.seeding import derive
from dpo_lab.stages.base_model import base_model
from dpo_lab.stages.dpo_round import Round, token_store, train_round
from dpo_lab.stages.evaluate import evaluate_answers, evaluate_pairs, read_answers
from dpo_lab.stages.on_policy import OnPolicy, make_pairs
from dpo_lab.stages.train import Screen
from dpo_lab.tokens.store import TokenStore

if TYPE_CHECKING:
    from dpo_lab.stages.train import Train

METRICS = "metrics.jsonl"


@dataclass
class Progress:
    """What a run has found so far."""

    train: "Train"
    screen: Screen
    name: str
    base: ModelOnDisk
    given: GivenPairs | None
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    before: Artifact | None = None
    """The evaluation of the base model's answers."""
    after: Artifact | None = None
    """The evaluation of the newest policy."""


def run_rounds(train: "Train", given: GivenPairs | None, screen: Screen, directory: Path, run_name: str) -> dict[str, Any]:
    """Run all rounds; write the run's files into `directory`; return the summary."""
    data = train.data
    choices = [("model", train.model.label), ("data", data.label)]
    if isinstance(data, OnPolicy):
        choices.append(("ranker", data.ranker.label))
    choices.append(("adapter", train.model.adapter.label))

    def announce(parameters: int | None) -> None:
        screen.say(text.header(run_name, choices, parameters, torch.get_num_threads()))
        screen.say(*(f"  {note}" for note in (given.notes if given else ())))

    base, made = base_model(train.model, data, given, root=train.outputs, seed=train.seed, announce=announce)
    state = Progress(train, screen, f"{train.model.label}-{data.label}", base, given)
    if made:
        state.seconds["pretrain"] = made.seconds
        screen.say(text.pretrain_line(made.seconds if made.made_now else None, f"{made.path}/"))
    else:
        screen.say(f"1 model      {base.path}")
    if isinstance(train.evaluation, GenerationEvaluation):
        state.before = evaluate_answers(train, train.evaluation, base, base, None, f"{state.name}-before")
        state.seconds["evaluate"] += state.before.seconds
    policies = play_rounds(state)
    finish(state, directory, policies)
    return state.summary


def play_rounds(state: Progress) -> list[Artifact]:
    """Run each round from where the one before ended; return the policies."""
    train, base = state.train, state.base
    start = base
    policies: list[Artifact] = []
    for number in range(1, train.iteration.rounds + 1):
        beginning = start if train.iteration.start == "previous" else base
        reference = start if train.iteration.reference == "previous" else base
        this = Round(number, f"{state.name}-round{number}", base, beginning, reference)
        pairs, held_out, how = round_pairs(state, this, start)
        store = store_of(state, pairs, this.name)
        kept = store_of(state, held_out, f"{this.name}-held-out") if held_out else None
        if state.given:
            how = f"{text.count_of(store.num_pairs, 'pair')}, {kept.num_pairs if kept else 0} held out"
        if store.num_pairs < train.trainer.batch_size:
            state.screen.say(
                f"  fewer pairs ({store.num_pairs}) than trainer.batch_size={train.trainer.batch_size}: an epoch is one step"
            )
        policy = train_round(train, this, store)
        policies.append(policy)
        for name in ("reference", "dpo"):
            state.seconds[name] += policy.facts[f"seconds/{name}"]
        state.screen.say(*(f"  {note}" for note in policy.facts["notes"]))
        state.screen.say(text.round_line(number, train.iteration.rounds, how, policy.facts))
        if start is not base:
            start.release()
        start = ModelOnDisk(str(policy.path), policy.id)
        evaluate_round(state, this, start, kept)
    return policies


def store_of(state: Progress, pairs: list[PreferencePair], name: str) -> TokenStore:
    """Return the token store of some pairs and say what was cut or left out."""
    store, made = token_store(pairs, state.train.data, state.base, root=state.train.outputs, name=name, force=state.train.force)
    where = "held out: " if name.endswith("held-out") else ""
    state.screen.say(*(f"  {where}{note}" for note in made.facts["notes"]))
    return store


def round_pairs(state: Progress, this: Round, policy: ModelOnDisk) -> tuple[list[PreferencePair], list[PreferencePair], str]:
    """Return a round's pairs for training, those held out, and how they were had."""
    train, data = state.train, state.train.data
    if state.given:
        train_pairs, held_out = state.given.train, state.given.held_out
        return train_pairs, held_out, ""
    assert isinstance(data, OnPolicy)
    which = this.number - 1 if train.iteration.prompts == "disjoint" else 0
    made = make_pairs(
        data,
        policy,
        data.prompts.for_round(which, train.seed),
        root=train.outputs,
        name=this.name,
        seed=derive(train.seed, "round", this.number),
        device=train.trainer.device(),
        force=train.force,
    )
    if not made.pairs:
        raise RunError(
            f"round {this.number}: {data.ranker.label} prefers none of the answers to {made.ranked.facts['prompts']} prompts, "
            f"so there is nothing to train on (answers and scores: {made.ranked.path}). "
            "Draw more or more different answers (sampler.num_samples, sampler.temperature), or lower pairing.min_gap."
        )
    state.seconds["sample"] += made.candidates.seconds
    state.seconds["rank"] += made.ranked.seconds
    return made.pairs, [], text.made_pairs_text(made.candidates.facts, made.candidates.seconds, made.ranked.facts)


def evaluate_round(state: Progress, this: Round, policy: ModelOnDisk, held_out: TokenStore | None) -> None:
    """Measure the policy of a round and note the figures."""
    train, evaluation = state.train, state.train.evaluation
    name = f"{this.name}-after"
    if isinstance(evaluation, GenerationEvaluation):
        state.after = evaluate_answers(train, evaluation, policy, state.base, state.before, name)
        label, facts = evaluation.judge.label, state.after.facts
        state.summary[f"{label}/round_{this.number}"] = facts["score"]
        for figure in ("win_rate", "kl"):
            state.summary[f"{figure}/round_{this.number}"] = facts[figure]
        state.seconds["evaluate"] += state.after.seconds
    elif isinstance(evaluation, PreferenceEvaluation) and held_out:
        made = evaluate_pairs(train, evaluation, policy, this.reference, held_out, name)
        state.summary |= made.facts
        state.seconds["evaluate"] += made.seconds


def finish(state: Progress, directory: Path, policies: list[Artifact]) -> None:
    """Say the figures, show samples, and write the run's files."""
    train, screen, summary = state.train, state.screen, state.summary
    evaluation = train.evaluation
    if isinstance(evaluation, GenerationEvaluation) and state.before and state.after:
        label, before, after = evaluation.judge.label, state.before.facts, state.after.facts
        summary |= {f"{label}/before": before["score"], f"{label}/after": after["score"]}
        summary |= {name: after[name] for name in ("win_rate", "win_rate/low", "win_rate/high", "kl")}
        if "well_formed" in after:
            summary |= {"well_formed/before": before["well_formed"], "well_formed/after": after["well_formed"]}
        title = "held-out films" if evaluation.prompts.films else "held-out prompts"
        screen.say(*text.answers_table(summary, label, len(evaluation.held_out()), title))
        one, other = read_answers(state.before)[0], read_answers(state.after)[0]
        screen.say(text.sample_line(one.prompt.text, one.responses[0], other.responses[0]))
    elif "eval/pairs" in summary:
        screen.say(*text.pairs_table(summary))
        if note := too_few(summary):
            summary["eval/note"] = note
            screen.say(f"  {note}")
    else:
        summary["eval/note"] = "nothing was held out, so nothing was evaluated; data.held_out=N keeps N prompts"
        screen.say(f"  {summary['eval/note']}")
    join_metrics(policies, directory / METRICS)
    summary |= {f"seconds/{name}": round(value, 3) for name, value in state.seconds.items()}
    summary["seconds/total"] = round(screen.elapsed(), 3)
    screen.say(text.footer(str(directory / "summary.json"), next_commands(train)))
    screen.save(directory, summary, plain_fields(train))


def next_commands(train: "Train") -> tuple[str, ...]:
    """Return what a person may try after this run."""
    if isinstance(train.data, FilePairs):
        given = f"data=jsonl data.path={train.data.path}"
        return f"python train.py {given} seed=1", f"python train.py -m {given} loss=dpo,ipo"
    return "python train.py data=jsonl data.path=docs/example_pairs.jsonl", "python train.py -m loss=dpo,ipo"


def join_metrics(policies: list[Artifact], path: Path) -> None:
    """Write the metrics of all rounds into one file, steps counted on from round to round."""
    rows: list[dict[str, Any]] = []
    offset = 0
    for number, policy in enumerate(policies, start=1):
        kept = policy.path / METRICS  # absent when no logger was asked for
        for row in read_jsonl(kept) if kept.exists() else ():
            rows.append({"round": number, **row, "step": row["step"] + offset})
        offset += policy.facts["steps"]
    write_jsonl(path, rows)
