"""Summarise every seed's predictions and boxes as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from benchmarks.arms import sides_of
from benchmarks.localisation import LEVELS
from heatcrop.data.dataset import TaskData
from heatcrop.files import write_text
from heatcrop.metrics.bootstrap import bootstrap, interval
from heatcrop.metrics.localisation import area, overlap
from heatcrop.metrics.score import METRICS, average_precision
from heatcrop.metrics.selective import accuracy_interval

Measured = Mapping[str, Sequence[Mapping[str, np.ndarray]]]
"""Of each task, the arrays that were measured with each seed."""

EQUAL, FAST = "ours, fusion fitted as the controls'", "ours, fast"
AT_TRUTH = "ours, crops moved to the true places"
"""What better places alone would bring: networks, fusion and sizes of the crops are the method's."""
FULL, TWO, OURS, CEILING = "full image", "two full-image models", "ours", "true boxes + full"
THREE = "three full-image models"
"""As many forward passes of the full image as ours takes with zoom."""
TRAINING = "crops in training only"
"""One pass: the full-image network, trained further on full images and crops in turn (arXiv 2605.18700)."""
PREVIOUS = "previous method's rule"
"""The heatmap of the predicted class, without prior, zoom and search, as in commit 2f9c5f9."""
_PREDICTED = 10  # images that a class must be predicted for
TARGETS = {FULL: 0.6, TWO: 0.75}
"""Greatest error (1 - mAP) of the fused result as a share of the other's."""


def summary(name: str, tasks: Mapping[str, TaskData], measured: Measured, resamples: int) -> dict[str, Any]:
    """Score all arms with intervals; :func:`write_summary` writes the result.

    Two full-image models average the predictions of each seed and the next seed.
    """
    rows = {task: data.rows("test", labelled=True) for task, data in tasks.items()}
    letters = {task: data.letters[rows[task]] for task, data in tasks.items()}
    arms: dict[str, dict[str, list[np.ndarray]]] = {}
    for task, seeds in measured.items():
        full = [arrays["full"][rows[task]] for arrays in seeds]
        arms.setdefault(FULL, {})[task] = full
        following = [full[(i + 1) % len(full)] for i in range(len(full))]
        arms.setdefault(TWO, {})[task] = [(a + b) / 2 for a, b in zip(full, following, strict=True)]
        if len(full) > 2:
            arms.setdefault(THREE, {})[task] = [
                (full[i] + full[i - 1] + full[i - 2]) / 3 for i in range(len(full))
            ]
        if f"alone/{TRAINING}" in seeds[0]:
            alone = [arrays[f"alone/{TRAINING}"][rows[task]] for arrays in seeds]
            arms.setdefault(TRAINING, {})[task] = alone
        for key in seeds[0]:
            if key.startswith("fused/"):
                arm = key.removeprefix("fused/")
                arms.setdefault(arm if arm.startswith(OURS) else f"{arm} + full", {})[task] = [
                    arrays[key][rows[task]] for arrays in seeds
                ]
        arms.setdefault(f"{OURS}, crop alone", {})[task] = [
            arrays["crop/ours"][rows[task]] for arrays in seeds
        ]
    arms = {arm: found for arm, found in arms.items() if len(found) == len(tasks)}  # true boxes of some only
    scored = bootstrap(arms, letters, resamples)
    places = [*tasks, "mean"]
    results: dict[str, Any] = {
        "name": name,
        "seeds": len(next(iter(measured.values()))),
        "n": {task: len(truth) for task, truth in letters.items()},
        "arms": {
            arm: {
                place: {metric: interval(values[place][:, i]) for i, metric in enumerate(METRICS)}
                | {"less_two_full": interval(values[place][:, 0] - scored[TWO][place][:, 0])}
                for place in places
            }
            for arm, values in scored.items()
        },
        "error_ratio": {
            other: {
                place: interval((1 - scored[OURS][place][:, 0]) / (1 - scored[other][place][:, 0]))
                for place in places
                if (scored[other][place][:, 0] < 1).all()
            }
            for other in (FULL, TWO)
        },
        "partners": {
            arm: {place: interval(scored[EQUAL][place][:, 0] - scored[arm][place][:, 0]) for place in places}
            for arm in scored
            if arm.endswith("+ full") or arm in (TRAINING, THREE)
        },
        "lost_by_fast": {
            place: interval(scored[OURS][place][:, 0] - scored[FAST][place][:, 0]) for place in places
        },
        "passes": _passes(arms, measured),
        "expected": {task: _expected(tasks[task], seeds) for task, seeds in measured.items()},
        "promises": _promises([arrays["promised"] for seeds in measured.values() for arrays in seeds]),
        "geometry": {task: _geometry(tasks[task], seeds) for task, seeds in measured.items()},
        "leakage": {task: _leakage(tasks[task], seeds) for task, seeds in measured.items()},
        "localisation": None,
    }
    if all("truth" in seeds[0] for seeds in measured.values()):
        results["localisation"] = {
            task: _localisation(tasks[task], seeds) for task, seeds in measured.items()
        }
    results["verdict"] = _verdict(results)
    return results


