"""What following a hand is worth: rendered films with known truth, followed, looked at afresh, and filtered.

    python benchmarks/tracking.py --json figures/tracking.json

Per film: the error of the tracker, which looks once per frame and at no mirror image, as it comes (in 8 bits on
processors that multiply bytes), in 32 bits, and in the page's small squares (always in 32 bits here); that of a
predictor that searches every frame anew, with the mirror image and without; the CPU time of a tracked frame on one
thread, which rises where other programs run too (`load`); jitter and lag of what the tracker says, without and with the
One-Euro filter. And how far the newest answer is from where the hand has got to by then, on a computer where a look at
a whole square takes two frames, and one at a small square takes one. The films' hands are none of those that the
bundled weights were trained on.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from handpose_lib.bench import processor_name
from handpose_lib.metrics import epe
from handpose_lib.onnx_look import quick_graph
from handpose_lib.predict import HandPosePredictor
from handpose_lib.smoothing import OneEuro, jitter, lag
from handpose_lib.synthhand.clip import ClipFrame, render_clip
from handpose_lib.track import HandTracker, hand_length
from handpose_lib.web.build import small_squares

SIZE = 320  # px, side of the films' frames


def main() -> None:
    """Measure the films of the given seeds, print a line per film, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300, help="per film (default: 300)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], help="one film each (default: 0 1 2 3)")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = HandPosePredictor.from_pretrained()
    films = []
    for seed in options.seeds:
        films.append({"seed": seed} | film_row(predictor, list(render_clip(options.frames, seed=seed, size=SIZE))))
        print(films[-1], flush=True)
    facts = {
        "cpu": processor_name(),
        "threads": 1,
        "load": os.getloadavg()[0],
        "frames": options.frames,
        "size": SIZE,
        "films": films,
    }
    facts["mean"] = {name: float(np.mean([film[name] for film in films])) for name in films[0] if name != "seed"}
    print(facts["mean"])
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def film_row(predictor: HandPosePredictor, frames: list[ClipFrame]) -> dict[str, float]:
    """What was measured on one film, see `figures_of`."""
    truth = torch.from_numpy(np.stack([frame.keypoints for frame in frames]))
    times = torch.tensor([frame.time for frame in frames])
    row = figures_of(*tracked(predictor, frames), truth, times)
    if predictor.engine == "onnxruntime" and quick_graph(predictor.model):
        exact = HandPosePredictor.from_pretrained(engine="onnxruntime")
        figures = figures_of(*tracked(exact, frames), truth, times)
        row |= {f"{name}_32_bits": figures[name] for name in ("error_px", "cpu_ms_per_tracked_frame")}
    small = HandPosePredictor.from_pretrained(followed=small_squares(predictor))
    in_small_squares = tracked(small, frames)[0]
    row["error_small_squares_px"] = float(epe(in_small_squares, truth).mean())
    row["error_live_px"] = live_error(tracked(predictor, frames[::2])[0], truth, late=2)
    row["error_live_small_squares_px"] = live_error(in_small_squares, truth, late=1)
    for name, mirrored in {"error_afresh_px": predictor.mirrored, "error_afresh_unmirrored_px": False}.items():
        searching = HandPosePredictor.from_pretrained(mirrored=mirrored)
        afresh = torch.stack([searching.search(frame.image)[0] for frame in frames])
        row[name] = float(epe(afresh, truth).mean())
    return row


def figures_of(
    followed: Tensor, searched: Tensor, milliseconds: Tensor, truth: Tensor, times: Tensor
) -> dict[str, float]:
    """Errors and jitter in px, times in ms, shares from 0 to 1; keypoints are (T, 21, 2) px, the rest (T,).

    A frame in which the tracker found no hand counts with the answer that was not good enough for it.
    """
    smoothed = filtered(followed, times)
    return {
        "error_px": float(epe(followed, truth).mean()),
        "error_filtered_px": float(epe(smoothed, truth).mean()),
        "searched": float(searched.float().mean()),
        "cpu_ms_per_tracked_frame": float(milliseconds[~searched].median()),
        "jitter_px": jitter(followed, truth),
        "jitter_filtered_px": jitter(smoothed, truth),
        "jitter_ratio": jitter(smoothed, truth) / jitter(followed, truth),
        "lag_ms": 1e3 * lag(followed, truth, times),
        "lag_filtered_ms": 1e3 * lag(smoothed, truth, times),
    }


def live_error(answers: Tensor, truth: Tensor, late: int) -> float:
    """Mean error in px of the newest answer while the hand moves on.

    Args:
        answers: to every `late`-th frame, (ceil(T / late), 21, 2) px.
        truth: of each frame, (T, 21, 2) px.
        late: frames that a look takes, after which the next one begins.
    """
    now = torch.arange(late, len(truth))
    return float(epe(answers[now // late - 1], truth[now]).mean())


def tracked(predictor: HandPosePredictor, frames: list[ClipFrame]) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints (T, 21, 2) px without a filter, which frames were searched (T,), and CPU time of each (T,) in ms."""
    tracker = HandTracker(predictor)
    keypoints, searched, milliseconds = [], [], []
    for frame in frames:
        start = time.process_time()
        hand = tracker(frame.image, frame.time)
        milliseconds.append(1e3 * (time.process_time() - start))
        searched.append(hand.searched)
        keypoints.append(predictor.search(frame.image)[0] if hand.keypoints is None else hand.keypoints)
    return torch.stack(keypoints), torch.tensor(searched), torch.tensor(milliseconds)


def filtered(keypoints: Tensor, times: Tensor) -> Tensor:
    """The keypoints (T, 21, 2) as the One-Euro filter with the library's values returns them."""
    one_euro = OneEuro()
    pairs = zip(keypoints, times.tolist(), strict=True)
    return torch.stack([one_euro(points, second, hand_length(points)) for points, second in pairs])


if __name__ == "__main__":
    main()
