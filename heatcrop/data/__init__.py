"""What the data is: tasks and their classes, labels, pictures, annotation files, splits and the score.

The lowest floor of the house: it imports nothing from the others, knows no network and no configuration
file, and can be used by itself.

- `tasks`: a task, its classes in label order, the eight of FashionAI, safe folder names.
- `labels`: the letters ``y``, ``m``, ``n`` and the soft labels that training uses.
- `pictures`: the one reader and writer of pictures; ``(H, W, 3) uint8 RGB`` everywhere inside.
- `readers`: annotations in FashionAI's layout, a CSV file, or a folder a class.
- `splits`: train, validation and test, folds for cross-fitting, and what leaks between them.
- `score`: the official score of FashionAI 2018 on arrays; `submissions`: the same on files.
- `files`: writing a file whole or not at all.
- `errors`: `DataError`, the only exception written for the user.
"""
