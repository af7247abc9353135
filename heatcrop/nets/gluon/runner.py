"""Run a Gluon block on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatcrop.nets.gluon.engine import in_one_thread, mixed_block, mxnet
from heatcrop.nets.inference import CPU_BATCH, Runner, in_parts


def mxnet_runner(block: Any, gpu: int | None = None, amp: bool = False) -> Runner:
    """Run a block on MXNet, on the GPU of that number or on the CPU, in mixed precision if `amp`."""
    mx = mxnet()
    context = mx.cpu() if gpu is None else mx.gpu(gpu)
    block.collect_params().reset_ctx(context)
    block = mixed_block(block) if amp else block
    block.hybridize(static_alloc=True)

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        out = block(mx.nd.array(x, ctx=context, dtype="float32"))
        return tuple(o.asnumpy() for o in out) if isinstance(out, (tuple, list)) else (out.asnumpy(),)

    return in_one_thread(in_parts(run, CPU_BATCH) if gpu is None else run)
