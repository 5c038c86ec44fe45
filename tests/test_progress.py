"""What a person sees while a part works."""

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from dpo_lab import progress
from dpo_lab.progress import Part, copied_to, job_of, part, say

FIGURES = "loss 0.41  margin 1.20  accuracy 0.88  1,204 tokens/s"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time that the parts see; a test moves it."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def terminal(monkeypatch: pytest.MonkeyPatch, width: int, term: str = "xterm") -> io.StringIO:
    """Make the console a terminal of so many columns; return what it is sent."""
    sent = io.StringIO()
    console = Console(file=sent, force_terminal=True, width=width, highlight=False, _environ={"TERM": term})
    monkeypatch.setattr(progress, "console", console)
    return sent


@pytest.mark.parametrize("width", [60, 64, 72, 80, 100, 120])
@pytest.mark.parametrize("name", ["DPO round 3/3", "sample", "adapter trained with the very long name of a part"])
def test_a_line_keeps_steps_and_time_left_and_never_wraps(clock: list[float], width: int, name: str) -> None:
    shown = Part(name, 12000)
    clock[0] += 10.0
    shown.advance(1000, FIGURES)
    line = shown.line(width)
    assert "1000/12000  1:50 left" in line
    assert len(line) <= width


def test_figures_that_do_not_fit_are_left_out_whole(clock: list[float]) -> None:
    shown = Part("DPO round 3/3", 38)
    clock[0] += 5.0
    shown.advance(19, FIGURES)
    assert shown.line(60) == "DPO round 3/3 19/38  0:05 left  loss 0.41  margin 1.20"
    assert shown.line(120).endswith("19/38  0:05 left  " + FIGURES)


def test_a_resumed_part_does_not_count_earlier_work_as_speed(clock: list[float]) -> None:
    shown = Part("sample", 600)
    shown.advance(500, resumed=True)
    assert shown.line(80).split()[-1] == "500/600"
    clock[0] += 10.0
    shown.advance(10)
    assert shown.line(80).endswith("510/600  1:30 left")


@pytest.mark.parametrize("done", [600, 601])
def test_a_finished_part_has_no_time_left(clock: list[float], done: int) -> None:
    shown = Part("sample", 600)
    clock[0] += 10.0
    shown.advance(done)
    assert shown.line(80).split()[-1] == f"{done}/600"


@pytest.mark.parametrize("width", [60, 80])
def test_a_terminal_shows_the_line_live(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    sent = terminal(monkeypatch, width)
    with part("DPO round 1/3", 38) as shown:
        shown.advance(10, FIGURES)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", sent.getvalue())]
    assert any(re.search(r"DPO round 1/3 .*10/38  0:00 left  loss 0\.41", line) for line in lines)
    assert max(map(len, lines)) <= width


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    sent = terminal(monkeypatch, 80, term="dumb")
    with part("sample", 600) as shown:
        clock[0] += progress.EVERY_SECONDS
        shown.advance(150, "4 answers")
    assert sent.getvalue() == "  sample  150/600  0:45 left  4 answers\n"


COMMAND = "next   python train.py model=local model.path=outputs/policy/tiny-dpo-films-seed0-round1 seed=1"
LINES = {
    "better in 61\u00a0% of cases (95\u00a0% interval)": "better in 61\u00a0% of cases (95\u00a0%\ninterval)",
    "an interval of the share of 95\u00a0%": "an interval of the share of\n95\u00a0%",
    "1 pretrain   ready in 40 s  outputs/model/x": "1 pretrain   ready in 40 s\n             outputs/model/x",
    "  after:  The pacing is thin, and more.": "  after:  The pacing is thin,\n          and more.",
    COMMAND: COMMAND,
    f"several lines at once are folded\n{COMMAND}": f"several lines at once are\nfolded\n{COMMAND}",
}


@pytest.mark.parametrize(("line", "shown"), LINES.items())
def test_a_terminal_gets_folded_lines_and_whole_commands(line: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = terminal(monkeypatch, 30)
    progress.say(line)
    assert sent.getvalue() == f"{shown}\n"


@pytest.mark.parametrize("width", [60, 80])
def test_a_sweep_has_a_line_above_that_of_its_job(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    sent, sweep = terminal(monkeypatch, width), Part("sweep", 100, live=True)
    sweep.done = 41
    with job_of(sweep), part("DPO round 1/3", 38) as shown:
        shown.advance(10, FIGURES)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in re.split(r"[\r\n]+", sent.getvalue())]
    of_sweep = [at for at, line in enumerate(lines) if re.search(r"sweep .*41/100", line)]
    assert any(re.match(r"DPO round 1/3 .*10/38", lines[at + 1]) for at in of_sweep)
    assert max(map(len, lines)) <= width
    assert sweep.done == 42


def test_in_a_pipe_the_line_of_a_job_says_which_one_it_is(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    sent, sweep = terminal(monkeypatch, 80, term="dumb"), Part("sweep", 8, live=True)
    sweep.done = 2
    with job_of(sweep), part("sample", 600) as shown:
        clock[0] += progress.EVERY_SECONDS
        shown.advance(150)
    assert sent.getvalue() == "  sweep 3/8  sample  150/600  0:45 left\n"


def test_quiet_shows_no_progress_and_leaves_the_lines_of_a_job_to_its_log(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], tmp_path: Path
) -> None:
    sent = terminal(monkeypatch, 80, term="dumb")
    monkeypatch.setenv(progress.QUIET, "1")
    with part("sample", 600) as shown:
        clock[0] += progress.EVERY_SECONDS
        shown.advance(150)
    with copied_to(tmp_path / "log"):
        say("of a job")
    say("the end")
    assert sent.getvalue() == "the end\n"
    assert (tmp_path / "log").read_text() == "of a job\n"


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = io.StringIO()
    plain = Console(file=sent, force_terminal=True, width=80, _environ={"TERM": "xterm", "NO_COLOR": "1"})
    monkeypatch.setattr(progress, "console", plain)
    with part("sample", 600) as shown:
        shown.advance(150)
    assert not re.search(r"\x1b\[[0-9;]*m", sent.getvalue().replace("\x1b[0m", ""))
