"""Networks: engines, devices, backbones, the classifier and its export, inference.

MXNet trains, ONNX Runtime infers. Nothing here knows a stage, a run folder or a configuration file.
"""
