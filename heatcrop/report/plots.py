"""Plots of one run as SVG files that follow the reader's light or dark setting."""

from __future__ import annotations

import io
import itertools
import operator
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.calibration import CalibrationDisplay, calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from heatcrop.data.labels import YES
from heatcrop.data.tasks import Task, short_names
from heatcrop.files import write_text
from heatcrop.metrics.selective import LEAST_SHOWN, OperatingPoint, coverage_curve
from heatcrop.report.results import TaskResults
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import BRANCHES, confidences
from heatcrop.runs.reading import read_history, read_json
from heatcrop.runs.thresholds import read_points
from stage2_crop.plan import SearchedRule

COLOURS = {"full": "#6b83ad", "crop": "#d9822b", "fused": "#14967c"}
SPLITS = {"train": "#8a94a6", "val": "#d9822b", "test": "#14967c"}
INK, GRID = "#3a4150", "#d5d9e1"
BINS = 10  # of the calibration plot
_DARK = {INK: "#c6ccd8", GRID: "#3a4250"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small files, and the browser finds the letters of any script
    "svg.hashsalt": "heatcrop",
    "text.parse_math": False,  # a class may be called $5-$10
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 2,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), GRID),
}


def task_plots(root: Path, results: TaskResults, folder: TaskFolder, split: str) -> list[dict[str, str]]:
    """Write one task's plots below `root`; confusion and calibration are those of `split`.

    Each is described by its file (below `root`), kind and alt, in the order of the page.
    """
    plots = []
    with mpl.rc_context(_STYLE):
        for name, alt, axes in _task_figures(results, folder, split):
            file = f"plots/{results.folder}/{name}.svg"
            _save(axes, root / file)
            plots.append({"file": file, "kind": name.split("-")[0], "alt": alt})
    return plots


def scores_plot(root: Path, metrics: dict[str, Any], tasks: list[Task]) -> dict[str, str] | None:
    """Write the bars of AP by task and branch; None when nothing is scored."""
    titles, scored = short_names(tasks), [task.name for task in tasks if task.name in metrics["tasks"]]
    aps = [{b: metrics["tasks"][name][b]["map"] for b in BRANCHES} for name in scored]
    if not aps:
        return None
    with mpl.rc_context(_STYLE):
        axes = _axes((5.4, 0.9 + 0.62 * len(aps)))  # narrow: its text can be read on a phone, too
        table = pd.DataFrame(aps, [_clip(titles[name]) for name in scored])  # two may look the same
        table.plot.barh(ax=axes, color=COLOURS, width=0.76, legend=False)
        for bars in axes.containers:
            axes.bar_label(bars, fmt="%.3f", padding=4, fontsize=9)
        axes.set(xlabel=f"AP on {metrics['split']}", xlim=(0, 1.09), xticks=np.linspace(0, 1, 6))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.figure.legend(loc="outside upper right", ncols=3)
        _save(axes, root / "plots/scores.svg")
    lines = (
        f"{titles[name]}: " + ", ".join(f"{b} {ap[b]:.3f}" for b in BRANCHES)
        for name, ap in zip(scored, aps, strict=True)
    )
    return {"file": "plots/scores.svg", "alt": f"Bars of AP by task. {'; '.join(lines)}"}


def _task_figures(results: TaskResults, folder: TaskFolder, split: str) -> Iterator[tuple[str, str, Axes]]:
    """Draw the plots, one after the other: name, alt text, axes."""
    history = {
        branch: read_history(folder.history(number))
        for branch, number in (("full", 1), ("crop", 3))
        if folder.history(number).is_file()
    }
    if any(map(len, history.values())):
        axes = _curves(history, "val_loss", "loss: line val, dots train")
        yield "loss", "Learning curves: loss by epoch of stages 1 and 3", axes
        axes = _curves(history, "val_map", "AP on val")
        axes.set_yticks(np.linspace(0, 1, 6))
        yield "ap", "Learning curves: validation AP by epoch", axes
    branches = [branch for branch in ("full", "fused") if results.predicted(branch).any()]
    data = results.data
    rows = np.flatnonzero((data.splits == split) & data.labelled & results.predicted(branches[-1]))
    if len(rows):
        yield "reliability", *_reliability(results, rows, branches, split)
    yield "sizes", *_sizes(results)
    if len(rows):
        yield "coverage", *_coverage(results, rows, branches, read_points(folder) or (), split)
    curve = read_json(folder.rule, SearchedRule).curve if folder.rule.is_file() else []
    if curve:
        yield "search", *_search(curve)
    if len(rows):
        for branch in branches:
            yield f"confusion-{branch}", *_confusion(results, rows, branch, split)


def _axes(size: tuple[float, float] = (3.9, 3.0), **settings: Any) -> Axes:
    """Make a figure with one pair of axes; `settings` are those of ``Axes.set``."""
    axes = Figure(figsize=size, layout="constrained").subplots()
    axes.set(**settings)
    return axes


