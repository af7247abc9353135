"""The class ``Invisible`` as a detection: in ``metrics.json``, on the page and on the terminal."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from heatcrop.cli.tables import invisible_table
from heatcrop.files import write_text
from heatcrop.report.build import ReportPlan, build_report
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import write_results
from heatcrop.runs.predictions import read_arrays, write_arrays
from tests.drawn_run import draw_task
from tests.tiny_run import TASKS

HIDDEN, PLAIN = "hidden_design_labels", "plain"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Metrics and page of a task with that class and of one without it.

    Of six test images the first three do not show it. Fused finds two of them and takes one other for such.
    """
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    folder.path.mkdir()
    write_text(folder.config, "name: run\n")
    tasks = {
        HIDDEN: draw_task(folder, HIDDEN, ("up", "Invisible"), 12, True, 0),
        PLAIN: draw_task(folder, PLAIN, ("up", "down"), 12, True, 1),
    }
    data = tasks[HIDDEN]
    rows = data.rows("test")
    data.letters[rows] = [[0, 2]] * 3 + [[2, 0]] * 3
    path = folder.task(HIDDEN).predictions(3)
    arrays = read_arrays(path)
    arrays["fused"][rows] = [[0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]
    arrays["crop"][rows] = [[0.9, 0.1]] * 6
    write_arrays(path, **arrays)
    metrics = write_results(tasks, folder, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatcrop.report.plots.task_plots", lambda *_: [])
        page = build_report(folder, tasks, metrics, plan=ReportPlan(rows=4, tiles=2))
    return json.loads(folder.metrics.read_text()), page.read_text(encoding="utf-8")


def test_metrics_have_precision_recall_and_f1_of_each_branch(scored):
    found = scored[0]["tasks"][HIDDEN]["invisible"]
    third = pytest.approx(2 / 3)
    assert found["fused"] == {"precision": third, "recall": third, "f1": third}
    assert found["crop"] == {"precision": None, "recall": 0, "f1": 0}
    assert set(found) == {"full", "crop", "fused", "n"}
    assert found["n"] == 3


def test_a_task_without_the_class_has_none(scored):
    assert scored[0]["tasks"][PLAIN]["invisible"] is None


def test_the_page_has_the_task_with_the_class_only(scored):
    _, found, rest = scored[1].partition('aria-label="Detection of Invisible by task on test"')
    table = rest.partition("</table>")[0]
    assert found
    assert table.count("<tr>") == 2
    assert "0.67" in table
    assert "–" in table


def test_the_terminal_has_the_task_with_the_class_only(scored):
    table = invisible_table(scored[0])
    assert table is not None
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    printed = console.file.getvalue().splitlines()
    (line,) = [line.split() for line in printed if line.strip().startswith(("hidden", "plain"))]
    assert line[-5:] == ["0.00", "0.67", "0.67", "0.67", "3"]


def test_without_such_a_task_there_is_no_table(scored):
    assert invisible_table({**scored[0], "tasks": {PLAIN: scored[0]["tasks"][PLAIN]}}) is None


def test_figures_of_a_run_are_those_of_its_predictions(finished_run, tiny_home):
    """Counted in the files that people read: names of classes in fused.csv and in the answers."""
    metrics = json.loads((finished_run / "metrics.json").read_text())["tasks"]
    answers = pd.read_csv(tiny_home / "data/rank/Tests/answer.csv", header=None, dtype=str).set_index([0, 1])
    for task in TASKS:
        table = pd.read_csv(finished_run / task / "stage3" / "fused.csv", dtype=str)
        table = table[table["split"] == "test"]
        letters = np.array([answers.loc[(image, task), 2][0] for image in table["image"]])
        found, true = (table["class"] == "Invisible").to_numpy(), letters == "y"
        both, either = int((found & true).sum()), int(found.sum() + true.sum())
        assert not (letters == "m").any()
        assert metrics[task]["invisible"]["n"] == true.sum() == 1
        assert metrics[task]["invisible"]["fused"]["f1"] == pytest.approx(2 * both / either)
