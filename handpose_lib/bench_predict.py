"""How long a picture takes from pixels to keypoints: rows of `handpose bench`, one thread of a processor, batch 1."""

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from handpose_lib.onnx_look import quick_graph
from handpose_lib.pictures import read_picture
from handpose_lib.predict import HandPosePredictor

if TYPE_CHECKING:
    from handpose_lib.bench import Bench


PICTURES = 32  # of the validation set that are looked at


def prediction(bench: "Bench", pictures: int = PICTURES) -> None:
    """Rows h to n: a photograph with and without the finder, a tracked frame, a batch; MediaPipe and bones beside them.

    On a processor, PyTorch alone beside ONNX Runtime as well, where that is installed, in 32 and in 8 bits.

    Args:
        bench: the run that the rows are added to.
        pictures: how many of its validation pictures are looked at.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _rows(bench, pictures)
    finally:
        torch.set_num_threads(threads)


def _rows(bench: "Bench", count: int) -> None:
    pictures = [read_picture(bench.val_set.image_path(index)) for index in range(count)]
    predictor = HandPosePredictor.from_pretrained(device=bench.device)
    without = HandPosePredictor.from_pretrained(device=bench.device, finder=None)
    places = [predictor.search(picture)[0] for picture in pictures]

    def each(work: Callable[[int], object]) -> Callable[[], None]:
        return lambda: [work(index) for index in range(len(pictures))] and None

    tracked = each(lambda i: predictor.follow(pictures[i], places[i]))
    searched = each(lambda i: predictor.search(pictures[i]))
    bench.compare(
        "h",
        "a picture, whole, with the finder / with four turns",
        searched,
        each(lambda i: without.search(pictures[i])),
    )
    bench.compare("i", "a tracked frame / a picture, whole", tracked, searched)
    bench.compare("j", f"{count} pictures in one batch / one by one", lambda: predictor(pictures), searched)
    alone, highest = (HandPosePredictor.from_pretrained(device=bench.device, engine="pytorch") for _ in range(2))
    highest.model.bones = ()
    by_pytorch = each(lambda i: alone.follow(pictures[i], places[i]))
    bench.compare(
        "l",
        "a tracked frame by PyTorch / the same, of each map the highest peak",
        by_pytorch,
        each(lambda i: highest.follow(pictures[i], places[i])),
    )
    if predictor.engine == "onnxruntime":
        exact = HandPosePredictor.from_pretrained(device=bench.device, engine="onnxruntime")
        in_32_bits = each(lambda i: exact.follow(pictures[i], places[i]))
        bench.compare("m", "a tracked frame, its look by ONNX Runtime / by PyTorch", in_32_bits, by_pytorch)
        if quick_graph(predictor.model):
            bench.compare("n", "a tracked frame, its look in 8 bits / in 32", tracked, in_32_bits)
        else:
            print("n    this processor does not multiply bytes (VNNI), or the graph is missing: no row in 8 bits")
    else:
        print("m    PyTorch looks here, for want of ONNX Runtime or of a graph: no row with its time")
    if importlib.util.find_spec("mediapipe"):
        theirs = mediapipe_tracking(pictures)
        bench.compare("k", "a tracked frame / MediaPipe's on the same frame again", tracked, theirs)
    else:
        print("k    MediaPipe is not installed: no row with its time")
    for row in (row for row in bench.rows if row["row"] in "hijklmn"):
        row["ms_each"] = [round(1e3 * seconds / len(pictures), 2) for seconds in row["seconds"]]


def mediapipe_tracking(pictures: list[np.ndarray]) -> Callable[[], None]:
    """MediaPipe's hand landmarks on each picture, which it has seen a moment ago: it tracks, and does not search."""
    from mediapipe import solutions  # an option of whoever runs the bench: no dependency of ours

    hands = [solutions.hands.Hands(max_num_hands=1) for _ in pictures]
    for one, picture in zip(hands, pictures, strict=True):
        one.process(picture)
    return lambda: [one.process(picture) for one, picture in zip(hands, pictures, strict=True)] and None
