"""`handpose camera`: the live picture of a camera with the skeleton of the hand in it."""

import argparse
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np

from handpose_lib import video
from handpose_lib.commands.network import add_network_options, add_tracking_options, tracker_of
from handpose_lib.fields import counted
from handpose_lib.track import HandsTracker

EXAMPLES = """examples:
  handpose camera
  handpose camera --number 1 --max-hands 2 --no-mirror

Keys, with the window in front: q or Escape quits, m mirrors, r searches again.
"""
WINDOW = "handpose camera (q quits)"
MOST_CAMERAS = 1000
FRAMES_FOR_RATE = 20  # frames per second are counted over so many


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose camera`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument("--number", type=int, default=0, help="of the camera, where there are several (default: 0)")
    parser.add_argument("--no-mirror", action="store_true", help="show what the camera sees, not a mirror")
    add_network_options(parser)
    add_tracking_options(parser)


def run(options: argparse.Namespace) -> None:
    """Show the camera's picture until `q` is pressed or the window is closed."""
    if not 0 <= options.number < MOST_CAMERAS:
        raise ValueError(f"--number is {options.number}: cameras are counted from 0, up to {MOST_CAMERAS - 1}")
    check_display()
    frames = camera_frames(options.number)
    first = next(frames)  # before the network is loaded: the error comes at once
    tracker = tracker_of(options)
    print("q in the window quits")
    try:
        shown = show_live(frames, tracker, mirrored=not options.no_mirror, first=first)
    finally:
        frames.close()
        cv2.destroyAllWindows()
    print(f"{counted(shown, 'frame')} {'was' if shown == 1 else 'were'} shown")


def check_display() -> None:
    """ValueError where no window can be opened; found out by a process of its own, which Qt would end."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ValueError(
            "there is no display to show the camera's picture on (DISPLAY is not set): run this on a computer with a "
            "screen, or film with another program and give the video to `handpose predict`"
        )
    tried = subprocess.run([sys.executable, "-c", "import cv2; cv2.namedWindow('x')"], capture_output=True, text=True)
    if tried.returncode:
        lines = [line for line in tried.stderr.splitlines() if line.strip()]
        raise ValueError(
            f"no window can be opened ({lines[0] if lines else 'it ended without a word'}): is opencv-python installed "
            "without its -headless twin, and does this session have a screen?"
        )


def camera_frames(number: int) -> Iterator[tuple[np.ndarray, float]]:
    """The camera's pictures, RGB (H, W, 3) uint8, with the time in seconds since the first.

    Raises:
        ValueError: there is no such camera, or it gives no picture.
    """
    with video.quiet():
        capture = cv2.VideoCapture(number)
        opened = capture.isOpened()
    try:
        started, last = time.monotonic(), -1.0
        for count in range(sys.maxsize):
            whole, image = capture.read() if opened else (False, None)
            if not whole:
                what = "gives no more pictures" if count else "gives no picture" if opened else "can't be opened"
                raise ValueError(
                    f"camera {number} {what}: is one plugged in, may this program use it, and does no other program "
                    "have it? Another one is chosen with --number"
                )
            last = max(time.monotonic() - started, last + 1e-4)
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), last
    finally:
        capture.release()


def show_live(
    frames: Iterator[tuple[np.ndarray, float]],
    tracker: HandsTracker,
    mirrored: bool = True,
    first: tuple[np.ndarray, float] | None = None,
) -> int:
    """Shows frames with the hands in them and the frames per second, until a key or the closed window ends it.

    Returns:
        How many frames were shown.
    """
    ends: deque[float] = deque(maxlen=FRAMES_FOR_RATE)
    shown = 0
    while True:
        frame, when = first if first is not None else next(frames)
        first = None
        picture = np.ascontiguousarray(frame[:, ::-1]) if mirrored else frame
        hands = tracker(picture, when)
        for hand in hands:
            if hand is not None:
                video.draw_skeleton(picture, hand.keypoints.numpy(), hand.confidence.numpy())
        ends.append(time.monotonic())
        rate = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
        found = sum(hand is not None for hand in hands)
        write_line(picture, f"{rate:.1f} frames per second" + ("" if found else ", no hand"))
        cv2.imshow(WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        shown += 1
        key = cv2.waitKey(1) & 0xFF
        if key in (ord("q"), 27) or cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) < 1:
            return shown
        if key in (ord("m"), ord("r")):
            mirrored ^= key == ord("m")
            tracker.forget()


def write_line(picture: np.ndarray, text: str) -> None:
    """Writes a line into the top left corner of a picture, white with a black edge."""
    size = picture.shape[0] / 700
    for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        place = (12, round(12 + 22 * size))
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thick, cv2.LINE_AA)
