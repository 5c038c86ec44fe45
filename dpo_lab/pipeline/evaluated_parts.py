"""What models are measured on: named sets of held-out pairs, and prompts."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dpo_lab.amounts import count_of
from dpo_lab.components import ConfigError
from dpo_lab.data.base import Given
from dpo_lab.data.problems import DataError
from dpo_lab.evaluation.base import Measure
from dpo_lab.evaluation.several import SeveralMeasures
from dpo_lab.progress import say
from dpo_lab.records import PreferencePair

ANSWERS = "answers"
"""Name of the part that asks prompts."""
BENCHMARK = "benchmark"
"""Name and setting of the part that asks public test sets."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pairs or prompts, and what measures models on them."""

    name: str
    key: str
    """Of the setting that it comes from: data, sets.NAME, prompts, benchmark."""
    measure: Measure
    pairs: list[PreferencePair] = field(default_factory=list)
    """Empty for prompts."""
    data: Given | None = None
    """Where the pairs come from; None for prompts."""
    categories: Mapping[str, str] = field(default_factory=dict)
    """Of each prompt by its id; empty where none are asked for."""

    @property
    def title(self) -> str:
        """What it is, in words."""
        if self.key == BENCHMARK:
            return self.measure.heading({})
        if self.data is None:
            prompts = self.measure.asks
            return f"answers to {prompts.label}" if prompts else "the models by themselves"
        return f"{self.name}: {count_of(len(self.pairs), 'held-out pair')}"

    def located(self, message: str) -> str:
        """Return a message about data with the settings as this part names them."""
        return message if self.key == "data" else re.sub(r"\bdata(?=\.\w+)", self.key, message)


def parts_of(
    evaluation: Measure, data: Given | None, sets: Mapping[str, Given], category: str | None, benchmark: Measure | None = None
) -> list[Part]:
    """Return what is measured: every set with the measures of pairs, once the measures of answers, and the benchmark.

    Raises:
        ConfigError: if there are no pairs for a measure that reads some, or a category is not among the columns.
        DataError: if rows cannot be read.
    """
    on_pairs = {name: each for name, each in evaluation.alone.items() if each.on_pairs}
    others = {name: each for name, each in evaluation.alone.items() if not each.on_pairs}
    named = ({data.label: ("data", data)} if data else {}) | {name: (f"sets.{name}", each) for name, each in sets.items()}
    if data and data.label in sets:
        raise ConfigError(f"sets.{data.label}: the pairs of data= have this name too. Give the set another one.")
    if sets and not on_pairs:
        raise ConfigError("sets: this evaluation reads no held-out pairs. Use evaluation=preference or both, or leave sets out.")
    alone = benchmark is not None and not named and not others  # evaluation=preference is the default, and nobody gave pairs
    if on_pairs and not named and not alone:
        raise ConfigError(
            "There are no held-out pairs to measure on. Use data=jsonl data.path=FILE data.held_out=all, or prompts: "
            "evaluation=generation prompts=jsonl prompts.path=FILE, or public test sets: benchmark=lm_eval benchmark.tasks=[TASK]"
        )
    parts = [_of_pairs(name, key, each, together(on_pairs), category) for name, (key, each) in named.items()] if on_pairs else []
    if others:
        measure = together(others)
        asked = measure.asks
        values = asked.values_of(category) if asked and category else {}
        count, total = (len(asked.held_out()), asked.total()) if asked else (0, None)
        if total is not None and count < total:
            say(
                f"  {count} of {total} prompts, those that a training with the same settings never asks; "
                "prompts.num_held_out=all asks every one"
            )
        parts.append(Part(name=ANSWERS, key="prompts", measure=measure, categories=values))
    return [*parts, *([Part(name=BENCHMARK, key=BENCHMARK, measure=benchmark)] if benchmark else [])]


def together(measures: Mapping[str, Measure]) -> Measure:
    """Return some measures as one."""
    return next(iter(measures.values())) if len(measures) == 1 else SeveralMeasures(measures=dict(measures))


def _of_pairs(name: str, key: str, data: Given, measure: Measure, category: str | None) -> Part:
    """Return a set with its held-out pairs."""
    part = Part(name=name, key=key, measure=measure, data=data)
    with _located(part):
        found = data.load()[0]
        values = data.values_of(category) if category else {}
    say(*(f"  {name}: {part.located(note)}" for note in found.notes))
    if not found.held_out:
        raise ConfigError(
            f"{key}: none of the {count_of(len(found.train), 'pair')} is held out, so there is nothing to measure on. "
            f"Use {key}.held_out=all, or a number of prompts."
        )
    if found.train:
        say(
            f"  {name}: {len(found.held_out)} of {len(found.held_out) + len(found.train)} pairs, those that a training with the "
            f"same settings holds out; {key}.held_out=all takes every one"
        )
    by_prompt: dict[str, str] = {}
    for pair in found.held_out if category else ():
        by_prompt.setdefault(pair.prompt.id, values[pair.source, pair.row])
    return Part(name=name, key=key, measure=measure, pairs=found.held_out, data=data, categories=by_prompt)


@contextmanager
def _located(part: Part) -> Iterator[None]:
    """Let messages about data name the part's settings, and say what helps a set of which too little is held out."""
    try:
        yield
    except DataError as error:
        if error.code == "held_out":
            raise ConfigError(
                f"{part.key}: of so few prompts, none is held out. Use {part.key}.held_out=all, which measures on every one."
            ) from error
        if error.code == "prompts_only":
            ask = f"evaluation=generation prompts=jsonl prompts.path={getattr(part.data, 'path', 'FILE')}"
            raise ConfigError(f"{part.key}: these are prompts without answers. Let the models answer them: {ask}") from error
        raise DataError(part.located(str(error)), code=error.code) from error
    except ConfigError as error:
        raise ConfigError(part.located(str(error))) from error
