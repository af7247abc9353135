"""The peers' modules import what only an environment of their own has."""

collect_ignore = ["peers.py", "peer_finetune.py"]
