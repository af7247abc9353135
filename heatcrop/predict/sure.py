"""Which predictions are sure: those whose confidence reaches what was asked for or an accuracy needs."""

from __future__ import annotations

from heatcrop.errors import PROGRAM, RunError
from heatcrop.metrics.selective import ACCURACIES, OperatingPoint
from heatcrop.predict.predictor import Pipeline
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import log


def least_confidences(
    folder: RunFolder, pipeline: Pipeline, confidence: float | None, accuracy: float | None
) -> dict[str, float] | None:
    """Return the confidence from which on a prediction is sure, by task; None where nothing is asked for.

    It is `confidence` for all tasks, or each task's own for an `accuracy`: that of the least accuracy in its
    table that is not lower. RunError where the run has no such table, or where validation never reaches it.
    """
    if accuracy is None:
        return None if confidence is None else {task.name: confidence for task in pipeline.tasks}
    found, never = {}, []
    for task in pipeline.tasks:
        points = pipeline.description.tasks[task.name].thresholds
        if points is None:
            raise RunError(
                f"{folder.description}: has no thresholds, as in runs and exports of earlier versions; make "
                f"them with {PROGRAM} report --run <run folder>, then export again, or give --min-confidence"
            )
        enough = (one for one in points if one.accuracy >= accuracy and one.threshold is not None)
        point = next(enough, None)
        if point is None or point.threshold is None:
            never.append(f"{task.short} {_reached(points)}")
        else:
            log(
                f"{task.short}: sure from a confidence of {point.threshold:.3f}, for an accuracy of "
                f"{point.accuracy:.0%}, which {point.coverage:.0%} of the validation rows reach"
            )
            found[task.name] = point.threshold
    if never:
        raise RunError(
            f"--min-accuracy {accuracy:g}: no confidence promises it on the validation rows of "
            f"{', '.join(never)}; at most {max(ACCURACIES):g} can be asked for. Ask for less, choose other "
            "tasks with --task, or give --min-confidence, which promises nothing"
        )
    return found


def _reached(points: tuple[OperatingPoint, ...]) -> str:
    """Describe the highest accuracy that has a threshold."""
    reached = [one.accuracy for one in points if one.threshold is not None]
    return f"(only {max(reached):g})" if reached else "(no other either)"
