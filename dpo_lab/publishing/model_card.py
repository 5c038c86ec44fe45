"""The card of a published model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.figures import Figure
from dpo_lab.hub import HUB_ID
from dpo_lab.publishing import sections
from dpo_lab.publishing.card import card, inline, licence_fields, one_line, settings, table
from dpo_lab.publishing.licences import KNOWN, Part
from dpo_lab.publishing.source import Source
from dpo_lab.run_directory import RunDirectory

ADAPTER_CODE = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"{revision}), "OWNER/NAME")
model.generation_config = GenerationConfig.from_pretrained("OWNER/NAME")
tokenizer = AutoTokenizer.from_pretrained("OWNER/NAME")"""
MODEL_CODE = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("OWNER/NAME")
tokenizer = AutoTokenizer.from_pretrained("OWNER/NAME")"""


def model_card(
    source: Source, base: str | None, revision: str | None, *, parts: Sequence[Part], licences: Sequence[str], asked: str | None
) -> str:
    """Return README.md of a model; the first of the licences is that of its weights.

    Args:
        base: Hub id of the model that it was trained from, None if that is not on the Hub.
        asked: the licence that the publisher named, None if it is inherited.
    """
    assert source.model is not None
    fields = {
        **licence_fields(licences[:1], KNOWN),
        "library_name": "peft" if source.has_adapter else "transformers",
        "base_model": base,
        "base_model_relation": ("adapter" if source.has_adapter else "finetune") if base else None,
        "pipeline_tag": "text-generation",
        "datasets": [part.name for part in parts if part.what != "base model" and HUB_ID.fullmatch(part.name)],
        "tags": ["preference", "dpo", "dpo-lab", *(["lora"] if source.has_adapter else [])],
    }
    what = "An adapter on" if source.has_adapter else "All weights of a model trained from"
    code = ADAPTER_CODE if source.has_adapter else MODEL_CODE
    at = f", revision={json.dumps(one_line(revision).replace('`', ''))}" if revision else ""
    return card(
        fields,
        source.model.path.name.rpartition("-")[0],
        (
            ("What it is", f"{what} {inline(base or 'a base that is not on the Hub')}. {sections.MADE_BY}"),
            ("How to load it", f"```python\n{code.format(base=base, revision=at)}\n```"),
            ("Figures", figures_of(source)),
            ("Rounds", rounds_of(source)),
            ("Training", table(("part", "setting"), rows) if (rows := [*how_trained(source)]) else ""),
            ("Intended use", INTENDED),
            ("Licences", sections.licences(parts, asked)),
            ("Lineage", sections.lineage(source, [source.model])),
        ),
    )


INTENDED = (
    "For research on preference optimisation. The model was trained to write what the ranker or the people named above prefer; "
    "it was not tested for safety, and its answers may be wrong, offensive or made up. What holds for its base holds for it."
)


def how_trained(source: Source) -> list[tuple[str, str]]:
    """Return the settings of data, ranker and training, and how the base was held."""
    assert source.model is not None
    facts = source.model.facts
    more = [(name, str(facts[name])) for name in ("precision", "base", "dtype", "gap") if facts.get(name) is not None]
    data = (RunDirectory(source.run).config().get("data") or {}) if source.run else {}
    parts = [(name, settings(data[name])) for name in ("sampler", "ranker", "pairing") if data.get(name)]
    return [*([("data", settings(data))] if data else []), *parts, *sections.made_of(source), *more]


def is_last(source: Source) -> bool:
    """Return whether the model is that of the run's last round, of which the summary speaks."""
    policies = [entry["id"] for entry in source.about.get("lineage", ()) if entry["kind"] == "policy"]
    return bool(policies) and source.model is not None and policies[-1] in (source.model.id, *source.model.manifest["parents"])


def figures_of(source: Source) -> str:
    """Return the figures of the run's end with their 95 % intervals; another round's are in the table of rounds."""
    if source.run is None:
        return "No run was found beside the model, so nothing is said of how good it is."
    if not is_last(source):
        return "The model is not that of the run's last round: the table of rounds says how it was measured."
    summary = RunDirectory(source.run).summary()
    found = [row for figure in source.about.get("figures", ()) if (row := figure_row(Figure(**figure), summary))]
    if not found:
        return inline(summary.get("eval/note", "Nothing was held out, so nothing was measured."))
    note = f"\n\n{inline(summary['eval/note'])}" if "eval/note" in summary else ""
    return "On held-out prompts or pairs, which no round trained on.\n\n" + (
        table(("figure", "before", "after", "95 % interval", "unit"), found) + note
    )


def figure_row(figure: Figure, summary: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return a figure's row, None if the summary does not have it."""
    after = summary.get(f"{figure.name}/after", summary.get(figure.name))
    if after is None:
        return None
    before = summary.get(f"{figure.name}/before", figure.start)
    low, high = (summary.get(f"{figure.name}/{end}") for end in ("low", "high"))
    between = f"{number(low)} to {number(high)}" if low is not None and high is not None else ""
    title = f"{figure.title} ({figure.detail})" if figure.detail else figure.title
    return (title, number(before), number(after), between, figure.unit)


def rounds_of(source: Source) -> str:
    """Return the table of rounds, empty without a run."""
    rounds = [
        {name: value for name, value in {**one_round, **counts_of(one_round)}.items() if not isinstance(value, dict | list)}
        for one_round in source.about.get("rounds") or []
    ]
    names = list(dict.fromkeys(name for one_round in rounds for name in one_round))
    return table(names, [[number(one_round.get(name)) for name in names] for one_round in rounds]) if rounds else ""


def counts_of(of_round: Mapping[str, Any]) -> dict[str, int]:
    """Return how many prompts a round had, and how many of them no usable pair; nothing where its pairs were given."""
    made = of_round.get("made_by")
    return {name: made[name] for name in ("prompts", "prompts_without_pair") if name in made} if isinstance(made, dict) else {}


def number(value: Any) -> str:
    """Return a figure with four digits, an empty text for none.

    >>> number(0.123456), number(12), number(None)
    ('0.1235', '12', '')
    """
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
