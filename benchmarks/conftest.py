"""Exclude the modules that import PyTorch, which only requirements/bench.txt and torch.txt install."""

collect_ignore = ["peers.py", "peer_finetune.py", "gpu.py"]
