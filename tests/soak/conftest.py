"""Exclude the module that imports atheris, which the requirements do not contain."""

collect_ignore = ["guided_fuzzing.py"]
