"""The task of the rendered default whose contact sheet is there before the other tasks' images."""

import threading

import pytest
import yaml
from filelock import FileLock

from heatcrop.cli.config import Config
from heatcrop.cli.loading import _rendering, rendered_folder
from heatcrop.cli.startup import first_task
from heatcrop.rendered import write_dataset
from heatcrop.runs.folder import STAGES
from tests.conftest import without_plots
from tests.tiny_run import CONFIG, TINY

RENDERED = Config.model_validate({"data": {"source": "rendered"}, "runtime": {"device": "cpu", "jobs": 2}})


def choose(config, wanted=(), stages=STAGES, scheduler=None):
    return first_task(config, wanted, stages, scheduler)


def test_the_task_of_fewest_classes_is_first():
    assert choose(RENDERED, ("sleeve", "lapel", "skirt")) == [(["lapel_design_labels"], ("cam", "crop"))]


def test_one_of_all_tasks_is_first():
    assert [names for names, _ in choose(RENDERED)] == [["collar_design_labels"]]


def test_none_is_first_where_all_run_at_once():
    assert choose(RENDERED, ("sleeve", "lapel")) == []
    assert choose(RENDERED, ("lapel",)) == []


def test_none_is_first_where_one_stage_is_asked_for():
    assert choose(RENDERED, stages=("cam",)) == []


def test_none_is_first_on_the_workers_of_a_scheduler():
    assert choose(RENDERED, scheduler="tcp://127.0.0.1:1") == []


def test_none_is_first_where_tasks_share_a_network():
    assert choose(RENDERED.changed("network", shared_trunk=True)) == []


def test_none_is_first_where_the_images_are_the_users():
    assert choose(RENDERED.changed("data", source="files", roots=("data",))) == []


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project without images, which are rendered smaller than by default, for speed."""
    home = tmp_path_factory.mktemp("first")
    data = {"source": "rendered", "rendered": {"per_class": 4, "test_per_class": 1, "folder": "drawn"}}
    (home / "tiny.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data, "runtime": {"device": "cpu"}}))
    return home


@pytest.fixture(scope="module")
def printed(home, call):
    """What a run of two tasks, one after the other, has printed."""
    with pytest.MonkeyPatch.context() as patch, without_plots():
        patch.setattr(
            "heatcrop.cli.loading.write_dataset",
            lambda *arguments: write_dataset(*arguments, side_px=96),
        )
        code, printed = call("run", "--task", "neck", "--task", "lapel", *TINY, "--out", "run", "--jobs", "1")
    assert code == 0, printed
    return printed


def test_the_first_sheet_is_older_than_the_other_tasks_images(home, printed):
    sheet = home / "run" / "neck_design_labels" / "sheets" / "overview.jpg"
    line = f"a sheet of its crops: {sheet.relative_to(home)}"
    assert printed.index(line) < printed.index("2 tasks")
    drawn = {path.stem: path.stat().st_mtime_ns for path in (home / "drawn").rglob("lapel*")}
    assert drawn
    finished = (home / "run" / "neck_design_labels" / "crops").stat().st_mtime_ns
    assert finished < min(drawn.values())


def test_stages_that_ran_first_are_not_repeated(printed):
    assert printed.count("neck: cam in") == 1
    assert printed.count("neck: crop in") == 1


def test_the_time_of_all_stages_is_in_one_table(printed):
    table = printed.split("where the time went")[1].split("all tasks")[0]
    assert "up to date" not in table
    assert table.count("neck") == 1


def test_one_process_renders_at_a_time(tmp_path):
    config = Config.model_validate({"data": {"source": "rendered", "rendered": {"folder": str(tmp_path)}}})
    root, entered = rendered_folder(config), threading.Event()

    def render():
        with _rendering(config, ["neck"]):
            entered.set()

    thread = threading.Thread(target=render)
    with FileLock(root.with_name(f".{root.name}.lock")):
        thread.start()
        assert not entered.wait(0.5)
    assert entered.wait(10)
    thread.join()
