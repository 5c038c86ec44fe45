"""The command line before Hydra sees it: its parts, and what can be refused from the text alone. Imports nothing heavy."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpo_lab.cli.conf import groups, listed, optional_groups, options, recorded, required

FIRST = ("model", "quant", "data", "ranker")  # what people change first
TRAINED = ("policy", "policies", "run", "runs", "source", "sources")
"""Names of the keys by which stages are told what was trained; one stage's key is tried in another one."""
FILES = (".json", ".jsonl", ".gz", ".parquet", ".csv", ".txt")  # endings by which a word is known as a path
SEVERAL = ("logger", "callbacks", "experiment", "sweep", "debug")  # groups whose options can be merged
NEUTRAL = ("paths", "logger", "force", "tags", "notes", "group", "optimized_metric")
"""What changes no figure of a run: where it goes, and the fields that Train adds to Alignment (tests/cli compare them)."""
EDGE = ("rerun", "trust")  # read by the command line itself, part of no configuration
WITH_VALUE = {"-c": "--cfg", "-p": "--package", "-cd": "--config-dir"}
FLAGS = {"-m": "--multirun", "-sc": "--shell-completion", "--resolve": "--resolve", "--hydra-help": "--hydra-help"}
SHOWN = ("job", "hydra", "all")
TOOLS = {
    "verify": "Compare every file that runs have written with its digest, and say what is damaged",
    "compare": "Put finished runs, or a sweep's, beside one another on one page, and say which can be told apart",
    "ls": "List runs with state, figure, age and size, and what can be chosen: groups, options, experiments",
    "clean": "Remove runs by age or sweep, and the parts that only they are made from; without --yes it only says what",
    "completion": 'Complete words in bash: eval "$(dpo-lab completion)"',
}
"""Words that the command line reads by itself, without a configuration."""
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class UsageError(ValueError):
    """A command line that cannot be understood; the message is all that the user sees."""


class UnknownOptionError(ValueError):
    """What starts with dashes and is not an option."""

    def __init__(self, argument: str, rest: Sequence[str]) -> None:
        super().__init__(argument)
        self.argument, self.rest = argument, tuple(rest)


class BareWordError(UnknownOptionError):
    """A word that sets nothing."""

    def __init__(self, argument: str, rest: Sequence[str], before: str) -> None:
        super().__init__(argument, rest)
        self.before = before


@dataclass(frozen=True)
class CommandLine:
    """What was asked of a stage."""

    stage: str
    options: tuple[str, ...]
    """What starts with dashes, values included, as Hydra takes it."""
    overrides: tuple[str, ...]
    """group=option and key=value, in order."""
    words: tuple[str, ...] = ()
    """All of it, as it was written."""
    program: tuple[str, ...] = ()
    """How the program was called: python train.py, dpo-lab train, python scripts/train.py."""

    def command(self, words: Sequence[str]) -> str:
        """Return a command with this program that a shell takes."""
        return shlex.join([*self.program, *words])

    @property
    def rerun(self) -> str:
        """The directory of the run to repeat, empty if none is named."""
        return self.value("rerun", "")

    @property
    def trusted(self) -> tuple[str, ...]:
        """The modules outside dpo_lab that a repeated run may import: trust=mine, trust=[mine,theirs]."""
        names = re.split(r"[\s,\[\]'\"]+", self.value("trust", ""))
        return tuple(name for name in names if name)

    @property
    def composed(self) -> tuple[str, ...]:
        """The overrides that Hydra composes."""
        return tuple(override for override in self.overrides if key_of(override) not in EDGE)

    @property
    def is_multirun(self) -> bool:
        """Whether -m is given."""
        return bool({"-m", "--multirun"} & set(self.options))

    @property
    def config_dir(self) -> Path | None:
        """The second configuration directory, if there is one."""
        names = ("-cd", "--config-dir")
        return next((Path(self.options[at + 1]) for at, option in enumerate(self.options) if option in names), None)

    def value(self, key: str, default: str) -> str:
        """Return the text given for a key."""
        return next((text.split("=", 1)[1].strip("'\"") for text in self.overrides if key_of(text) == key), default)