def _passes(arms: Mapping[str, Any], measured: Measured) -> dict[str, float]:
    """Return each arm's cost at prediction, in passes of the full-image model with its mirror."""
    ours, fast = (
        float(np.mean([arrays[name] for seeds in measured.values() for arrays in seeds]))
        for name in ("passes", f"passes/{FAST}")
    )
    costs = {FULL: 1.0, TRAINING: 1.0, TWO: 2.0, THREE: 3.0, FAST: fast}
    return {arm: costs.get(arm, ours if arm.startswith(OURS) else 2.0) for arm in arms}


def _expected(data: TaskData, seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Compare what the crops add to the full image, in AP: expected out of fold, and on test images.

    The rule and the fusion are chosen on the training images, so what they promise there is optimistic; and
    the networks of folds trained on fewer images, so what a crop adds to them may be more.
    """
    found = {}
    for name, split in (("expected", "train"), ("test", "test")):
        rows = data.rows(split, labelled=True)
        # Without cross-fitting no fused prediction of a training image is known.
        rows = rows[np.all([np.isfinite(arrays["fused/ours"][rows, 0]) for arrays in seeds], axis=0)]
        if not len(rows):
            continue
        fused, full = (
            [average_precision(arrays[key][rows], data.letters[rows]) for arrays in seeds]
            for key in ("fused/ours", "full")
        )
        found[name] = float(np.mean(fused) - np.mean(full))
    return found


def _promises(found: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """Pool what thresholds promise and what they keep, by accuracy, over tasks and seeds."""
    rows = np.concatenate(found)
    out = []
    for accuracy in np.unique(rows[:, 0]).tolist():
        n, answered, right = rows[rows[:, 0] == accuracy, 1:].T.astype(int)
        # Above a threshold may be no test image at all.
        highest = [accuracy_interval(r, a)[1] if a else 1.0 for r, a in zip(right, answered, strict=True)]
        out.append(
            {
                "accuracy": accuracy,
                "thresholds": len(n),
                "coverage": float(answered.sum() / n.sum()),
                "kept": float(right.sum() / max(1, answered.sum())),
                "broken": int(np.sum(np.array(highest) < accuracy)),
            }
        )
    return out


def _leakage(data: TaskData, seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, list[float]]:
    """Compute quartiles of the first crops' sides (shares of the shorter side) by origin of the heatmap."""
    train, val = data.rows("train", labelled=True), data.rows("val", labelled=True)
    sources = {
        "train, in-fold maps": ("first/in-fold", train),
        "train, out-of-fold maps": ("first/out-of-fold", train),
        "val": ("first/out-of-fold", val),
    }
    return {
        name: [
            float(q)
            for q in np.percentile(
                np.concatenate([sides_of(arrays[key][rows], data.sizes[rows]) for arrays in seeds]),
                (25, 50, 75),
            )
        ]
        for name, (key, rows) in sources.items()
        if len(rows)
    }


def _geometry(data: TaskData, seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Measure how well the crop's place and size alone predict stage 1's prediction: AUC, .5 is not at all.

    Mean over seeds of the cross-validated area under the ROC curve, one class against the others, of a
    logistic regression on the square's centre, side and their products.
    """
    found = {}
    for split in ("val", "test"):
        rows, values = data.rows(split, labelled=True), []
        for arrays in seeds:
            boxes, sizes = arrays["boxes/ours"][rows], data.sizes[rows]
            predicted = arrays["full"][rows].argmax(axis=1)
            counts = np.bincount(predicted, minlength=arrays["full"].shape[1])
            kept = np.isin(predicted, np.flatnonzero(counts >= _PREDICTED))
            if len(np.unique(predicted[kept])) < 2:
                continue
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes
            geometry = np.column_stack([centres, sides_of(boxes, sizes)])[kept]
            model = make_pipeline(
                StandardScaler(), PolynomialFeatures(2), StandardScaler(), LogisticRegression(max_iter=1000)
            )
            scores = cross_val_predict(model, geometry, predicted[kept], cv=5, method="predict_proba")
            classes = np.unique(predicted[kept])
            one_hot = predicted[kept][:, None] == classes
            values.append(roc_auc_score(one_hot, scores, average="macro"))
        if values:
            found[split] = float(np.mean(values))
    return found


def _localisation(data: TaskData, seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Average localisation on test images over seeds."""
    truth = seeds[0]["truth"]
    rows = data.rows("test", labelled=True)
    rows = rows[~np.isnan(truth[rows, 0])]
    out: dict[str, Any] = {"n": len(rows), "box_acc": {}, "pointing": {}, "crops": {}}
    for key in seeds[0]:
        kind, _, name = key.partition("/")
        if kind == "box_acc":
            values = np.mean([arrays[key] for arrays in seeds], axis=0)
            names = [*(f"iou_{level}" for level in LEVELS), "max_box_acc_v2"]
            out["box_acc"][name] = dict(zip(names, values.tolist(), strict=True))
        elif kind == "pointing":
            out["pointing"][name] = float(np.mean([arrays[key] for arrays in seeds]))
        elif kind == "boxes":
            out["crops"][name] = _crops(truth[rows], [arrays[key][rows].astype(float) for arrays in seeds])
    return out


def _crops(truth: np.ndarray, seeds: Sequence[np.ndarray]) -> dict[str, float]:
    inside = [(overlap(truth, boxes) / area(truth) > 1 - 1e-9).mean() for boxes in seeds]
    longer = (truth[:, 2:] - truth[:, :2]).max(axis=1)
    ratio = [np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1) / longer) for boxes in seeds]
    return {"inside": float(np.mean(inside)), "side_ratio": float(np.mean(ratio))}


