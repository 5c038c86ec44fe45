"""A folder as a repository of the Hugging Face Hub, in one commit: all of it is there, or nothing. A home of huggingface_hub."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpo_lab.components import ConfigError, RunError
from dpo_lab.durable_files import file_digest
from dpo_lab.hub import OFFLINE, innermost
from dpo_lab.hub_connection import is_reachable

RepoType = Literal["model", "dataset"]
SERVER_FILE = ".gitattributes"
"""Written by the server into every repository."""
SMALL = 1 << 20  # bytes; larger files are not held in memory
AGAIN = "Run the same command again: it looks first, and what the server has is not sent twice."


@dataclass(frozen=True)
class Target:
    """Where a folder goes."""

    repo: str
    """OWNER/NAME."""
    kind: RepoType
    private: bool
    update: bool
    """Whether a repository that holds other files becomes the folder."""

    @property
    def address(self) -> str:
        """Its page."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"


@dataclass(frozen=True)
class Published:
    """A repository that holds the folder."""

    address: str
    commit: str
    made_now: bool
    """False if it held the folder before."""
    removed: tuple[str, ...] = ()
    """Files of the repository that are not of the folder, which the commit has removed."""


def publish(folder: Path, files: Mapping[str, Mapping[str, Any]], target: Target) -> Published:
    """Upload the files of a folder in one commit, or find that the repository holds them.

    Large files are sent first and belong to nothing until the commit names them, so a call after a kill finds them there.

    Args:
        files: bytes and sha256 of each, as they were shown; anything else is refused before the commit.

    Raises:
        ConfigError: if the repository is not one that these settings may write to.
        RunError: if the Hub does not answer, refuses, or a file is not the one that was shown.
    """
    refuse_unreachable()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token

    if not (token := get_token()):
        raise ConfigError("push=true requires a token of the Hub: log in with `hf auth login`, or set HF_TOKEN.")
    api = HfApi(endpoint=constants.ENDPOINT, token=token, library_name="dpo-lab")
    with explained(target):
        info = repository(api, target)
        uploaded = {sibling.rfilename: sibling for sibling in info.siblings or () if sibling.rfilename != SERVER_FILE}
        other = [name for name, each in uploaded.items() if name not in files or not is_same(each, folder / name, files[name])]
        if not other and len(uploaded) == len(files):
            return Published(target.address, str(info.sha), made_now=False)
        refuse_other(other, target)
        additions = [CommitOperationAdd(name, content_of(folder / name, about)) for name, about in files.items()]
        api.preupload_lfs_files(target.repo, additions, repo_type=target.kind, free_memory=False)
        for addition in additions:
            refuse_unlike(addition.upload_info.sha256.hex(), folder / addition.path_in_repo, files[addition.path_in_repo])
        removed = tuple(name for name in uploaded if name not in files)
        commit = api.create_commit(
            target.repo,
            [*additions, *(CommitOperationDelete(name) for name in removed)],
            commit_message="Publish with DPO Lab",
            repo_type=target.kind,
            parent_commit=info.sha,
        )
    return Published(target.address, str(commit.oid), made_now=True, removed=removed)


def repository(api: Any, target: Target) -> Any:
    """Return what the Hub says of the repository, made if it does not exist; refuse one that is not as private as asked for."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(target.repo, repo_type=target.kind, files_metadata=True)
    except RepositoryNotFoundError:
        api.create_repo(target.repo, repo_type=target.kind, private=target.private)
        info = api.repo_info(target.repo, repo_type=target.kind, files_metadata=True)
    if target.private and not info.private:
        raise ConfigError(
            f"repo={target.repo} is public, and private=true asks for a private one, so nothing was uploaded. "
            f"Take another name; if it is yours, make it private ({target.address}/settings) or use private=false."
        )
    if info.private and not target.private:
        raise ConfigError(
            f"repo={target.repo} is private, and private=false does not change a repository that exists. "
            f"Leave private=false out, or make it public yourself ({target.address}/settings)."
        )
    return info


def is_same(remote: Any, path: Path, about: Mapping[str, Any]) -> bool:
    """Return whether the repository has a file as the folder has it: by sha256 of a large one, by git's sha1 of a small one."""
    if remote.lfs:
        return bool(remote.lfs.sha256 == about["sha256"])
    if remote.size is not None and remote.size != about["bytes"]:
        return False
    content = path.read_bytes()
    return bool(remote.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def refuse_other(other: Sequence[str], target: Target) -> None:
    """Raise ConfigError if a repository holds files that are not the folder's, and nobody asked to replace them."""
    if other and not target.update:
        listed = ", ".join(other[:3]) + (" ..." if len(other) > 3 else "")
        raise ConfigError(
            f"repo={target.repo} exists and holds other files ({listed}), so nothing was uploaded. "
            "Take another name, or use update=true: one commit makes it this folder, and its history keeps the old files."
        )


def content_of(path: Path, about: Mapping[str, Any]) -> bytes | str:
    """Return a small file's bytes, as they were shown, or a large file's path."""
    if about["bytes"] > SMALL:
        return str(path)
    refuse_unlike(file_digest(path), path, about)
    content = path.read_bytes()
    refuse_unlike(hashlib.sha256(content).hexdigest(), path, about)
    return content


def refuse_unlike(digest: str, path: Path, about: Mapping[str, Any]) -> None:
    """Raise RunError if a file is not the one that was shown."""
    if digest != about["sha256"]:
        raise RunError(f"{path} was changed since it was shown, so nothing was published. force=true writes and shows it again.")


def refuse_unreachable() -> None:
    """Raise RunError if the Hub may not be asked, or does not answer."""
    if not is_reachable():
        forbids = next((name for name in OFFLINE if os.environ.get(name, "0") not in ("", "0")), "")
        why = f"{forbids} forbids a connection" if forbids else "the Hub does not answer"
        raise RunError(f"push=true: {why}, so nothing was uploaded. The folder is kept: run the same command with a connection.")


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """Turn what the library raises into one line: what is wrong, and what to do."""
    try:
        yield
    except (ConfigError, RunError):
        raise
    except Exception as error:  # the library lets through what its transport and its server say
        raise explanation(target, error) from error


def explanation(target: Target, error: Exception) -> ConfigError | RunError:
    """Return the message for an error of the library; it never holds the token."""
    cause: BaseException | None = error
    code = None
    while cause is not None and code is None:
        code = getattr(getattr(cause, "response", None), "status_code", None)
        cause = cause.__cause__
    nothing = f"repo={target.repo}: nothing was published:"
    if code == 401:
        return ConfigError(
            f"{nothing} the Hub does not accept the token. Log in again with `hf auth login`, or correct HF_TOKEN."
        )
    if code in (403, 404):
        return ConfigError(
            f"{nothing} it belongs to another, or the token may not write there. "
            "Take a name of your own (repo=YOU/NAME), or a token with write permission."
        )
    if code == 409 and "exist" in str(error).lower():
        return ConfigError(f"{nothing} it exists, and this token may not see it. Take another name, or its owner's token.")
    if code in (409, 412):
        return RunError(
            f"{nothing} somebody else changed it meanwhile. Look at {target.address}, then run the same command again."
        )
    if code == 400 or (code is None and isinstance(error, ValueError)):
        return RunError(f"{nothing} the Hub refuses it ({innermost(error)}).")
    what = f"the Hub answered {code}" if code else f"the connection broke ({innermost(error)})"
    return RunError(f"repo={target.repo}: {what}, and whether the commit arrived is not known. {AGAIN}")
