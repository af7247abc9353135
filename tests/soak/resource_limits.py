"""Take the disk away from a tiny run.

``python -m tests.soak.resource_limits`` fills disks of many sizes; needs the right to mount (root,
or user namespaces).
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.soak.crash import ROOT, artefacts, make_home, reference

# A file system of the wanted size in a name space of its own; what was made is copied out at the end.
_FILL = """
mount -t tmpfs -o size="$1" none "$2" || exit 99
shift 2; out="$1"; shift
"$@"; echo $? > "$out/first"
mount -o remount,size=200m "$MOUNTED"
"$@" 2>/dev/null; echo $? > "$out/second"
find "$MOUNTED" -name '*.partial' > "$out/partial"
cp -r "$MOUNTED/run" "$out/run"
"""
_READ_ONLY = 'mount -t tmpfs -o ro none "$MOUNTED" || exit 99; exec "$@"'


@functools.cache
def can_mount() -> bool:
    """Whether a file system may be mounted in a name space of one's own."""
    try:
        done = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def _run(out: Path) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "pipeline.py"),
        "run",
        "--all",
        "--config",
        "tiny.yaml",
        "--out",
        str(out),
        "--jobs",
        "2",
    ]


def full_disk(home: Path, folder: Path, size: int) -> tuple[int, str, int, dict[str, bytes]]:
    """Run on a disk of `size` bytes, then again with room; where nothing may be mounted, with files limited.

    Returns
    -------
    code : int
    printed : str
    again : int
        Exit code with room.
    made : dict of str to bytes
        See :func:`tests.soak.crash.artefacts`.
    """
    if not can_mount():
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)

        def small_files() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 10, limit[1]))

        words = _run(folder / "run")
        first = subprocess.run(words, cwd=home, capture_output=True, text=True, preexec_fn=small_files)
        second = subprocess.run(words, cwd=home, capture_output=True)
        return first.returncode, first.stderr, second.returncode, artefacts(folder / "run")
    mounted, out = folder / "mounted", folder / "out"
    mounted.mkdir(), out.mkdir()
    command = ["unshare", "-rm", "sh", "-c", _FILL, "sh", str(size), str(mounted), str(out)]
    done = subprocess.run(
        [*command, *_run(mounted / "run")],
        cwd=home,
        capture_output=True,
        text=True,
        env={**os.environ, "MOUNTED": str(mounted)},
        timeout=600,
    )
    assert done.returncode == 0 and not (out / "partial").read_text(), done.stderr
    codes = [int((out / name).read_text()) for name in ("first", "second")]
    return codes[0], done.stderr, codes[1], artefacts(out / "run")


def read_only(home: Path, folder: Path) -> tuple[int, str]:
    """Run into a read-only file system; exit code and what was printed."""
    if not can_mount():
        done = subprocess.run(_run(Path("/sys/run")), cwd=home, capture_output=True, text=True)
        return done.returncode, done.stderr
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", _READ_ONLY, "sh", *_run(folder / "run")],
        cwd=home,
        env={**os.environ, "MOUNTED": str(folder)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def main() -> int:
    """Fill disks of many sizes; print a line a size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", type=int, default=20, help="from next to nothing to what a run takes")
    sizes = parser.parse_args().sizes
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        make_home(home)
        undisturbed = reference(home, 2)
        total = sum(map(len, undisturbed.files.values()))
        for number in range(sizes):
            folder = home / str(number)
            folder.mkdir()
            size = 4096 + int(total * number / sizes)
            code, printed, again, made = full_disk(home, folder, size)
            errors = re.findall("^error: .*", printed, re.MULTILINE)
            differ = {n for n, data in made.items() if undisturbed.files.get(n) != data}
            good = (
                again == 0 and differ <= {"report/index.html", "config.yaml"} and "Traceback" not in printed
            )
            good &= (code, len(errors)) in ((0, 0), (1, 1))
            faults += not good
            print(f"{size:,} bytes: code {code}, {errors}: {'the same' if good else printed}", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
