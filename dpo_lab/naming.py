"""The directory of a run: readable words of what was asked for in its name, found by its id whatever those words are."""

from dataclasses import replace

from filelock import FileLock

from dpo_lab.artifacts import Plan
from dpo_lab.manifests import MANIFEST


def as_named(plan: Plan, words: str = "") -> Plan:
    """Return a plan under the name that its directory has on disk; where there is none, with these words in its name.

    A run that was made by a sweep and the same run alone have one id, and so one directory, whoever came first.
    """
    end = f"-{plan.id[:8]}"
    places = [path for path in plan.path.parent.glob(f"[!.]*{end}") if path.is_dir()]
    name = min(places, key=lambda path: (not (path / MANIFEST).is_file(), path.name), default=plan.path).name.removesuffix(end)
    return replace(plan, name=name if places or not words else f"{name}-{words}")


def settled(plan: Plan) -> Plan:
    """Return the same, and make its directory: processes that ask for one run in other words at one time agree on a name."""
    kind = plan.path.parent
    try:
        kind.mkdir(parents=True, exist_ok=True)
        with FileLock(kind / ".names.lock"):
            named = as_named(plan)
            named.path.mkdir(exist_ok=True)
    except OSError:  # it cannot be written: whoever makes the artifact says so
        return as_named(plan)
    return named
