"""Sections that the cards of data sets and of models share: lineage, licences, settings of the run."""

from collections.abc import Sequence

from dpo_lab import __version__
from dpo_lab.artifacts import Artifact
from dpo_lab.publishing.card import inline, settings, table, without_place
from dpo_lab.publishing.licences import Part
from dpo_lab.publishing.source import Source
from dpo_lab.run_directory import RunDirectory

TRAINING = ("loss", "reference", "optim", "precision", "trainer", "iteration", "layout", "seed")
MADE_BY = f"Made with DPO Lab {__version__}."


def lineage(source: Source, made: Sequence[Artifact]) -> str:
    """Return the artifacts that a publication is made from: kind, name, id, parents."""
    listed = source.about.get("lineage") or [
        {"kind": each.manifest["kind"], "name": each.path.name, "id": each.id, "parents": each.manifest["parents"]}
        for each in made
    ]
    rows = [
        (each["kind"], each["name"], str(each["id"])[:16], " ".join(str(parent)[:8] for parent in dict.fromkeys(each["parents"])))
        for each in listed
    ]
    run = f"Run {inline(source.run.name)}. " if source.run else ""
    return f"{run}Each artifact is named by a digest of all that determines its content.\n\n" + table(
        ("kind", "name", "id", "made from"), rows
    )


def licences(parts: Sequence[Part], asked: str | None) -> str:
    """Return what the publication is made from, with the licence of each part."""
    rows = [(part.what, without_place(part.name), part.licence or "not stated") for part in parts]
    said = f"The licence {inline(asked)} was chosen by the publisher.\n\n" if asked else ""
    return said + table(("part", "name", "licence"), rows) if rows else said.strip()


def made_of(source: Source) -> list[tuple[str, str]]:
    """Return the settings of the run's training, a row each; none without a run."""
    if source.run is None:
        return []
    config = RunDirectory(source.run).config()
    model = config.get("model") or {}
    found = [(name, config.get(name)) for name in TRAINING] + [(name, model.get(name)) for name in ("adapter", "quant")]
    return [(name, settings(value)) for name, value in found if value not in (None, "", {})]
