#!/usr/bin/env python3
"""HeatCrop's command line; see `python pipeline.py --help`."""

from __future__ import annotations

import sys

from heatcrop.cli import signals
from heatcrop.cli.limits import memory_fault


def door() -> int:
    """Run the command line; loading the libraries takes seconds, and may be interrupted or starved too."""
    signals.handle_signals()
    try:
        if fault := memory_fault():
            print(f"error: {fault}", file=sys.stderr)
            return 1
        from heatcrop.cli.commands import main

        return main()
    except KeyboardInterrupt:
        signals.report_interruption()
        return signals.INTERRUPTED
    finally:
        signals.ignore_signals()


if __name__ == "__main__":
    sys.exit(door())
