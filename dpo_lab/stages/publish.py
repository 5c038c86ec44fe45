"""The stage `publish`: a preference data set or a trained model as a folder for the Hub, with its card, and its upload."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.hub import HUB_ID
from dpo_lab.hub_connection import ask_hub
from dpo_lab.progress import say


@component
class Publish(Component):
    """Write the folder of a repository, show what would leave the machine, and upload it if asked to."""

    source: str
    """Directory of a finished run, of pairs, of a policy or of an export."""
    what: Literal["auto", "pairs", "model"] = "auto"
    """auto: what the directory holds, and of a run its pairs if it made any."""
    licence: str | None = None
    """Of the publication; null: that of what it is made from, which then has to be known."""
    base: str | None = None
    """Hub id of the model that was trained, where the training took it from a directory."""
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the prompts whose pairs stand in test splits."""
    push: bool = False
    """Whether it is uploaded."""
    repo: str | None = None
    """OWNER/NAME on the Hub."""
    private: bool = True
    """Whether the repository is private."""
    update: bool = False
    """Whether a repository that holds other files is made this folder."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    force: bool = False
    """Write the folder again even if it is there."""

    def idle(self) -> Mapping[str, str]:
        """Return what belongs to an upload, and to data sets or models alone."""
        names = () if self.push else ("repo", "private", "update")
        idle = dict.fromkeys(names, "nothing is uploaded (push=false)")
        idle |= {"test_share": "a model has no splits"} if self.what == "model" else {}
        return idle | ({"base": "pairs have none"} if self.what == "pairs" else {})

    def check(self) -> None:
        """Raise ConfigError for a name that the Hub would refuse."""
        from dpo_lab.publishing.write import refuse_no_target

        refuse_no_target(self.push, self.repo)
        if self.base and not HUB_ID.fullmatch(self.base):
            raise ConfigError(f"base={self.base} is not the name of a model on the Hub, which is OWNER/NAME.")
        if self.licence is not None and self.licence.strip().lower() in ("", "unknown"):
            raise ConfigError(f"licence={self.licence} states none. Name one: licence=cc-by-4.0, or licence=other.")

    def run(self) -> dict[str, Any]:
        """Write or find the folder, show it, upload it; return the facts.

        Raises:
            ConfigError: if the source, a licence or the repository cannot be used.
            RunError: if the folder was changed since it was shown, or the Hub does not take it.
        """
        self.check()
        if self.push:
            ask_hub()
        from dpo_lab.publishing import write
        from dpo_lab.publishing.source import source_at

        source = source_at(self.source)
        what = source.kind(self.what)
        if what == "pairs" and self.base:
            raise ConfigError(f"base={self.base} has no effect: pairs of {self.source} are published, which have none.")
        plan = write.planned(
            source,
            what,
            root=self.outputs,
            licence=self.licence,
            base=self.base,
            test_share=self.test_share if what == "pairs" else 0,
        )
        if not self.force:
            write.refuse_changed(plan)

        def produce(directory: Path) -> dict[str, Any]:
            if what == "pairs":
                return write.write_pairs(source, directory, self.licence, self.test_share)
            return write.write_trained(source, directory, self.licence, self.base)

        publication = plan.make(produce, force=self.force)
        say(*write.shown(publication))
        if not self.push:
            say("  nothing has left this machine; push=true repo=OWNER/NAME uploads it, private unless private=false")
            return publication.facts
        return {**publication.facts, **write.uploaded(publication, str(self.repo), private=self.private, update=self.update)}
