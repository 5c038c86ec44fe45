"""`rerun=DIR`: a finished run repeated from what its directory records, in a new place, and the figures compared."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_lab import __version__
from dpo_lab.artifacts import MANIFEST, SCHEMA, Artifact
from dpo_lab.call import Call
from dpo_lab.cli.arguments import NEUTRAL, CommandLine, key_of
from dpo_lab.cli.build import build_again, resolved
from dpo_lab.cli.keys import at
from dpo_lab.cli.session import Session
from dpo_lab.cli.targets import foreign_code, is_below, without_places
from dpo_lab.components import ConfigError, RunError
from dpo_lab.damage import examine
from dpo_lab.plain_data import as_typed, leaves
from dpo_lab.run_directory import CALL, RUN, SUMMARY, RunDirectory, runs_below
from dpo_lab.spelling import nearest_path

NO_FIGURE = ("seconds/", "time/")  # how long it took
NO_REASON = ("started", "cwd", "memory", "variables.OMP_NUM_THREADS")  # of an environment; threads are told by `threads`
MOST_ROWS, LONGEST = 20, 24


@dataclass(frozen=True)
class Recorded:
    """A finished run and what its directory says of it."""

    directory: Path
    manifest: dict[str, Any]
    call: Call
    summary: dict[str, Any]
    environment: dict[str, Any]
    """Empty if it was not recorded."""

    @property
    def start(self) -> Path:
        """Where relative paths of its configuration start: where it was called, or here if that is gone."""
        return Path(self.call.cwd) if Path(self.call.cwd).is_dir() else Path.cwd()


def repeat(line: CommandLine, config: Any, session: Session) -> None:
    """Run a recorded run again and compare its figures.

    Args:
        line: names the run, and maybe where the new one goes.
        config: the composed configuration, of which logger and force are taken.
        session: learns where the new run goes, which is below the outputs of the caller, not of the recorded run.

    Raises:
        ConfigError: if the directory holds no run that can be repeated, or names code that is not trusted.
        RunError: if figures differ.
    """
    run = recorded_run(Path(line.rerun), line.stage)
    asked = resolved(config)
    root = Path(asked["outputs"]).absolute()
    outputs = str(root / "rerun" / run.directory.name)
    named = {key_of(word).split(".")[0] for word in line.overrides}
    chosen = {name: asked[name] for name in NEUTRAL if name in {"logger", "force", *named} and name in asked}
    again = {**run.call.config, **chosen, "outputs": outputs}
    refuse_foreign(run, again, line.trusted, asked["_target_"])
    again = without_places(again)
    absolute = {"rerun": f"rerun={run.directory}", "paths.outputs": f"paths.outputs={root}"}
    words = [absolute.get(key_of(word), word) for word in line.words]
    session.outputs = outputs
    sys.path[:] = [str(Path(entry).absolute()) for entry in sys.path]  # "" would become the directory of the recorded run
    call = replace(run.call, command=line.command(words), cwd=str(run.start), config=again)
    with chdir(run.start):
        try:
            stage: Any = build_again(again)
        except ConfigError as error:
            made_by = f"It was made by version {run.manifest['code']}; this is {__version__}"
            raise ConfigError(f"{run.directory} cannot be repeated by this version: {error} {made_by}.") from error
        summary = stage.run(call)
        compare(run, json.loads(json.dumps(summary)), json.loads(json.dumps(stage.content())), environment_of(stage.outputs))


# ---------------------------------------------------------------- what is recorded
def recorded_run(directory: Path, stage: str) -> Recorded:
    """Return the finished run of a stage; ConfigError says what the directory is if it is not one."""
    meant = nearest_path(directory)
    directory = directory.absolute()
    if not directory.is_dir():
        instead = f"Did you mean 'rerun={meant}'?" if meant else "Correct the path; the runs are listed by: dpo-lab ls runs"
        raise ConfigError(f"rerun={directory}: this directory does not exist. {instead}")
    if damage := examine(directory).damage:
        raise ConfigError(
            f"rerun={directory}: this run is damaged ({damage}). Repeat its own command, which makes it again where it stands."
        )
    files = RunDirectory(directory)
    call, run = files.read_if_whole(CALL), files.read_if_whole(RUN)
    done = Artifact.open(directory)
    if done is None:
        command = f" Finish it by its own command: {call['command']}" if "command" in call else ""
        which = "a run that is not finished, or has lost a file" if command else f"not a run of {stage}"
        raise ConfigError(f"rerun={directory}: this is {which}.{command}")
    if (kind := done.manifest["kind"]) != stage:
        raise ConfigError(f"rerun={directory}: this is a {kind}, not a run of {stage}. Its runs are in OUTPUTS/{stage}.")
    try:
        recorded = Call.from_record(call)
    except (KeyError, TypeError):
        raise ConfigError(
            f"rerun={directory}: this run does not record how it was called ({CALL}): Python code ran it, or an earlier version. "
            f"{MANIFEST} there holds its configuration."
        ) from None
    if (schema := done.manifest["schema"]) != SCHEMA:
        raise ConfigError(
            f"rerun={directory}: this run was recorded by another version (schema {schema}, this one has {SCHEMA}), whose parts "
            f"have other names here. Run its command anew: {recorded.command}"
        )
    return Recorded(directory, done.manifest, recorded, files.read_if_whole(SUMMARY), run.get("environment", {}))


def refuse_foreign(run: Recorded, config: Mapping[str, Any], trusted: Sequence[str], stage: str) -> None:
    """Raise ConfigError if a recorded run is of another stage, or names code outside dpo_lab that the user does not trust."""
    place = f"rerun={run.directory}"
    if config.get("_target_") != stage:
        raise ConfigError(f"{place}: the configuration in {CALL} is not that of {stage}, so it cannot be repeated.")
    named = dict(foreign_code(config, trusted))
    if foreign := {key: code for key, code in named.items() if not is_below(code, trusted)}:
        modules = sorted({code.rpartition(".")[0] or code for code in foreign.values()})
        where = ", ".join(f"{key}={at(config, key)}" for key in foreign)
        raise ConfigError(
            f"{place}: the run names code from outside dpo_lab, which was not imported: {where}. If you trust that code, "
            f"add trust={modules[0] if len(modules) == 1 else as_typed(modules)}"
        )
    if unused := [module for module in trusted if not any(is_below(code, [module]) for code in named.values())]:
        raise ConfigError(f"trust={','.join(unused)} has no effect: the run names no code of it. Leave it out.")


def environment_of(outputs: Path) -> dict[str, Any]:
    """Return the environment of the newest run below an outputs directory, which may be older than this process."""
    newest = next(iter(runs_below(outputs)), None)
    found: dict[str, Any] = newest.read_if_whole(RUN).get("environment", {}) if newest else {}
    return found


# ---------------------------------------------------------------- the comparison
def compare(run: Recorded, summary: Mapping[str, Any], content: Mapping[str, Any], now_in: Mapping[str, Any]) -> None:
    """Print which figures of a run and of its repetition differ, or that none does.

    Args:
        run: the recorded run.
        summary: figures of the new run.
        content: what determines them.
        now_in: the environment that it was made in.

    Raises:
        RunError: if some differ; names what else does.
    """
    before, now = figures(run.summary), figures(summary)
    names = list(dict.fromkeys([*before, *now]))
    same = {name for name in names if repr(before.get(name)) == repr(now.get(name))}  # as text: a NaN equals itself
    rows = [row(name, before.get(name), now.get(name)) for name in names if name not in same]
    sys.stdout.write(f"\nrerun of {run.directory}\n")
    if not rows:
        sys.stdout.write(f"all {len(names)} figures equal\n")
        return
    width = max(len(each[0]) for each in rows)
    for each in [("figure", "recorded", "now", "difference"), *rows[:MOST_ROWS]]:
        sys.stdout.write(f"  {each[0]:{width}}  {each[1]:>12}  {each[2]:>12}  {each[3]:>12}\n")
    if len(rows) > MOST_ROWS:
        sys.stdout.write(f"  and {len(rows) - MOST_ROWS} more\n")
    sys.stdout.flush()
    raise RunError(f"{len(rows)} of {len(names)} figures differ. {likely_reason(run, content, now_in)}")


def figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary but those that tell how long it took.

    >>> figures({"kl": 5.8, "eval/note": "few", "seconds/total": 60.0})
    {'kl': 5.8}
    """
    return {name: value for name, value in summary.items() if isinstance(value, int | float) and not name.startswith(NO_FIGURE)}


