"""Read and write the configuration: one YAML file, changed by the command line's settings."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from heatcrop.cli.config import Config, merge
from heatcrop.data.listing import RUN_HEADER
from heatcrop.errors import UsageError
from heatcrop.validation import UNKNOWN, error_line

_MOST_DOTS = 20
"""In a setting's key; existing ones have four at most."""


class _RepeatedKeyError(Exception):
    """A key occurs twice in one mapping."""

    def __init__(self, key: yaml.Node, first: yaml.Node) -> None:
        self.line, earlier = key.start_mark.line + 1, first.start_mark.line + 1
        where = "in this line" if earlier == self.line else f"in line {earlier}"
        super().__init__(f"the key {key.value!r} is already {where}; keep one of them")


class _Loader(yaml.SafeLoader):
    """Read YAML as ``yaml.safe_load`` does, but refuse repeated keys instead of taking the last one."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Checked here, before `<<` adds the keys of other mappings to this one.
        node = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                earlier = first.setdefault((key.tag, key.value), key)
                if earlier is not key:
                    raise _RepeatedKeyError(key, earlier)
        return node


def read_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply settings such as ``network.input_px=192``, with values in YAML.

    UsageError naming the file or the setting, the key, what was found and what was expected.
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
        for change in [*changes, *_search_turned_off(changes)]:
            values = merge(values, change, emptying=True)
            stages = {k: v for k, v in change.items() if k in ("cam", "crop", "finetune")}
            for place in _sections(values):  # the command line wins over the file's regimes and tasks
                values = merge(values, _nest(place, stages))
        return Config.model_validate(values)
    except ValidationError as error:
        # pydantic reports a list that fits neither a word nor a list twice; the second report is exact.
        found = [
            e for e in error.errors() if e["type"] != "literal_error" or not isinstance(e["input"], list)
        ]
        keys = {_keys(setting): setting for setting in settings}
        # A setting that reaches several regimes is reported once.
        lines = dict.fromkeys(_explain(path, keys, error_line(e) + _near(e)) for e in found)
        raise UsageError("\n".join(list(lines)[:8])) from None
    except RecursionError:
        raise UsageError(f"{path}: is nested too deeply") from None


def _explain(path: Path, settings: Mapping[tuple[str, ...], str], line: str) -> str:
    """Put before ``key: reason`` the setting that the mistake is in, or else the file."""
    key, _, reason = line.partition(": ")
    place = tuple(key.split("."))
    for at in dict.fromkeys((place, _below_regime(place))):  # settings of the stages reach every regime
        for keys, setting in settings.items():
            if at[: len(keys)] == keys:
                return f"--set {_shorten(setting)}: {'' if at == keys else '.'.join(at) + ': '}{reason}"
    inside = [_shorten(setting) for keys, setting in settings.items() if keys[: len(place)] == place]
    return f"{' --set '.join([str(path), *inside])}: {line}"


def _near(error: Any) -> str:
    """Suggest the setting of the same section that is spelt nearly as an unknown one; '' without one."""
    *sections, name = _below_regime(tuple(map(str, error["loc"]))) or ("",)
    known: Any = Config().model_dump() if error["type"] in UNKNOWN else {}
    for section in sections:
        known = known.get(section) if isinstance(known, dict) else None
    near = difflib.get_close_matches(name, known if isinstance(known, dict) else (), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _below_regime(place: tuple[str, ...]) -> tuple[str, ...]:
    """Return a setting's place without the regime or task that it is for."""
    return place[{"tasks": 2, "design": 1, "length": 1}.get(place[0], 0) if place else 0 :]


def _search_turned_off(changes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn the search off where the command line sets a rule: that rule is meant to be used as it is."""
    sections = _sections(functools.reduce(merge, changes, {}))
    crops = {place: crop for place, one in sections.items() if isinstance(crop := one.get("crop"), dict)}
    off = [place for place, crop in crops.items() if "rule" in crop and "search" not in crop]
    return [_nest((*place, "crop", "search", "pictures"), 0) for place in off]


def _sections(values: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Find what may hold the stages' settings: the values themselves, the regimes and the tasks, by place."""
    tasks = values.get("tasks")
    found = {(): values, ("design",): values.get("design"), ("length",): values.get("length")}
    found |= {("tasks", name): section for name, section in tasks.items()} if isinstance(tasks, dict) else {}
    return {place: section for place, section in found.items() if isinstance(section, dict)}


def _nest(keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Put a value into nested dictionaries."""
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _setting(text: str) -> dict[str, Any]:
    """Turn ``a.b=value`` into ``{"a": {"b": value}}``."""
    key, found, value = text.partition("=")
    text = _shorten(text)
    if not found or not all(part.strip() for part in key.split(".")):
        raise UsageError(f"--set {text}: expected key=value, for instance --set network.input_px=192")
    if key.count(".") > _MOST_DOTS:
        raise UsageError(f"--set {text}: is nested too deeply")
    try:
        return _nest(_keys(key), yaml.load(value, _Loader))
    except _RepeatedKeyError as error:
        raise UsageError(f"--set {text}: {error}") from None
    except RecursionError:
        raise UsageError(f"--set {text}: is nested too deeply") from None
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"--set {text}: the value is not valid YAML") from None


def _keys(setting: str) -> tuple[str, ...]:
    """Return ``("a", "b")`` of ``a.b=value``."""
    return tuple(setting.partition("=")[0].strip().split("."))


def _shorten(setting: str) -> str:
    return setting if len(setting) < 100 else f"{setting[:97]}..."


def format_list(texts: Sequence[str]) -> str:
    """Write texts, of any characters, as the value of a setting that :func:`read_config` reads back.

    >>> format_list(["birds", "a, b", "no"])
    "[birds, 'a, b', 'no']"
    """
    return yaml.safe_dump(list(texts), default_flow_style=True, width=math.inf).rstrip("\n")


def is_resolved(text: str) -> bool:
    """Return whether :func:`dump_config` wrote a configuration, and not the user."""
    return text.startswith(RUN_HEADER)


def dump_config(config: Config) -> str:
    """Write the resolved configuration as YAML that :func:`read_config` reads back."""
    return RUN_HEADER + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
