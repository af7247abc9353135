"""Start the command line: handle signals and limits before the libraries are loaded."""

from __future__ import annotations

import sys

from heatcrop.cli import signals
from heatcrop.runs.limits import memory_fault


def main() -> int:
    """Run the command line and return its exit code."""
    signals.handle_signals()
    try:
        if fault := memory_fault():
            print(f"error: {fault}", file=sys.stderr)
            return 1
        from heatcrop.cli import commands

        return commands.main()
    except KeyboardInterrupt:
        signals.report_interruption()
        return signals.INTERRUPTED
    finally:
        signals.ignore_signals()
