"""The run folder: where artefacts lie, how they are written, and whether they are up to date.

Stages never import each other; they meet here. Each file is written whole or not at all, and a
stage that finished leaves a fingerprint of what it was made from.
"""
