"""Run on disks that are full or read-only.

``python -m tests.soak.resource_limits`` fills disks of many sizes; needs the right to mount (root, or user
namespaces).
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

from tests.tiny_run import comparable_files, make_project, make_reference, tiny_run

# A file system of the wanted size in its own mount namespace; its files are copied out at the end.
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
_JOBS = 2


@functools.cache
def can_mount() -> bool:
    """Whether this user may mount a file system in a namespace."""
    try:
        done = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def _in_namespace(script: str, mounted: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "MOUNTED": str(mounted)},
        timeout=600,
    )


def full_disk(project: Path, folder: Path, size: int) -> tuple[int, str, int, dict[str, bytes]]:
    """Run on a disk of `size` bytes, then again with space; without mounts, with limited file sizes.

    Returns
    -------
    code : int
        Exit code of the first run.
    printed : str
        Its messages.
    second : int
        Exit code of the second run.
    files : dict of str to bytes
        See :func:`tests.tiny_run.comparable_files`.
    """
    if not can_mount():
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)

        def limit_files() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 10, limit[1]))

        words = tiny_run(folder / "run", _JOBS)
        first = subprocess.run(words, cwd=project, capture_output=True, text=True, preexec_fn=limit_files)
        second = subprocess.run(words, cwd=project, capture_output=True)
        return first.returncode, first.stderr, second.returncode, comparable_files(folder / "run")
    mounted, out = folder / "mounted", folder / "out"
    mounted.mkdir(), out.mkdir()
    words = [str(size), str(mounted), str(out), *tiny_run(mounted / "run", _JOBS)]
    done = _in_namespace(_FILL, mounted, *words, cwd=project)
    assert done.returncode == 0, done.stderr
    assert not (out / "partial").read_text(), done.stderr
    codes = [int((out / name).read_text()) for name in ("first", "second")]
    return codes[0], done.stderr, codes[1], comparable_files(out / "run")


def read_only(project: Path, folder: Path) -> tuple[int, str]:
    """Run into a file system that nobody writes to; return the exit code and the messages."""
    if not can_mount():
        done = subprocess.run(tiny_run("/proc/run", _JOBS), cwd=project, capture_output=True, text=True)
    else:
        done = _in_namespace(_READ_ONLY, folder, *tiny_run(folder / "run", _JOBS), cwd=project)
    return done.returncode, done.stderr


def main() -> int:
    """Fill disks of many sizes; print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", type=int, default=20, help="number of sizes, from 4 KiB to that of a run")
    sizes = parser.parse_args().sizes
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        make_project(project)
        reference = make_reference(project, _JOBS)
        total = sum(map(len, reference.files.values()))
        for number in range(sizes):
            folder = project / str(number)
            folder.mkdir()
            size = 4096 + int(total * number / sizes)
            code, printed, second, files = full_disk(project, folder, size)
            errors = re.findall("^error: .*", printed, re.MULTILINE)
            differing = {n for n, data in files.items() if reference.files.get(n) != data}
            passed = second == 0 and differing <= {"report/index.html", "config.yaml"}
            passed &= "Traceback" not in printed and (code, len(errors)) in ((0, 0), (1, 1))
            faults += not passed
            print(f"{size:,} bytes: code {code}, {errors}: {'same files' if passed else printed}", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
