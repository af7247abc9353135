#!/usr/bin/env python3
"""HeatCrop's door: reads the command, opens the run, walks the stages in order."""

from __future__ import annotations

import sys

from program.commands import main

if __name__ == "__main__":
    sys.exit(main())
