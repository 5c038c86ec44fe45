"""Row formats, one family a file; a format is one `RowFormat` object in the table of its family.

Formats keep texts as they stand; `validation` strips them where a chat template will render them.
"""

from dpo_lab.data.formats.base import Parts, RowFormat
from dpo_lab.data.formats.conversations import CONVERSATIONS
from dpo_lab.data.formats.labelled import LABELLED
from dpo_lab.data.formats.ranked import RANKED
from dpo_lab.data.formats.texts import TEXTS
from dpo_lab.data.formats.transcripts import TRANSCRIPTS
from dpo_lab.data.problems import RowProblem

FORMATS: tuple[RowFormat, ...] = (*RANKED, *LABELLED, *CONVERSATIONS, *TRANSCRIPTS, *TEXTS)
"""All formats; the first that recognises a row reads it, so narrower ones stand first."""


def format_of(row: Parts) -> RowFormat:
    """Return the format of a row.

    >>> format_of(Parts({"prompt": "Q: 1 + 1?\\nA:", "chosen": " 2", "rejected": " 3"})).name
    'trl_plain_explicit'
    >>> format_of(Parts({"chosen": "Human: Hi\\n\\nAssistant: Hello!", "rejected": "Human: Hi\\n\\nAssistant: Eh"})).name
    'hh_transcript'

    Raises:
        RowProblem: both answers are empty, or one is text and the other is turns.
    """
    kinds = {row.kind("chosen"), row.kind("rejected")} - {""}
    if not kinds and not {"chosen", "rejected"}.isdisjoint(row.values):
        raise RowProblem("empty_response", f"{row.name('chosen')} and {row.name('rejected')} are both empty")
    known = next((each for each in FORMATS if each.recognises(row)), None)
    if known is None:
        raise RowProblem("wrong_type", f"one of {row.name('chosen')} and {row.name('rejected')} is text and the other is turns")
    return known
