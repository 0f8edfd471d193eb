"""Everything that writes files of its own, small and quick: for the tests of kills and of full disks.

A writer is called with a folder and a version, and leaves there the files of that version. `WRITERS` has them by name.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from dots import draw_dots, hand_of_dots

from handpose_lib import export, runs
from handpose_lib.annotate.store import LabelStore
from handpose_lib.answers import answer_files, answer_video
from handpose_lib.cache import cached_arrays, cached_bytes
from handpose_lib.commands import evaluate as scoring
from handpose_lib.framing import Framing
from handpose_lib.synthhand import dataset as rendering
from handpose_lib.track import TrackedHand
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.video import VideoWriter

HAND = torch.from_numpy(hand_of_dots((32, 24), 30))


@cache
def network() -> UNet2DHandPose:
    torch.manual_seed(0)
    return UNet2DHandPose(4, 2, framing=Framing(32))


def weights(folder: Path, version: int) -> None:
    runs.write_best(network(), {name: t + version for name, t in runs.copied(network()).items()}, folder, version)


def checkpoint(folder: Path, version: int) -> None:
    runs.write_checkpoint({"model": torch.full((5000,), float(version)), "where": {"epoch": version}}, folder)


def history(folder: Path, version: int) -> None:
    runs.write_history([{"epoch": e, "train_loss": 1 / e} for e in range(1, 200 * version)], folder / "history.csv")


def arrays(folder: Path, version: int) -> None:
    cached_arrays(folder / "arrays.npz", f"mark {version}", lambda: {"a": np.full(3000, version)})


def images(folder: Path, version: int) -> None:
    cached_bytes(
        folder / "images.npy", f"mark {version}", (9, 3, 16, 16), lambda array: array.fill(version), "the images"
    )


def rendered(folder: Path, version: int) -> None:
    """Two hands and one for evaluation. A folder holds one set only, so both versions are the same."""
    original, rendering.render_hand = rendering.render_hand, _instead_of_rendering
    try:
        rendering.write_dataset(folder / "set", hands=2, evaluation_hands=1, workers=1, progress=False)
    finally:
        rendering.render_hand = original


def _instead_of_rendering(index: int, seed: int, split: str, *_: object, **__: object) -> rendering.RenderedHand:
    scene, _ = _scene(index, split)
    names = ("evaluation",) if split == "evaluation" else rendering.VERSIONS
    noise = np.random.default_rng(index).integers(0, 256, (224, 224, 3), np.uint8)
    return rendering.RenderedHand(scene, dict.fromkeys(names, noise), noise[..., 0])


@cache
def _scene(index: int, split: str) -> tuple:
    return rendering._scene_of(index, 0, split, 224, ())


def scores(folder: Path, version: int) -> None:
    """Table and plot of `handpose evaluate`, of a report that is not computed here."""
    table = scoring_table() * version
    numbers = {"pck_0.2_bbox": 0.5, "epe_px128": 3.0 * version}
    report = SimpleNamespace(table=table, summary=numbers, boxes="none")
    originals = scoring.evaluate, plots().per_keypoint_bars
    scoring.evaluate, plots().per_keypoint_bars = (lambda *_, **__: report), (lambda _: _figure(version))
    try:
        scoring.write_scores(network(), SimpleNamespace(split="test", root="hands"), folder)
    finally:
        scoring.evaluate, plots().per_keypoint_bars = originals


def plots():
    from handpose_lib import plots

    return plots


def scoring_table():
    import pandas as pd

    columns = ["keypoint", "pck_0.2_bbox", "epe_px128", "epe_px224", "count"]
    return pd.DataFrame(np.arange(1.0, 106.0).reshape(21, 5), columns=columns)


def _figure(version: int) -> plt.Figure:
    figure = plt.figure(figsize=(2, 2), layout="none")
    figure.add_axes((0, 0, 1, 1)).imshow(np.random.default_rng(version).random((60, 60)))
    return figure


class Answers:
    """Stands for a predictor and a tracker: the same hand everywhere, moved by the version."""

    batch_size = 8

    def __init__(self, version: int):
        self.hand, self.sure = HAND + version, torch.full((21,), 0.5 + version / 10)

    def __call__(self, pictures, *_):
        if isinstance(pictures, list):
            return self.hand.expand(len(pictures), -1, -1), self.sure.expand(len(pictures), -1)
        return [TrackedHand(self.hand, self.sure, 0.0, True)]

    def reset(self) -> None:
        pass

    def to_json(self) -> dict:
        return {}


def pictures(folder: Path, version: int) -> None:
    """`keypoints.json` and drawings of `handpose predict`."""
    files = [folder.parent / f"{name}.png" for name in "ab"]
    for file in files:
        if not file.is_file():
            cv2.imwrite(str(file), draw_dots([HAND.numpy()], (48, 64)))
    _, failures = answer_files(files[:version], Answers(version), folder)
    if failures:
        raise OSError("; ".join(failures))


def film(folder: Path, version: int) -> None:
    """Table, JSON and film of `handpose predict` on a video."""
    file = folder.parent / "wave.avi"
    if not file.is_file():
        writer = VideoWriter(file, (48, 64), 30)
        for number in range(4):
            writer.write(draw_dots([HAND.numpy() + number], (48, 64)), number / 30)
        writer.close()
    answer_video(file, Answers(version), folder, ".avi")


def annotated(folder: Path, version: int) -> None:
    """`keypoints.json` of `handpose annotate`, of pictures that are there before."""
    for name in "ab":
        if not (folder / f"{name}.png").is_file():
            cv2.imwrite(str(folder / f"{name}.png"), draw_dots([HAND.numpy()], (48, 64)))
    store = LabelStore(folder, lambda file: pytest.fail("nothing is proposed here"))
    for number in range(version):
        store.save(number, {"keypoints": HAND.numpy().round(1).tolist(), "side": "left", "group": "me"})


def exported(folder: Path, version: int) -> None:
    """A graph that `handpose export` writes; neither traced nor compared here."""
    onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in "xy"]
    constant = onnx.helper.make_tensor("c", onnx.TensorProto.FLOAT, [999, 4], np.full(3996, version, np.float32))
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "c"], ["y"])], "g", values[:1], values[1:], [constant]
    )
    original, export._compare = export._compare, lambda *_: (0.0, 50.0, 50.0)
    try:
        export.export_onnx(network(), folder / "hands.onnx", half=True, graph=onnx.helper.make_model(body))
    finally:
        export._compare = original


WRITERS: dict[str, Callable[[Path, int], None]] = {
    each.__name__: each
    for each in (weights, checkpoint, history, arrays, images, rendered, scores, pictures, film, annotated, exported)
}


def content(folder: Path) -> dict[str, bytes]:
    """The visible files in a folder and the folders in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder) for path in files}
    seen = {path: name for path, name in names.items() if not any(part.startswith(".") for part in name.parts)}
    return {str(name): path.read_bytes() for path, name in seen.items()}


def leftovers(folder: Path) -> list[str]:
    """Temporary files in a folder and the folders in it: hidden ones but locks and checksums."""
    kept = (".lock", "checksums.json")
    return [path.name for path in folder.rglob(".*") if path.is_file() and not path.name.endswith(kept)]
