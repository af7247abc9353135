"""Names of an ensemble's members."""

from pathlib import Path

import pytest

from heatcrop.predict.members import member_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b", "c.csv"], ["a", "b", "c.csv"]),
        (["x/a", "y/a"], ["x/a", "y/a"]),
        (["runs/fused", "runs/a"], ["runs/fused", "runs/a"]),
    ],
)
def test_members_have_short_names_where_these_differ(paths, names):
    assert member_names([Path(path) for path in paths]) == names


def test_no_member_is_called_like_the_ensemble(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = member_names([Path("a"), Path("fused")])
    assert names == [str(tmp_path / "a"), str(tmp_path / "fused")]