def _verdict(results: Mapping[str, Any]) -> list[str]:
    """Compare the results with the targets and the controls, in sentences."""
    lines = []
    for other, target in TARGETS.items():
        ratio = results["error_ratio"][other].get("mean")
        if ratio is None:
            continue
        met = "within" if ratio["value"] <= target else "NOT within"
        lines.append(
            f"The fused error is {ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) of that of "
            f"{'the full-image model' if other == FULL else other}: {met} the target of {target}."
        )
    for arm, places in results["partners"].items():
        gain = places["mean"]
        if arm == CEILING:
            below = f"{-gain['value']:.3f} ({-gain['high']:.3f} to {-gain['low']:.3f})"
            lines.append(f"Fused as the controls are, ours is {below} mAP below the ceiling, {arm}.")
            continue
        if gain["low"] > 0:
            word = "beats"
        elif gain["high"] < 0:
            word = "LOSES to"
        else:
            word = "is not distinguished from"
        lines.append(
            f"Fused as the controls are, ours {word} {arm}: {gain['value']:+.3f} "
            f"({gain['low']:+.3f} to {gain['high']:+.3f}) mAP."
        )
    passes, ours = results["passes"], results["arms"][OURS]["mean"]["map"]["value"]
    loss, gain = results["lost_by_fast"]["mean"], ours - results["arms"][FULL]["mean"]["map"]["value"]
    lines.append(
        f"Fast prediction costs {passes[FAST] / passes[OURS]:.2f} of ours and loses {loss['value']:.3f} "
        f"({loss['low']:+.3f} to {loss['high']:+.3f}) mAP, of {gain:.3f} that ours gains over the full image."
    )
    worse = [
        f"{place} ({metrics['less_two_full']['value']:+.3f})"
        for place, metrics in results["arms"][OURS].items()
        if place != "mean" and metrics["less_two_full"]["value"] < 0
    ]
    lines.append(f"Ours lies below {TWO} on: {', '.join(worse) if worse else 'no task'}.")
    if results["localisation"]:
        low = [
            f"{task} {found['crops'][OURS]['inside']:.2f}"
            for task, found in results["localisation"].items()
            if found["crops"][OURS]["inside"] < 0.9
        ]
        lines.append(
            f"Less than 0.9 of the true regions lie inside their crops on: {', '.join(low) or 'no task'}."
        )
    return lines


def write_summary(path: Path, results: Mapping[str, Any]) -> None:
    """Write the Markdown report."""
    write_text(path, "\n".join(_markdown(results)) + "\n")


