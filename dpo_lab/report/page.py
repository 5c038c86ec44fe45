"""report.html: one self-contained page about a run, made from the files in its directory alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab import __version__
from dpo_lab.artifacts import write_durably
from dpo_lab.report.charts import curves, length_charts
from dpo_lab.report.credit import credit_of
from dpo_lab.report.facts import facts_of
from dpo_lab.report.figures import cards, exact, figures_in, flattened, number, rounds_table, times, verdict
from dpo_lab.report.health import warning_of
from dpo_lab.report.ranker import RankerPart, Report, cell, ranker_part
from dpo_lab.report.record import RunRecord, read_record
from dpo_lab.run_directory import RunDirectory

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_SAMPLES, MAX_CHARACTERS = 40, 4000
"""How many samples a page shows, and how much of each text: it stays small enough to send."""
MAX_TIMES = 12  # at which the policy was asked while it was trained
TEMPLATES = Path(__file__).with_name("templates")


def write_report(directory: Path) -> Path:
    """Write a run's report.html beside its files and return where it is.

    What a file lacks or cannot be shown is left out and said at the end of the page.

    Raises:
        OSError: if the directory cannot be written.
    """
    page = environment().get_template("page.html").render(_content(read_record(directory)))
    return RunDirectory(directory).write_report(page)


def _content(record: RunRecord) -> dict[str, Any]:
    """Return what the template shows; a part that fails on what it finds is None, and the page says why."""
    shown: dict[str, Any] = {"name": record.name, "screen": record.screen, "version": __version__}
    absent = list(record.absent)
    for name, make in PARTS.items():
        try:
            shown[name] = make(record)
        except Exception as error:  # a report must not end the run that it reports
            shown[name] = None
            absent.append(f"{name} cannot be shown ({type(error).__name__}: {error})")
    return {**shown, "absent": absent}


def _about(record: RunRecord) -> dict[str, Any]:
    """Return what the run says of itself, and the commands."""
    run, environment = record.run, record.run.get("environment") or {}
    texts = {name: str(run.get(name) or "") for name in ("group", "notes", "command", "repeat", "model")}
    lists = {name: [str(item) for item in run.get(name) or ()] for name in ("tags", "next")}
    return {**texts, **lists, "started": str(environment.get("started") or "")}


def _samples(record: RunRecord) -> list[dict[str, Any]]:
    """Return each prompt with its answers and their scores, where there are scores."""
    samples = (record.run.get("samples") or ())[:MAX_SAMPLES]
    return [
        {"prompt": _cut(sample["prompt"]), "sides": [_side(sample, side) for side in ("before", "after")]} for sample in samples
    ]


def _answers(record: RunRecord) -> list[dict[str, Any]]:
    """Return each prompt that was asked while training went on, with its answers; evenly spread where there are many."""
    found: dict[str, list[dict[str, str]]] = {}
    for answer in _spread(record.run.get("answers") or ()):
        label = f"round {answer['round']}, after step {answer['step']}"
        for sample in answer["samples"]:
            found.setdefault(sample["prompt"], []).append({"label": label, "text": _cut(sample["answer"])})
    return [{"prompt": _cut(prompt), "sides": sides} for prompt, sides in list(found.items())[:MAX_SAMPLES]]


def _measured(record: RunRecord) -> list[dict[str, Any]]:
    """Return each held-out prompt that was answered while training went on, by the policy each time and by the reference once."""
    times = record.run.get("evaluations") or ()
    found: dict[tuple[int, str], list[dict[str, str]]] = {}
    for each in _spread(times):
        for sample in each["samples"]:
            sides = found.setdefault((each["round"], sample["prompt"]), [])
            if not sides:
                sides.append({"label": f"reference of round {each['round']}", "text": _cut(sample["reference"])})
            sides.append({"label": f"policy, after step {each['step']}", "text": _cut(sample["policy"])})
    return [{"prompt": _cut(prompt), "sides": sides} for (_, prompt), sides in list(found.items())[:MAX_SAMPLES]]


def _spread(times: Sequence[Any]) -> list[Any]:
    """Return times, evenly spread where there are many."""
    return (
        [times[at] for at in sorted({round(at * (len(times) - 1) / (MAX_TIMES - 1)) for at in range(MAX_TIMES)})] if times else []
    )


def _side(sample: dict[str, Any], side: str) -> dict[str, str]:
    score = sample.get(f"score_{side}")
    return {"label": side if score is None else f"{side}, score {number(score)}", "text": _cut(sample[side])}


def _cut(text: object) -> str:
    whole = str(text)
    more = len(whole) - MAX_CHARACTERS
    return whole if more <= 0 else f"{whole[:MAX_CHARACTERS]} ... ({more} more characters in run.json)"


def _differences(record: RunRecord) -> list[dict[str, str]] | None:
    """Return which values differ from the defaults, none perhaps; None where that is not recorded."""
    found = record.run.get("differences")
    return found if found is None else [{name: exact(row[name]) for name in ("key", "default", "value")} for row in found]


def _environment_of(record: RunRecord) -> dict[str, dict[str, str]] | None:
    """Return where the run was made, with its whole id, and apart from that packages and variables; None if neither is known."""
    environment = dict(record.run.get("environment") or {})
    if isinstance(memory := environment.get("memory"), int):
        environment["memory"] = f"{memory / 1e9:.1f} GB"
    folded = {name: environment.pop(name) for name in ("packages", "variables") if environment.get(name)}
    machine = flattened(environment) | ({"run.id": str(record.run["id"])} if record.run.get("id") else {})
    return {"machine": machine, "packages": flattened(folded)} if machine or folded else None


def _lineage(record: RunRecord) -> list[dict[str, Any]]:
    """Return each part on disk with the names of those it was made from."""
    steps = record.run.get("lineage") or []
    names = {step["id"]: step["name"] for step in steps}
    return [
        {
            **{name: str(step.get(name, "")) for name in ("kind", "path")},
            "seconds": "" if step.get("seconds") is None else number(float(step["seconds"])),
            "parents": [names.get(parent, str(parent)[:8]) for parent in dict.fromkeys(step.get("parents") or ())],
            "facts": flattened(step.get("facts") or {}),
        }
        for step in steps
    ]


def _ranker(record: RunRecord) -> RankerPart | None:
    """Return the ranker's reports, round by round."""
    rounds = record.run.get("rounds") or []
    return ranker_part(
        {f"round {one_round['number']}": (one_round.get("made_by") or {}).get("report") or {} for one_round in rounds}
    )


