"""The command line."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from program.config import Config, read_config
from program.errors import RunError, UsageError, explain
from program.interruption import INTERRUPTED, tell
from runfolder.progress import console, say

DEFAULT_CONFIG = Path("configs/demo.yaml")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Examples:  python pipeline.py run --all  |  python pipeline.py stage crop --task neck  |  "
    "python pipeline.py predict photos/ --run runs/demo --out answers.csv",
)

Configured = Annotated[Path, typer.Option("--config", help="Configuration file.")]
Data = Annotated[
    list[str] | None, typer.Option("--data", help="Labelled pictures: a folder or CSV; several are merged.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/<name> by default.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: key.key=value.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Task, full or short name; repeatable.")]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, help="Tasks at once; by itself: one a core.")]
All = Annotated[bool, typer.Option("--all", help="All tasks that have pictures.")]
Finished = Annotated[Path, typer.Option("--run", help="A finished run folder.")]


class Stage(str, enum.Enum):
    """The stages by name."""

    cam = "cam"
    crop = "crop"
    finetune = "finetune"


class EngineName(str, enum.Enum):
    """The two engines of inference."""

    auto = "auto"
    onnx = "onnx"
    mxnet = "mxnet"


def _config(
    path: Path, data: list[str] | None, settings: list[str] | None, jobs: int | None = None
) -> Config:
    given = ["data.source=files", f"data.roots={json.dumps(data)}"] if data else []
    given += [f"runtime.jobs={jobs}"] if jobs else []
    return read_config(path, [*given, *(settings or [])])


def _wanted(all_tasks: bool, tasks: list[str] | None) -> list[str]:
    if all_tasks == bool(tasks):
        raise UsageError("say which tasks: either --all, or --task NAME (repeatable)")
    return tasks or []


@app.callback()
def _door() -> None:
    """Heatmap-guided crops for fine visual attributes: train, look, crop, fine-tune, fuse."""


# The work is imported inside the commands: `--help` answers at once, without loading an engine.


@app.command()
def run(
    ctx: typer.Context,
    all_tasks: All = False,
    task: Tasks = None,
    config: Configured = DEFAULT_CONFIG,
    data: Data = None,
    out: Out = None,
    jobs: Jobs = None,
    settings: Settings = None,
) -> None:
    """Run all three stages, score them, and write the report."""
    from program.run import STAGES, claimed, finish_run, run_folder, run_stages, with_finished
    from program.show import metrics_table
    from report.build import build_report

    wanted, configured = _wanted(all_tasks, task), _config(config, data, settings, jobs)
    folder = run_folder(configured, out)
    ctx.with_resource(claimed(folder))
    opened = with_finished(folder, run_stages(configured, folder, wanted, STAGES))
    metrics = finish_run(folder, opened)
    build_report(folder, opened.tasks, metrics)
    console.print(metrics_table(metrics))
    for what, where in (
        ("figures", folder.metrics),
        ("submission", folder.submission),
        ("crops", folder.path / "<task>" / "crops"),
        ("report", folder.report),
    ):
        say(f"{what + ':':<12}{where}")


@app.command()
def stage(
    ctx: typer.Context,
    name: Annotated[Stage, typer.Argument(help="Which stage.")],
    all_tasks: All = False,
    task: Tasks = None,
    config: Configured = DEFAULT_CONFIG,
    data: Data = None,
    out: Out = None,
    jobs: Jobs = None,
    settings: Settings = None,
) -> None:
    """Run one stage, from what the earlier ones left in the run folder."""
    from program.run import claimed, run_folder, run_stages

    wanted, configured = _wanted(all_tasks, task), _config(config, data, settings, jobs)
    folder = run_folder(configured, out)
    ctx.with_resource(claimed(folder))
    opened = run_stages(configured, folder, wanted, (name.value,))
    left = {"cam": "stage1", "crop": "crops", "finetune": "stage3"}[name.value]
    for done in opened.tasks:
        say(f"{done}: {folder.task(done).path / left}")


@app.command()
def check(
    task: Tasks = None,
    config: Configured = DEFAULT_CONFIG,
    data: Data = None,
    settings: Settings = None,
) -> None:
    """Tell what the data and the machine are, before hours are spent."""
    from program.check import check as look

    problems = look(_config(config, data, settings), task or [])
    if problems:
        raise RunError(f"{problems} problems found, told above")


@app.command()
def predict(
    source: Annotated[
        Path, typer.Argument(help="A picture, a folder of pictures, or a CSV with a column image.")
    ],
    run_: Finished,
    out: Annotated[Path, typer.Option("--out", help="CSV to write.")],
    task: Tasks = None,
    engine: Annotated[EngineName, typer.Option(help="Which engine computes.")] = EngineName.auto,
) -> None:
    """Predict pictures nobody has labelled, with both networks fused."""
    from program.predict import predict_pictures
    from runfolder.folder import RunFolder

    rows, good, bad = predict_pictures(source, RunFolder(run_), out, task or [], engine.value)
    say(f"{good} pictures, {rows} rows: {out}" + (f"; {len(bad)} pictures could not be read" if bad else ""))


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(help="Submission: image,task,p1;p2;… a row.")],
    answers: Annotated[Path, typer.Argument(help="Answers: image,task,nnynm a row.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="For tasks other than FashionAI's.")] = None,
) -> None:
    """Compute the official score of any submission file."""
    from attributes.submissions import score_files
    from attributes.tasks import FASHIONAI
    from program.show import score_table

    tasks = (read_config(config).known_tasks() if config else None) or FASHIONAI
    figures = score_files(predictions, answers, tasks)
    if as_json:
        typer.echo(json.dumps({k: figures[k] for k in ("map", "basic_precision", "tasks")}, indent=2))
    else:
        typer.echo(score_table(figures))


@app.command()
def report(ctx: typer.Context, run_: Finished) -> None:
    """Write the report of a run again."""
    from program.run import claimed, finish_run, reopen
    from report.build import build_report
    from runfolder.folder import RunFolder

    folder = RunFolder(run_)
    ctx.with_resource(claimed(folder, new=False))
    opened = reopen(folder)
    say(f"report: {build_report(folder, opened.tasks, finish_run(folder, opened))}")


@app.command()
def export(
    run_: Finished,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; <run>/export by default.")] = None,
) -> None:
    """Write ONNX networks and one JSON that says how to run them."""
    from program.export import export_run
    from runfolder.folder import RunFolder

    say(f"exported: {export_run(RunFolder(run_), out or run_ / 'export')}")


def main() -> int:
    """Run the command line; a user's mistake ends in one line and a code, never in a traceback.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong use, 130 interrupted.
    """
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        say(f"error: {error}")
        return 2
    except Exception as error:
        # The parser's own complaints (unknown option, missing argument) know how to show themselves.
        show = getattr(error, "show", None)
        if show is not None:
            show()
            return 2
        text = explain(error)
        if text is None:
            raise
        say(f"error: {text}")
        return 1
    if code == INTERRUPTED:  # the parser turns an interruption into this code and says nothing
        tell()
    return code if isinstance(code, int) else 0
