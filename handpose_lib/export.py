"""A trained network as one ONNX file that runs without PyTorch: in other languages, on phones, in a browser.

    report = export_onnx(model, "handpose.onnx")       # or: handpose export handpose.onnx

Everything between a picture's square and its keypoints is in the graph: the scaling of uint8 pixels, the network, the
decoding of its heatmaps and their confidence. What is left to do outside is to cut the square out of the picture and to
move the keypoints back; `examples/onnx_alone.py` does both with numpy and OpenCV.

    images      (B, S, S, 3) uint8, RGB             any B of at least 1
    keypoints   (B, 21, 2) float32                  px of the square
    confidence  (B, 21) float32                     0 to 1
    heatmaps    (B, 21, H, W) float32

The file's metadata has an entry `handpose`: how the square is to be cut, and the names of the keypoints, as JSON.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.augment import normalize
from handpose_lib.calibration import calibrated, calibration_of
from handpose_lib.decoding import check_keypoints, decoding_of, framing_of, points_on_input
from handpose_lib.framing import Framing, cut, warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.metrics import pck
from handpose_lib.onnx_graph import copied, describe, needed, quantized, session, store_half, strip, without_weights
from handpose_lib.onnx_look import BYTES, WEIGHTS, OnnxLook, fingerprint
from handpose_lib.storage import atomic_path
from handpose_lib.synthhand import sample_root

if TYPE_CHECKING:
    import onnx

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("keypoints", "confidence", "heatmaps")
LARGEST_DIFFERENCE = 0.01  # px of the square, between PyTorch and ONNX Runtime: what rounding explains
CHECKED = 64  # rendered crops on which they are compared
CALIBRATION = 100  # rendered crops from which the ranges of 8-bit activations are read
SCORED = 400  # rendered crops on which 8 bits are scored against 32
LARGEST_LOSS = 0.5  # points of PCK@0.2 that 8 bits may cost
OPSET = 20


class Look(nn.Module):
    """One look at a square: uint8 pixels in, keypoints out. What `HandPosePredictor.look` does, without mirror images.

    Args:
        model: images (B, 3, S, S), normalised -> heatmaps (B, K, H, W). It has a `framing`.
        method: how heatmaps become points, see `decode_heatmaps`.
    """

    def __init__(self, model: nn.Module, method: str = "local_peak"):
        super().__init__()
        self.model, self.framing, self.method = model, framing_of(model), method

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, S, S, 3) uint8 -> keypoints (B, K, 2) px of the square, confidence (B, K), heatmaps."""
        heatmaps = self.model(normalize(images.permute(0, 3, 1, 2).float() / 255))
        keypoints, confidence = points_on_input(heatmaps, self.framing, self.method, **decoding_of(self.model))
        return keypoints, calibrated(confidence, calibration_of(self.model)), heatmaps


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far it is from PyTorch."""

    path: Path
    size: int  # bytes
    difference: float  # px of the square, largest over rendered crops and keypoints
    pck: float  # PCK@0.2 (bbox) on rendered crops with true boxes, in percent
    pck_float: float  # the same of the network in 32 bits

    def __str__(self) -> str:
        start = f"{self.path}: {self.size / 1e6:.2f} MB"
        if self.difference <= LARGEST_DIFFERENCE:
            return f"{start}; largest difference from PyTorch {self.difference:.5f} px on {CHECKED} rendered crops"
        return f"{start}; PCK@0.2 (bbox) {self.pck:.2f} % on {SCORED} rendered crops, {self.pck_float:.2f} % in 32 bits"


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    method: str = "local_peak",
    half: bool = False,
    eight_bit: bool = False,
    graph: "onnx.ModelProto | None" = None,
) -> ExportReport:
    """Write a network as ONNX and compare the file with PyTorch at once, by ONNX Runtime on rendered crops.

    Args:
        model: a network with a `framing`, such as `load_model` gives; it stays as it is.
        path: the file to write.
        method: how heatmaps become points, see `decode_heatmaps`.
        half: store the weights in 16 bits: half the size. They are computed with in 32, so the speed is the same.
        eight_bit: weights and activations of the convolutions in 8 bits: a quarter of the size, and faster where the
            processor multiplies bytes faster than floats.
        graph: what `traced` made of this network, where several files are made of it: tracing takes longest.

    Returns:
        The file's size, and how far it is from PyTorch.

    Raises:
        ModuleNotFoundError: the extra `export` is not installed.
        ValueError: the file answers otherwise than PyTorch does; it is not written then.
    """
    if not isinstance(model, nn.Module) or Path(path).suffix != ".onnx":
        raise ValueError(f"model and path must be a network and NAME.onnx, not a {type(model).__name__} and {path}")
    check_keypoints(model)
    if half and eight_bit:
        raise ValueError("half and eight_bit exclude each other: choose one")
    for name in PACKAGES:
        needed(name)
    look = Look(deepcopy(model), method).eval().cpu()
    graph = copied(graph) if graph is not None else traced(look)
    if half:
        store_half(graph)
        _round_convolutions(look)
    else:
        graph = needed("onnxscript.optimizer").optimize(graph)  # multiplies batch normalisation into the convolutions
    strip(graph)
    describe(graph, look.framing.to_json() | {"method": method, "keypoints": KEYPOINT_NAMES})
    if eight_bit:
        graph = quantized(graph, example_squares(look.framing, CALIBRATION, "val")[0])
    with atomic_path(path) as temporary:
        needed("onnx").save(graph, str(temporary))
        report = (_score if eight_bit else _compare)(_answers_of(temporary), look)
    return ExportReport(Path(path), Path(path).stat().st_size, *report)


def write_graph(model: nn.Module, folder: str | Path, eight_bit: bool = False) -> Path:
    """Write how a network computes and is decoded, without its weights, for `onnx_look.OnnxLook`; returns the file.

    Its confidence is the height of the peaks: what makes chances of them belongs to the weights.

    Args:
        model: the network.
        folder: to write into.
        eight_bit: with the convolutions in 8 bits, for these very weights; what stays in 32 is in the file.

    Raises:
        ModuleNotFoundError: the extra `export` is not installed.
        ValueError: the graph answers otherwise than PyTorch does, or in 8 bits much worse; it is not written then.
    """
    for name in PACKAGES:
        needed(name)
    look = Look(deepcopy(model)).eval().cpu()
    look.model.calibration = ()
    graph = traced(look)
    if eight_bit:
        graph = needed("onnxscript.optimizer").optimize(graph)
    strip(graph)
    if eight_bit:
        graph = quantized(graph, example_squares(look.framing, CALIBRATION, "val")[0])
    without_weights(graph, WEIGHTS, BYTES if eight_bit else "")
    path = Path(folder, f"{fingerprint(model, eight_bit)}.onnx")
    with atomic_path(path) as temporary:
        needed("onnx").save(graph, str(temporary))
        answers = OnnxLook(look.model, temporary, eight_bit)
        (_score if eight_bit else _compare)(answers, look)
    return path


def traced(look: Look) -> "onnx.ModelProto":
    """The ONNX graph of a `Look`, for any number of squares; its weights are those of the network to the bit."""
    size = look.framing.image_size
    example = (torch.zeros(2, size, size, 3, dtype=torch.uint8),)
    program = torch.export.export(look, example, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for node in program.graph.nodes:
        # A clamp of floats with an integer bound is what torch's exporter can't translate.
        if node.target is torch.ops.aten.clamp.default and node.meta["val"].is_floating_point():
            node.args = tuple(float(each) if isinstance(each, int) else each for each in node.args)
    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["images"],
        output_names=OUTPUTS,
        opset_version=OPSET,
        optimize=False,
        verbose=False,
    )
    graph = copied(exported.model_proto)
    optimizer = needed("onnxscript.optimizer")
    optimizer.fold_constants(graph)
    optimizer.remove_unused_nodes(graph)
    return graph


def example_squares(framing: Framing, count: int, split: str) -> tuple[np.ndarray, Tensor]:
    """Rendered hands as a network of this framing sees them, from the bundled sample.

    Returns:
        squares (N, S, S, 3) uint8, N at most `count`, spread over the split, and the true keypoints (N, 21, 2) in px of
        them.
    """
    dataset = FreiHAND(sample_root(), split)
    squares, truth = [], []
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int).tolist():
        image, target = dataset[index]
        keypoints = target["keypoints"].as_subclass(Tensor)[None]
        crop = framing.around(keypoints) if framing.crop else framing.whole(image.shape[-2:])[None]
        picture = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
        squares.append(cut(picture, crop[0].double().numpy(), framing.image_size))
        truth.append(warp_keypoints(keypoints, crop))
    return np.stack(squares), torch.cat(truth)


def _round_convolutions(model: nn.Module) -> None:
    """Round the weights of a network's convolutions to 16 bits; they stay in 32."""
    for weights in model.parameters():
        if weights.ndim == 4:
            weights.data = weights.data.half().float()


