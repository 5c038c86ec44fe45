"""Models of the Hugging Face Hub: their files on this machine, from the cache or fetched into it."""

from pathlib import Path

from dpo_lab.amounts import bytes_text
from dpo_lab.components import ConfigError
from dpo_lab.hub import HUB_ID, HubEntry, innermost
from dpo_lab.hub_connection import cache_alone_if_unreachable, is_reachable
from dpo_lab.models.directory import INDEX, SINGLE, read_json, refuse_unusable
from dpo_lab.progress import is_live, say

SMALL = ("*.json", "*.txt", "*.jinja", "*.model")
WEIGHTS = "model*.safetensors"
FOLDERS = "*/*"  # other formats of the same weights
LOCAL_AGAIN = "Copy or download it again (in a git clone: `git lfs pull`)."


def entry_of(path: str, revision: str | None) -> HubEntry:
    """Return a model on the Hub, for messages."""
    return HubEntry(path, revision, "model", "model")


def checked(path: str, revision: str | None = None, *, gated: bool | None = None) -> Path:
    """Return the directory of a model's small files, after all that is cheap to find out about the rest.

    Args:
        gated: whether its owner asks for consent, to say so where the Hub cannot be asked.

    Raises:
        ConfigError: the model cannot be loaded or is not complete; with what, why, and which command or setting helps.
    """
    if Path(path).is_dir():
        refuse_unusable(Path(path), LOCAL_AGAIN)
        return Path(path)
    entry = entry_of(path, revision)
    directory = snapshot(entry, SMALL, gated=gated)
    try:
        refuse_unusable(directory, entry.again())
    except ConfigError:
        if not is_reachable():
            raise
        _refuse_without_safetensors(entry, gated=gated)
    return directory


def fetched(path: str, revision: str | None = None, *, small: bool = False) -> Path:
    """Return the directory with a model's files, downloaded if they are not in the cache; `small`: all but the weights."""
    if Path(path).is_dir():
        return Path(path)
    entry = entry_of(path, revision)
    directory = snapshot(entry, SMALL)
    if small or not _lacks_weights(directory):
        return directory
    say(f"  fetching {path}{_size_of(directory)}")
    directory = snapshot(entry, (*SMALL, WEIGHTS), bars=is_live())
    refuse_unusable(directory, entry.again())
    return directory


def _lacks_weights(directory: Path) -> bool:
    try:
        refuse_unusable(directory, "")
    except ConfigError:
        return True
    return False


def _size_of(directory: Path) -> str:
    """Return the size of the weights as their index gives it, for the screen; empty where there is no index."""
    size = read_json(directory, INDEX, "").get("metadata", {}).get("total_size", 0) if (directory / INDEX).is_file() else 0
    return f", {bytes_text(size)}" if size else ""


def commit_of(path: str, revision: str | None = None) -> str | None:
    """Return the commit of a Hub model that the cache holds, None for a directory."""
    return None if Path(path).is_dir() else snapshot(entry_of(path, revision), ("config.json",)).name


def snapshot(entry: HubEntry, patterns: tuple[str, ...], *, gated: bool | None = None, bars: bool = False) -> Path:
    """Return the directory of a model's files in the cache; the Hub is asked, unless HF_HUB_OFFLINE forbids it.

    Args:
        bars: show the library's progress bars.
    """
    if not HUB_ID.fullmatch(entry.path):
        raise ConfigError(entry.no_id())
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars  # type: ignore[attr-defined]  # not in its __all__

    (enable_progress_bars if bars else disable_progress_bars)()
    try:
        with cache_alone_if_unreachable():
            directory = snapshot_download(
                entry.path,
                revision=entry.revision,
                allow_patterns=list(patterns),
                ignore_patterns=[FOLDERS],
                library_name="dpo_lab",
            )
    except Exception as error:  # the library lets through what its transport raises
        raise ConfigError(explanation(entry, error, gated=gated)) from error
    return Path(directory)


def _refuse_without_safetensors(entry: HubEntry, *, gated: bool | None) -> None:
    """Raise ConfigError if a model that is not in the cache has no weights in safetensors on the Hub."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(entry.path, revision=entry.revision)
    except Exception as error:
        raise ConfigError(explanation(entry, error, gated=gated)) from error
    if not {SINGLE, INDEX} & set(files):
        raise ConfigError(
            f"model.path={entry.path} has no weights in safetensors; pickles can run code when they are read, and other formats "
            "are not read. Use a model that has them, or convert it and give the directory: model=local model.path=DIR."
        )


def explanation(entry: HubEntry, error: Exception, *, gated: bool | None = None) -> str:
    """Return the message for an error of the library."""
    kinds = {kind.__name__ for cause in _chain(error) for kind in type(cause).__mro__}
    if "GatedRepoError" in kinds:
        return entry.gated()
    if "RevisionNotFoundError" in kinds:
        return entry.no_revision()
    if "RepositoryNotFoundError" in kinds:
        return entry.absent()
    if kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "TransportError"}:
        other = f" {entry.key}.revision=null takes the newest that the cache holds, if any." if entry.revision else ""
        return entry.unreachable() + other + (f" {entry.gated()}" if gated else "")
    if getattr(error, "errno", None) in (13, 28, 30):  # no permission, disk full, read-only file system
        return (
            f"{entry.key}.path={entry.path} cannot be fetched ({innermost(error)}). "
            "Point HF_HOME to a directory with space that you may write to."
        )
    return f"{entry.key}.path={entry.path} cannot be fetched ({innermost(error)}). {entry.again()}"


def _chain(error: BaseException | None) -> list[BaseException]:
    return [error, *_chain(error.__cause__)] if error else []
