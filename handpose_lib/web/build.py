"""Puts the page together: its source, the networks as ONNX, and ONNX Runtime's build for browsers.

The folder that results is static: any host can serve it. Nothing of it is in the repository, because all of it follows
from what is: `make web` makes it anew, and must do so after the weights have changed. What the page has to know about
the networks travels in `models/facts.json`, so that it runs any network whose framing crops.
"""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
from torch import nn

from handpose_lib.calibration import calibration_of
from handpose_lib.chains import CANDIDATES, LIKELIHOOD, LOWEST
from handpose_lib.decoding import decoding_of, framing_of
from handpose_lib.export import Look, export_onnx, traced
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoints import BONES, FINGERS, KEYPOINT_NAMES
from handpose_lib.onnx_graph import cut_decoder
from handpose_lib.plots import FINGER_COLOURS, WRIST_COLOUR
from handpose_lib.predict import CLOSER, SMALLEST_BOX, TURNS, HandPosePredictor, bundled_weights
from handpose_lib.smoothing import BETA, MIN_CUTOFF, SPEED_CUTOFF
from handpose_lib.synthhand import sample_root
from handpose_lib.synthhand.claim import is_content
from handpose_lib.track import LOST
from handpose_lib.web.place import FACTS, FORMAT, bundled_fingerprints, copy_source, fingerprint
from handpose_lib.web.runtime import write_runtime

COARSEST = 32  # px that a network's coarsest features may stand for: the side of a square is a multiple of it
CLOSEST = 0.8  # share of a small square that a hand fills; closer, a finger that moves fast is cut off
EXAMPLES = (147, 67, 175)  # rows of the bundled sample, on which the bundled weights were not trained


