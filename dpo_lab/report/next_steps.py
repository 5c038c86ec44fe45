"""What a person may type after a run: commands that fit this run, from the words that made it."""

import shlex

SHELLS = {"dpo-lab": ["dpo-lab", "export"]}
"""How export is called where train was called by this program; elsewhere by its script."""


def next_commands(directory: str, command: str | None, seed: int, *, one_of_several: bool) -> tuple[str, ...]:
    """Return commands: export the model; the same with another seed; other losses.

    >>> next_commands("outputs/train/RUN", "python train.py loss=ipo seed=1", 1, one_of_several=False)[1]
    'python train.py loss=ipo seed=2'

    Args:
        directory: of the run.
        command: that made it; None if Python code did, whose words nobody knows.
        seed: of the run.
        one_of_several: whether other runs are made beside it, which may be the ones that would be proposed.
    """
    words = shlex.split(command) if command else ["python", "train.py"]
    export = shlex.join([*SHELLS.get(words[0], ["python", "scripts/export.py"]), f"policy={directory}"])
    if command is None or one_of_several:
        return (export,)
    first = next((index for index, word in enumerate(words) if "=" in word), len(words))
    again, losses = (without(words, name) for name in ("seed", "loss"))
    swept = [*losses[:first], "-m", *losses[first:], "loss=dpo,ipo"]
    return export, shlex.join([*again, f"seed={seed + 1}"]), shlex.join(swept)


def without(words: list[str], key: str) -> list[str]:
    """Return the words of a command without those that set a key.

    >>> without(["train.py", "seed=1", "data.split_seed=2"], "seed")
    ['train.py', 'data.split_seed=2']
    """
    return [word for word in words if not word.lstrip("+").startswith(f"{key}=")]
