"""One look at one square by ONNX Runtime, which takes about half the time that PyTorch takes for it on a processor.

PyTorch is made for batches: with a single small picture, much of its time goes into finding out how to compute rather
than into computing. A runtime that is given the whole graph finds that out once. So `HandPosePredictor` looks at
single pictures and at the frames of videos with it, where it is installed and the network's graph is at hand.

A graph says how a network computes, and how its heatmaps become keypoints; it holds no weights. They are those of the
network that is asked, so that weights which were fine-tuned need no graph of their own, unless their crops or the width
of their peaks were changed. A second file beside it only decodes, for the mean of a square's heatmaps and those of its
mirror image; where it is missing, PyTorch decodes them.

A graph in 8 bits is another matter: it holds all but the rounded weights, and belongs to the weights that it was made
of. The graphs of the bundled networks lie in `data/weights/graphs/`, and `export.write_graph` writes them,
`onnx_graph.write_decoder` those files that only decode. Networks without a graph are run by PyTorch.
"""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.decoding import decoding_of, points_on_input
from handpose_lib.framing import Framing
from handpose_lib.onnx_graph import session
from handpose_lib.storage import bundled_file
from handpose_lib.trusted import checksum_of
from handpose_lib.unet import fuse_batch_norm
from handpose_lib.weights import NETWORKS

ENGINES = ("onnxruntime", "pytorch")
WEIGHTS = "model."  # what comes before a weight's name in a graph
POINTS = ("keypoints", "confidence")  # what a graph says besides its heatmaps
DECODER = ".decode.onnx"  # how the name of the file beside a graph ends that only decodes
BYTES = ".weight_quantized"  # what comes after that of a convolution in one in 8 bits
NONE = (0, None, None)  # no sessions: for how many threads they are, what looks and what decodes
FORMAT = 1  # of the graphs; another when `normalize`, a network's `forward`, `chained_peaks` or `local_peak` changes


def fingerprint(model: nn.Module, eight_bit: bool = False) -> str:
    """What the graph of a network depends on: its shape, its square, and how its heatmaps are decoded, as 12 digits.

    With `eight_bit` also its weights, from which the ranges in that graph come.
    """
    facts = {
        "format": FORMAT,
        "network": type(model).__name__,
        "shape": getattr(model, "shape", None),
        "framing": [model.framing.image_size, model.framing.upright],
        "decoding": decoding_of(model),
    }
    if eight_bit:
        facts["weights"] = checksum_of({name: values.detach().cpu() for name, values in model.state_dict().items()})
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def bundled_graph(model: nn.Module, eight_bit: bool = False) -> Path | None:
    """The graph of a network among those that come with the project; None where it has none."""
    if type(model) not in NETWORKS.values():
        return None
    try:
        return bundled_file(f"data/weights/graphs/{fingerprint(model, eight_bit)}.onnx")
    except FileNotFoundError:
        return None


def look_of(model: nn.Module, engine: str | None = None) -> "OnnxLook | None":
    """How single squares are looked at: by ONNX Runtime, or None, which is by PyTorch.

    Args:
        model: a network with a `framing`, whose weights do not change any more.
        engine: one of `ENGINES`; None: ONNX Runtime where it is installed, the network is on the processor, and its
            graph is at hand. Where it is installed and can't be used, a warning says why.

    Raises:
        ValueError: ONNX Runtime is asked for and can't run this network; it says why.
        ModuleNotFoundError: or it is not installed.
    """
    if engine not in (*ENGINES, None):
        raise ValueError(f"engine is {engine!r}, it must be one of {', '.join(ENGINES)}")
    if engine == "pytorch":
        return None
    graph, problem = bundled_graph(model), ""
    if graph is None:
        problem = "no graph of it comes with the project, as there is of the bundled ones"
    elif (device := next(model.parameters()).device.type) != "cpu":
        problem = f"it is on {device}"
    if problem and engine is None:
        return None
    if problem:
        raise ValueError(f"ONNX Runtime can't run this {type(model).__name__}: {problem}. Leave engine out")
    try:
        return OnnxLook(model, graph)
    except ModuleNotFoundError:
        if engine is None:
            return None
        raise
    except Exception as error:  # of an installation that is damaged or too old, or of a graph that is
        why = f"ONNX Runtime can't run {graph} ({' '.join(str(error).split())})"
        if engine is not None:
            raise ValueError(f"{why}: install onnxruntime 1.20 or later, or restore the files there") from error
        warnings.warn(f"{why}: PyTorch does. To leave this out, say engine='pytorch'", stacklevel=3)
        return None


def quick_look_of(model: nn.Module, framing: Framing | None = None) -> "OnnxLook | None":
    """How single squares are looked at in 8 bits, in about half of the time; None where that is not at hand.

    Args:
        model, framing: see `quick_graph`.
    """
    graph = quick_graph(model, framing)
    if graph is None:
        return None
    try:
        return OnnxLook(model, graph, eight_bit=True)
    except Exception as error:  # as in `look_of`
        why = f"ONNX Runtime can't run {graph} ({' '.join(str(error).split())})"
        warnings.warn(f"{why}: hands are followed in 32 bits. Restore the file", stacklevel=3)
        return None


