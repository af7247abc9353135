"""Atomic files: the old content or the new one, and what is written into them."""

import json
import os
import resource
import signal

import numpy as np
import pandas as pd
import pytest

from heatcrop.files import (
    atomic_array,
    atomic_path,
    atomic_table,
    create_rows,
    link,
    write_array,
    write_json,
    write_table,
    write_text,
)


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_path(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_nothing_appears_before_the_block_ends(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["b.txt"]


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "b.txt"
    for text in ("one", "two"):
        write_text(path, text)
    assert path.read_text() == "two"


JSON = {
    "nan": float("nan"),
    "inf": np.float32("inf"),
    3: [np.float64("nan"), np.int64(7)],
    "deep": {"all": (1.5, None, "Länge")},
    "yes": np.bool_(True),
}


def test_json_has_null_where_json_has_no_number(tmp_path):
    write_json(tmp_path / "x.json", {**JSON, "path": tmp_path})
    expected = {"nan": None, "inf": None, "3": [None, 7], "deep": {"all": [1.5, None, "Länge"]}, "yes": True}
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {**expected, "path": str(tmp_path)}


def test_tables_are_plain_csv(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"name": ["a,b", 'c"d'], "n": [1, 2]}))
    assert (tmp_path / "t.csv").read_bytes() == b'name,n\n"a,b",1\n"c""d",2\n'


def test_a_table_written_in_parts_has_one_header(tmp_path):
    with atomic_table(tmp_path / "t.csv") as write:
        for number in (1, 2):
            write(pd.DataFrame({"n": [number]}))
    assert (tmp_path / "t.csv").read_text() == "n\n1\n2\n"


@pytest.mark.parametrize("shape", [(2, 3), (0, 3)])
def test_arrays_are_read_back_by_memory_map(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    write_array(tmp_path / "a.npy", array)
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r" if array.size else None), array)


def test_a_link_stands_for_its_target_wherever_the_folder_is_moved(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "it.txt").write_text("shared")
    link(tmp_path / "run" / "task" / "it.txt", tmp_path / "run" / "it.txt")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "task" / "it.txt").read_text() == "shared"


def test_writing_to_a_link_leaves_its_target(tmp_path):
    (tmp_path / "it.txt").write_text("shared")
    link(tmp_path / "mine.txt", tmp_path / "it.txt")
    write_text(tmp_path / "mine.txt", "own")
    assert (tmp_path / "it.txt").read_text() == "shared"
    assert (tmp_path / "mine.txt").read_text() == "own"


def test_a_link_to_itself_changes_nothing(tmp_path):
    (tmp_path / "it.txt").write_text("it")
    link(tmp_path / "it.txt", tmp_path / "it.txt")
    assert (tmp_path / "it.txt").read_text() == "it"


def test_an_error_names_the_file_and_not_the_unfinished_one(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "folder") as partial:
        partial.write_text("text")
    assert caught.value.filename == str(tmp_path / "folder")


# --- disks without room


@pytest.fixture
def small_disk():
    """Let no file of this process grow beyond 100 kB; the error is that of a full disk but for its number."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def test_rows_without_room_are_refused_before_the_first_is_written(tmp_path, small_disk):
    with pytest.raises(OSError, match="too large") as caught:
        create_rows(tmp_path / "a.npy", (1000, 10, 10), np.float16)
    assert caught.value.filename == str(tmp_path / "a.npy")


def test_an_array_without_room_is_refused_before_it_is_filled(tmp_path, small_disk):
    with pytest.raises(OSError), atomic_array(tmp_path / "a.npy", (1000, 100), np.float32):
        pytest.fail("the array was given out")
    assert os.listdir(tmp_path) == []


def test_the_room_of_rows_is_reserved(tmp_path):
    create_rows(tmp_path / "a.npy", (1000, 100, 10), np.float16)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 2 * 1000 * 1000
