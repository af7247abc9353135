"""Feed every reader with rubbish: ``python -m tests.soak.fuzzing --inputs 100000``.

No input may give anything but a result or a told error, take longer than 5 seconds, or take more than
1 GiB of memory. What Hypothesis finds it makes small; a found case belongs into tests/test_fuzz.py.
``soak/guided.py`` follows the branches that inputs reach, where atheris is installed.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.soak.targets import TARGETS, TooSlow, attempt, seeds

GIBIBYTE = 2**30
_WORDS = [
    b",",
    b";",
    b"\n",
    b"\r\n",
    b'"',
    b"'",
    b"\x00",
    b"\x1e",
    b"..",
    b"/",
    b"\\",
    b"=",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a ",
    b"!!python/object/apply:os.system [touch x]",
    b"<<: ",
    b"- ",
    b"  ",
    b"y",
    b"m",
    b"n",
    b"?",
    b"image",
    b"task",
    b"label",
    b"split",
    b"group",
    b"beak",
    b"neck",
    b"hooked",
    b"1e999",
    b"nan",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"null",
    b"true",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xff\xd9",
    b"\xff\xd8",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"IHDR",
    b"IDAT",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x91\x97",
    b"<script>alert(1)</script>",
]


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Bytes of any kind, words in any order, and good inputs with a few places changed."""
    good = seeds(target)
    place, piece = (
        st.integers(0, max(map(len, good))),
        st.one_of(st.binary(max_size=6), st.sampled_from(_WORDS)),
    )
    change = st.tuples(place, st.integers(0, 8), piece)
    changed = st.builds(_change, st.sampled_from(good), st.lists(change, min_size=1, max_size=5))
    words = st.lists(piece, max_size=30).map(b"".join)
    return st.one_of(
        changed, changed, changed, words, st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace"))
    )


def _change(good: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, drop, piece in changes:
        good = good[:place] + piece + good[place + drop :]
    return good


def fuzz(target: str, folder: Path, count: int) -> Counter[str]:
    """Feed `count` inputs to one target; how many there were, and the longest time in milliseconds."""
    seen: Counter[str] = Counter()
    folder = folder / f"fed {target}"  # of its own: what others leave there is no name that this one made
    folder.mkdir()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(inputs(target))
    def feed(data: bytes) -> None:
        began = time.perf_counter()
        attempt(target, folder, data)
        seen["inputs"] += 1
        seen["longest ms"] = max(seen["longest ms"], int(1000 * (time.perf_counter() - began)))

    feed()
    return seen


def limit_memory(more: int = GIBIBYTE) -> None:
    """Let this process have no more than `more` bytes beyond what it has."""
    text = Path("/proc/self/status").read_text()
    now = 1024 * int(re.search(r"VmSize:\s+(\d+)", text)[1])  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


def main() -> int:
    """Feed all targets, or one; print a line a target."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--target", choices=sorted(TARGETS))
    options = parser.parse_args()
    names = [options.target] if options.target else list(TARGETS)
    total = faults = 0
    with tempfile.TemporaryDirectory() as folder:
        limit_memory()
        for name in names:
            began = time.perf_counter()
            try:
                seen = fuzz(name, Path(folder), -(-options.inputs // len(names)))
            except (Exception, TooSlow):  # shown; the others go on
                traceback.print_exc()
                faults += 1
                continue
            total += seen["inputs"]
            print(
                f"{name}: {seen['inputs']:,} inputs, the longest took {seen['longest ms']} ms, "
                f"{time.perf_counter() - began:.0f} s",
                flush=True,
            )
    print(f"{total:,} inputs, each with a result or a told error" if not faults else f"{faults} targets fail")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
