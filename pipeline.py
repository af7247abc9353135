#!/usr/bin/env python3
"""HeatCrop's door: reads the command, opens the run, walks the stages in order."""

from __future__ import annotations

import sys

from program import interruption
from program.limits import memory_fault


def door() -> int:
    """Run the command line; loading the libraries takes seconds, and may be interrupted or starved too."""
    interruption.listen()
    try:
        if fault := memory_fault():
            print(f"error: {fault}", file=sys.stderr)
            return 1
        from program.commands import main

        return main()
    except KeyboardInterrupt:
        interruption.tell()
        return interruption.INTERRUPTED
    finally:
        interruption.listen_no_more()


if __name__ == "__main__":
    sys.exit(door())
