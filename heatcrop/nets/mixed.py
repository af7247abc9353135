"""Mixed precision: a network computes in float16 where that is safe and keeps float32 weights.

MXNet's ``amp.init`` changes every operator of the process for good, also those of networks that are
exported in float32. Here the graph of one network is converted, by the same lists of operators, and shares
its weights with the original network.

Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
"""

from __future__ import annotations

from typing import Any

from heatcrop.nets.engine import mixed_precision, mxnet


def mixed_block(block: Any) -> Any:
    """Convert an initialised block: float32 input, output and parameters, which are shared; float16 between.

    Convolutions and matrix products compute in float16, which exists on GPUs only.
    """
    mx = mxnet()
    out = block(mx.sym.var("data"))
    several = isinstance(out, (tuple, list))
    symbol = mx.sym.Group(list(out)) if several else out
    converted = mixed_precision().convert_symbol(symbol, "float16", data_names=["data"])
    outputs = [mx.sym.amp_cast(one, dtype="float32") for one in converted]
    data = mx.sym.var("data", dtype="float32")
    return mx.gluon.SymbolBlock(outputs if several else outputs[0], [data], params=block.collect_params())


def loss_scaler() -> Any:
    """Return MXNet's dynamic loss scale, which a trainer consults before each update.

    The loss is multiplied by ``loss_scale``, so that small gradients survive float16. An update whose
    gradients overflowed is skipped and halves the scale; 2000 updates without overflow double it.
    """
    return mixed_precision().loss_scaler.LossScaler()
