"""Job graphs without worker processes: the inline executor, and graphs that are merged."""

import pytest

from heatcrop.runs.executors import InlineExecutor, merge_graphs, open_executor


def graph(name, steps, log):
    """Yield steps of jobs, and log the results of each."""
    for number, size in enumerate(steps):
        log.append((name, (yield [(name, number, job) for job in range(size)])))


def label(name, number, job):
    return f"{name}{number}{job}"


def test_a_graph_is_sent_the_results_of_each_step():
    log = []
    InlineExecutor().run([(label, graph("a", [2, 1], log))])
    assert log == [("a", ["a00", "a01"]), ("a", ["a10"])]


def test_graphs_run_one_after_the_other_with_their_own_function():
    log = []
    InlineExecutor().run([(label, graph("a", [1], log)), (lambda *job: job, graph("b", [1], log))])
    assert log == [("a", ["a00"]), ("b", [("b", 0, 0)])]


@pytest.mark.parametrize("steps", [[], [0], [0, 1, 0]])
def test_empty_steps_and_graphs_are_allowed(steps):
    log = []
    InlineExecutor().run([(label, graph("a", steps, log))])
    assert [len(results) for _, results in log] == steps


def test_an_error_of_a_job_ends_the_run():
    log = []
    with pytest.raises(ZeroDivisionError):
        InlineExecutor().run([(lambda _, __, job: 1 // job, graph("a", [1, 1], log))])
    assert log == []


def test_an_error_between_steps_is_not_hidden():
    def failing():
        yield []
        raise ValueError("between")

    with pytest.raises(ValueError, match="between"):
        InlineExecutor().run([(label, failing())])


def test_merged_graphs_take_their_steps_together():
    log = []
    merged = merge_graphs([graph("a", [2, 1], log), graph("b", [1], log)])
    steps = [next(merged)]
    steps.append(merged.send(["r0", "r1", "r2"]))
    with pytest.raises(StopIteration):
        merged.send(["r3"])
    assert steps == [[("a", 0, 0), ("a", 0, 1), ("b", 0, 0)], [("a", 1, 0)]]
    assert log == [("a", ["r0", "r1"]), ("b", ["r2"]), ("a", ["r3"])]


@pytest.mark.parametrize("graphs", [[], [[]], [[], [1]], [[0], [0, 2]]])
def test_merged_graphs_may_end_at_different_steps(graphs):
    log = []
    merged = merge_graphs([graph(str(i), steps, log) for i, steps in enumerate(graphs)])
    InlineExecutor().run([(label, merged)])
    for number, steps in enumerate(graphs):
        assert [len(results) for name, results in log if name == str(number)] == steps


def test_one_worker_is_this_process():
    with open_executor(1) as executor:
        assert isinstance(executor, InlineExecutor)
