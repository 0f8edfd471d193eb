"""What commands that look at hands have in common: which network looks, and how it follows hands through a video."""

import argparse

from handpose_lib.commands import weights_file
from handpose_lib.devices import pick_device
from handpose_lib.predict import HandPosePredictor
from handpose_lib.smoothing import OneEuro
from handpose_lib.track import LOST, HandsTracker


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Which network looks, and where it runs."""
    parser.add_argument("--weights", type=weights_file, help="best.safetensors of a run (default: bundled)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")


def add_tracking_options(parser: argparse._ActionsContainer) -> None:
    """How hands are followed from frame to frame."""
    parser.add_argument("--max-hands", type=int, default=1, help="how many hands may be followed (default: 1)")
    parser.add_argument(
        "--threshold", type=float, default=LOST, help=f"mean confidence below which a hand is lost (default: {LOST})"
    )
    parser.add_argument(
        "--no-smooth", action="store_true", help="leave out the One-Euro filter, which takes out jitter"
    )


def tracker_of(options: argparse.Namespace) -> HandsTracker:
    """The tracker that the options ask for."""
    predictor = HandPosePredictor.from_pretrained(options.weights, pick_device(options.device))
    return HandsTracker(predictor, options.max_hands, options.threshold, None if options.no_smooth else OneEuro())