def _curves(history: dict[str, pd.DataFrame], column: str, title: str) -> Axes:
    """Draw each network's column by epoch; the folds of a branch are pale and have one label."""
    axes = _axes(title=title, xlabel="epoch")
    networks = ((branch, *one) for branch, t in history.items() for one in t.groupby("network", sort=False))
    for branch, name, epochs in networks:
        fold = str(name).startswith("fold")
        style = {"color": COLOURS[branch], "alpha": 0.35 if fold else 1, "linewidth": 1.2 if fold else 2.2}
        label = f"{branch} folds" if name == "fold 0" else None if fold else branch
        axes.plot(epochs["epoch"], epochs[column], **style, label=label)
        if column == "val_loss":
            axes.plot(epochs["epoch"], epochs["train_loss"], **style, linestyle=(0, (2, 1.5)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.3 * (1 if column == "val_map" else axes.get_ylim()[1]))  # room for the legend
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", ncols=2, columnspacing=1.2, handlelength=1.4)
    return axes


def _search(curve: list[dict[str, Any]]) -> tuple[str, Axes]:
    """The probe's log-likelihood of every candidate, setting by setting; what was kept is large."""
    title = "crop rule: log-likelihood of a linear probe on unseen rows; large: kept; bars: errors of changes"
    axes, place, kept = _axes((12.4, 2.9), title=title), 0.0, []
    ticks: dict[float, str] = {}
    # A threshold is searched for the first crop and, with other heatmaps, again after zoom.
    for setting, candidates in itertools.groupby(curve, operator.itemgetter("setting")):
        name = str(setting).replace("_", " ")
        tried = pd.DataFrame(candidates).sort_values("value")
        scores = tried.get("score", tried["fused_ap"])  # which runs of earlier versions lack
        x = place + np.arange(len(tried))
        words = isinstance(tried["value"].iloc[0], (str, bool, np.bool_))  # which have no order
        style: dict[str, Any] = {"color": COLOURS["full"], "linewidth": 1.4, "elinewidth": 1, "capsize": 2}
        style["linestyle"] = "none" if words else "-"
        axes.errorbar(x, scores, tried["error"], **style, marker="o", markersize=5)
        chosen = tried["chosen"].to_numpy(bool)
        axes.plot(x[chosen], scores[chosen], "o", color=COLOURS["fused"], markersize=9, zorder=3)
        names = {"True": "yes", "False": "no"}
        labels = [v if isinstance(v, str) else names.get(str(v), f"{v:g}") for v in tried["value"]]
        kept += [f"{name} {label}" for label, one in zip(labels, chosen, strict=True) if one]
        title = "crop at all" if setting == "enabled" else name
        axes.annotate(title, (x.mean(), -0.27), xycoords=("data", "axes fraction"), ha="center", fontsize=10)
        # Words are wider than the space between two points: every second one is a line lower.
        lower = [i % 2 and isinstance(v, str) for i, v in enumerate(tried["value"])]
        ticks |= {at: "\n" * low + label for at, low, label in zip(x.tolist(), lower, labels, strict=True)}
        place += len(tried) + 0.8
    axes.set_xticks(list(ticks), ticks.values(), fontsize=8)
    axes.grid(axis="x", visible=False)
    return f"Search of the crop rule: {', '.join(kept)}", axes


def _confusion(results: TaskResults, rows: np.ndarray, branch: str, split: str) -> tuple[str, Axes]:
    classes = results.data.task.classes
    truth = results.data.letters[rows].argmax(axis=1)
    predicted = results.probabilities[branch][rows].argmax(axis=1)
    counts = confusion_matrix(truth, predicted, labels=range(len(classes)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.3 * min(len(classes), 24)
    axes = _axes((side, side * 0.94))
    display = ConfusionMatrixDisplay(shares, display_labels=[_clip(name) for name in classes])
    pale = LinearSegmentedColormap.from_list(branch, [to_rgba(COLOURS[branch], 0), COLOURS[branch]])
    shown = len(classes) <= 16
    display.plot(ax=axes, cmap=pale, colorbar=False, include_values=shown, im_kw={"vmin": 0, "vmax": 1})
    if display.text_ is not None:
        for cell, count, share in zip(display.text_.flat, counts.flat, shares.flat, strict=True):
            # Not white on paler cells, where it would be hard to read.
            cell.set(text=str(count) if count else "", color="white" if share > 0.8 else INK, fontsize=9)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(labelsize=9.5)
    for label in axes.get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    right = f"{int(np.trace(counts))} of {len(rows)} right"
    # Of the figure rather than the axes, which may be narrower than these words.
    axes.figure.suptitle(f"{branch}, {split}: {right}", x=0.02, ha="left", fontsize=12)
    return f"Confusion matrix of the {branch} branch on {split}: {right}", axes


def _reliability(results: TaskResults, rows: np.ndarray, branches: list[str], split: str) -> tuple[str, Axes]:
    axes, errors = _axes(), []
    for branch in branches:
        confidence = np.minimum(results.probabilities[branch][rows].max(axis=1), 1)
        right = results.outcomes(results.probabilities[branch])[rows] == YES
        share, mean = calibration_curve(right, confidence, n_bins=BINS)
        n = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence))
        n = n[n > 0]
        error = float(np.average(np.abs(mean - share), weights=n))
        errors.append(f"{branch} calibration error {error:.3f}")
        style: dict[str, Any] = {"color": COLOURS[branch], "alpha": 0.85}
        display = CalibrationDisplay(share, mean, confidence, estimator_name=f"{branch}, error {error:.2f}")
        display.plot(ax=axes, ref_line=branch == branches[0], linewidth=1.6, marker="", **style)
        axes.scatter(mean, share, s=20 + 160 * n / n.max(), linewidths=0, **style)
    axes.lines[0].set(color=GRID, linestyle="-", linewidth=1.5, label="_")  # the diagonal
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="share right")
    axes.set_title(f"calibration on {split}; area: images")
    axes.legend(loc="upper left")
    return f"Reliability on {split}: {', '.join(errors)}", axes


