"""A key of another stage, told from the text of conf/ and of the stages alone: nothing heavy is imported for the answer."""

from collections.abc import Sequence

from dpo_lab.cli.arguments import key_of, plain_key
from dpo_lab.cli.conf import few, groups, homes, required
from dpo_lab.cli.help import groups_of
from dpo_lab.cli.other_names import name_here
from dpo_lab.conf_files import CONF

OF_TRAINING = ("recipe", "trainer", "optim")
"""Groups whose settings, but where to compute, matter to a training alone."""
WHERE = ("accelerator", "devices")


def foreign_key(stage: str, key: str, others: Sequence[str]) -> str:
    """Return the answer to a key whose group this stage does not take; empty if the key may be the stage's own.

    >>> print(foreign_key("export", "temperature", []).partition(", ")[2])
    which takes nothing from ranker or sampler. Leave it out, and add policy=...
    >>> foreign_key("sample", "batch_size", []), foreign_key("train", "epochs", []), foreign_key("sample", "seed", [])
    ('', '', '')

    Args:
        others: the other overrides.
    """
    named = [home for home in homes(name_here(key)) if home.partition(".")[0] in groups()]
    if not named or any(is_taken(stage, home) for home in named):
        return ""
    needed = [f"{other}=..." for other in required(stage) if other not in map(key_of, others)]
    instead = instead_of([f"{key}=..."], needed)
    of_training = [home for home in named if home.partition(".")[0] in OF_TRAINING]
    if of_training:
        why = f"and {few(of_training)} has no effect: nothing is trained."
        return f"{key} is neither a group nor a key of {stage}, {why} {instead}"
    of = few([home.partition(".")[0] for home in named])
    return f"{key} is neither a group nor a key of {stage}, which takes nothing from {of}. {instead}"


def is_taken(stage: str, key: str) -> bool:
    """Return whether a stage may take a key of a group, as far as the text of conf/ says.

    >>> is_taken("sample", "sampler.batch_size"), is_taken("sample", "trainer.batch_size"), is_taken("sample", "trainer.devices")
    (True, False, True)
    """
    taken = groups_of(stage, (CONF / f"{stage}.yaml").read_text(encoding="utf-8"))
    group, _, name = key.partition(".")
    return group in taken and (group not in OF_TRAINING or "data" in taken or name in WHERE)


def instead_of(idle: Sequence[str], missing: Sequence[str]) -> str:
    """Return what to do with settings that a stage does not take; one that it lacks may have been meant by its last name.

    Args:
        missing: KEY=... for what the stage needs.

    >>> instead_of(["data=jsonl", "data.path=a.jsonl"], ["candidates.path=..."])
    'Write candidates.path=a.jsonl in their place.'
    >>> instead_of(["loss=ipo"], ["runs=..."]), instead_of(["loss=ipo"], [])
    ('Leave it out, and add runs=...', 'Leave it out.')
    """
    them, place = ("them", "their") if len(idle) > 1 else ("it", "its")
    keys = [word.removesuffix("=...") for word in missing]
    values = {plain_key(word).rpartition(".")[2]: word.partition("=")[2] for word in idle if "." in plain_key(word)}
    if meant := [f"{key}={values[name]}" for key in keys if (name := key.rpartition(".")[2]) in values]:
        return f"Write {' '.join(meant)} in {place} place."
    return f"Leave {them} out, and add {' '.join(missing)}" if missing else f"Leave {them} out."
