"""A conversation with several models at once: each hears the same person and remembers its own answers."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from dpo_lab.progress import say
from dpo_lab.records import Message, Prompt
from dpo_lab.sampling.hf import OpenHFSampler
from dpo_lab.sampling.streaming import stream
from dpo_lab.seeding import derive
from dpo_lab.tokens.template import ChatEncoder

HELP = "/system TEXT sets the system turn and begins anew, /system alone removes it; /reset begins anew; /quit or Ctrl-D ends"
Show = Callable[[Sequence[str]], AbstractContextManager[Callable[[Sequence[str]], None]]]
"""Given the models' names, shows their texts as they grow."""


@dataclass
class Speaker:
    """One model in the conversation."""

    name: str
    model: OpenHFSampler
    turns: list[Message] = field(default_factory=list)
    """With its own answers; without the system turn."""

    def prompt(self, system: str, text: str) -> Prompt:
        """Return the conversation with one more question."""
        first: list[Message] = [{"role": "system", "content": system}] if system else []
        return Prompt.of([*first, *self.turns, {"role": "user", "content": text}])

    def refusal(self, prompt: Prompt) -> str:
        """Return why the model cannot answer, an empty text if it can."""
        encoder = ChatEncoder(self.model.tokenizer)
        if not encoder.takes(prompt):
            return (
                f"the chat template of {self.name} refuses these turns; /system alone removes the system turn, /reset begins anew"
            )
        (ids,) = encoder.prompt_ids([prompt])
        room = f"the conversation has {len(ids)} tokens and {self.name} reads {self.model.readable}; /reset begins anew"
        return room if len(ids) > self.model.readable else ""


def converse(speakers: Sequence[Speaker], lines: Iterable[str], show: Show, *, system: str = "", seed: int = 0) -> int:
    """Answer line after line until they end or one is /quit; return how many questions were answered.

    Args:
        lines: what the person types; those that begin with / are commands.
        system: the system turn; empty: none.
        seed: equal seeds and lines give equal answers.
    """
    asked = 0
    for line in lines:
        text = line.strip()
        word, _, rest = text.partition(" ")
        if word in ("/quit", "/exit"):
            break
        if word in ("/reset", "/system"):
            system = rest.strip() if word == "/system" else system
            for speaker in speakers:
                speaker.turns.clear()
            say(f"  a new conversation{f', system: {system}' if system else ', without a system turn'}")
        elif text.startswith("/"):
            say(f"  {HELP}" if word == "/help" else f"  {word} is not a command: {HELP}")
        elif text and answered(speakers, text, show, system=system, seed=derive(seed, "chat", asked)):
            asked += 1
    return asked


def answered(speakers: Sequence[Speaker], text: str, show: Show, *, system: str, seed: int) -> bool:
    """Let every model answer, token by token in turn; return False, and change nothing, if one of them cannot."""
    prompts = [speaker.prompt(system, text) for speaker in speakers]
    if refusals := [why for speaker, prompt in zip(speakers, prompts, strict=True) if (why := speaker.refusal(prompt))]:
        say(*(f"  {why}" for why in refusals))
        return False
    ids = [
        ChatEncoder(speaker.model.tokenizer).prompt_ids([prompt])[0] for speaker, prompt in zip(speakers, prompts, strict=True)
    ]
    streams = [stream(speaker.model, prompt, seed) for speaker, prompt in zip(speakers, ids, strict=True)]
    texts = [""] * len(speakers)
    going = set(range(len(speakers)))
    with show([speaker.name for speaker in speakers]) as shown:
        while going:
            for at in sorted(going):
                try:
                    texts[at] = next(streams[at])
                except StopIteration:
                    going.discard(at)
            shown(texts)
    for speaker, answer in zip(speakers, texts, strict=True):
        speaker.turns += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return True
