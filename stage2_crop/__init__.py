"""Stage 2: heatmap -> connected component -> circumscribed square -> crop folder.

``component.py`` and ``square.py`` are pure functions on arrays; ``rule.py`` combines them into the box of a
heatmap; ``search.py`` chooses the rule; ``crops.py`` writes the crop folder.
"""