def build_page(
    folder: Path, runtime: Path | None = None, weights: Path | None = None, eight_bit: bool = True
) -> dict[str, int]:
    """Put the page together in `folder`, which is made or replaced.

    Args:
        folder: to write.
        runtime: the npm package of the runtime, where it is at hand; None: npm is asked for it.
        weights: of the network; None: the bundled ones.
        eight_bit: make a network in 8 bits too, which takes most of the time.

    Returns:
        Its files with their sizes in bytes.

    Raises:
        ModuleNotFoundError: the extra `export` is not installed.
        ValueError: the runtime can't be had, the folder holds other files, or the network sees whole pictures.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the page")
    if folder.exists() and any(map(is_content, folder.iterdir())) and not (folder / FACTS).is_file():
        raise ValueError(f"{folder} holds other files than a built page, and would be replaced: name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        new = Path(work, "new")
        copy_source(new)
        write_runtime(new / "ort", runtime)
        write_models(new / FACTS.parent, weights, eight_bit)
        write_examples(new / "examples")
        if folder.exists():
            folder.rename(Path(work, "old"))
        new.rename(folder)
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def write_models(folder: Path, weights: Path | None = None, eight_bit: bool = True) -> None:
    """Write the page's networks, and `facts.json`: how the page is to use them.

    They are the network in 16 and in 8 bits, the finder, and in 8 bits a network that follows hands in smaller squares,
    for computers that are slow. None of them decodes: `web/decode.js` does, in less time.
    """
    path = weights or bundled_weights()
    predictor = HandPosePredictor.from_pretrained(path)
    if not predictor.framing.crop:
        raise ValueError(
            f"{path} holds a network for whole pictures: the page needs one that crops, such as the bundled"
        )
    folder.mkdir(parents=True)
    networks = {"landmark": _write_network(folder, "landmark", predictor, eight_bit)}
    if "fast" in networks["landmark"] and (small := small_squares(predictor)) is not None:
        networks |= _write_follower(folder, predictor, small)
    if predictor.finder is not None:  # small, and looks once: 8 bits would save hardly any time
        networks["finder"] = _write_network(folder, "finder", predictor.finder, eight_bit=False)
    facts = {
        "format": FORMAT,
        "weights": bundled_fingerprints() | {"landmark": fingerprint(path)},
        "bundled": weights is None,
        "keypoints": KEYPOINT_NAMES,
        "bones": BONES,
        "wrist_colour": WRIST_COLOUR,
        "fingers": [
            {"name": name, "keypoints": members, "colour": FINGER_COLOURS[name]} for name, members in FINGERS.items()
        ],
        "networks": networks,
        "chains": {"candidates": CANDIDATES, "likelihood": LIKELIHOOD, "lowest": LOWEST},
        "search": search_facts(predictor),
        "tracking": tracking_facts(predictor),
        "smoothing": {"min_cutoff": MIN_CUTOFF, "beta": BETA, "speed_cutoff": SPEED_CUTOFF},
    }
    (folder / FACTS.name).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def search_facts(predictor: HandPosePredictor) -> dict[str, Any]:
    """How a picture is searched, for `web/predictor.js`."""
    return {
        "turns": TURNS if predictor.turned else TURNS[:1],
        "passes": predictor.passes,
        "mirrored": predictor.mirrored,
        "closer": CLOSER,
        "lost": LOST,
        "smallest_box": SMALLEST_BOX,
    }


def tracking_facts(predictor: HandPosePredictor) -> dict[str, float]:
    """How a hand is followed, for `web/tracker.js` and `web/predictor.js`."""
    return {"threshold": LOST, "crop": predictor.followed.crop}


def small_squares(predictor: HandPosePredictor) -> Framing | None:
    """How hands are followed in squares of three quarters of the side, which they fill more, so that they lose few px.

    None where the network may not be able to look at such squares.
    """
    own = predictor.framing
    side = own.image_size * 3 // 4
    if side % COARSEST:
        return None
    return replace(own, image_size=side, crop=max(own.crop, min(CLOSEST, 1.5 * own.crop)))


def _write_follower(folder: Path, predictor: HandPosePredictor, framing: Framing) -> dict[str, dict[str, Any]]:
    """The network in 8 bits for squares of another size, with its facts; nothing where 8 bits cost too much."""
    model = deepcopy(predictor.model)
    model.framing, model.bones = framing, decoding_of(predictor.model, framing)["bones"]
    name = _write_in_8_bits(model, folder / "follower.int8.onnx", "the page follows hands in no smaller squares")
    return {"follower": name | network_facts(model)} if name else {}


def _write_network(folder: Path, role: str, predictor: HandPosePredictor, eight_bit: bool) -> dict[str, Any]:
    """The files of one network with their names, and its facts; without 8 bits where they cost too much."""
    model = predictor.model
    graph = traced(Look(model).eval())
    names = {"exact": f"{role}.onnx"}
    print(export_onnx(model, folder / names["exact"], graph=graph, half=True), flush=True)
    cut_decoder(folder / names["exact"])
    if eight_bit:
        otherwise = "the page goes without a network in 8 bits"
        names |= _write_in_8_bits(model, folder / f"{role}.int8.onnx", otherwise, graph=graph)
    return names | network_facts(model)


def _write_in_8_bits(model: nn.Module, file: Path, otherwise: str, **options: Any) -> dict[str, str]:
    """Write a network in 8 bits; its name as `fast`, or nothing, and why is printed, where 8 bits cost too much."""
    try:
        print(export_onnx(model, file, eight_bit=True, **options), flush=True)
    except ValueError as error:
        print(f"{otherwise}: {error}", flush=True)
        return {}
    cut_decoder(file)
    return {"fast": file.name}


def network_facts(model: nn.Module) -> dict[str, Any]:
    """How a network sees a picture, and how its heatmaps are decoded, for `web/decode.js`."""
    return framing_of(model).to_json() | decoding_of(model) | {"calibration": calibration_of(model)}


def write_examples(folder: Path) -> None:
    """Write a few rendered hands, for who has no picture at hand."""
    folder.mkdir(parents=True)
    dataset = FreiHAND(sample_root(), "train", versions="sample")
    for number, row in enumerate(EXAMPLES, 1):
        image = dataset[row][0].numpy().transpose(1, 2, 0)[..., ::-1]
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        (folder / f"hand{number}.jpg").write_bytes(encoded.tobytes())
