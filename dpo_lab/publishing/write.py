"""The artifact `publication`: the folder of a repository as it would be uploaded, and what would leave the machine with it."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lab.amounts import bytes_text, count_of
from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import ConfigError, RunError
from dpo_lab.damage import examine
from dpo_lab.hub import HUB_ID
from dpo_lab.progress import say
from dpo_lab.publishing.card import one_line, without_place
from dpo_lab.publishing.data_card import data_card, texts_of
from dpo_lab.publishing.data_set import first_rows, write_data_set
from dpo_lab.publishing.licences import licences_of, parts_in
from dpo_lab.publishing.model import base_on_hub, write_model
from dpo_lab.publishing.model_card import model_card
from dpo_lab.publishing.rows import Round
from dpo_lab.publishing.source import Source
from dpo_lab.publishing.upload import Target, publish
from dpo_lab.ranking.pairing.base import left_out_text

FOLDER = "repository"
"""Below the artifact's directory: exactly what is uploaded."""
CARD = "README.md"
EXAMPLES, EXCERPT, LISTED = 3, 70, 8


def planned(source: Source, what: str, *, root: Path, licence: str | None, base: str | None, test_share: float) -> Plan:
    """Return the plan of a publication: what is published determines it, not to whom."""
    made = [source.model] if what == "model" else [*source.pairs]
    ids = [artifact.id for artifact in made if artifact is not None]
    run = whole_id(source.run)
    content = {"what": what, "source": ids, "run": run, "licence": licence, "base": base, "test_share": test_share}
    name = f"{source.path.resolve().name.rpartition('-')[0]}-{what}"
    return Plan(root, "publication", name, content, parents=[*ids, *([run] if run else [])])


def whole_id(run: Path | None) -> str | None:
    """Return the id of a run's artifact."""
    found = Artifact.open(run) if run else None
    return found.id if found else None


def refuse_changed(plan: Plan) -> None:
    """Raise RunError if the folder is not what was written and shown."""
    if damage := examine(plan.path).damage:
        raise RunError(
            f"{plan.path} was changed since it was shown ({damage}), so nothing was uploaded. "
            "force=true writes and shows it again."
        )


def write_pairs(source: Source, directory: Path, licence: str | None, test_share: float) -> dict[str, Any]:
    """Write a preference data set and its card; return the facts.

    Raises:
        ConfigError: if a licence is unknown.
    """
    base = str((source.call.get("model") or {}).get("path") or "")
    name = base if HUB_ID.fullmatch(base) and not Path(base).is_dir() else without_place(base)
    rounds = [Round.of(number, each, name) for number, each in enumerate(source.pairs, start=1)]
    parts = parts_in(source.call, source.words)
    licences = licences_of(parts, licence)
    (folder := directory / FOLDER).mkdir()
    splits = write_data_set(rounds, folder, test_share)
    text = data_card(source, rounds, splits, parts=parts, licences=licences, asked=licence, example=first_rows(folder, 1)[0])
    (folder / CARD).write_text(text, encoding="utf-8")
    return {"what": "pairs", "splits": splits, "licences": list(licences), **without_pair(rounds)}


def without_pair(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return how many prompts all rounds have, how many of them no pair, and the pairs left out by reason."""
    facts = [one_round.pairs.facts for one_round in rounds]
    left_out: Counter[str] = sum((Counter(fact["left_out"]) for fact in facts), Counter())
    counts = {name: sum(fact[name] for fact in facts) for name in ("prompts", "prompts_without_pair")}
    return {**counts, "left_out": dict(left_out)}


def write_trained(source: Source, directory: Path, licence: str | None, base: str | None) -> dict[str, Any]:
    """Write a model and its card; return the facts.

    Raises:
        ConfigError: if a licence is unknown, or an adapter's base is a directory of this machine.
    """
    on_hub, revision = base_on_hub(source, base)
    parts = parts_in(source.call, source.words, base)
    licences = licences_of(parts, licence)
    (folder := directory / FOLDER).mkdir()
    write_model(source, folder, on_hub, revision)
    text = model_card(source, on_hub, revision, parts=parts, licences=licences, asked=licence)
    (folder / CARD).write_text(text, encoding="utf-8")
    return {"what": "model", "adapter": source.has_adapter, "base": on_hub, "licences": list(licences)}


def files_of(made: Artifact) -> dict[str, dict[str, Any]]:
    """Return bytes and sha256 of the files that are uploaded, by their names in the repository."""
    return {name.removeprefix(f"{FOLDER}/"): about for name, about in made.manifest["files"].items()}


def shown(publication: Artifact) -> list[str]:
    """Return what would leave the machine: files, bytes, rows, and three texts as an example."""
    files, facts = files_of(publication), publication.facts
    size = bytes_text(sum(file["bytes"] for file in files.values()))
    licences = f"licence {', '.join(facts['licences'])}"
    lines = [f"publication {publication.path / FOLDER}", f"  {count_of(len(files), 'file')}, {size}, {licences}"]
    listed = sorted(files, key=lambda name: -files[name]["bytes"])
    lines += [f"    {name}  {bytes_text(files[name]['bytes'])}" for name in listed[:LISTED]]
    lines += [f"    and {count_of(len(listed) - LISTED, 'other file')}"] if len(listed) > LISTED else []
    if facts["what"] == "model":
        kind = f"an adapter on {facts['base']}" if facts["adapter"] else "all weights"
        return [*lines, f"  {kind}; no prompts and no answers are among them"]
    lines.append("  " + ", ".join(f"{name} {count_of(rows, 'row')}" for name, rows in facts["splits"].items()))
    if "left_out" in facts:  # earlier versions did not count them
        left_out = f" ({text})" if (text := left_out_text(facts["left_out"])) else ""
        lines.append(
            f"  {facts['prompts_without_pair']} of {count_of(facts['prompts'], 'prompt')} without a usable pair{left_out}"
        )
    return [*lines, *(f"    {name}: {text}" for name, text in examples(publication))]


def examples(made: Artifact) -> Sequence[tuple[str, str]]:
    """Return the beginning of the three texts of the first row."""
    (row,) = first_rows(made.path / FOLDER, 1)
    return [(name, repr(one_line(text, EXCERPT))) for name, text in texts_of(row)][:EXAMPLES]


def refuse_no_target(push: bool, repo: str | None) -> None:
    """Raise ConfigError if something is to be uploaded to no repository, or to something else than one."""
    if push and not repo:
        raise ConfigError("push=true requires the repository: repo=OWNER/NAME.")
    if repo and not HUB_ID.fullmatch(repo):
        name = re.sub(r"^https?://(?:www\.)?huggingface\.co/(?:datasets/)?", "", repo).strip("/")
        write = f" Write repo={name if HUB_ID.fullmatch(name) else f'OWNER/{name}'}"
        raise ConfigError(f"repo={repo} is not the name of a repository, which is OWNER/NAME.{write}")


def uploaded(made: Artifact, repo: str, *, private: bool, update: bool) -> dict[str, Any]:
    """Upload the folder, say where it is, and return address and commit."""
    target = Target(repo, "dataset" if made.facts["what"] == "pairs" else "model", private, update)
    found = publish(made.path / FOLDER, files_of(made), target)
    removed = f"; removed {', '.join(found.removed)}" if found.removed else ""
    how = f"in one commit, {found.commit[:8]}{removed}" if found.made_now else f"published before, commit {found.commit[:8]}"
    say(f"published {found.address} ({'private' if private else 'public'}): {how}")
    return {"address": found.address, "commit": found.commit}
