"""Training: augmentation, views, batches, cached features, the training loop, checkpoints, prediction."""
