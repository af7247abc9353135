"""Fuzz every reader: ``python -m tests.soak.fuzzing --inputs 100000``.

Each input must be accepted or rejected with a HeatCropError, within 5 seconds and 1 GiB of memory. Hypothesis
shrinks a failing input; it belongs into a test of its reader. :mod:`tests.soak.guided_fuzzing` mutates inputs
towards new branches where atheris is installed.
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
    *(b", ; \n \r\n \" ' \x00 \x1e .. / \\ = : { } [ ]".split(b" ")),
    *(b"y m n ? image task label split group beak neck hooked null true".split(b" ")),
    *(b"1e999 nan -1 0 99999999999999999999 IHDR IDAT <script>alert(1)</script>".split(b" ")),
    *(b"\xff\xfe \xef\xbb\xbf \xff\xd9 \xff\xd8 \xff\xff\xff\xff \x00\x00\x00\x00 \xe2\x80\xae".split(b" ")),
    b"&a ",
    b"*a ",
    b"<<: ",
    b"- ",
    b"  ",
    b"!!python/object/apply:os.system [touch x]",
    b"\xf0\x9f\x91\x97",
]


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Generate seeds with a few changes, random sequences of words, and random text."""
    accepted = seeds(target)
    place = st.integers(0, max(map(len, accepted)))
    insertion = st.one_of(st.binary(max_size=6), st.sampled_from(_WORDS))
    change = st.tuples(place, st.integers(0, 8), insertion)
    mutated = st.builds(_mutate, st.sampled_from(accepted), st.lists(change, min_size=1, max_size=5))
    words = st.lists(insertion, max_size=30).map(b"".join)
    text = st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
    return st.one_of(mutated, mutated, mutated, words, text)


def _mutate(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, removed, insertion in changes:
        data = data[:place] + insertion + data[place + removed :]
    return data


def fuzz(target: str, folder: Path, count: int) -> Counter[str]:
    """Run one target on `count` inputs; return the numbers of inputs, accepted ones and most milliseconds."""
    seen: Counter[str] = Counter()
    folder = folder / f"inputs of {target}"  # without files of other targets
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
    def run(data: bytes) -> None:
        began = time.perf_counter()
        seen["accepted"] += attempt(target, folder, data)
        seen["inputs"] += 1
        seen["longest ms"] = max(seen["longest ms"], int(1000 * (time.perf_counter() - began)))

    run()
    return seen


def limit_memory(more: int = GIBIBYTE) -> None:
    """Limit the memory of this process to `more` bytes above its present size."""
    text = Path("/proc/self/status").read_text()
    now = 1024 * int(re.search(r"VmSize:\s+(\d+)", text)[1])  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


def main() -> int:
    """Fuzz all targets, or one; print one line a target."""
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
            except (Exception, TooSlow):  # printed; the other targets are fuzzed all the same
                traceback.print_exc()
                faults += 1
                continue
            total += seen["inputs"]
            print(
                f"{name}: {seen['inputs']:,} inputs, {seen['accepted']:,} accepted, "
                f"the slowest took {seen['longest ms']} ms, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    print(
        f"{faults} targets fail" if faults else f"{total:,} inputs, each accepted or rejected with an error"
    )
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