def _coverage(
    results: TaskResults,
    rows: np.ndarray,
    branches: list[str],
    points: Sequence[OperatingPoint],
    split: str,
) -> tuple[str, Axes]:
    """The accuracy of the most confident images by their share, and thresholds that validation has chosen."""
    axes, reached = _axes((8.0, 3.0), xlabel="coverage: share answered", ylabel="share right"), []
    for branch in branches:
        probabilities = results.probabilities[branch]
        confidence, right = confidences(probabilities[rows]), results.outcomes(probabilities)[rows] == YES
        axes.plot(*coverage_curve(confidence, right), color=COLOURS[branch], linewidth=1.8, label=branch)
    # Of accuracies with the same threshold the highest, which comes last.
    chosen = {one.threshold: one.accuracy for one in points if one.accuracy >= LEAST_SHOWN}
    labelled = -1.0  # a label is 0.05 wide; of points that are closer, that of the highest accuracy has one
    for threshold, accuracy in reversed(chosen.items()) if branches[-1] == "fused" else ():
        if threshold is None or not (sure := confidence >= threshold).any():
            continue
        at, height = float(sure.mean()), float(right[sure].mean())
        axes.plot(at, height, "o", color=COLOURS["fused"], markersize=6)
        if at > labelled + 0.05:
            place = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "fontsize": 9}
            axes.annotate(f"{accuracy:.0%}", (at, height), **place)
            labelled = at
        reached.append(f"{accuracy:.0%} promised, {height:.0%} of {at:.0%} right")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.14))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_title(f"accuracy by coverage on {split}; points: promised by validation")
    axes.legend(loc="lower left")
    return f"Accuracy by coverage on {split}: {'; '.join(reached) or 'no threshold was chosen'}", axes


def _sizes(results: TaskResults) -> tuple[str, Axes]:
    axes = _axes(title="crop size by split", xlabel="crop side / image's shorter side")
    axes.set_ylabel("share of crops")
    boxes, cropped, medians = results.boxes, ~results.uncropped, []
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / results.data.sizes.min(axis=1)
    edges = np.linspace(0, max(1.0, float(sides[cropped].max(initial=0))), 21).tolist()
    for split, colour in SPLITS.items():
        of_split = results.data.splits == split
        side = sides[of_split & cropped]
        if not len(side):
            continue
        uncropped = f"{1 - len(side) / of_split.sum():.0%} not cropped"
        weights, label = np.full(len(side), 1 / len(side)), f"{split} ({uncropped})"
        axes.hist(side, edges, weights=weights, histtype="step", color=colour, linewidth=2, label=label)
        medians.append(f"{split} median {np.median(side):.2f}, {uncropped}")
    if medians:
        axes.set_ylim(top=axes.get_ylim()[1] * 1.45)
        axes.set_yticks([at for at in axes.get_yticks() if 0 <= at <= 1])
        axes.legend(loc="upper left", handlelength=1.2)
    return f"Crop side over the image's shorter side: {'; '.join(medians) or 'no crops'}", axes


def _save(axes: Axes, path: Path) -> None:
    """Write a figure, with a style sheet inside that adapts text and grid to a dark page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The measuring font may lack a script's letters; the browser, which draws them, need not.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        axes.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in _DARK.items()
        for kind in ("fill", "stroke")
    )
    family = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif !important}"
    style = f"<style>{family}@media (prefers-color-scheme:dark){{{rules}}}</style>"
    write_text(path, buffer.getvalue().replace("<defs>", f"{style}<defs>", 1))


def _clip(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
