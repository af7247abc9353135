"""The command line."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from heatcrop.cli.errors import explain
from heatcrop.cli.signals import INTERRUPTED, report_interruption
from heatcrop.errors import PROGRAM, DataError, RunError, UsageError
from heatcrop.files import printable
from heatcrop.runs.folder import RunFolder, run_again
from heatcrop.runs.progress import console, log, speed_line
from heatcrop.timing import now
from heatcrop.wording import counted

if TYPE_CHECKING:
    from heatcrop.cli.config import Config
    from heatcrop.data.tasks import Task
    from heatcrop.data.writers.records import Record
    from heatcrop.predict.images import Image
    from heatcrop.predict.predictor import Prediction
    from heatcrop.predict.trained_run import TrainedRun
    from heatcrop.report.results import TaskResults

DEFAULT_CONFIG = Path("configs/demo.yaml")
_PROGRAM = Path(__file__).parents[2], Path(__file__).parents[1]
"""Folders with `configs`: of a checkout, and of an installed package."""


def _examples(*lines: str) -> str:
    return "\n\n".join(["Examples:", *(f"  {PROGRAM} {line}" for line in lines)])


def _task_names(incomplete: str) -> list[str]:
    """Complete the competition's task names; those of other data are known only when it is read."""
    from heatcrop.data.tasks import FASHIONAI

    return [task.short for task in FASHIONAI if task.short.startswith(incomplete)]


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=_examples(
        "check --data birds/ --set data.tasks=infer",
        "run --all",
        "predict photos/ --run runs/demo --out answers.csv",
    ),
)


class Format(str, enum.Enum):  # the parser allows no list of literals
    """Formats of other tools, see :data:`heatcrop.data.writers.FORMATS`."""

    COCO = "coco"
    LABELSTUDIO = "labelstudio"
    FIFTYONE = "fiftyone"


Configured = Annotated[Path, typer.Option("--config", help="Configuration file.")]
Data = Annotated[
    list[str] | None, typer.Option("--data", help="Labelled images: a folder or CSV; several are merged.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/<name> by default.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: key.key=value.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Task, full or short name; repeatable.", autocompletion=_task_names),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Worker processes; by default one a thread, at most one a task."),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Spread the work over this Dask scheduler's workers: tcp://…"),
]
All = Annotated[bool, typer.Option("--all", help="All tasks that have images.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run and why; do nothing.")]
Finished = Annotated[Path, typer.Option("--run", help="A finished run folder.")]


def _config(
    path: Path, data: list[str] | None, settings: list[str] | None, jobs: int | None = None
) -> Config:
    from heatcrop.cli.config_file import format_list, read_config

    given = ["data.source=files", f"data.roots={format_list(data)}"] if data else []
    given += [f"runtime.jobs={jobs}"] if jobs else []
    own = [folder / path for folder in _PROGRAM if (folder / path).is_file()]
    if own and not path.exists():  # started in another folder
        log(f"{path}: is not in {Path.cwd()}; read from the program's folder: {own[0]}")
        path = own[0]
    return read_config(path, [*given, *(settings or [])])


def _prepare(
    ctx: typer.Context,
    stages: Sequence[str],
    all_tasks: bool,
    task: list[str] | None,
    config: Config,
    out: Path | None,
    dry_run: bool,
) -> tuple[RunFolder, list[str]]:
    """Own the run folder until the command ends, and return it with the task names; exit after a dry run."""
    from heatcrop.cli.run_folders import owned, run_folder
    from heatcrop.cli.startup import plan_run
    from heatcrop.cli.tables import plan_table

    if all_tasks == bool(task):
        raise UsageError("choose the tasks: either --all, or --task NAME (repeatable)")
    wanted, folder = task or [], run_folder(config, out)
    if not dry_run:
        ctx.with_resource(owned(folder))
        return folder, wanted
    plan = plan_run(config, folder, wanted, stages)
    console.print(plan_table(plan, stages))
    count = f"{sum(map(len, plan.values()))} of {len(plan) * len(stages)} stages"
    log(f"{count} would run in {folder.path}; nothing was done or written")
    raise typer.Exit


