"""Stage 1: train the full-image classifier, predict, and extract class activation heatmaps.

``heatmaps.py`` holds pure functions on arrays; ``stage.py`` trains and writes the artefacts.
"""
