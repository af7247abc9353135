"""Mixed precision: a network computes in float16 where that is safe and keeps float32 weights.

MXNet's ``amp.init`` changes every operator of the process for good, also those of networks that are
exported in float32. Here the graph of one network is converted, by the same lists of operators, and shares
its weights with the original network.

Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heatcrop.nets.engine import mixed_precision, mxnet


def mixed_block(block: Any, half: Sequence[str] | None = None) -> Any:
    """Convert a block: inputs and outputs are float32, intermediate values float16.

    Parameters
    ----------
    block : HybridBlock
        Initialised; its parameters stay float32 and are shared with the result.
    half : sequence of str, optional
        The operators that compute in float16. By default those of MXNet's lists: convolutions and matrix
        products, which exist in float16 on GPUs only.

    Returns
    -------
    SymbolBlock
    """
    mx = mxnet()
    out = block(mx.sym.var("data"))
    several = isinstance(out, (tuple, list))
    symbol = mx.sym.Group(list(out)) if several else out
    amp = mixed_precision()
    lists: dict[str, Any] = {}
    if half is not None:
        rest = [name for name in (*amp.list_lp16_ops("float16"), "Pooling") if name not in half]
        lists = {"target_dtype_ops": list(half), "fp32_ops": [*amp.list_fp32_ops("float16"), *rest]}
    converted = amp.convert_symbol(symbol, "float16", data_names=["data"], **lists)
    outputs = [mx.sym.amp_cast(one, dtype="float32") for one in converted]
    data = mx.sym.var("data", dtype="float32")
    return mx.gluon.SymbolBlock(outputs if several else outputs[0], [data], params=block.collect_params())


def loss_scaler() -> Any:
    """Return MXNet's dynamic loss scale, which a trainer consults before each update.

    The loss is multiplied by ``loss_scale``, so that small gradients survive float16. An update whose
    gradients overflowed is skipped and halves the scale; 2000 updates without overflow double it.
    """
    return mixed_precision().loss_scaler.LossScaler()
