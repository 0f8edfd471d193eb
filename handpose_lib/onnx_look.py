"""One look at one square by ONNX Runtime, which takes about half the time that PyTorch takes for it on a processor.

PyTorch is made for batches: with a single small picture, much of its time goes into finding out how to compute rather
than into computing. A runtime that is given the whole graph finds that out once. So `HandPosePredictor` looks at
single pictures and at the frames of videos with it, where it is installed and the network's graph is at hand.

A graph says how a network computes, and how its heatmaps become keypoints; it holds no weights. They are those of the
network that is asked, so that weights which were fine-tuned need no graph of their own. The graphs of the bundled
networks lie in `data/weights/graphs/`, and `export.write_graph` writes them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.decoding import decoding_of
from handpose_lib.onnx_graph import needed, session
from handpose_lib.storage import bundled_file

ENGINES = ("onnxruntime", "pytorch")
WEIGHTS = "model."  # what comes before a weight's name in a graph
FORMAT = 1  # of the graphs; another when what is in them beside the network changes


def fingerprint(model: nn.Module) -> str:
    """What the graph of a network depends on: its shape, its square, and how its heatmaps are decoded, as 12 digits."""
    facts = {
        "format": FORMAT,
        "network": type(model).__name__,
        "shape": getattr(model, "shape", None),
        "framing": [model.framing.image_size, model.framing.upright],
        "decoding": decoding_of(model),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def bundled_graph(model: nn.Module) -> Path | None:
    """The graph of a network among those that come with the project; None where it has none."""
    try:
        return bundled_file(f"data/weights/graphs/{fingerprint(model)}.onnx")
    except FileNotFoundError:
        return None


def look_of(model: nn.Module, engine: str | None = None) -> "OnnxLook | None":
    """How single squares are looked at: by ONNX Runtime, or None, which is by PyTorch.

    Args:
        model: a network with a `framing`, whose weights do not change any more.
        engine: one of `ENGINES`; None: ONNX Runtime where it is installed, the network is on the processor, and its
            graph is at hand.

    Raises:
        ValueError: ONNX Runtime is asked for and can't be had for this network.
        ModuleNotFoundError: or it is not installed.
    """
    if engine not in (*ENGINES, None):
        raise ValueError(f"engine is {engine!r}, it must be one of {', '.join(ENGINES)}")
    if engine == "pytorch":
        return None
    device, graph = next(model.parameters()).device.type, bundled_graph(model)
    if device == "cpu" and graph is not None:
        try:
            needed("onnxruntime")
        except ModuleNotFoundError:
            if engine is not None:
                raise
            return None
        return OnnxLook(model, graph)
    if engine is not None:
        raise ValueError(
            "engine='onnxruntime' is for networks on the processor whose graph comes with the project: those of the "
            f"bundled weights' shape, not a {type(model).__name__} on {device}"
        )
    return None


class OnnxLook:
    """Keypoints or heatmaps of squares, as `HandPosePredictor.look` computes them, by ONNX Runtime.

    Args:
        model: the network whose weights are taken.
        graph: the file that `export.write_graph` wrote for such a network.
    """

    def __init__(self, model: nn.Module, graph: str | Path):
        self.graph = Path(graph)
        self.size = model.framing.image_size
        self.decoding = decoding_of(model)
        self._weights = {
            WEIGHTS + name: np.array(values.detach().cpu().numpy(), order="C")
            for name, values in model.state_dict().items()
            if values.ndim
        }
        self._sessions: dict[int, Any] = {}  # by their number of threads

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sessions": {}}  # they belong to this process

    def __call__(self, squares: np.ndarray) -> tuple[Tensor, Tensor]:
        """Squares (B, S, S, 3) uint8, RGB -> keypoints (B, 21, 2) in px of them, and the heights of peaks (B, 21)."""
        keypoints, heights = self._run(squares, "keypoints", "confidence")
        return keypoints, heights

    def heatmaps(self, squares: np.ndarray) -> Tensor:
        """Squares (B, S, S, 3) uint8, RGB -> heatmaps (B, 21, H, W)."""
        return self._run(squares, "heatmaps")[0]

    def _run(self, squares: np.ndarray, *outputs: str) -> list[Tensor]:
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            self._sessions[threads] = session(self.graph, threads, self._weights)
        options = needed("onnxruntime").RunOptions()
        options.only_execute_path_to_fetches = True
        answers = self._sessions[threads].run(outputs, {"images": np.ascontiguousarray(squares)}, options)
        return [torch.from_numpy(answer) for answer in answers]
