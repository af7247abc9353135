"""The configuration's one YAML file, with the command line's settings laid over it: read and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from heatcrop.cli.config import Config, merge, reason_of
from heatcrop.errors import UsageError

_DEEPEST = 20
"""Dots in a setting's key, of which one that exists has four at most."""


class _RepeatedKeyError(Exception):
    """A key stands twice in one mapping."""

    def __init__(self, key: yaml.Node, first: yaml.Node) -> None:
        self.line, earlier = key.start_mark.line + 1, first.start_mark.line + 1
        there = "in this line" if earlier == self.line else f"in line {earlier}"
        super().__init__(f"{key.value!r} stands here and before {there}; keep one of them")


class _Loader(yaml.SafeLoader):
    """Reads YAML as ``yaml.safe_load`` does, which takes the last of equal keys; here they are a mistake."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Later, when mappings are made of the nodes, what `<<` brings in stands among a mapping's own keys.
        node = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                earlier = first.setdefault((key.tag, key.value), key)
                if earlier is not key:
                    raise _RepeatedKeyError(key, earlier)
        return node


def read_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read a configuration file and lay ``key=value`` settings over it.

    Parameters
    ----------
    settings : sequence of str
        Such as ``network.input_px=192``; the value is read as YAML.

    Raises
    ------
    UsageError
        Naming the file, the key, what was found and what was expected.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader) or {}
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give --config an existing file"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text") from None
    except _RepeatedKeyError as error:
        raise UsageError(f"{path}:{error.line}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not valid YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(values, dict):
        raise UsageError(
            f"{path}: expected sections such as 'data:' and 'network:', found {type(values).__name__}"
        )
    changes = [_setting(setting) for setting in settings]
    try:
        for change in [*changes, *_without_search(changes)]:
            values = _over_overrides(merge(values, change), change)
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [
            ": ".join(
                [
                    str(path),
                    *filter(None, [".".join(str(k) for k in e["loc"] if "[" not in str(k))]),
                    reason_of(e),
                ]
            )
            for e in error.errors()[:8]
            # Of "a word or a list", a list is measured as a list.
            if not (e["type"] == "literal_error" and isinstance(e["input"], list))
        ]
        raise UsageError("\n".join(lines)) from None
    except RecursionError:
        raise UsageError(f"{path}: is nested too deeply") from None


def _without_search(changes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn the search off where somebody types a rule: it is the rule to cut by, not a place to start."""
    typed: dict[str, set[str]] = {}
    for change in changes:
        tasks = change.get("tasks")
        places = {"": change, "design.": change.get("design"), "length.": change.get("length")}
        places |= {f"tasks.{name}.": part for name, part in tasks.items()} if isinstance(tasks, dict) else {}
        for place, part in places.items():
            crop = part.get("crop") if isinstance(part, dict) else None
            typed.setdefault(place, set()).update(crop if isinstance(crop, dict) else ())
    off = [place for place, keys in typed.items() if "rule" in keys and "search" not in keys]
    return [_setting(f"{place}crop.search.pictures=0") for place in off]


def _over_overrides(values: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Lay a setting of a stage over the file's regimes and tasks too: what is typed wins."""
    change = {k: v for k, v in change.items() if k in ("cam", "crop", "finetune")}

    def over(section: Any) -> Any:
        return merge(section, change) if isinstance(section, dict) else section

    out = {k: over(v) if k in ("design", "length") else v for k, v in values.items()}
    if isinstance(values.get("tasks"), dict):
        out["tasks"] = {name: over(override) for name, override in values["tasks"].items()}
    return out


def _setting(text: str) -> dict[str, Any]:
    key, found, value = text.partition("=")
    text = text if len(text) < 100 else f"{text[:97]}..."
    if not found or not key.strip():
        raise UsageError(f"--set {text}: expected key=value, for instance --set network.input_px=192")
    if key.count(".") > _DEEPEST:
        raise UsageError(f"--set {text}: is nested too deeply")
    try:
        parsed = yaml.load(value, _Loader)
    except _RepeatedKeyError as error:
        raise UsageError(f"--set {text}: {error}") from None
    except RecursionError:
        raise UsageError(f"--set {text}: is nested too deeply") from None
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"--set {text}: the value is not valid YAML") from None
    out: Any = parsed
    for part in reversed(key.strip().split(".")):
        out = {part: out}
    return dict(out)


_ALWAYS = {"name", "seed", "data", "network", "cam", "crop", "finetune", "runtime"}
_HEADER = "# What this run was made with, written anew each time: put settings into a file of your own.\n"


def is_resolved(text: str) -> bool:
    """Whether a configuration is one that :func:`dump_config` wrote, and not a file of the user's own."""
    if text.startswith(_HEADER):
        return True
    # Before they had a header: all sections, and no word of explanation.
    sections = {line.partition(":")[0] for line in text.splitlines()}
    return sections >= _ALWAYS and not any(line.startswith("#") for line in sections)


def dump_config(config: Config) -> str:
    """Write the whole resolved configuration as YAML that :func:`read_config` reads back."""
    return _HEADER + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
