"""Exclude the peers' modules, whose imports only requirements/bench.txt installs."""

collect_ignore = ["peers.py", "peer_finetune.py"]
