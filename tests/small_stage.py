"""A stage `train` small enough for tests, and what it reads."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import component
from dpo_lab.data.base import PairRequest
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.data.sources import FilePairs
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.loggers.base import LocalLogger
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import NoQuant, Quant
from dpo_lab.models.spec import TinyModel
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.ranking.gold import WELL_FORMED
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.records import Candidates
from dpo_lab.reference.cached import CachedReference
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.stages.train import Train
from dpo_lab.training.callbacks import ProgressBar
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings


@component
class ShareOfVowels(Ranker):
    """Stands in for gold: the babble of a model this small has no gold reward, but vowels."""

    label = "gold"
    score = "reward"
    score_range = "0..1"
    details = (WELL_FORMED,)
    scores_places = True  # asked once, since tests count what it is asked about

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        shares = [
            tuple(sum(map(text.count, "aeiou")) / (len(text) or 1) for text in candidate.responses) for candidate in candidates
        ]
        return [Verdict(scores=share, details={"well_formed": share}) for share in shares]


MODEL = TinyModel(hidden_size=32, intermediate_size=48, num_heads=2, sft_examples=480, sft_lr=6e-3)


def stage(outputs: Path, **fields: Any) -> Train:
    prompts = FilmPrompts(num_prompts=12)
    sampler = HFSampler(num_samples=3, max_new_tokens=40)
    parts: dict[str, Any] = {
        "model": MODEL,
        "data": OnPolicy(prompts=prompts, sampler=sampler, ranker=ShareOfVowels(), pairing=BestVsWorst(), max_length=128),
        "loss": DPOLoss(beta=1.0),
        "reference": CachedReference(),
        "optim": AdamW(lr=1e-3),
        "evaluation": GenerationEvaluation(prompts=prompts, sampler=sampler, judge=ShareOfVowels(), num_samples=1, max_prompts=6),
        "layout": PrefixLayout(),
        "precision": Precision(mode="fp32"),
        "trainer": TrainerSettings(accelerator="cpu", batch_size=8, token_budget=256),
        "iteration": Iteration(rounds=2),
        "callbacks": {"progress": ProgressBar()},
        "logger": {"local": LocalLogger()},
        "outputs": outputs,
    }
    return Train(**{**parts, **fields})


def pairs_file(directory: Path, count: int = 30) -> Path:
    path = directory / "pairs.jsonl"
    rows = [{"prompt": f"question {n}?", "chosen": f" a good answer {n}", "rejected": f" bad bad {n}"} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def given(outputs: Path, path: Path, **fields: Any) -> Train:
    data = FilePairs(path=path, max_length=64)
    return stage(outputs, **{"data": data, "evaluation": PreferenceEvaluation(), "iteration": Iteration(), **fields})


def directories(outputs: Path, kind: str) -> list[str]:
    return sorted(path.parent.name for path in (outputs / kind).glob(f"*/{MANIFEST}"))


def with_lora(quant: Quant = NoQuant(), **fields: Any) -> TinyModel:  # noqa: B008
    return replace(MODEL, quant=quant, adapter=LoRA(rank=4, **fields))


def request(policy: ModelOnDisk, root: Path, **fields: Any) -> PairRequest:
    """Return a first round that needs pairs."""
    parts: dict[str, Any] = {
        "number": 1,
        "prompts": 0,
        "seed": 0,
        "policy": policy,
        "root": root,
        "name": "round1",
        "device": torch.device("cpu"),
        "force": False,
    }
    return PairRequest(**{**parts, **fields})