def _markdown(results: Mapping[str, Any]) -> list[str]:
    n, tasks, arms = results["n"], list(results["n"]), results["arms"]
    lines = [f"# Quality: {results['name']}", "", *(f"- {line}" for line in results["verdict"]), ""]
    lines += [
        f"{results['seeds']} seeds, {sum(n.values())} test images of {len(n)} tasks; 95 % bootstrap "
        "intervals over images, paired between arms; the official score.",
        "",
    ]
    rows = []
    for arm, places in arms.items():
        mean = places["mean"]
        figures = (*(_text(mean[f]) for f in METRICS), _text(mean["less_two_full"], sign=True))
        rows.append([arm, f"{results['passes'][arm]:.1f}", *figures])
    lines += _table(["arm", "passes", "mAP", "basic precision", "accuracy", f"mAP less {TWO}"], rows)
    lines += ["", "Passes: cost at prediction, in passes of the full-image model with its mirror."]
    lines += ["", "## By task: mAP", ""]
    rows = [[arm, *(f"{places[task]['map']['value']:.3f}" for task in tasks)] for arm, places in arms.items()]
    less = [_text(arms[OURS][task]["less_two_full"], sign=True) for task in tasks]
    lines += _table(["arm", *tasks], [*rows, [f"ours less {TWO}", *less]])
    if results["localisation"]:
        lines += _localisation_lines(results["localisation"])
    lines += ["", "## What the crops add to the full image: expected and measured AP", ""]
    expected = results["expected"]
    rows = [
        [name, *(f"{expected[task].get(name, np.nan):+.3f}" for task in tasks)]
        for name in ("expected", "test")
    ]
    lines += _table(["on", *tasks], rows)
    lines += ["", "Expected: on training images, by networks that did not train on them."]
    lines += ["", "## Accuracy that thresholds of the confidence promise", ""]
    rows = [
        [
            f"{one['accuracy']:.0%}",
            f"{one['thresholds']} of {results['seeds'] * len(n)}",
            f"{one['coverage']:.0%}",
            f"{one['kept']:.1%}",
            str(one["broken"]),
        ]
        for one in results["promises"]
    ]
    lines += _table(["promised", "thresholds", "answered test images", "right of them", "broken"], rows)
    lines += [
        "",
        "Thresholds: of each task and seed, chosen on images that no network trained on; where these support "
        "none, none is given. Broken: the 95 % interval of the accuracy on test lies below the promised one.",
    ]
    lines += ["", "## Does the crop reveal the prediction?", ""]
    lines += ["AUC of stage 1's prediction from the crop's place and size alone; 0.5 is chance.", ""]
    auc = results["geometry"]
    rows = [[split, *(f"{auc[task].get(split, np.nan):.2f}" for task in tasks)] for split in ("val", "test")]
    lines += _table(["split", *tasks], rows)
    lines += ["", "## Leakage: sides of the first crops", ""]
    lines += ["Quartiles, as shares of the image's shorter side, by origin of the heatmap.", ""]
    leaks = results["leakage"]
    rows = [
        [task, *(" / ".join(f"{q:.2f}" for q in sides) for sides in leaks[task].values())] for task in leaks
    ]
    lines += _table(["task", *next(iter(leaks.values()))], rows)
    return lines


def _localisation_lines(found: Mapping[str, Any]) -> list[str]:
    tasks, first = list(found), next(iter(found.values()))
    lines = ["", "## Localisation", ""]
    lines += ["MaxBoxAccV2 (mean over IoU 0.3, 0.5, 0.7, each with its best threshold):", ""]
    rows = []
    for method, levels in first["box_acc"].items():
        accuracy = {level: [found[task]["box_acc"][method][level] for task in tasks] for level in levels}
        *by_level, mean = ([f"{v:.2f}" for v in [*values, np.mean(values)]] for values in accuracy.values())
        rows.append([method, *mean, *(level[-1] for level in by_level)])
    lines += _table(["method", *tasks, "mean", *(f"IoU {level}" for level in LEVELS)], rows)
    lines += ["", "Pointing: the maximum of the heatmap (the middle of the box) lies in the true region:", ""]
    rows = []
    for name in first["pointing"]:
        hits = [found[task]["pointing"][name] for task in tasks]
        rows.append([name, *(f"{v:.2f}" for v in [*hits, np.mean(hits)])])
    lines += _table(["method", *tasks, "mean"], rows)
    lines += ["", "True regions completely inside the crop; median of the crop's side over the region's:", ""]
    rows = []
    for arm in first["crops"]:
        crops = [found[task]["crops"][arm] for task in tasks]
        rows.append([arm, *(f"{c['inside']:.2f}, x{c['side_ratio']:.1f}" for c in crops)])
    return lines + _table(["crop", *tasks], rows)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _text(found: Mapping[str, float], sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{found['value']:{form}} ({found['low']:{form}} to {found['high']:{form}})"
