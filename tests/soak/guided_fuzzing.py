"""Feed one reader of the fuzzing targets with inputs that atheris steers towards new branches.

Needs ``pip install atheris``, which has no wheels for every machine and so is no requirement. What follows
the target's name is libFuzzer's; a folder among it is read for inputs, and keeps the new ones.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

_FOLLOWED = [
    "attributes",
    "heatcrop.nets.torch_weights",
    "heatcrop.cli.config",
    "heatcrop.cli.config_file",
    "PIL",
    "yaml",
]

with atheris.instrument_imports(include=_FOLLOWED):
    from tests.soak.targets import TARGETS, seeds


def main() -> None:
    """Fuzz one target; libFuzzer ends the process, with an error where an input was not told."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"error: name a target: {', '.join(TARGETS)}")
    target, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as name:
        work, corpus = Path(name) / "work", Path(name) / "corpus"
        work.mkdir(), corpus.mkdir()
        for number, data in enumerate(seeds(target)):
            (corpus / str(number)).write_bytes(data)
        limits = ["-timeout=5", "-rss_limit_mb=2048", "-max_len=4096"]
        atheris.Setup(["guided", *limits, *options, str(corpus)], lambda data: TARGETS[target](work, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
