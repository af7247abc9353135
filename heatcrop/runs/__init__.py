"""The run folder: paths, stage records, predictions, locking, and executors of job graphs.

Stages exchange files through it. Each file and folder is replaced atomically, and a finished stage leaves a
record of what it was made from.
"""
