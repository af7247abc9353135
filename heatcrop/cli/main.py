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
        if fault := memory_fault():
            print(f"error: {fault}", file=sys.stderr)
        else:
            from heatcrop.cli import commands

            code = commands.main()
    except KeyboardInterrupt:
        signals.report_interruption()
        code = signals.INTERRUPTED
    finally:
        signals.ignore_signals()
        if code:
            signals.end_soon(code)
    return code
