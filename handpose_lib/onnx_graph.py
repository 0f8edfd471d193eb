"""What is done to an ONNX graph after PyTorch has written it: cleaned, described, made smaller, cut, run.

Nothing here needs PyTorch. The packages are those of the extra `export`, imported when they are asked for.
"""

import importlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

ENTRY = "handpose"  # of the file's metadata


def needed(name: str) -> ModuleType:
    """A module of the extra `export`; ModuleNotFoundError says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs {error.name}, which is not installed: pip install 'handpose-lib[export]'"
        ) from None


def copied(graph: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy that may be changed."""
    copy = type(graph)()
    copy.CopyFrom(graph)
    return copy


def strip(graph: "onnx.ModelProto") -> None:
    """Take out what an exporter leaves of the machine it ran on: stack traces, paths and class names."""
    body = graph.graph
    for part in (graph, body, *body.node, *body.input, *body.output, *body.initializer, *body.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del body.value_info[:]
    for value in (*body.input, *body.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    body.name = ENTRY


def describe(graph: "onnx.ModelProto", facts: dict[str, Any]) -> None:
    """Write facts into the file's metadata, as JSON."""
    entry = graph.metadata_props.add()
    entry.key, entry.value = ENTRY, json.dumps(facts)


def store_half(graph: "onnx.ModelProto") -> None:
    """Weights of convolutions in 16 bits, each with a cast back, which a runtime does once when it loads the file."""
    onnx = needed("onnx")
    body = graph.graph
    casts = []
    for tensor in body.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4:
            name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *body.node]
    del body.node[:]
    body.node.extend(nodes)


def quantized(graph: "onnx.ModelProto", squares: np.ndarray) -> "onnx.ModelProto":
    """The graph with its network in 8 bits, a scale per channel for the weights; its decoding stays in 32.

    Args:
        graph: with an input `images` and an output `heatmaps`, as `export.export_onnx` writes it.
        squares: (N, S, S, 3) uint8, from which the ranges of the activations are read.
    """
    onnx, quantization = needed("onnx"), needed("onnxruntime.quantization")
    preprocess = needed("onnxruntime.quantization.preprocess")
    with TemporaryDirectory() as folder:
        plain, prepared, small = (str(Path(folder, f"{name}.onnx")) for name in ("plain", "prepared", "small"))
        onnx.save(graph, plain)
        preprocess.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            small,
            _Squares(squares),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MaxPool", "Resize", "Concat", "Add", "Relu"],
            nodes_to_quantize=_inner_nodes(onnx.load(prepared).graph),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        result = onnx.load(small)
    strip(result)
    used = {"", "ai.onnx"} | {node.domain for node in result.graph.node}
    for entry in [each for each in result.opset_import if each.domain not in used]:
        result.opset_import.remove(entry)  # of the quantisation's own tools
    result.metadata_props.extend(graph.metadata_props)
    return result


def _inner_nodes(body: "onnx.GraphProto") -> list[str]:
    """Names of the network's nodes, without its first and its last convolution.

    The first sees the pixels and the last writes the heatmaps: in 8 bits, these two cost most of the accuracy and
    save hardly any time.
    """
    makers = {output: node for node in body.node for output in node.output}
    found, open_ends = set(), ["heatmaps"]
    while open_ends:
        node = makers.get(open_ends.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            open_ends.extend(node.input)
    inner = [node for node in body.node if node.name in found]
    convolutions = [node.name for node in inner if node.op_type == "Conv"]
    return [node.name for node in inner if node.name not in (convolutions[0], convolutions[-1])]


class _Squares:
    """Hands squares one by one to the calibration."""

    def __init__(self, squares: np.ndarray):
        self._rest = iter(squares)

    def get_next(self) -> dict[str, np.ndarray] | None:
        square = next(self._rest, None)
        return None if square is None else {"images": square[None]}


def write_decoder(path: str | Path, out: str | Path) -> None:
    """Cut the decoding out of an exported file: heatmaps in, keypoints and confidence out.

    For who takes the mean of several heatmaps before they are decoded, as the predictor does with those of a mirror
    image. It holds no weights, and the file may be one without, as `export.write_graph` writes.
    """
    onnx = needed("onnx")
    whole = onnx.load(str(path), load_external_data=False)
    for node in whole.graph.node:
        if node.op_type == "Shape" and node.input[0] == "images":  # of which the decoding asks the number of squares
            node.input[0] = "heatmaps"
    decoder = _part(whole, "heatmaps", "keypoints", "confidence")
    del decoder.metadata_props[:]
    onnx.save(decoder, str(out))


def cut_decoder(path: str | Path) -> None:
    """Keep only that part of an exported file which computes heatmaps, for those who decode them by other means."""
    onnx = needed("onnx")
    onnx.save(_part(onnx.load(str(path)), "images", "heatmaps"), str(path))


def _part(whole: "onnx.ModelProto", start: str, *ends: str) -> "onnx.ModelProto":
    """What lies between two places of a graph, checked."""
    onnx = needed("onnx")
    part = onnx.utils.Extractor(whole).extract_model([start], list(ends))
    onnx.checker.check_model(part, full_check=True)
    return part


def without_weights(graph: "onnx.ModelProto", prefix: str, suffix: str = "") -> None:
    """Take the weights out of a graph: what names an initializer of `prefix` and `suffix` is given when it is run.

    Args:
        graph: is changed.
        prefix, suffix: how the names of the weights begin and end.
    """
    external = needed("onnx").TensorProto.EXTERNAL
    for tensor in graph.graph.initializer:
        if tensor.name.startswith(prefix) and tensor.name.endswith(suffix):
            tensor.ClearField("raw_data")
            tensor.data_location = external
            place = tensor.external_data.add()
            place.key, place.value = "location", "weights"  # ONNX wants a name; no file of it is ever opened


def session(path: str | Path, threads: int = 1, weights: dict[str, np.ndarray] | None = None) -> Any:
    """An ONNX Runtime session on the processor.

    Args:
        path: of the graph.
        threads: that a run may use.
        weights: of a graph that was written without them, by their names in it.
    """
    onnxruntime = needed("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait take no time
    if weights is not None:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(values) for values in weights.values()]
        options.add_external_initializers(list(weights), values)
    source = str(path) if weights is None else Path(path).read_bytes()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
