"""Atomic files: the old content or the new one, and what is written into them."""

import errno
import json
import os
import resource
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from heatcrop.files import (
    atomic_array,
    atomic_path,
    create_rows,
    join_tables,
    link,
    map_array,
    write_array,
    write_bytes,
    write_json,
    write_rows,
    write_table,
    write_text,
)


@pytest.fixture
def path(tmp_path):
    """A file in a folder that is not made yet."""
    return tmp_path / "new" / "it"


def test_a_failure_leaves_the_old_file(path):
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_path(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["it"]


def test_nothing_appears_before_the_block_ends(path):
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["it"]


def test_an_existing_file_is_replaced(path):
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


def test_json_has_null_where_json_has_no_number(path):
    write_json(path, {**JSON, "path": path})
    expected = {"nan": None, "inf": None, "3": [None, 7], "deep": {"all": [1.5, None, "Länge"]}, "yes": True}
    text = path.read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {**expected, "path": str(path)}


def test_tables_are_plain_csv(path):
    write_table(path, pd.DataFrame({"name": ["a,b", 'c"d'], "n": [1, 2]}))
    assert path.read_bytes() == b'name,n\n"a,b",1\n"c""d",2\n'


def test_a_table_written_in_parts_has_one_header(path):
    join_tables(path, (pd.DataFrame({"n": [number]}) for number in (1, 2)))
    assert path.read_text() == "n\n1\n2\n"


@pytest.mark.parametrize("shape", [(2, 3), (0, 3)])
def test_arrays_are_read_back_by_memory_map(path, shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    write_array(path, array)
    assert np.array_equal(np.load(path, mmap_mode="r" if array.size else None), array)


def test_one_thread_at_a_time_parses_the_header_of_an_array(tmp_path, monkeypatch):
    """Where two do, CPython 3.11 now and then raises a SystemError, as numpy parses the header with `ast`."""
    write_array(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    load, inside, alone = np.load, threading.Semaphore(1), []

    def slow_load(*arguments, **options):
        alone.append(inside.acquire(blocking=False))
        time.sleep(0.001)
        array = load(*arguments, **options)
        inside.release()
        return array

    monkeypatch.setattr(np, "load", slow_load)
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(map_array, [tmp_path / "a.npy"] * 12))
    assert [array.tolist() for array in arrays] == [[[0, 1, 2], [3, 4, 5]]] * 12
    assert alone == [True] * 12


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_of_a_file_are_read_as_written_and_others_are_zero(tmp_path, dtype):
    path, values = tmp_path / "rows.npy", np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8
    create_rows(path, (5, 2, 3), dtype)
    write_rows(path, np.array([3, 0]), values)
    rows = np.load(path, mmap_mode="r")
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows[[0, 3, 1]], [values[1], values[0], np.zeros((2, 3))])


def test_a_file_without_rows_can_be_read(tmp_path):
    create_rows(tmp_path / "none.npy", (0, 2, 3), "float16")
    assert np.load(tmp_path / "none.npy", mmap_mode="r").shape == (0, 2, 3)


@pytest.fixture
def target(tmp_path):
    """A file to be linked to."""
    write_text(tmp_path / "run" / "it.txt", "shared")
    return tmp_path / "run" / "it.txt"


def test_a_link_stands_for_its_target_wherever_the_folder_is_moved(target, tmp_path):
    link(target.parent / "task" / "it.txt", target)
    target.parent.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "task" / "it.txt").read_text() == "shared"


def test_writing_to_a_link_leaves_its_target(target, path):
    link(path, target)
    write_text(path, "own")
    assert (target.read_text(), path.read_text()) == ("shared", "own")


def test_a_link_to_itself_changes_nothing(target):
    link(target, target)
    assert target.read_text() == "shared"


def test_an_error_names_the_file_and_not_the_unfinished_one(path):
    (path / "file").mkdir(parents=True)
    with pytest.raises(OSError) as caught, atomic_path(path) as partial:
        partial.write_text("text")
    assert caught.value.filename == str(path)


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


def test_an_array_without_room_is_refused_before_it_is_filled(path, small_disk):
    with pytest.raises(OSError), atomic_array(path, (1000, 100), np.float32):
        pytest.fail("the array was given out")
    assert os.listdir(path.parent) == []


def test_the_room_of_rows_is_reserved(tmp_path):
    create_rows(tmp_path / "a.npy", (1000, 100, 10), np.float16)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 2 * 1000 * 1000


def test_bytes_replace_those_of_a_longer_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"longer than the new ones")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_bytes_are_written_completely_where_the_system_takes_a_part_at_a_time(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_bytes(tmp_path / "a.jpg", b"0123456789")
    assert (tmp_path / "a.jpg").read_bytes() == b"0123456789"


def test_an_error_of_writing_bytes_names_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.jpg'"):
        write_bytes(tmp_path / "a.jpg", b"x")


def test_a_full_disk_is_that_of_the_copy_and_not_of_its_source(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(tmp_path / "copy") as partial:
        shutil.copyfile(tmp_path / "source", partial)
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "copy"), None)
