"""The end of a run: its figures on the screen, samples, and the files of its directory."""

from pathlib import Path
from typing import Any

from dpo_lab.figures import summary_of
from dpo_lab.models.load import load_tokenizer
from dpo_lab.pipeline import run_record
from dpo_lab.pipeline.run_state import RunState
from dpo_lab.pipeline.screen import choices_of
from dpo_lab.report import screen as text
from dpo_lab.report.figures import verdict
from dpo_lab.report.health import health_lines
from dpo_lab.report.next_steps import next_commands
from dpo_lab.report.page import write_report
from dpo_lab.report.rounds import rounds_lines
from dpo_lab.report.while_training import best_of, cost_line
from dpo_lab.run_directory import REPORT, RunDirectory


def finish(state: RunState, directory: Path, about: dict[str, Any]) -> None:
    """Say the figures, show samples, and write the run's files; `about` is run.json so far and gets the rest."""
    alignment, screen, summary, evaluation = state.alignment, state.screen, state.summary, state.alignment.evaluation
    figures, samples = state.measurements.figures, list[dict[str, Any]]()
    before, after = state.measurements.found
    by_round = [*alignment.data.round_figures, *figures]
    if after:
        summary |= summary_of(figures, after.figures, before.figures if before else None)
    screen.say(*rounds_lines(by_round, summary))
    if after:
        screen.say(*text.figures_table(evaluation.heading(summary), figures, summary), *evaluation.lines(summary))
        if note := evaluation.note(summary):
            summary["eval/note"] = note
        if before and before.answers and after.answers:
            samples = run_record.samples_of(before.answers, after.answers)
            screen.say(text.sample_line(samples[0]["prompt"], samples[0]["before"], samples[0]["after"]))
    else:
        summary["eval/note"] = "nothing was held out, so nothing was evaluated; data.held_out=N keeps N prompts"
    summary |= {f"seconds/{name}": round(value, 3) for name, value in run_record.seconds_of(state.lineage).items()}
    summary["seconds/total"] = round(screen.elapsed(), 3)
    if times := run_record.evaluations_of(state.lineage):
        about["evaluations"] = times
        summary |= best_of(figures, [time for time in times if time["round"] == times[-1]["round"]])
        screen.say(cost_line(summary, len(times)))
    about["of"] = dict(choices_of(alignment.model, alignment.data, alignment.trainer.devices))
    about["held_out"] = evaluation.heading(summary) if after else ""
    about["model"] = next(str(artifact.path) for artifact in reversed(state.lineage) if artifact.manifest["kind"] == "policy")
    about["next"] = next_commands(
        str(directory), about["command"], alignment.seed, one_of_several=state.recorder.run.group is not None
    )
    findings = [finding.record() for finding in state.health.findings]
    about["findings"] = findings
    summary |= {"health/findings": len(findings)} | {f"health/{finding['name']}": finding["round"] for finding in findings}
    screen.say(*health_lines(findings, len(state.rounds)), verdict(summary, state.rounds, figures, findings))
    screen.say(*text.footer(about["model"], str(directory / REPORT), about["next"]))
    about |= {"lineage": run_record.ancestry(state.lineage), "lengths": run_record.lengths_of(state.lineage)}
    about |= {"rounds": state.rounds, "samples": samples}
    about["figures"] = [figure.record() for figure in by_round if figure.headline or figure.each_round]
    about |= {"answers": answers} if (answers := run_record.answers_of(state.lineage)) else {}
    if after and after.credit:
        about["credit"] = run_record.credit_texts(after.credit, load_tokenizer(state.base.path, state.base.storage.revision))
    RunDirectory(directory).finish(screen=screen.lines, summary=summary, run=about)
    write_report(directory)
