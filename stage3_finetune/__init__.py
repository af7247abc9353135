"""Stage 3: fine-tune on the crops, then fuse with the full-image model.

``fusion.py`` holds pure functions on arrays; ``stage.py`` trains and writes the artefacts.
"""
