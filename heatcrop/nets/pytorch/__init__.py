"""The PyTorch engine: backbones, the classifier and its updates, groups of processes."""
