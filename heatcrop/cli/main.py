"""Start the command line: handle signals and limits before the libraries are loaded."""

from __future__ import annotations

import sys

from heatcrop.cli import signals
from heatcrop.runs.limits import memory_fault


def main() -> int:
    """Run the command line and return its exit code; after a failure the process ends within seconds."""
    code = 1
    signals.handle_signals()
    try:
        code = _main()
    finally:
        signals.ignore_signals()
        if code:
            signals.end_soon(code)
    return code


def _main() -> int:
    try:
        if fault := memory_fault():
            print(f"error: {fault}", file=sys.stderr)
            return 1
        from heatcrop.cli import commands

        return commands.main()
    except KeyboardInterrupt:
        signals.report_interruption()
        return signals.INTERRUPTED
