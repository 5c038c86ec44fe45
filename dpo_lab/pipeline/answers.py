"""The artifact `candidates`: answers of a model to prompts, with the tokens that it drew."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import RunError
from dpo_lab.continuing import remove_kept
from dpo_lab.memory.host import give_back
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.records import Candidates, Prompt, read_jsonl, write_jsonl
from dpo_lab.sampling.answers import answers_to
from dpo_lab.sampling.base import Sampler
from dpo_lab.seeding import derive

CANDIDATES = "candidates.jsonl"


def sampled(
    prompts: Sequence[Prompt],
    policy: ModelOnDisk,
    sampler: Sampler,
    *,
    root: Path,
    name: str,
    seed: int,
    device: torch.device,
    force: bool,
) -> Artifact:
    """Return the artifact with a model's answers to prompts; after a stop, prompts that are answered are not answered again.

    Args:
        name: readable part of the directory's name.
    """
    content = {"policy": policy.id, "prompts": [prompt.id for prompt in prompts], "sampler": sampler.content(), "seed": seed}
    plan = Plan(root, "candidates", name, content, parents=[policy.id])

    def produce(directory: Path) -> dict[str, Any]:
        draw = derive(seed, "sample")
        answers = answers_to(prompts, policy, sampler, device, draw, name="sample", directory=directory)
        give_back()
        refuse_silence(answers.candidates, policy.path)
        origin = {"model": policy.id, "seed": seed, "sampling": sampler.content()}
        write_jsonl(directory / CANDIDATES, ({**candidate.to_record(), **origin} for candidate in answers.candidates))
        remove_kept(directory)
        drawn = [answer for candidate in answers.candidates for answer in candidate.drawn if answer]
        return {
            "prompts": len(answers.candidates),
            "answers": len(drawn),
            "tokens": sum(len(answer.ids) for answer in drawn),
        }

    return plan.make(produce, force=force, resume=True)


def answers_of_several(
    prompts: Sequence[Prompt],
    policies: Mapping[str, ModelOnDisk],
    sampler: Sampler,
    *,
    root: Path,
    name: str,
    seed: int,
    device: torch.device,
    force: bool,
) -> Artifact:
    """Return the artifact with the answers of several models to the same prompts, side by side in one file, for `rank`.

    Each model's answers are an artifact too; `models` of a row says which model gave which answer. A prompt that a model cannot
    read is in neither.

    Args:
        policies: by name.
        name: readable part of the directories' names.
    """
    how: dict[str, Any] = {"root": root, "seed": derive(seed, "chat"), "device": device, "force": force}
    drawn = {each: sampled(prompts, policy, sampler, name=f"{each}-{name}", **how) for each, policy in policies.items()}
    content = {"candidates": {each: artifact.id for each, artifact in drawn.items()}}
    plan = Plan(root, "candidates", f"{len(drawn)}-models-{name}", content, parents=[each.id for each in drawn.values()])

    def produce(directory: Path) -> dict[str, Any]:
        sets = {each: {row.prompt.id: row for row in stream_candidates(artifact)} for each, artifact in drawn.items()}
        first, *others = sets.values()
        shared = [prompt for prompt in first if all(prompt in other for other in others)]
        rows = [_side_by_side({each: found[prompt] for each, found in sets.items()}) for prompt in shared]
        write_jsonl(directory / CANDIDATES, rows)
        return {"prompts": len(rows), "answers": sum(len(row["responses"]) for row in rows)}

    return plan.make(produce, force=force)


def _side_by_side(of_models: Mapping[str, Candidates]) -> dict[str, Any]:
    each = [(name, text, row.has_ended(at)) for name, row in of_models.items() for at, text in enumerate(row.responses)]
    names, texts, ended = zip(*each, strict=True)
    prompt = next(iter(of_models.values())).prompt
    return {**Candidates(prompt=prompt, responses=texts, finished=ended).to_record(), "models": list(names)}


def refuse_silence(candidates: Sequence[Candidates], model: str) -> None:
    """Raise RunError if every answer of a model is empty."""
    if candidates and not any(text for candidate in candidates for text in candidate.responses):
        count = sum(len(candidate.responses) for candidate in candidates)
        raise RunError(
            f"{model} answers nothing: all {count} answers to {len(candidates)} prompts are empty, so there is nothing to rank "
            "or train on. It was not trained to answer in its chat template, or ends at once: use an instruction-tuned model "
            "(model.path=DIR or a Hub id), or sampler.temperature=1 sampler.top_p=1."
        )


def read_candidates(artifact: Artifact) -> list[Candidates]:
    """Return the sets of candidates of an artifact `candidates` or `ranking`; those of the latter carry scores."""
    return list(stream_candidates(artifact))


def stream_candidates(artifact: Artifact) -> Iterator[Candidates]:
    """Yield what `read_candidates` returns; one set at a time is held."""
    return map(Candidates.from_record, read_jsonl(artifact.path / CANDIDATES))
