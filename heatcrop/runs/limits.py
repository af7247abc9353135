"""Limits of the system on this process, checked before the work starts.

Imports nothing heavy: under a small limit even loading the libraries fails.
"""

from __future__ import annotations

import os
import sys

_ENGINES_BYTES, _CORE_BYTES = 2_600_000_000, 120_000_000


def memory_limit() -> int | None:
    """Return the limit on this process's address space in bytes (``ulimit -v``); None without one."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def memory_fault() -> str | None:
    """Explain why the engines' libraries cannot be loaded under the limit; None where they can.

    They reserve memory for each core, and crash without a message where they cannot get it.
    """
    limit, needed = memory_limit(), _ENGINES_BYTES + _CORE_BYTES * (os.cpu_count() or 1)
    if limit is None or limit >= needed:
        return None
    return (
        f"the limit on memory (ulimit -v) is {limit / 1e9:.1f} GB; the engines alone reserve "
        f"{needed / 1e9:.1f} GB, most of which they never use: raise it, or lift it (ulimit -v unlimited)"
    )


def allow_open_files(count: int) -> int:
    """Raise the limit on open files (``ulimit -n``) to `count` if possible; return what is allowed."""
    if sys.platform == "win32":
        return count
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return max(soft, most)
