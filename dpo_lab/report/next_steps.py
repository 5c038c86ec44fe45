"""What a person may type after a run: commands that fit this run, from the words that made it."""

import shlex
from pathlib import Path


def next_commands(directory: str, command: str | None, seed: int, *, one_of_several: bool) -> tuple[str, ...]:
    """Return commands: talk to the model; export it; the same with another seed; other losses. None starts over (force=true).

    >>> next_commands("outputs/train/RUN", "python train.py loss=ipo seed=1", 1, one_of_several=False)[2]
    'python train.py loss=ipo seed=2'

    Args:
        directory: of the run.
        command: that made it; None if Python code did, whose words nobody knows.
        seed: of the run.
        one_of_several: whether other runs are made beside it, which may be the ones that would be proposed.
    """
    words = without(shlex.split(command), "force") if command else ["python", "train.py"]  # another run has nothing to start over
    chat = shlex.join([*how_to_call("chat", words), f"models=[{directory}]"])
    export = shlex.join([*how_to_call("export", words), f"policy={directory}"])
    if command is None or one_of_several:
        return chat, export
    first = next((index for index, word in enumerate(words) if "=" in word), len(words))
    again, losses = without(words, "seed"), without(words, "loss", "reference=none", "pairing=all_k")  # no pairs
    swept = [*losses[:first], "-m", *losses[first:], "loss=dpo,ipo"]
    return chat, export, shlex.join([*again, f"seed={seed + 1}"]), shlex.join(swept)


def how_to_call(stage: str, words: list[str]) -> list[str]:
    """Return how a stage is called where another was called so: by the same program, or by its script in the same checkout.

    >>> how_to_call("export", ["dpo-lab", "train"]), how_to_call("export", ["python", "../lab/train.py", "seed=1"])
    (['dpo-lab', 'export'], ['python', '../lab/scripts/export.py'])
    >>> how_to_call("train", ["python", "../lab/scripts/rank.py"]), how_to_call("train", ["python", "../lab/train.py"])
    (['python', '../lab/train.py'], ['python', '../lab/train.py'])
    """
    if words[0] == "dpo-lab":
        return ["dpo-lab", stage]
    place = Path(words[1]).parent
    checkout = place.parent if place.name == "scripts" else place
    return [words[0], str(checkout / "train.py" if stage == "train" else checkout / "scripts" / f"{stage}.py")]


def without(words: list[str], key: str, *others: str) -> list[str]:
    """Return the words of a command without those that set a key or what stands below it, and without other words.

    >>> without(["train.py", "loss=simpo", "loss.gamma=1", "data.split_seed=2", "reference=none"], "loss", "reference=none")
    ['train.py', 'data.split_seed=2']
    """
    return [word for word in words if not word.lstrip("+").startswith((f"{key}=", f"{key}.")) and word not in others]
