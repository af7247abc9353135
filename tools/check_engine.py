"""Check that the installed engine can be imported: ``python -m tools.check_engine``."""

from __future__ import annotations

import importlib.util
import sys

from heatcrop.errors import EngineError
from heatcrop.nets.gluon.engine import explain_import_failure, gluoncv_net, mxnet


def main() -> int:
    """Print the versions of the engines, or what is missing and how to install it."""
    try:
        if importlib.util.find_spec("mxnet") is None and importlib.util.find_spec("torch") is not None:
            import torch

            version = f"PyTorch {torch.__version__}"
        else:
            version = f"MXNet {mxnet().__version__}"
            gluoncv_net("resnet18_v2")
        import cv2
        import onnxruntime
    except (EngineError, ImportError) as error:
        cause = error if isinstance(error, EngineError) else explain_import_failure(error)
        print(f"error: {cause}", file=sys.stderr)
        return 1
    print(f"{version}, ONNX Runtime {onnxruntime.__version__}, OpenCV {cv2.__version__}: ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
