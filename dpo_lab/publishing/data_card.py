"""The card of a published preference data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.publishing import sections
from dpo_lab.publishing.card import card, fenced, inline, licence_fields, settings, table
from dpo_lab.publishing.data_set import COLUMNS, OF_LISTS
from dpo_lab.publishing.licences import KNOWN, Part
from dpo_lab.publishing.rows import Round
from dpo_lab.publishing.source import Source
from dpo_lab.ranking.pairing.base import left_out_text

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def data_card(
    source: Source,
    rounds: Sequence[Round],
    splits: Mapping[str, int],
    *,
    parts: Sequence[Part],
    licences: Sequence[str],
    asked: str | None,
    example: Mapping[str, Any],
) -> str:
    """Return README.md of a data set.

    Args:
        splits: rows of each.
        asked: the licence that the publisher named, None if it is inherited.
        example: one row.
    """
    fields = {
        **licence_fields(licences, KNOWN),
        "task_categories": ["text-generation"],
        "tags": ["preference", "dpo", "dpo-lab"],
        "size_categories": [next((name for most, name in SIZES if sum(splits.values()) < most), "n>10M")],
        "configs": [
            {"config_name": "default", "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits]}
        ],
    }
    rankers = list(dict.fromkeys(settings(one_round.ranker) for one_round in rounds if one_round.ranker))
    noun = "ranked lists of answers" if any(one_round.has_lists for one_round in rounds) else "preference pairs"
    how = f"ranked by {inline('; '.join(rankers))}" if rankers else "the data's own preferred to those that a model drew"
    what = (
        f"{sum(splits.values())} {noun}: answers to prompts, {how}. "
        + f"{sections.MADE_BY}\n\n"
        + table(("split", "rows"), splits.items())
    )
    return card(
        fields,
        f"Preference pairs: {source.path.resolve().name.rpartition('-')[0]}",
        (
            ("What it is", what),
            ("How it was made", how_made(rounds)),
            ("Intended use", intended_use(rounds)),
            ("Licences", sections.licences(parts, asked)),
            ("Columns", columns_of(example)),
            ("An example", "\n\n".join(f"{name}\n\n{fenced(text)}" for name, text in texts_of(example))),
            ("Settings of the training", table(("part", "setting"), rows) if (rows := sections.made_of(source)) else ""),
            (
                "Lineage",
                sections.lineage(
                    source, [artifact for this in rounds for artifact in (this.candidates, this.ranking, this.pairs) if artifact]
                ),
            ),
        ),
    )


def how_made(rounds: Sequence[Round]) -> str:
    """Return a table of the rounds: prompts, answers, pairs, and who answered, ranked and paired."""
    rows = [
        (
            iteration.number,
            iteration.candidates.facts["prompts"],
            iteration.candidates.facts["answers"],
            iteration.pairs.facts["failed"],
            iteration.pairs.facts["pairs"],
            iteration.pairs.facts["prompts_without_pair"],
            left_out_text(iteration.pairs.facts["left_out"]),
            iteration.generator or "answers made elsewhere",
            settings(iteration.sampler),
            settings(iteration.ranker) if iteration.ranker else "none",
            settings(iteration.pairs.manifest["content"]["pairing"]),
        )
        for iteration in rounds
    ]
    names = (
        *("iteration", "prompts", "answers", "prompts without a verdict", "pairs", "prompts without a pair", "left out"),
        *("generator", "sampler", "ranker", "pairing"),
    )
    return (
        "A prompt is without a pair if the ranker does not tell its answers apart, or if the pairing leaves out what it prefers. "
        "A prompt stands either in training splits or in test splits, in every iteration.\n\n" + table(names, rows)
    )


def intended_use(rounds: Sequence[Round]) -> str:
    """Return what the set is for, and what it does not show."""
    sampled = any(one_round.sampler for one_round in rounds)
    who = "The answers were drawn from a language model and nobody read them; they" if sampled else "The answers"
    whose = "of the ranker named above, not of people, and repeat its errors and its taste for lengths and styles"
    if not any(one_round.ranker for one_round in rounds):
        whose = "for the data's own answer, whatever the drawn ones say: nobody compared the two"
    return (
        f"For training and comparing methods of preference optimisation. The preferences are those {whose}. "
        f"{who} may be wrong, offensive or made up. "
        "Do not evaluate a model on prompts that it was trained on: use the test splits."
    )


def columns_of(example: Mapping[str, Any]) -> str:
    """Return the table of columns; SPPO's `generate_0` and so on in one row."""
    rows = [(name, meaning) for name, (_, meaning) in {**COLUMNS, **OF_LISTS}.items() if name in example]
    last = max((int(name.removeprefix("generate_")) for name in example if name.startswith("generate_")), default=0)
    return "They include those of snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset and of SPPO's scripts.\n\n" + table(
        ("column", "meaning"), [*rows, (f"generate_0 to generate_{last}", "the answers once more, a column each")]
    )


def texts_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the three texts of a row: prompt, chosen and rejected answer."""
    return [("prompt", row["prompt"]), *((name, row[name][-1]["content"]) for name in ("chosen", "rejected"))]
