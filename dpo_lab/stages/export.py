"""The stage `export`: a policy as one plain model, its adapter merged into the base that it was trained on, and checked."""

from pathlib import Path
from typing import Any

from dpo_lab.amounts import bytes_text
from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import Component, component
from dpo_lab.export.plain import dtype_on_disk
from dpo_lab.export.settings import ExportSettings, device_of, refuse_unknown_base
from dpo_lab.export.source import revision_of, source_of
from dpo_lab.export.write import produce
from dpo_lab.models.given import recorded_below
from dpo_lab.progress import say


@component
class Export(Component):
    """Write a policy as one plain model, and check that it is that policy."""

    export: ExportSettings = ExportSettings()
    policy: str
    """Directory of a finished run of train, whose last policy is taken, or of a policy: a PEFT adapter, or all weights."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    force: bool = False
    """Write it again even if it is there."""

    def run(self) -> dict[str, Any]:
        """Write the model, or return the facts of the finished one at once."""
        with recorded_below(self.outputs):
            source = source_of(self.policy, self.export.base_path)
        refuse_unknown_base(source, self.export)
        device = device_of(self.export, source)
        dtype = self.export.dtype if self.export.dtype != "auto" else dtype_on_disk(source.base, revision_of(source))
        content = {"source": source.identity, "base": self.export.base, "dtype": dtype, "shards": self.export.max_shard_size}
        parents = [source.identity["policy"]] if "policy" in source.identity else []
        name = f"{source.name}-{self.export.base}-{dtype}" if source.has_adapter else f"{source.name}-{dtype}"
        plan = Plan(self.outputs, "export", name, content, parents=parents)
        made = plan.make(lambda directory: produce(self.export, source, directory, dtype, device), force=self.force)
        tell(made)
        return made.facts


def tell(exported: Artifact) -> None:
    """Print where the model is and how far it is from the policy."""
    facts = exported.facts
    what = "written" if exported.made_now else "was written before; force=true writes it again"
    size = f"{facts['dtype']}, {facts['files']} files, {bytes_text(facts['bytes'])}"
    say(f"export {exported.path}  {size}, {what}")
    say(f"  policy {facts['policy']}")
    gap = f"  gap to the policy {facts['gap']:.2g} nats per sequence, largest of {facts['rows']}"
    if facts["quantisation_error"]:
        gap += ": quantisation error, for the adapter was trained on the quantised base and is merged into the original weights"
    else:
        gap += f" (at most {facts['tolerance']:g})"
    say(gap)
    say(f"  next: vllm serve {exported.path}   |   python convert_hf_to_gguf.py {exported.path}")