def _source(text: str) -> Path:
    """Parse a path; an empty one, as of a variable that is not set, would be the current folder."""
    if not text:
        raise typer.BadParameter("an empty path; give an image, a folder (. for this one) or a CSV file")
    return Path(text)


@app.callback()
def _main() -> None:
    """Heatmap-guided crops for fine visual attributes: train, find, crop, fine-tune, fuse."""


# The commands import what they use themselves, so that `--help` is printed at once.


@app.command(
    epilog=_examples(
        "run --all --dry-run",
        "run --task neck --task collar",
        "run --all --data birds/ --set data.tasks=infer --set name=birds",
    )
)
def run(
    ctx: typer.Context,
    all_tasks: All = False,
    task: Tasks = None,
    config: Configured = DEFAULT_CONFIG,
    data: Data = None,
    out: Out = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    settings: Settings = None,
    dry_run: DryRun = False,
) -> None:
    """Run all three stages, score them, and write the report."""
    import pipeline
    from heatcrop.cli.startup import serve_training
    from heatcrop.cli.tables import invisible_table, log_written, metrics_table, times_table

    configured = _config(config, data, settings, jobs)
    if serve_training(configured, scheduler):
        return
    folder, wanted = _prepare(ctx, pipeline.STAGES, all_tasks, task, configured, out, dry_run)
    _, metrics, times = pipeline.run(configured, folder, wanted, scheduler=scheduler)
    console.print(metrics_table(metrics))
    if (hidden := invisible_table(metrics)) is not None:
        console.print(hidden)
    log_written(
        ("figures", folder.metrics, "for scripts"),
        ("submission", folder.submission, "fused predictions of the test images"),
        ("networks", folder.path / "<task>" / "stage1", "and stage3, with history and predictions"),
        ("crops", folder.path / "<task>" / "crops", "to inspect, by split and class"),
        ("sheets", folder.path / "<task>" / "sheets", "a page per folder of crops"),
        ("report", folder.report, "open it in a browser"),
    )
    console.print(times_table(times))


@app.command(epilog=_examples("stage crop --task neck --set crop.rule.threshold=0.5", "stage cam --all"))
def stage(
    ctx: typer.Context,
    name: Annotated[Literal["cam", "crop", "finetune"], typer.Argument(help="Which stage.")],
    all_tasks: All = False,
    task: Tasks = None,
    config: Configured = DEFAULT_CONFIG,
    data: Data = None,
    out: Out = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    settings: Settings = None,
    dry_run: DryRun = False,
) -> None:
    """Run one stage, from the files that the earlier ones left in the run folder."""
    import pipeline
    from heatcrop.cli.startup import serve_training
    from heatcrop.cli.tables import times_table

    configured, stages = _config(config, data, settings, jobs), (name,)
    if serve_training(configured, scheduler):
        return
    folder, wanted = _prepare(ctx, stages, all_tasks, task, configured, out, dry_run)
    dataset, _, times = pipeline.run(configured, folder, wanted, stages, scheduler)
    left = {"cam": "stage1", "crop": "crops", "finetune": "stage3"}[name]
    for task_name in dataset.tasks:
        log(f"{task_name}: {folder.task(task_name).path / left}")
        if name != "finetune" and not folder.task(task_name).finished:
            log(f"{task_name}: its later stages are to run: {run_again(folder, task_name)}")
    if name == "finetune" and folder.metrics.is_file():
        log(f"scores and report are those of before: {PROGRAM} report --run {folder.path} writes them again")
    console.print(times_table(times))


