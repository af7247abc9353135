"""Plots of one run as SVG files that follow the reader's light or dark setting."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatcrop.data.labels import YES
from heatcrop.files import write_text
from heatcrop.report.rows import TaskRows
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import BRANCHES
from heatcrop.runs.reading import read_history, read_rule

COLOURS = {"full": "#6b83ad", "crop": "#d9822b", "fused": "#14967c"}
SPLITS = {"train": "#8a94a6", "val": "#d9822b", "test": "#14967c"}
INK, GRID = "#3a4150", "#d5d9e1"
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


def task_plots(root: Path, rows: TaskRows, folder: TaskFolder, split: str) -> list[dict[str, str]]:
    """Write one task's plots below `root`.

    Parameters
    ----------
    split : str
        Whose confusion and calibration are shown.

    Returns
    -------
    list of dict
        Each with file (below `root`), kind and alt, in the order of the page.
    """
    made = []
    with mpl.rc_context(_STYLE):
        for name, alt, figure in _task_figures(rows, folder, split):
            file = f"plots/{rows.data.task.name}/{name}.svg"
            _save(figure, root / file)
            made.append({"file": file, "kind": name.split("-")[0], "alt": alt})
    return made


def scores_plot(root: Path, metrics: dict[str, Any]) -> dict[str, str] | None:
    """Write the bars of AP by task and branch; None when nothing is scored."""
    names = list(metrics["tasks"])
    if not names:
        return None
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 0.9 + 0.62 * len(names)))
        axes = figure.subplots()
        for i, branch in enumerate(BRANCHES):
            values = [metrics["tasks"][name][branch]["map"] for name in names]
            places = np.arange(len(names)) + (i - 1) * 0.26
            axes.barh(places, values, 0.23, color=COLOURS[branch], label=branch)
            for place, value in zip(places, values, strict=True):
                axes.text(value + 0.008, place, f"{value:.3f}", va="center", fontsize=9)
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.set_xlim(0, 1.09)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"AP on {metrics['split']}")
        figure.legend(loc="outside upper right", ncols=3)
        _save(figure, root / "plots/scores.svg")
    told = "; ".join(
        f"{_short(n)}: " + ", ".join(f"{b} {metrics['tasks'][n][b]['map']:.3f}" for b in BRANCHES)
        for n in names
    )
    return {"file": "plots/scores.svg", "alt": f"Bars of AP by task. {told}"}


def calibration(
    confidence: np.ndarray, right: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean confidence, share of right ones and number of pictures of each bin that is not empty.

    Returns
    -------
    confidence, right, n : ndarray, shape (B,)
    error : float
        Expected calibration error: the mean gap between both, weighted by the number of pictures.

    Examples
    --------
    >>> *_, n, error = calibration(np.array([0.75, 0.75, 0.15]), np.array([True, False, False]))
    >>> n.tolist(), round(error, 4)
    ([1, 2], 0.2167)
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    some = n > 0
    sums = (np.bincount(place, weights=w, minlength=bins)[some] / n[some] for w in (confidence, right))
    mean, share = sums
    return mean, share, n[some], float((np.abs(mean - share) * n[some]).sum() / max(1, n.sum()))


def _task_figures(rows: TaskRows, folder: TaskFolder, split: str) -> Iterator[tuple[str, str, Figure]]:
    history = [(1, _history(folder.history(1))), (3, _history(folder.history(3)))]
    if any(len(table) for _, table in history):
        yield ("loss", "Learning curves: loss by epoch of stages 1 and 3", _curves(history, "loss"))
        yield ("ap", "Learning curves: validation AP by epoch", _curves(history, "map"))
    spoken = [b for b in ("full", "fused") if rows.spoken(b).any()]
    of = np.flatnonzero((rows.data.splits == split) & rows.data.labelled & rows.spoken(spoken[-1]))
    if len(of):
        figure, told = _reliability(rows, of, spoken, split)
        yield ("reliability", f"Reliability on {split}: {told}", figure)
    figure, told = _sizes(rows)
    yield ("sizes", f"Crop side over the picture's shorter side: {told}", figure)
    curve = read_rule(folder.rule)["curve"] if folder.rule.is_file() else []
    if curve:
        figure, told = _searched(curve)
        yield ("search", f"Search of the crop rule: {told}", figure)
    if len(of):
        for branch in spoken:
            figure, right = _confusion(rows, of, branch, split)
            told = f"Confusion matrix of the {branch} branch on {split}: {right} of {len(of)} right"
            yield (f"confusion-{branch}", told, figure)


def _axes(width: float = 3.9, height: float = 3.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _curves(history: list[tuple[int, pd.DataFrame]], what: str) -> Figure:
    figure, axes = _axes()
    for stage, table in history:
        branch = {1: "full", 3: "crop"}[stage]
        for name in table["network"].unique() if len(table) else ():
            part = table[table["network"] == name]
            fold = name.startswith("fold")
            look: dict[str, Any] = {
                "color": COLOURS[branch],
                "alpha": 0.35 if fold else 1,
                "linewidth": 1.2 if fold else 2.2,
            }
            label = f"{branch} folds" if name == "fold 0" else None if fold else branch
            if what == "map":
                axes.plot(part["epoch"], part["val_map"], **look, label=label)
                continue
            axes.plot(part["epoch"], part["train_loss"], **look, linestyle=(0, (2, 1.5)))
            axes.plot(part["epoch"], part["val_loss"], **look, label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if what == "map":
        axes.set_title("AP on val")
        axes.set_ylim(0, 1.3)
        axes.set_yticks(np.linspace(0, 1, 6))
    else:
        axes.set_title("loss: line val, dots train")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", ncols=2, columnspacing=1.2, handlelength=1.4)
    return figure


def _searched(curve: list[dict[str, Any]]) -> tuple[Figure, str]:
    """Fused AP of the probe for every candidate, setting by setting, with what was kept."""
    figure, axes = _axes(12.4, 2.9)
    place, ticks, labels, kept = 0.0, [], [], []
    for setting in dict.fromkeys(one["setting"] for one in curve):
        tried = sorted((one for one in curve if one["setting"] == setting), key=lambda one: one["value"])
        x = place + np.arange(len(tried))
        aps = [one["fused_ap"] for one in tried]
        axes.errorbar(
            x,
            aps,
            [one["error"] for one in tried],
            color=COLOURS["full"],
            linewidth=1.4,
            elinewidth=1,
            capsize=2,
        )
        for at, one in zip(x, tried, strict=True):
            colour = COLOURS["fused"] if one["chosen"] else COLOURS["full"]
            axes.plot(at, one["fused_ap"], "o", color=colour, markersize=9 if one["chosen"] else 5)
            if one["chosen"]:
                kept.append(f"{setting.replace('_', ' ')} {_value(one['value'])}")
        label = {"enabled": "crop at all"}.get(setting, setting.replace("_", " "))
        axes.annotate(label, (x.mean(), -0.27), xycoords=("data", "axes fraction"), ha="center", fontsize=10)
        ticks += list(x)
        labels += [_value(one["value"]) for one in tried]
        place += len(tried) + 0.8
    axes.set_xticks(ticks, labels)
    axes.grid(axis="x", visible=False)
    axes.set_title(
        "crop rule: fused AP of a linear probe on unseen rows; large: kept; bars: error of the change"
    )
    return figure, ", ".join(kept)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def _confusion(rows: TaskRows, of: np.ndarray, branch: str, split: str) -> tuple[Figure, int]:
    classes = rows.data.task.classes
    n = len(classes)
    truth = rows.data.letters[of].argmax(axis=1)
    guess = rows.probabilities[branch][of].argmax(axis=1)
    table = np.zeros((n, n), np.int64)
    np.add.at(table, (truth, guess), 1)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.3 * min(n, 24)
    figure, axes = _axes(side, side * 0.94)
    cells = np.empty((n, n, 4))
    cells[..., :3] = to_rgb(COLOURS[branch])
    cells[..., 3] = np.where(table > 0, 0.08 + 0.92 * share, 0)
    axes.imshow(cells, interpolation="nearest")
    if n <= 16:
        for i, j in np.argwhere(table > 0):
            colour = "white" if share[i, j] > 0.8 else INK  # on paler cells, white is hard to read
            axes.text(j, i, str(table[i, j]), ha="center", va="center", fontsize=9, color=colour)
    names = [_clip(name) for name in classes]
    axes.set_xticks(range(n), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=9.5)
    axes.set_yticks(range(n), names, fontsize=9.5)
    axes.grid(visible=False)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    right = int(np.trace(table))
    # Of the figure rather than the axes, which may be narrower than these words.
    figure.suptitle(f"{branch}, {split}: {right} of {len(of)} right", x=0.02, ha="left", fontsize=12)
    axes.set_ylabel("true")
    axes.set_xlabel("predicted")
    return figure, right


def _reliability(rows: TaskRows, of: np.ndarray, branches: list[str], split: str) -> tuple[Figure, str]:
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=GRID, linewidth=1.5)
    told = []
    for branch in branches:
        p = rows.probabilities[branch]
        mean, share, n, error = calibration(p[of].max(axis=1), rows.verdict(p)[of] == YES)
        axes.plot(mean, share, color=COLOURS[branch], linewidth=1.6, label=f"{branch}, error {error:.2f}")
        axes.scatter(mean, share, s=20 + 160 * n / n.max(), color=COLOURS[branch], alpha=0.85, linewidths=0)
        told.append(f"{branch} calibration error {error:.3f}")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    axes.set_title(f"calibration on {split}; area: pictures")
    axes.legend(loc="upper left")
    return figure, ", ".join(told)


def _sizes(rows: TaskRows) -> tuple[Figure, str]:
    figure, axes = _axes()
    boxes, cut, told = rows.boxes, ~rows.uncropped, []
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / rows.data.sizes.min(axis=1)
    edges = np.linspace(0, max(1.0, float(side[cut].max(initial=0))), 21).tolist()
    for split, colour in SPLITS.items():
        of = rows.data.splits == split
        if not of.any():
            continue
        whole = float((~cut[of]).mean())
        if (of & cut).any():
            weights = np.full(int((of & cut).sum()), 1 / int((of & cut).sum()))
            axes.hist(
                side[of & cut],
                edges,
                weights=weights,
                histtype="step",
                color=colour,
                linewidth=2,
                label=f"{split} ({whole:.0%} whole)",
            )
            told.append(f"{split} median {np.median(side[of & cut]):.2f}, {whole:.0%} whole pictures")
    axes.set_xlabel("crop side / picture's shorter side")
    axes.set_ylabel("share of crops")
    axes.set_title("crop size by split")
    if told:
        axes.set_ylim(top=axes.get_ylim()[1] * 1.3)
        axes.legend(loc="upper left", handlelength=1.2)
    return figure, "; ".join(told) or "no crops"


def _history(path: Path) -> pd.DataFrame:
    return read_history(path) if path.is_file() else pd.DataFrame()


def _save(figure: Figure, path: Path) -> None:
    """Write a figure, with a style sheet inside that turns ink and grid for a dark page."""
    figure.set_layout_engine("constrained")
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The measuring font may lack a script's letters; the browser, which draws them, need not.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in _DARK.items()
        for kind in ("fill", "stroke")
    )
    family = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif !important}"
    style = f"<style>{family}@media (prefers-color-scheme:dark){{{rules}}}</style>"
    write_text(path, buffer.getvalue().replace("<defs>", f"{style}<defs>", 1))


def _short(name: str) -> str:
    """A task's name as people type it."""
    return _clip(name.removesuffix("_labels").removesuffix("_design").removesuffix("_length"))


def _clip(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
