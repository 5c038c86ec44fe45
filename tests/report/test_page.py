"""report.html: it holds all that the run's files say, escapes it, loads nothing, and never fails on what it finds."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.report.page import write_report

HOSTILE = """</script><script>alert("x")</script><img src=x onerror='alert(1)'>{{ 7*7 }} & "quoted\""""
SUMMARY = {"gold/before": 0.509481810609464, "gold/after": 0.97, "win_rate": 0.9842767295597484, "win_rate/low": 0.9713} | {
    "win_rate/high": 0.9914, "kl": 5.0145, "gold/round_1": 0.776, "seconds/dpo": 14.5, "seconds/total": 79.9
}  # fmt: skip


def rows(num_rounds: int = 3, steps: int = 10, more: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Return the logged steps of some rounds."""
    found = []
    for step in range(1, num_rounds * steps + 1):
        inside = (step - 1) % steps / steps
        figures = {
            "loss": round(0.7 - inside / 2, 3),
            "rewards/chosen": inside,
            "rewards/rejected": -inside,
            "rewards/accuracies": inside,
        }
        found.append({"round": (step - 1) // steps + 1, "step": step, **figures, "lr": 5e-4, **(more or {})})
    return found


def run_facts(text: str = "plain") -> dict[str, Any]:
    """Return a run.json in which every text holds `text`."""
    policy = {"kind": text, "name": f"policy {text}", "id": "b" * 64, "path": text, "seconds": 1.5, "parents": ["a" * 64]}
    return {
        "name": f"tiny {text}", "id": "c" * 64, "tags": [text], "notes": text, "group": text,
        "command": f"python train.py {text}", "repeat": f"python train.py rerun={text}",
        "differences": [{"key": "loss.beta", "default": 0.1, "value": text}],
        "environment": {"python": "3.11.9", "git": {"revision": text, "dirty": True}, "packages": {"torch": "2.13.0"}},
        "lineage": [{**policy, "name": "base model", "id": "a" * 64, "parents": []}, {**policy, "facts": {"note": [text]}}],
        "lengths": {"prompt": [3, 4, 4], "chosen": [10, 12], "rejected": [9, 30]},
        "rounds": [{"number": 1, "pairs": 597, "steps": 38, "loss/first": 0.6931}],
        "samples": [{"prompt": text, "before": f"old {text}", "after": f"new {text}", "score_before": 0.25, "score_after": None}],
        "answers": [{"round": 1, "step": 4, "samples": [{"prompt": text, "answer": f"half-way {text}"}]}],
    }  # fmt: skip


def written(directory: Path, *, summary: Any = None, run: Any = None, metrics: Any = None, config: Any = None) -> str:
    """Write the files that are given, then the report, and return it."""
    for name, content in (("summary.json", summary), ("run.json", run), ("config.json", config)):
        if content is not None:
            (directory / name).write_text(json.dumps(content))
    if metrics is not None:
        (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return write_report(directory).read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser sees: the elements, their attributes, and the text outside of script and style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += "" if self.tags[-1:] in (["script"], ["style"]) else data


@pytest.fixture
def full(tmp_path: Path) -> str:
    """The report of a run with all of its files."""
    (tmp_path / "screen.txt").write_text("dpo-lab train tiny\n")
    return written(tmp_path, summary=SUMMARY, run=run_facts(), metrics=rows(), config={"loss": {"class": "DPOLoss", "beta": 0.3}})


def test_every_figure_of_the_summary_stands_on_the_page_exactly(full: str) -> None:
    text = Page(full).text
    assert [name for name, value in SUMMARY.items() if name not in text or json.dumps(value) not in text] == []


def test_the_page_opens_with_whether_the_run_worked(full: str) -> None:
    text = Page(full).text
    assert text.index("Better than before: answers to held-out prompts win") < text.index("Before and after")


def test_everything_that_was_recorded_is_shown(full: str) -> None:
    text = Page(full).text
    recorded = [
        "new plain",
        "before, score 0.25",
        "round 1, after step 4",
        "half-way plain",
        "python train.py plain",
        "rerun=plain",
        "packages.torch",
        "2.13.0",
        "git.dirty",
    ]
    assert [
        each for each in (*recorded, "loss.class", "DPOLoss", "dpo-lab train tiny", "base model", "597") if each not in text
    ] == []
    assert "Not on this page" not in text


def test_differences_from_the_defaults_come_before_the_whole_configuration(full: str) -> None:
    assert 0 < full.index("differs from the defaults") < full.index("The whole configuration") < full.index("loss.class")


def test_a_run_without_recorded_differences_is_not_said_to_have_none(tmp_path: Path) -> None:
    assert "Nothing differs" in written(tmp_path, run={"differences": []})
    assert "differs" not in Page(written(tmp_path, run={"differences": None}, config={"seed": 0})).text


def test_no_text_of_a_run_becomes_markup(tmp_path: Path) -> None:
    (tmp_path / "screen.txt").write_text(HOSTILE)
    metrics, config = rows(more={HOSTILE: 1.0}), {"path": HOSTILE, HOSTILE: 1}
    page = Page(written(tmp_path, summary={**SUMMARY, HOSTILE: HOSTILE}, run=run_facts(HOSTILE), metrics=metrics, config=config))
    harmless = Page(
        written(
            tmp_path,
            summary={**SUMMARY, "a": "a"},
            run=run_facts("a"),
            metrics=rows(more={"a": 1.0}),
            config={"path": "a", "b": 1},
        )
    )
    assert page.tags == harmless.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in harmless.attributes]
    assert page.text.count(HOSTILE) >= 20


def test_the_script_finds_the_value_of_every_step_in_its_figure(full: str) -> None:
    points = [json.loads(value) for name, value in Page(full).attributes if name == "data-points"]
    assert points[0]["steps"] == list(range(1, 31))
    assert points[0]["values"] == [[row["loss"] for row in rows()]]


def test_the_page_loads_nothing(full: str) -> None:
    links = [value for name, value in Page(full).attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert [link for link in links if not link.startswith(("#", "data:,"))] == []
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", full)


def test_the_page_stays_small_however_much_was_logged(tmp_path: Path) -> None:
    samples = [{"prompt": "p" * 9000, "before": "b" * 90_000, "after": "a" * 90_000}] * 200
    lengths = {"prompt": list(range(5000)), "chosen": [1] * 5000, "rejected": [4096] * 5000}
    report = written(
        tmp_path, summary=SUMMARY, run={**run_facts(), "samples": samples, "lengths": lengths}, metrics=rows(20, 200)
    )
    assert len(report.encode()) < 1_500_000
    assert "more characters in run.json" in report
    assert "mean of up to 10 logged steps" in report


def test_a_prompt_that_was_asked_often_is_shown_at_twelve_times_from_the_first_to_the_last(tmp_path: Path) -> None:
    asked = [{"round": 1, "step": step, "samples": [{"prompt": "why?", "answer": f"answer {step}."}]} for step in range(101)]
    text = Page(written(tmp_path, run={**run_facts(), "answers": asked})).text
    shown = [step for step in range(101) if f"answer {step}." in text]
    assert (len(shown), shown[0], shown[-1], shown[1]) == (12, 0, 100, 9)  # 100 / 11 apart
    assert text.count("why?") == 1


def test_the_summary_alone_makes_a_page(tmp_path: Path) -> None:
    report = written(tmp_path, summary=SUMMARY)
    text = Page(report).text
    assert "0.9842767295597484" in text
    assert "0.776" in text
    assert "metrics.jsonl is absent: no curves" in text
    assert "<svg" not in report


def test_an_empty_directory_makes_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    text = Page(write_report(tmp_path).read_text()).text
    assert "has not finished" in text
    assert all(f"{name} is absent" in text for name in ("summary.json", "run.json", "config.json", "metrics.jsonl", "screen.txt"))


def test_a_part_that_cannot_be_shown_leaves_the_others(tmp_path: Path) -> None:
    broken = {**run_facts(), "lineage": ["nonsense"], "rounds": 5, "lengths": {"prompt": ["x"]}, "samples": [{}], "tags": 3}
    text = Page(written(tmp_path, summary=SUMMARY, run=broken, metrics=rows())).text
    assert all(f"{name} cannot be shown" in text for name in ("lineage", "rounds", "lengths", "samples", "about"))
    assert "packages.torch" in text
    assert "rewards/chosen" in text


def test_files_cut_off_by_a_kill_are_named(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"gold/after": 0.9')
    (tmp_path / "run.json").write_text("[]")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "round": 1, "loss": 0.5}\n{"step": 2, "lo')
    text = Page(write_report(tmp_path).read_text()).text
    assert "summary.json is not JSON" in text
    assert "run.json holds a list where an object belongs" in text
    assert "metrics.jsonl has 1 of 2 lines that are not the row of a step" in text
    assert "the last one" in text


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    first = written(tmp_path, summary=SUMMARY, run=run_facts(), metrics=rows())
    assert write_report(tmp_path).read_text() == first


def test_half_of_a_surrogate_pair_is_written_as_a_question_mark(tmp_path: Path) -> None:
    assert "new ?" in written(tmp_path, run=run_facts("\ud83d"))
