"""Many texts in little memory: paths that are put together when asked for, and where a text stands."""

import pickle
import tracemalloc

import numpy as np
import pytest

from heatcrop.data import texts
from heatcrop.data.texts import PicturePaths, Places, absolute, first_of_each, take

PLAIN = ("/d/base/a.jpg", "/d/rank/b.jpg", "/d/rank/c.jpg")


@pytest.fixture(
    params=[tuple, list, lambda names: np.array(list(names), object)], ids=["tuple", "list", "array"]
)
def paths(request):
    return PicturePaths(["/d/base", "/d/rank"], np.array([0, 1, 1], np.int8), request.param("abc"))


@pytest.fixture
def named():
    names = ("a.jpg", "b.jpg", "c.jpg")
    return PicturePaths(["/d/base", "/d/rank"], np.array([0, 1, 1], np.int8), names)


def test_paths_behave_like_a_tuple_of_texts(named):
    assert len(named) == 3 and tuple(named) == PLAIN and list(reversed(named)) == list(PLAIN[::-1])
    assert [named[i] for i in range(-3, 3)] == [*PLAIN, *PLAIN]
    assert tuple(named[1:]) == PLAIN[1:] and tuple(named[::-2]) == PLAIN[::-2] and not len(named[3:])
    assert "/d/rank/b.jpg" in named and named.index("/d/rank/c.jpg") == 2 and named.count("x") == 0
    for place in (3, -4):
        with pytest.raises(IndexError):
            named[place]


def test_paths_are_equal_to_the_same_texts_in_any_sequence(named):
    assert named == PLAIN and list(PLAIN) == named and named == list(PLAIN) and named == named[:]
    assert named != PLAIN[:2] and named != (*PLAIN[:2], "x") and named != "abc"


def test_taken_paths_keep_what_their_names_are_kept_in(paths):
    picked = take(paths, np.array([2, 0, 2]))
    assert isinstance(picked, PicturePaths) and picked == ("/d/rank/c", "/d/base/a", "/d/rank/c")
    assert take(("x", "y"), np.array([1, 0])) == ["y", "x"]


def test_a_folder_for_each_name_is_needed():
    with pytest.raises(ValueError, match="2 folders are told for 1 names"):
        PicturePaths(["/d"], np.zeros(2, int), ["a"])


def test_absolute_paths_are_put_together_too(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = absolute(PicturePaths(["data"], np.zeros(1, int), ["a.jpg"]))
    assert isinstance(found, PicturePaths) and found == (f"{tmp_path}/data/a.jpg",)
    assert absolute(["data/../b.jpg"]) == (f"{tmp_path}/b.jpg",)


def test_paths_are_small_to_keep_and_to_send():
    names = tuple(f"{i:08d}.jpg" for i in range(10_000))
    tracemalloc.start()
    paths = PicturePaths(["/a/long/way/down/to/the/pictures" * 3], np.zeros(len(names), np.int8), names)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000
    sent = pickle.dumps((names, paths))
    assert len(sent) < 1.3 * len(pickle.dumps(names)) and pickle.loads(sent)[1] == paths


SAME_HASH = pytest.param(lambda text: 7, id="all of one hash")


@pytest.mark.parametrize("hashed", [pytest.param(hash, id="hash"), SAME_HASH])
def test_places_of_texts_among_others(monkeypatch, hashed):
    monkeypatch.setattr(texts, "hash", hashed, raising=False)
    assert Places(["b", "a", "c", "a"]).of(["a", "c", "x", "b", "a"]).tolist() == [1, 2, -1, 0, 1]
    assert Places([]).of(["a"]).tolist() == [-1] and Places(["a"]).of([]).tolist() == []
    rng = np.random.default_rng(0)
    among, asked = (rng.permutation(300)[:n].astype(str).tolist() for n in (200, 150))
    expected = [among.index(text) if text in among else -1 for text in asked]
    assert Places(among).of(asked).tolist() == expected


@pytest.mark.parametrize("hashed", [pytest.param(hash, id="hash"), SAME_HASH])
def test_the_first_of_equal_texts(monkeypatch, hashed):
    monkeypatch.setattr(texts, "hash", hashed, raising=False)
    assert first_of_each(["b", "a", "b", "c", "a", "b"]).tolist() == [0, 1, 0, 3, 1, 0]
    assert first_of_each([]).tolist() == [] and first_of_each(["x"]).tolist() == [0]
