"""The appendix: what is needed to repeat or to doubt each figure, the runs that wait, speed and memory."""

from typing import Any

from cli.records import Run
from cli.references import References
from karyon.commands.console import duration, table

PROVENANCE = "provenance.md"
SHORT = "Configs named without a folder lie in `configs/short`: trainings cut to what two cores do in an hour."


def told(run_id: str, text: str) -> str:
    """A text that links to the provenance of a run."""
    return f"[{text}]({PROVENANCE}#{run_id.lower().replace('.', '')})"


def provenance(references: References, runs: list[Run]) -> str:
    """Lays the page out as Markdown."""
    parts = ["# Provenance", "## GPU queue", _queue(references.queue)]
    parts += ["## Speed and memory", _benchmarks(references.benchmarks), "## Runs", SHORT]
    parts += [f"### {run.id}\n\n{_run(run)}" for run in runs] or ["No records yet."]
    return "\n\n".join(parts) + "\n"


def _queue(queue: list[dict[str, str]]) -> str:
    lines = [f"{rank}. `{run['command']}`: {run['why']}." for rank, run in enumerate(queue, 1)]
    about = (
        "Runs that wait for a GPU, the most wanted first. What one leaves enters these pages with `python -m cli "
        "results runs/NAME/version_N/record.json`."
    )
    return "\n".join([about, "", *lines])


def _benchmarks(benchmarks: list[dict[str, str]]) -> str:
    """What the benchmarks printed, each with all that is needed to repeat or to doubt it."""
    rows = [[entry["what"], entry["figure"], f"`{entry['command']}`", entry["measured"]] for entry in benchmarks]
    return table(["what", "figure", "command", "measured"], rows, words=4)


def _run(run: Run) -> str:
    """A line for each training and each test of a run; a command that did several things stands there once."""
    fits = {"trained": run.fit} if run.fit else {f"{name}, trained": fit for name, fit in run.stages.items()}
    lines, said = [] if fits else ["- trained: no record"], ""
    for what, record in {**fits, "tested": run.test, "validated": run.val}.items():
        if record:
            command = "by the same command" if record["command"] == said else f"`{record['command']}`"
            lines.append(f"- {what}: {command}; {_facts(record)}")
            said = record["command"]
    return "\n".join(lines)


def _facts(record: dict[str, Any]) -> str:
    commit = f"commit `{record['commit']}`"
    if record["commit"].endswith("-dirty"):
        commit += " (**with uncommitted changes**)"
    facts = [commit, f"seed {record['seed']}", record["hardware"], duration(record["wall_s"]), record["date"]]
    if "initial_weights" in record:
        facts.append(f"initial weights {record['initial_weights']}")
    if "parameters" in record:
        size = f"{record['parameters']:,} parameters", f"{record['steps']:,} steps", f"precision {record['precision']}"
        facts += size
    return ", ".join(facts)
