"""What a network does: the engines' door, backbones, batches, training, inference.

MXNet trains, ONNX Runtime infers. Nothing here knows a stage, a run folder or a configuration
file; stages hand over arrays, paths and small frozen dataclasses.
"""
