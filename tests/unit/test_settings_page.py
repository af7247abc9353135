"""The page of settings agrees with the configuration."""

import pytest

from tests.tiny_run import ROOT
from tools.settings_table import page

LINES = page().splitlines()


def test_the_committed_page_is_up_to_date():
    """If not: python -m tools.settings_table > docs/settings.md."""
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8").splitlines() == LINES


@pytest.mark.parametrize(
    "row",
    [
        "| `seed` | integer | `0` | ≥ 0, < 2,147,483,648 | Seed of all random numbers. |",
        '| `jobs` | `auto` or integer | `"auto"` | ≥ 1, ≤ 64 | Worker processes, see `docs/clusters.md`. |',
    ],
)
def test_a_row_has_type_default_bounds_and_meaning(row):
    assert row in LINES


def test_sections_with_the_same_keys_share_a_table():
    assert "## `cam.training`, `finetune.training`" in LINES


def test_every_key_has_a_meaning():
    assert [line for line in LINES if line.endswith("|  |")] == []