PARTS: dict[str, Callable[[RunRecord], Any]] = {
    "about": _about,
    "facts": facts_of,
    "verdict": lambda record: verdict(
        record.summary, record.run.get("rounds") or [], figures_in(record.run), record.run.get("findings") or ()
    ),
    "health": lambda record: [
        {"title": warning_of(finding)[0], "said": finding["said"], "remedy": finding["remedy"]}
        for finding in record.run.get("findings") or ()
    ],
    "cards": lambda record: cards(record.summary, figures_in(record.run)),
    "samples": _samples,
    "answers": _answers,
    "measured": _measured,
    "credit": lambda record: credit_of(record.run.get("credit") or ()),
    "rounds": lambda record: rounds_table(record.run.get("rounds") or [], record.summary, figures_in(record.run)),
    "ranker": _ranker,
    "times": lambda record: times(record.summary),
    "curves": lambda record: curves(record.rows, figures_in(record.run)),
    "lengths": lambda record: length_charts(record.run.get("lengths") or {}),
    "differences": _differences,
    "config": lambda record: flattened(record.config),
    "lineage": _lineage,
    "environment": _environment_of,
    "figures": lambda record: {name: exact(value) for name, value in record.summary.items()},
}
"""What the page is made of; each part stands alone, so that a bad one leaves the others."""


def write_ranker_page(path: Path, label: str, report: Report, agreements: Mapping[str, Report] | None = None) -> None:
    """Write the page of one ranking.

    Args:
        path: of the page.
        label: the ranker's name.
        report: as `ranking_report.json` has it.
        agreements: with other rankings of the same answers, by their names.
    """
    template = environment().get_template("ranker.html")
    found = [(name, cell(each, "pairs"), cell(each, "best"), each["prompts"]) for name, each in (agreements or {}).items()]
    page = template.render(
        label=label, prompts=report["prompts"], ranker=ranker_part({label: report}), agreements=found, version=__version__
    )
    write_durably(path, page)


@cache
def environment() -> "Environment":
    """Return what reads the templates; text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