def quick_graph(model: nn.Module, framing: Framing | None = None) -> Path | None:
    """The graph in 8 bits of a network, where it may be used on this processor; None elsewhere.

    It is for the bundled weights alone, since the ranges of what is computed were read from them, and for processors
    that multiply bytes faster than floats (AVX-512 VNNI). On others it may be no quicker, or less exact: there, the sum
    of two products of bytes may overflow.

    Args:
        model: the network.
        framing: of the squares; None: the network's own.
    """
    if framing is not None and framing.image_size != model.framing.image_size:
        return None
    if not multiplies_bytes() or any(values.device.type != "cpu" for values in model.parameters()):
        return None
    return bundled_graph(model, eight_bit=True)


def multiplies_bytes() -> bool:
    """Whether this processor has AVX-512 VNNI, as far as PyTorch can tell."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


class OnnxLook:
    """Keypoints or heatmaps of squares, as `HandPosePredictor.look` computes them, by ONNX Runtime.

    Args:
        model: the network whose weights are taken.
        graph: the file that `export.write_graph` wrote for such a network.
        eight_bit: whether it is one in 8 bits.
    """

    def __init__(self, model: nn.Module, graph: str | Path, eight_bit: bool = False):
        self.graph = Path(graph)
        self.framing, self.decoding = model.framing, decoding_of(model)
        self._weights = in_eight_bits(model) if eight_bit else in_32_bits(model)
        self._sessions: tuple[int, Any, Any] = NONE
        self._started(torch.get_num_threads())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sessions": NONE}  # they belong to this process

    def takes(self, squares: np.ndarray) -> bool:
        """Whether it is asked for these squares (B, S, S, 3): one, since PyTorch is no slower with more than a few."""
        return squares.shape == (1, self.framing.image_size, self.framing.image_size, 3)

    def __call__(self, squares: np.ndarray, mirrored: bool = False) -> tuple[Tensor, Tensor]:
        """Squares (B, S, S, 3) uint8, RGB -> keypoints (B, 21, 2) in px of them, and the heights of peaks (B, 21).

        Args:
            squares: what the network is shown.
            mirrored: whether it is shown their mirror images as well, and the mean of both heatmaps is decoded.
        """
        looks, decodes = self._started(torch.get_num_threads())
        if not mirrored:
            return _run(looks, POINTS, images=squares)
        heatmaps = self.heatmaps(squares, mirrored)
        if decodes is None:
            return points_on_input(heatmaps, self.framing, **self.decoding)
        return _run(decodes, POINTS, heatmaps=heatmaps.numpy())

    def heatmaps(self, squares: np.ndarray, mirrored: bool = False) -> Tensor:
        """Squares (B, S, S, 3) uint8, RGB -> heatmaps (B, 21, H, W), or their mean with those of the mirror images."""
        looks, _ = self._started(torch.get_num_threads())
        if not mirrored:
            return _run(looks, ("heatmaps",), images=squares)[0]
        (both,) = _run(looks, ("heatmaps",), images=np.concatenate((squares, squares[:, :, ::-1])))
        return (both[: len(squares)] + both[len(squares) :].flip(-1)) / 2

    def _started(self, threads: int) -> tuple[Any, Any]:
        """The sessions for so many threads: what looks, and what decodes or None. Those for others are given up."""
        if self._sessions[0] != threads:
            decoder = self.graph.with_suffix(DECODER)
            decodes = session(decoder, threads) if decoder.is_file() else None
            self._sessions = threads, session(self.graph, threads, self._weights), decodes
        return self._sessions[1:]


def _run(running: Any, outputs: tuple[str, ...], **inputs: np.ndarray) -> tuple[Tensor, ...]:
    """What a session answers."""
    answers = running.run(outputs, {name: np.ascontiguousarray(values) for name, values in inputs.items()})
    return tuple(map(torch.from_numpy, answers))


def in_32_bits(model: nn.Module) -> dict[str, np.ndarray]:
    """A network's weights by their names in its graph."""
    return {
        WEIGHTS + name: np.array(values.detach().cpu().numpy(), order="C")
        for name, values in model.state_dict().items()
        if values.ndim
    }


def in_eight_bits(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights of a network's convolutions in 8 bits, by their names in its graph.

    They are rounded as `onnx_graph.quantized` does. The first and the last convolution stay in 32 bits, in the graph.
    """
    fused = fuse_batch_norm(model)
    convolutions = [(name, part) for name, part in fused.named_modules() if isinstance(part, nn.Conv2d)]
    found = {}
    for name, part in convolutions[1:-1]:
        weights = part.weight.detach().cpu().numpy()
        scale = np.maximum(np.abs(weights).max((1, 2, 3), keepdims=True), np.finfo(np.float32).tiny) / 127
        found[f"{WEIGHTS}{name}{BYTES}"] = np.ascontiguousarray(np.rint(weights / scale).astype(np.int8))
    return found
