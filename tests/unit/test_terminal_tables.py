"""Tables for the terminal: where the time of a run went, and what one is expected to take."""

import io

import pandas as pd
import pytest
from rich.console import Console

from heatcrop.cli.tables import cost_table, members_table, times_table
from heatcrop.timing import RunTimes, Spent


@pytest.fixture
def printed():
    """Print a table; returns its title and rows, with single spaces and without lines."""

    def lines(table):
        out = io.StringIO()
        Console(file=out, width=80).print(table)
        rows = (" ".join(line.split()) for line in out.getvalue().splitlines())
        return [row for row in rows if row.strip("─ ")]

    return lines


def test_the_members_of_an_ensemble_are_listed_once_whatever_the_tasks_are_called(printed):
    columns = ("task", "member", "weight", "val_ap", "val_adds")
    rows = [(task, member, 0.5, 0.9, 0.1) for task in ("mean", "mean") for member in ("a", "b")]
    lines = printed(members_table(pd.DataFrame(rows, columns=columns), "val"))
    assert [line.split()[0] for line in lines if line.split()[0] in "ab"] == ["a", "b"]


@pytest.fixture
def times():
    times = RunTimes()
    times.stages = {
        "neck": {"cam": None, "crop": Spent(20, 30), "finetune": Spent(40, 40)},
        "lapel": {"cam": Spent(1250, 2500), "crop": Spent(10, 9.96), "finetune": Spent(30, 1.25)},
    }
    times.parts = {"data": Spent(100, 200), "other": Spent(50, 0)}
    times.at_once = 2
    return times


def test_the_time_of_a_run_is_tabulated_by_group_stage_and_part(printed, times):
    rows = printed(times_table(times))
    assert rows[0] == "where the time went: seconds (CPU seconds)"
    assert rows[1] == "task cam crop finetune all share"
    # In all 1350 + 150 seconds.
    assert rows[2] == "neck up to date 20 (30) 40 (40) 60 (70) 4%"
    assert rows[3] == "lapel 1,250 (2,500) 10 (10) 30 (1.2) 1,290 (2,511) 86%"
    assert rows[4] == "all tasks 1,250 (2,500) 30 (40) 70 (41) 1,350 (2,581) 90%"
    assert rows[5] == "share 83% 2% 5%"
    assert rows[6] == "data 100 (200) 7%"
    assert rows[7] == "other 50 (0.0) 3%"
    assert rows[8] == "total 1,500 (2,781) 100%"
    assert " ".join(rows[9:]).startswith("passed: 0 s; 2 jobs at once")


def test_a_run_that_did_nothing_has_no_shares(printed):
    times = RunTimes()
    times.stages = {"neck": {"cam": None, "crop": None, "finetune": None}}
    rows = printed(times_table(times))
    assert rows[2] == "neck up to date up to date up to date 0.0 (0.0)"


def test_the_expected_time_is_tabulated_by_stage(printed):
    rows = printed(cost_table({"cam": Spent(120, 240), "crop": Spent(30, 60), "finetune": Spent(7200, 7200)}))
    assert rows[1:] == [
        "stage time CPU time",
        "cam 2.0 min 4.0 min",
        "crop 30 s 60 s",
        "finetune 2.0 h 2.0 h",
    ]
