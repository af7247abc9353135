"""Fuzz one target with inputs that atheris mutates towards new branches.

Needs ``pip install atheris``, which is not in the requirements because it lacks wheels for some platforms.
Options after the target's name are libFuzzer's; inputs are read from and written to a folder given there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

_INSTRUMENTED = [
    "heatcrop.data",
    "heatcrop.nets.weights.pth_file",
    "heatcrop.cli.config",
    "heatcrop.cli.config_file",
    "PIL",
    "yaml",
]

with atheris.instrument_imports(include=_INSTRUMENTED):
    from tests.soak.targets import TARGETS, seeds


def main() -> None:
    """Fuzz one target; libFuzzer ends the process, with an error where an input raised one."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"error: expected a target: {', '.join(TARGETS)}")
    target, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as name:
        work, corpus = Path(name) / "work", Path(name) / "corpus"
        work.mkdir(), corpus.mkdir()
        for number, data in enumerate(seeds(target)):
            (corpus / str(number)).write_bytes(data)
        limits = ["-timeout=5", "-rss_limit_mb=2048", "-max_len=4096"]

        def run(data: bytes) -> None:
            TARGETS[target](work, data)

        atheris.Setup(["guided_fuzzing", *limits, *options, str(corpus)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