def _answers_of(path: Path) -> Callable[[np.ndarray], tuple[Tensor, Tensor]]:
    """What a file answers to squares (B, S, S, 3): keypoints and confidence."""
    running = session(path)
    return lambda squares: tuple(map(torch.from_numpy, running.run(OUTPUTS[:2], {"images": squares})))


@torch.inference_mode()
def _compare(answers: Callable[[np.ndarray], tuple[Tensor, Tensor]], look: Look) -> tuple[float, float, float]:
    """Largest difference in px; ValueError where it is more than rounding explains. Batches of several sizes."""
    squares, truth = example_squares(look.framing, CHECKED, "val")
    parts = np.split(squares, [1, 4, 20])
    keypoints, confidence = (torch.cat(each) for each in zip(*map(answers, parts), strict=True))
    wanted, sure, _ = look(torch.from_numpy(squares))
    difference = float((keypoints - wanted).abs().max())
    less_sure = float((confidence - sure).abs().max())
    if not (difference <= LARGEST_DIFFERENCE and less_sure <= 1e-3):
        raise ValueError(
            f"the file answers otherwise than PyTorch does: by {difference:.4f} px and {less_sure:.4f} in confidence, "
            f"where {LARGEST_DIFFERENCE} and 0.001 are allowed; nothing was written"
        )
    score = _percent(wanted, truth)
    return difference, score, score


@torch.inference_mode()
def _score(answers: Callable[[np.ndarray], tuple[Tensor, Tensor]], look: Look) -> tuple[float, float, float]:
    """Largest difference in px, and both PCK; ValueError where 8 bits cost too much of it."""
    squares, truth = example_squares(look.framing, SCORED, "train")
    parts = np.array_split(squares, -(-len(squares) // 50))
    keypoints = torch.cat([answers(part)[0] for part in parts])
    wanted = torch.cat([look(torch.from_numpy(part))[0] for part in parts])
    scores = _percent(keypoints, truth), _percent(wanted, truth)
    if not scores[1] - scores[0] < LARGEST_LOSS:
        raise ValueError(
            f"in 8 bits the network's PCK@0.2 falls from {scores[1]:.2f} to {scores[0]:.2f} % on {len(squares)} "
            f"rendered crops, and {LARGEST_LOSS} points are allowed; nothing was written: export it in 16 bits"
        )
    return float((keypoints - wanted).abs().max()), *scores


def _percent(keypoints: Tensor, truth: Tensor) -> float:
    return 100 * float(pck(keypoints, truth).mean())
