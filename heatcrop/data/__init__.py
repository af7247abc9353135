"""Tasks, labels, images, annotation readers and splits.

- `tasks`: a task, its classes in label order, FashionAI's eight tasks, safe folder names.
- `labels`: label letters ``y``, ``m``, ``n`` and the soft labels for training.
- `images`: reading and writing images; ``(H, W, 3) uint8 RGB`` everywhere.
- `readers`: annotations in FashionAI's layout, a CSV file, or one folder per class.
- `splits`: train, validation and test; folds for cross-fitting; leakage between splits.
- `dataset`: the images, labels and splits of one task as arrays.
"""
