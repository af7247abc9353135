#!/usr/bin/env python3
"""HeatCrop's door: reads the command, opens the run, walks the stages in order."""

from __future__ import annotations

import sys

from program.limits import memory_fault

if __name__ == "__main__":
    if fault := memory_fault():
        sys.exit(f"error: {fault}")  # code 1
    from program.commands import main

    sys.exit(main())
