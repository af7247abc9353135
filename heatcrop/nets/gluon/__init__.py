"""The MXNet engine: its import, backbones, the classifier, updates, gradients, and export."""
