"""Facts about columns whose names seem harmless: prose in them, and answers where no column holds the prompt, are asked about."""

from pathlib import Path

import pytest

from tests.data.test_unread import PAIR, Row, loaded, refused

PROSE = "Short waves are scattered more by the air than long ones, which is why noon looks as it does."


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Summarise the text.", "source": PROSE, "chosen": "Air scatters.", "rejected": "The sea."},
        {"question": "What is it about?", "article_url": PROSE, "chosen": "Air scatters.", "rejected": "The sea."},
        {"output": "Why is the sky blue?", "chosen": "Well: it is", "rejected": "Well: it was"},
        {"user_response": "Why is the sky blue?", "chosen": "Well: it is", "rejected": "Well: it was"},
    ],
    ids=["prose in a source", "prose in a url", "an output beside answers without a prompt", "a response there"],
)
def test_what_a_name_makes_seem_harmless_is_refused_where_it_may_be_asked_about(tmp_path: Path, row: Row) -> None:
    assert "nobody reads" in str(refused(tmp_path, row))


@pytest.mark.parametrize("name", ["critique", "judge_prompt", "meta", "feedback"])
def test_prose_about_the_answers_may_stay_unread(tmp_path: Path, name: str) -> None:
    pairs, _ = loaded(tmp_path, {**PAIR, name: PROSE})
    assert len(pairs) == 1
