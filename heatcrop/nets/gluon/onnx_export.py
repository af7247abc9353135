"""Write a trained block as an ONNX file that ONNX Runtime can optimise."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from heatcrop.files import write_atomic
from heatcrop.nets.gluon.engine import mxnet


def export_onnx(block: Any, input_shape: tuple[int, ...], path: Path, outputs: tuple[str, ...]) -> None:
    """Export an initialised block with a free batch size and named outputs, atomically."""
    import onnx  # not installed where networks are only run

    mx = mxnet()
    # The exporter does not wait for weights that the engine is still writing.
    mx.nd.waitall()
    symbol = block(mx.sym.var("data"))
    symbol = mx.sym.Group(list(symbol)) if isinstance(symbol, (tuple, list)) else symbol
    symbol = _plain_reshapes(symbol, input_shape)
    order = symbol.list_outputs()
    params = {name: p.list_data()[0].as_in_context(mx.cpu()) for name, p in block.collect_params().items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        # The exporter prints and logs one line per node.
        logging.disable(logging.INFO)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                mx.onnx.export_model(
                    symbol,
                    params,
                    [(1, *input_shape)],
                    ["float32"],
                    str(file),
                    dynamic=True,
                    dynamic_input_shapes=[("N", *input_shape)],
                )
        finally:
            logging.disable(logging.NOTSET)
        model = onnx.load(str(file), load_external_data=False)
    graph = model.graph
    # ONNX Runtime folds no initializer that is also listed as an input.
    constants = {tensor.name for tensor in graph.initializer}
    for value in [value for value in graph.input if value.name in constants]:
        graph.input.remove(value)
    _rename_outputs(graph, order, outputs)
    _join_clips(graph)
    onnx.checker.check_model(model)
    write_atomic(path, model.SerializeToString(), durable=True)


def _plain_reshapes(symbol: Any, input_shape: tuple[int, ...]) -> Any:
    """Write sizes into reshapes that split or join axes (channel shuffles), for which ONNX has no codes."""
    inner = symbol.get_internals()
    graph = json.loads(inner.tojson())
    coded = {
        i
        for i, node in enumerate(graph["nodes"])
        if node["op"] == "Reshape" and any(int(n) < -1 for n in re.findall(r"-?\d+", node["attrs"]["shape"]))
    }
    if not coded:
        return symbol
    plain = json.loads(symbol.tojson())
    shapes = inner.infer_shape(data=(1, *input_shape))[1]
    for (i, *_), shape in zip(graph["heads"], shapes, strict=True):
        if i in coded:
            plain["nodes"][i]["attrs"]["shape"] = str((0, *shape[1:]))  # 0 keeps the batch size
    return mxnet().sym.load_json(json.dumps(plain))


def _rename_outputs(graph: Any, order: list[str], names: tuple[str, ...]) -> None:
    """Rename and reorder the outputs, which the exporter may list in another order."""
    # MXNet calls the output of node `x` `x_output`; the exporter calls it `x`.
    by_node = {value.name.removesuffix("_output"): value for value in graph.output}
    values = [by_node[known.removesuffix("_output")] for known in order]
    for value, name in zip(values, names, strict=True):
        for node in graph.node:
            for field in (node.input, node.output):
                field[:] = [name if item == value.name else item for item in field]
        value.name = name
    del graph.output[:]
    graph.output.extend(values)


def _join_clips(graph: Any) -> None:
    """Replace each Relu and Min with a constant by one Clip, which a runtime fuses with the convolution."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    relus = {node.output[0]: node for node in graph.node if node.op_type == "Relu"}
    zero = helper.make_tensor("clip_at_zero", TensorProto.FLOAT, [], [0.0])
    for node in [node for node in graph.node if node.op_type == "Min" and len(node.input) == 2]:
        relu, bound = relus.get(node.input[0]), constants.get(node.input[1])
        if relu is None or bound is None or uses[relu.output[0]] > 1:
            continue
        value = float(numpy_helper.to_array(bound).item())
        top = helper.make_tensor(f"{bound.name}_clip", TensorProto.FLOAT, [], [value])
        graph.initializer.extend([top] if zero in graph.initializer else [zero, top])
        node.op_type = "Clip"
        node.input[:] = [relu.input[0], zero.name, top.name]
        graph.node.remove(relu)
        graph.initializer.remove(bound)
