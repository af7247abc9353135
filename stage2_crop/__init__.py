"""Stage 2: heatmap -> connected component -> circumscribed square -> crop folder.

``component.py`` and ``square.py`` are pure functions on arrays; ``rule.py`` puts them together into
the one decision "which box does this heatmap ask for"; ``crops.py`` writes what people look at.
"""