def row(name: str, before: float | None, now: float | None) -> tuple[str, str, str, str]:
    """Return a line of the table.

    >>> row("kl", 5.8125, 5.75), row("kl", None, 1.0)
    (('kl', '5.8125', '5.75', '-0.0625'), ('kl', '-', '1', '-'))
    """
    difference = "-" if before is None or now is None else f"{now - before:+.4g}"
    recorded, newest = ("-" if value is None else f"{value:.8g}" for value in (before, now))
    return name, recorded, newest, difference


def likely_reason(run: Recorded, content: Mapping[str, Any], now_in: Mapping[str, Any]) -> str:
    """Return what differs between a run and its repetition beside the figures."""
    if changed := changes(run.manifest["content"], content):
        return f"It is another run by now, whose files or classes were changed: {changed}."
    if not run.environment or not now_in:
        return f"The run does not record its environment ({RUN}), which is the likely reason: packages, threads, processor."
    if changed := changes(reasons(run.environment), reasons(now_in)):
        return f"The likely reason is the environment: {changed}."
    return "Both environments are the same; code that was changed and not committed, or a GPU's kernels, may do this."


def reasons(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an environment figures may depend on, under dotted keys."""
    return {key: value for key, value in leaves(recorded) if not key.startswith(NO_REASON)}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the values that differ between two nested mappings.

    >>> changes({"packages": {"torch": "2.11.0"}, "threads": 1}, {"packages": {"torch": "2.13.0"}, "threads": 1})
    'packages.torch 2.11.0 -> 2.13.0'
    """
    one, other = dict(leaves(before)), dict(leaves(now))
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {short(one.get(key))} -> {short(other.get(key))}" for key in keys)


def short(value: Any) -> str:
    """Return a value in few characters."""
    text = as_typed(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
