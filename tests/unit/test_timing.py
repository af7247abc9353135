"""What work takes: time that passes and CPU time, of a run by stage and by group of tasks."""

import subprocess
import sys
import time

import pytest

from heatcrop.timing import RunTimes, Spent, now

BUSY = "import time\nwhile time.process_time() < 0.3: pass"


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock; returns a function that lets seconds and CPU seconds pass."""
    shown = [Spent()]
    monkeypatch.setattr("heatcrop.timing.now", lambda: shown[0])

    def passes(wall, cpu):
        shown[0] += Spent(wall, cpu)

    return passes


def test_sleep_takes_time_and_no_cpu_time():
    began = now()
    time.sleep(0.2)
    spent = now() - began
    assert spent.wall >= 0.2
    assert spent.cpu < 0.1


def test_cpu_time_of_an_ended_child_process_counts():
    began = now()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert (now() - began).cpu >= 0.28  # children are counted in hundredths


@pytest.fixture
def times(clock):
    """Times of a run of 100 s: two groups, one with a stage that was up to date, on two workers."""
    times = RunTimes()
    with times.part("data"):
        clock(10, 20)
    with times.around_jobs():
        times.at_once = 2
        times.stages = {
            "neck": {"cam": None, "crop": Spent(20, 30), "finetune": Spent(40, 40)},
            "lapel": {"cam": Spent(50, 60), "crop": Spent(10, 10), "finetune": Spent(30, 30)},
        }
        clock(80, 185)
    with times.part("report"):
        clock(10, 10)
    return times


def test_jobs_are_added_up_by_group_and_by_stage(times):
    assert times.jobs() == Spent(150, 170)
    assert times.jobs("neck") == Spent(60, 70)
    assert times.jobs(stage="crop") == Spent(30, 40)
    assert times.jobs("lapel", "cam") == Spent(50, 60)
    assert times.jobs("neck", "cam") == Spent()


def test_what_jobs_leave_of_all_workers_time_is_another_part(times):
    assert times.parts["other"] == Spent(2 * 80 - 150, 185 - 170)


def test_jobs_and_parts_give_the_total(times):
    assert times.total == Spent(10 + 2 * 80 + 10, 20 + 185 + 10)
    assert times.passed == 100


def test_time_of_workers_that_others_started_is_not_accounted_for(clock):
    times = RunTimes()
    with times.around_jobs():
        times.at_once = None
        times.stages["neck"] = {"cam": Spent(50, 50)}
        clock(20, 1)
    assert times.parts == {}
    assert times.total == Spent(50, 50)


def test_parts_and_blocks_of_jobs_that_follow_each_other_are_added_up(clock):
    times = RunTimes()
    for name, seconds in (("lapel", 5), ("neck", 30)):
        with times.part("data"):
            clock(seconds, 1)
        with times.around_jobs():
            times.stages[name] = {"cam": Spent(20, 40)}
            clock(22, 41)
    assert times.parts == {"data": Spent(35, 2), "other": Spent(4, 2)}
    assert times.total.wall == times.passed == 79