def key_of(override: str) -> str:
    """Return the group or key that an override names.

    >>> key_of("+optim.lr=1"), key_of("~loss")
    ('optim.lr', 'loss')
    """
    return override.lstrip("+~").split("=")[0]


def plain_key(override: str) -> str:
    """Return the key of an override without its package: ranker@judge=gold is about ranker."""
    return key_of(override).split("@")[0]


def read(stage: str, arguments: Sequence[str]) -> CommandLine:
    """Return the command line of a stage.

    Raises:
        UsageError: for what neither is an option nor sets something, or sets it twice.
    """
    given: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            refuse_unnamed(stage, argument, rest, arguments)
            overrides.append(checked_override(at_home(argument)))
            continue
        name, equals, value = argument.partition("=")
        if name in (*WITH_VALUE, *WITH_VALUE.values()):
            if not equals and not rest:
                raise UsageError(f"{name} needs a value, for instance --cfg job or --config-dir my_conf.")
            value = value if equals else rest.pop(0)
            if name in ("-c", "--cfg") and value not in SHOWN:
                raise UsageError(f"{name} {value}: it shows {', '.join(SHOWN)}.")
            if name in ("-cd", "--config-dir") and not Path(value).is_dir():
                raise UsageError(f"--config-dir {value}: this directory does not exist. Correct the path.")
            given += [name, value]
        elif name in ("-i", "--info"):
            given.append(name)
            given += [value] if equals else [rest.pop(0)] if rest and rest[0] in INFORMATION else []
        elif argument in (*FLAGS, *FLAGS.values()):
            given.append(argument)
        else:
            raise UnknownOptionError(argument, rest)
    refuse_twice(overrides)
    actions = [
        option for option in given if option in ("-m", "--multirun", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")
    ]
    if len(actions) > 1:
        raise UsageError(f"{' and '.join(actions)} do different things. Give one of them.")
    refuse_beside_rerun(stage, given, overrides)
    return CommandLine(stage, tuple(given), tuple(overrides), tuple(arguments), program_of(stage, sys.argv[0]))


def program_of(stage: str, called: str) -> tuple[str, ...]:
    """Return how to call the program again.

    >>> program_of("train", "scripts/train.py"), program_of("train", "/usr/bin/dpo-lab")
    (('python', 'scripts/train.py'), ('dpo-lab', 'train'))
    """
    return ("python", called) if Path(called).name == f"{stage}.py" else ("dpo-lab", stage)


def at_home(argument: str) -> str:
    """Return an override in which ~ at the beginning of a path is the home directory, which no shell puts behind `key=`.

    >>> at_home("data.path=~/x.jsonl") == f"data.path={Path.home()}/x.jsonl", at_home("notes='~/x'")
    (True, "notes='~/x'")
    """
    key, equals, value = argument.partition("=")
    bare = value.strip("'\"")
    if (bare not in ("~",) and not bare.startswith("~/")) or not (is_place(key) or bare == value):
        return argument
    return f"{key}{equals}{escaped(str(Path(bare).expanduser()))}"


def is_place(key: str) -> bool:
    """Return whether the value of a key is a path."""
    return key.lstrip("+").rpartition(".")[2] in ("path", "outputs", "policy", "source")


def escaped(value: str) -> str:
    """Return a text as Hydra reads it: in quotes where a character would have a special meaning.

    >>> escaped("/data/x"), escaped("my file (1).jsonl"), escaped("it's")
    ('/data/x', "'my file (1).jsonl'", "'it\\\\'s'")
    """
    return value if re.fullmatch(r"[\w./:@%+-]+", value) else "'" + value.replace("'", "\\'") + "'"


def quoted(key: str, value: str) -> str:
    """Return key=value as a shell takes it."""
    return shlex.quote(f"{key}={escaped(value)}")


def checked_override(argument: str) -> str:
    """Return an override that may be understood; UsageError says why it cannot be."""
    key, _, value = argument.partition("=")
    if not key.lstrip("+~"):
        raise UsageError(f"{argument!r} names no key. Write group=option or key=value.")
    if key == "outputs":
        raise UsageError(f"{argument}: everything that is written moves with paths.outputs. Write paths.{argument}.")
    if key in groups() and value in ("", "[]", "null"):
        none = f" Leave {key} out to have none." if key in optional_groups() else ""
        raise UsageError(f"{argument}: {key} needs one of its options: {listed(options(key))}.{none}")
    if is_place(key) and not value.strip("'\" "):
        raise UsageError(f"{argument}: the path is empty. Write {key}=PATH, or . for the current directory.")
    return argument


def refuse_unnamed(stage: str, argument: str, rest: Sequence[str], arguments: Sequence[str]) -> None:
    """Raise UsageError for a directory that is not given by its stage's key, and BareWordError for a word that sets nothing."""
    if place := misplaced(stage, argument, arguments):
        raise UsageError(place)
    if "=" not in argument and not argument.startswith("~"):
        at = len(arguments) - len(rest) - 1
        raise BareWordError(argument, rest, arguments[at - 1] if at else "")
    if argument.endswith("=") and rest and "=" not in rest[0] and not rest[0].startswith("-"):
        raise UsageError(f"{argument} {rest[0]}: no blank stands beside an equals sign. Write {argument}{rest[0]}")


def misplaced(stage: str, argument: str, arguments: Sequence[str]) -> str:
    """Return where a directory belongs that is given alone or under another name than the key of the stage, if it is."""
    needed, what = next(((key, what) for key, what in required(stage).items() if is_place(key)), ("", ""))
    key, _, value = argument.rpartition("=")
    of_another_part = "." in key and key != "model.path"  # ranker.path; a stage that needs a place loads no model beside it
    if not needed or of_another_part or any(key_of(each) == needed for each in arguments):
        return ""
    where = f"{stage} reads {'' if 'file' in what else 'a directory '}from {needed} ({what})".replace("reads from", "reads")
    is_choice = key in groups() and value in options(key)
    one = value if "," in value else value.strip("[]")
    if Path(one.strip("'\"")).is_dir() and not key.endswith("outputs") and not is_choice:
        return f"{argument}: {where}. Write {needed}={one}"
    if key in TRAINED:
        absent = "" if "," in value else "this directory does not exist, and "
        return f"{argument}: {absent}{where}. Write {needed}=DIR."
    return ""


def refuse_twice(overrides: Sequence[str]) -> None:
    """Raise UsageError if a key is set twice, of which Hydra would ignore the first."""
    for at, override in enumerate(overrides):
        if earlier := [other for other in overrides[:at] if key_of(other) == key_of(override)]:
            key, said = key_of(override), f"{key_of(override)} is set twice: {earlier[0]} and {override}. Leave one out."
            values = dict.fromkeys(other.partition("=")[2] for other in overrides if key_of(other) == key)
            several = f" To run each of them: -m {key}={','.join(values)}" if len(values) > 1 else ""  # a shell expands {0,1}
            raise UsageError(said + several)


def refuse_beside_rerun(stage: str, given: Sequence[str], overrides: Sequence[str]) -> None:
    """Raise UsageError for a rerun of a stage that records no runs, and for what would make it another run."""
    if not (asked := [override for override in overrides if key_of(override) == "rerun"]):
        if alone := [override for override in overrides if key_of(override) == "trust"]:
            raise UsageError(f"{alone[0]} goes with rerun=DIR, which imports code that the run of DIR names. Leave it out.")
        return
    if stage not in (known := recorded()):
        raise UsageError(f"{asked[0]}: only runs of {', '.join(known)} can be repeated. Write dpo-lab {known[0]} {asked[0]}.")
    if not asked[0].partition("=")[2].strip("'\""):
        raise UsageError("rerun needs the directory of a run, for instance rerun=outputs/train/tiny-dpo-films-3f9c2a10.")
    neutral = (*asked, *(override for override in overrides if key_of(override).split(".")[0] in (*NEUTRAL, "trust")))
    if others := [*given, *(override for override in overrides if override not in neutral)]:
        raise UsageError(
            f"{' '.join(others)} cannot stand beside rerun: the run is repeated as it was, so that its figures can be compared. "
            f"Leave it out; only {', '.join(NEUTRAL)} and trust go with rerun."
        )


def is_path_problem(override: str) -> bool:
    """Return whether an override that Hydra cannot read holds a character that needs quotes."""
    return bool(re.search(r"[ ()=\[\]{}:,]", override.partition("=")[2]))
