"""Networks: backbones, the classifier, devices, two training engines, weights, inference.

:mod:`heatcrop.nets.gluon` or :mod:`heatcrop.nets.pytorch` trains, ONNX Runtime infers. Nothing here knows a
stage, a run folder or a configuration file.
"""