@app.command(epilog=_examples("check", "check --data birds/ --set data.tasks=infer"))
def check(
    task: Tasks = None,
    config: Configured = DEFAULT_CONFIG,
    data: Data = None,
    out: Out = None,
    jobs: Jobs = None,
    settings: Settings = None,
    speed: Annotated[
        bool, typer.Option(help="Measure a few images, to estimate time and disk space.")
    ] = True,
) -> None:
    """Report on the data and the machine, and what a run will take."""
    from heatcrop.cli.check import check as check_all
    from heatcrop.cli.run_folders import run_folder

    configured = _config(config, data, settings, jobs)
    problems = check_all(configured, task or [], run_folder(configured, out), speed)
    if problems:
        raise RunError(f"{counted(problems, 'problem(s)')} found, see above")
    log("no problems found")


@app.command(
    epilog=_examples(
        "predict photos/ --run runs/demo --out answers.csv",
        "predict one.jpg --run runs/demo --task neck --out one.csv --no-gallery",
        "predict photos/ --run runs/demo/export --engine onnx --out answers.csv",
    )
)
def predict(
    source: Annotated[
        Path, typer.Argument(help="An image, a folder, or a CSV with a column image.", parser=_source)
    ],
    run_: Annotated[Path, typer.Option("--run", help="A run or export.")],
    out: Annotated[Path, typer.Option("--out", help="CSV to write.")],
    task: Tasks = None,
    engine: Annotated[Literal["auto", "onnx", "mxnet"], typer.Option(help="What computes.")] = "auto",
    device: Annotated[
        Literal["auto", "cpu", "gpu"], typer.Option(help="auto takes a GPU where one works.")
    ] = "auto",
    gallery: Annotated[bool, typer.Option(help="Write <out>_gallery/.")] = True,
    boxes: Annotated[Path | None, typer.Option("--boxes", help="CSV of the crops.")] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Write <out>_<format>/; repeatable."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="No mirrors, no zoom.")] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="<float>", help="Add a column sure."),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="<float>", help="The same, for a promised accuracy."),
    ] = None,
) -> None:
    """Predict unlabelled images with both networks fused; write a CSV and a gallery."""
    from heatcrop.data.writers import FORMATS
    from heatcrop.predict.formats import format_folder, prediction_records, write_format
    from heatcrop.predict.images import predict_images
    from heatcrop.predict.outputs import check_targets
    from heatcrop.predict.predictor import open_pipeline
    from heatcrop.predict.sure import least_confidences

    folder = RunFolder(run_)
    if min_confidence is not None and min_accuracy is not None:
        raise UsageError("--min-confidence and --min-accuracy: both decide what is sure; give one of them")
    if fast and min_accuracy is not None:
        raise UsageError(
            "--fast and --min-accuracy: accuracies are promised for predictions with mirrors and zoom only; "
            "give one of them, or --min-confidence"
        )
    check_targets(source, out, boxes)
    page = None
    rows: list[TaskResults] = []
    folders = {name: format_folder(out, name, boxes) for name in (one.value for one in formats or ())}
    records: dict[str, list[Record]] = {name: [] for name in folders}
    if gallery:
        try:
            from heatcrop.predict.gallery import gallery_page, gallery_rows
            from heatcrop.report.build import build_gallery
            from heatcrop.report.results import read_settings
        except ModuleNotFoundError as error:  # only ONNX Runtime's few packages are installed
            log(f"no gallery: the Python package {error.name!r} is not installed here")
        else:
            page = gallery_page(out, boxes)

    def read_run() -> TrainedRun:
        from heatcrop.cli.prediction import read_trained_run

        return read_trained_run(folder, engine, device)

    pipeline = open_pipeline(folder, task or [], engine, device, read_run)
    pipeline = pipeline.fast() if fast else pipeline
    sure = least_confidences(folder, pipeline, min_confidence, min_accuracy)

    def collect(task: Task, images: Sequence[Image], predictions: Sequence[Prediction]) -> None:
        if page is not None:
            rows.append(gallery_rows(pipeline, task, images, predictions))
        for name in folders:
            records[name] += prediction_records(name, task, images, predictions)

    needed = page is not None or folders
    began = now()
    count, bad = predict_images(source, pipeline, out, boxes, collect if needed else None, sure)
    spent = now() - began
    skipped = f"; {counted(len(bad), 'image(s)')} could not be read" if bad else ""
    log(f"{counted(count, 'image(s)')}, {counted(count * len(pipeline.tasks), 'row(s)')}: {out}{skipped}")
    log(f"{speed_line(count, len(pipeline.tasks), spent)} with {pipeline.engine}")
    for name, path in folders.items():
        write_format(path, FORMATS[name].predictions(records[name]))
        log(f"{name}: {path}")
    if page is not None:
        title = printable(source.name or str(source))
        log(f"gallery: {build_gallery(page, title, read_settings(folder), rows)}")


