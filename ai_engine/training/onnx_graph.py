"""A network as an ONNX graph: logits and maps in one pass, weights in half precision."""

import tempfile
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ai_engine.preprocess import InputSpec

_OPSET = 20


def onnx_graph(network: nn.Module, spec: InputSpec, *, channels: int = 1) -> bytes:
    """Convert a network for input of a fixed size.

    Weights that are exact in half precision are stored in it and cast back: the arithmetic is that
    of single precision, the file is half as large.

    Parameters
    ----------
    network
        In evaluation mode; gives logits and maps.
    spec
        Its input.
    channels
        Of its input.
    """
    example = torch.zeros(1, channels, spec.rows, spec.columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=["image"],
            output_names=["logits", "maps"],
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
        model = onnx.load(path)
    _halve(model)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _halve(model: onnx.ModelProto) -> None:
    """Store in half precision every weight that is exact in it."""
    casts = []
    for weights in model.graph.initializer:
        if weights.data_type != TensorProto.FLOAT:
            continue
        single = numpy_helper.to_array(weights)
        half = single.astype("float16")
        if (half.astype("float32") != single).any():
            continue
        name = weights.name
        weights.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