@app.command(
    epilog=_examples(
        "score runs/demo/submission.csv answers.csv --json",
        "score predictions.csv answers.csv --run runs/birds",
    )
)
def score(
    predictions: Annotated[Path, typer.Argument(help="Submission: image,task,p1;p2;… per row.")],
    answers: Annotated[Path, typer.Argument(help="Answers: image,task,nnynm or class name per row.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    run_: Annotated[
        Path | None, typer.Option("--run", help="A run folder or an exported one, for its tasks.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A configuration file that lists the tasks.")
    ] = None,
) -> None:
    """Compute the official score of any submission file."""
    from heatcrop.cli.run_folders import count_seen, scored_run, tasks_to_score
    from heatcrop.cli.tables import score_table
    from heatcrop.data.tasks import FASHIONAI
    from heatcrop.metrics.submissions import read_answers, score_files

    tasks = tasks_to_score(predictions, run_, config)
    try:
        figures = score_files(predictions, answers, tasks)
    except DataError as error:
        if tasks is not FASHIONAI or config is not None or "no task is named" not in str(error):
            raise
        raise DataError(f"{error}. For tasks other than FashionAI's, give --run or --config") from None
    run = scored_run(predictions, run_)
    if run is not None and (seen := count_seen(RunFolder(run), read_answers(answers, tasks))):
        count = sum(of["n"] for of in figures["tasks"].values())
        log(
            f"{seen:,} of the {counted(count, 'answered image(s)')} were used to train or validate {run}: "
            "the score is too high"
        )
    if as_json:
        typer.echo(json.dumps({k: figures[k] for k in ("map", "basic_precision", "tasks")}, indent=2))
    else:
        typer.echo(score_table(figures))


@app.command(epilog=_examples("report --run runs/demo", "report --run runs/demo --run runs/other"))
def report(
    ctx: typer.Context,
    run_: Annotated[list[Path], typer.Option("--run", help="A finished run folder; two are compared.")],
    worst_first: Annotated[
        bool, typer.Option("--worst-first", help="Sheets by the true class's probability, lowest first.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of a comparison; <first>/report/compare-<second> by default."),
    ] = None,
) -> None:
    """Write the report of a run again, or the comparison of two runs."""
    from heatcrop.cli.loading import config_of_run
    from heatcrop.cli.run_folders import owned, reload_dataset
    from heatcrop.cli.startup import describe_finished
    from heatcrop.report.build import ReportPlan, build_report
    from heatcrop.runs.metrics import write_results

    if len(run_) > 1:
        if worst_first:
            raise UsageError("--worst-first: orders the sheets of one run; give one --run, or leave it out")
        _compare(ctx, run_, out)
        return
    if out is not None:
        raise UsageError(f"--out: the report of one run is in its folder, {RunFolder(run_[0]).report.parent}")
    folder = RunFolder(run_[0])
    ctx.with_resource(owned(folder, new=False))
    dataset = reload_dataset(folder)
    describe_finished(config_of_run(folder), folder, dataset.tasks)
    metrics = write_results(dataset.tasks, folder, dataset.boxes_true)
    plan = ReportPlan(worst_first=worst_first)
    log(f"report: {build_report(folder, dataset.tasks, metrics, dataset.boxes_true, plan)}")


def _compare(ctx: typer.Context, runs: list[Path], out: Path | None) -> None:
    """Write the comparison of two runs, and print its table."""
    from heatcrop.cli.run_folders import compared_runs, owned
    from heatcrop.cli.tables import comparison_table, log_written
    from heatcrop.report.compare import FIGURES, build_comparison, comparison_page

    first, second = compared_runs(runs)
    page = comparison_page(first.folder, second.folder, out)
    if out is None:
        ctx.with_resource(owned(first.folder, new=False))
    figures = build_comparison(page, (first, second))
    for note in figures["notes"]:
        log(note)
    console.print(comparison_table(figures))
    log_written(
        ("comparison", page, "open it in a browser"), ("figures", page.with_name(FIGURES), "for scripts")
    )


@app.command()
def export(
    run_: Finished,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; <run>/export by default.")] = None,
    licence: Annotated[str, typer.Option(help="Of the weights, for the model card.")] = "",
    data_licence: Annotated[str, typer.Option(help="Of the training images, for the card.")] = "",
    contact: Annotated[str, typer.Option(help="Of who answers questions, for the card.")] = "",
) -> None:
    """Write ONNX networks, one JSON that describes how to run them, and a model card."""
    from heatcrop.cli.prediction import read_trained_run
    from heatcrop.data.listing import is_description
    from heatcrop.predict.trained_run import export_run
    from heatcrop.runs.swap import refuse_others

    run, out = read_trained_run(RunFolder(run_)), out or run_ / "export"
    refuse_others(out, RunFolder(out).description, "an export's", is_description)
    exported = export_run(run, out, licence=licence, data_licence=data_licence, contact=contact)
    log(f"exported: {exported}")


@app.command(
    epilog=_examples(
        "convert --run runs/birds --to coco --out birds-coco",
        "convert --run runs/birds --to labelstudio --task wing --no-images --out birds-labelstudio",
    )
)
def convert(
    run_: Finished,
    to: Annotated[Format, typer.Option("--to", help="Format of another tool.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    task: Tasks = None,
    images: Annotated[
        bool, typer.Option(help="Copy the images; otherwise name their absolute paths.")
    ] = True,
) -> None:
    """Write a run's labels, predictions, crops and true regions for another tool."""
    from heatcrop.cli.conversion import convert_run

    n_rows = convert_run(RunFolder(run_), to.value, out, task or [], images)
    log(f"{counted(n_rows, 'row(s)')}: {out}")


@app.command(
    epilog=_examples(
        "fuse --run runs/a --run runs/b --out runs/ensemble",
        "fuse --run runs/a --csv others.csv --task neck --out runs/ensemble",
    )
)
def fuse(
    run_: Annotated[
        list[Path],
        typer.Option("--run", help="A finished run folder; repeatable. The first one's data is used."),
    ],
    csv: Annotated[
        list[Path] | None,
        typer.Option("--csv", help="A submission of any origin, with validation rows too; repeatable."),
    ] = None,
    task: Tasks = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("runs/ensemble"),
) -> None:
    """Fuse finished runs and submission files, with weights fitted on validation."""
    from heatcrop.cli.prediction import fuse_runs
    from heatcrop.cli.tables import log_written, members_table
    from heatcrop.predict.fuse import MEMBERS, WEIGHTS

    table, metrics = fuse_runs(run_, csv or [], task or [], out)
    console.print(members_table(table, metrics["split"]))
    log_written(
        ("submission", RunFolder(out).submission, "fused predictions of the test images"),
        ("members", out / MEMBERS, "what each adds, by task"),
        ("weights", out / WEIGHTS, "and temperatures"),
        ("figures", RunFolder(out).metrics, "for scripts"),
    )


def main() -> int:
    """Run the command line; a user's mistake ends in one line and a code, never in a traceback.

    The exit code is 0 done, 1 failed, 2 wrong use or 130 interrupted.
    """
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        log(f"error: {error}")
        return 2
    except Exception as error:
        if hasattr(error, "show"):  # an error of the parser: unknown option, missing argument
            error.show()
            return 2
        text = explain(error)
        if text is None:
            raise
        log(f"error: {text}")
        return 1
    if code == INTERRUPTED:  # the parser turns an interruption into this code without a message
        report_interruption()
    return code if isinstance(code, int) else 0
