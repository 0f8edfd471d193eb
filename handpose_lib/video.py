"""Videos in and out: frames with the stream's own times, a film with the skeleton drawn in.

OpenCV brings what decodes H.264, VP8, VP9, MPEG-4 and Motion JPEG. It opens AV1 and then has no frame of it; those
frames come through PyAV where that is installed. A browser's recording states a wrong number of frames per second, and
none that it has; so nothing here rests on what a file says about itself but on the time of each frame.
"""

import contextlib
import errno
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from handpose_lib.fields import as_numbers, is_number, is_whole
from handpose_lib.keypoints import BONES, FINGER_COLOURS, FINGERS, KEYPOINT_NAMES, WRIST_COLOUR
from handpose_lib.reading import refuse_no_text, refuse_special
from handpose_lib.smoothing import FRAME_SECONDS

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".mjpeg", ".ogv", ".3gp", ".wmv",
            ".flv", ".mts", ".m2ts")  # fmt: skip
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}  # what OpenCV can write, by the file's ending
COUNTED = (".mp4", ".m4v", ".mov", ".avi")  # files that hold a number of frames; others give a guess
WHOLE, MOST_FRAMES = 0.9, 1e8  # a share of those, and a number that no film has
SLOWEST, FASTEST = 1.0, 120.0  # frames per second of a film that is written
RATES = (0.01, 1000)  # that may be asked for
LONGEST = 60.0  # s for which a film shows a picture; recordings that were interrupted have gaps of hours
MUCH = 1 << 20  # bytes; a disk with less room is full for a film

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its complaints are told as one sentence, here


def is_video(path: str | Path) -> bool:
    """Whether a file's name ends as those of videos do."""
    return Path(path).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class VideoFacts:
    """What is true of a video, found by decoding it once."""

    times: tuple[float, ...]  # s, of each frame
    size: tuple[int, int]  # (H, W) px, as viewers show it

    @property
    def fps(self) -> float:
        """Frames per second: one divided by the median time between two frames, within what a film may have."""
        steps = np.diff(self.times)
        return float(np.clip(1 / np.median(steps), SLOWEST, FASTEST)) if len(steps) else 1 / FRAME_SECONDS


def video_facts(path: str | Path) -> VideoFacts:
    """The times of all frames and their size.

    Raises:
        FileNotFoundError, ValueError: see `read_video`.
    """
    times, size = [], (0, 0)
    for frame, time in read_video(path):
        times.append(time)
        size = frame.shape[:2]
    return VideoFacts(tuple(times), size)


def read_video(path: str | Path) -> Iterator[tuple[np.ndarray, float]]:
    """The frames of a video, RGB uint8 (H, W, 3), turned as viewers show them, each with its time in seconds.

    Times begin where the stream lets them begin, and rise from frame to frame.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is no video, or none of its frames can be decoded.
    """
    path = Path(path)
    refuse_special(path)
    refuse_no_text(path)  # OpenCV would end the process
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder, not a video" if path.is_dir() else f"{path} is not there")
    with quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        opened = capture.isOpened()
        first = opened and capture.grab()
    try:
        if not first:
            yield from _rising(_by_pyav(path, _codec(capture) if opened else ""))
            return
        yield from _rising(_by_opencv(capture, path))
    finally:
        capture.release()


def _by_opencv(capture: cv2.VideoCapture, path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """The frames from the one that was grabbed last; a note where there are fewer than the file says."""
    stated = capture.get(cv2.CAP_PROP_FRAME_COUNT) if path.suffix.lower() in COUNTED else 0
    grabbed, count = True, 0
    while grabbed:
        whole, image = capture.retrieve()
        if whole:
            count += 1
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        grabbed = capture.grab()
    if count < WHOLE * stated < MOST_FRAMES:
        warnings.warn(f"only {count:,} of {stated:,.0f} frames of {path} could be read: it is damaged", stacklevel=3)


def _by_pyav(path: Path, codec: str) -> Iterator[tuple[np.ndarray, float]]:
    """The frames that OpenCV could not decode, where PyAV is installed and can; otherwise one sentence."""
    what = f"its codec is {codec}" if codec else "it is damaged, or no video"
    todo = "convert it to H.264 (`ffmpeg -i IN -c:v libx264 OUT.mp4`)"
    try:
        import av
    except ImportError:
        todo = f"install PyAV (`pip install av`), or {todo}" if codec else "play it to check, and save it again"
        raise ValueError(f"OpenCV decodes no frame of {path} ({what}): {todo}") from None
    count, time, stated, length, broken = 0, 0.0, 0, 0.0, False
    try:
        with av.open(str(path)) as container:
            if container.streams and not container.streams.video:
                raise ValueError(f"{path} holds no pictures, only sound or text: give a video")
            stated = container.streams.video[0].frames  # 0 where the file does not say
            length = 0.0 if container.streams.audio else (container.duration or 0) / av.time_base  # s; sound may go on
            for frame in container.decode(video=0):
                time = float(frame.time or 0)
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))  # anti-clockwise, both
                yield np.ascontiguousarray(turned), time
                count += 1
    except (av.error.FFmpegError, IndexError) as error:
        if not count:
            raise ValueError(f"neither OpenCV nor PyAV decodes a frame of {path} ({error}; {what}): {todo}") from error
        broken = True
    if not count:
        raise ValueError(f"{path} has no frames: play it to check, and save it again")
    if broken or count < WHOLE * stated or time < WHOLE * length - FRAME_SECONDS:
        warnings.warn(f"only {count:,} frames of {path} could be read, up to {time:.1f} s: it is damaged", stacklevel=3)


def _rising(frames: Iterable[tuple[np.ndarray, float]]) -> Iterator[tuple[np.ndarray, float]]:
    """Frames whose time does not rise, of streams that tell none, come a thirtieth of a second after the one before."""
    last: float | None = None
    for image, time in frames:
        if last is not None and not time > last:
            time = last + FRAME_SECONDS
        yield image, time
        last = time


def _codec(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    name = code.to_bytes(4, "little").decode("latin-1").strip("\0 ")
    name = name if name.isprintable() else ""
    return {"av01": "AV1", "hvc1": "H.265", "hev1": "H.265", "hevc": "H.265"}.get(name.lower(), name)


class VideoWriter:
    """Writes a film with a fixed number of frames per second, of pictures that have times of their own.

    A picture stays until the next one's time has come, so that the film lasts as long as what was filmed; but no longer
    than a minute, with a note.

    Args:
        path: its ending decides the codec: `.mp4` MPEG-4 (most players), `.webm` VP8 (browsers and notebooks), `.avi`
            Motion JPEG.
        size: (H, W) of the pictures, px; a side that is odd loses its last pixel.
        fps: frames per second.

    Raises:
        ValueError: another ending, or this OpenCV lacks the codec.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], fps: float):
        path = Path(path)
        refuse_no_text(path)
        codec = CODECS.get(path.suffix.lower())
        if codec is None:
            raise ValueError(f"{path} is not a name for a video that can be written: end it in {', '.join(CODECS)}")
        sides = len(size) == 2 and all(is_whole(side, 2) for side in size)
        if not sides or not is_number(fps) or not RATES[0] <= fps <= RATES[1]:
            limits = f"{RATES[0]} to {RATES[1]} frames per second and sides of 2 px or more"
            raise ValueError(f"a film needs {limits}, not {fps} and {size}")
        # MPEG-4 counts time in 65,535 parts of a second at most.
        fps = round(fps, 3 if fps < 65 else 2 if fps < 655 else 1)
        self.path, self.fps, self._size = path, fps, (size[0] // 2 * 2, size[1] // 2 * 2)
        with quiet():
            self._writer = cv2.VideoWriter(
                str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, self._size[::-1]
            )
        if not self._writer.isOpened():
            raise ValueError(
                f"{path} can't be written: this OpenCV has no encoder for {codec}, or the folder takes no files; "
                f"choose another ending ({', '.join(CODECS)}) or another folder"
            )
        self._first: float | None = None  # s
        self._time: float | None = None  # of the last picture, s
        self._waiting: np.ndarray | None = None
        self._written = 0

    def write(self, image: np.ndarray, time: float) -> None:
        """Adds a picture, RGB uint8 (H, W, 3), that is shown from `time` in seconds on."""
        if not self._writer.isOpened():
            raise ValueError(f"{self.path} is closed: open another film")
        if not isinstance(image, np.ndarray):
            raise ValueError(f"a picture for a film is a {type(image).__name__}: give an array (H, W, 3), RGB uint8")
        if (
            image.dtype != np.uint8
            or image.shape[2:] != (3,)
            or image.shape[0] // 2 * 2 != self._size[0]
            or (image.shape[1] // 2 * 2 != self._size[1])
        ):
            raise ValueError(
                f"a picture of {image.shape} {image.dtype} can't go into a film of {self._size} px: give RGB uint8 of "
                "the size that was said at first"
            )
        if not is_number(time) or (self._time is not None and time < self._time):
            raise ValueError(f"a picture's time is {time!r}: give seconds, none before the last, {self._time}")
        if self._first is None:
            self._first = time
        elif time - self._time > LONGEST:
            warnings.warn(
                f"for {time - self._time:,.0f} s no picture came: the film shows {LONGEST:.0f} s of them", stacklevel=2
            )
            self._first += time - self._time - LONGEST
        self._time = time
        self._write_until(round((time - self._first) * self.fps))
        self._waiting = cv2.cvtColor(image[: self._size[0], : self._size[1]], cv2.COLOR_RGB2BGR)

    def _write_until(self, count: int) -> None:
        while self._waiting is not None and self._written < count:
            self._writer.write(self._waiting)
            self._written += 1

    def close(self) -> None:
        """Writes the last picture and ends the file.

        Raises:
            OSError: not all of it is in the file; OpenCV itself does not say when the disk is full.
        """
        if not self._writer.isOpened():
            return
        self._write_until(self._written + 1)
        self._writer.release()
        found = self._frames_there()
        if found < self._written:
            full = shutil.disk_usage(self.path.parent).free < MUCH
            cause = os.strerror(errno.ENOSPC) if full else "OpenCV does not say why"
            raise OSError(f"{self.path} holds {found} of {self._written} frames ({cause}): choose another folder")

    def _frames_there(self) -> int:
        with quiet():
            capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
            found = 0
            while found < self._written and capture.grab():
                found += 1
            capture.release()
        return found


def draw_skeleton(image: np.ndarray, keypoints: np.ndarray, confidence: np.ndarray) -> None:
    """Draws a hand's bones and joints into a picture, RGB uint8 (H, W, 3); what the network is unsure of is thinner.

    Args:
        image: it is changed.
        keypoints: (21, 2) px of it.
        confidence: (21,) from 0 to 1.
    """
    keypoints, confidence = (
        as_numbers(name, given).detach().cpu().numpy()
        for name, given in (("keypoints", keypoints), ("confidence", confidence))
    )
    count = len(KEYPOINT_NAMES)
    if keypoints.shape != (count, 2) or confidence.shape != (count,) or not np.isfinite(keypoints).all():
        shapes = f"{keypoints.shape} and {confidence.shape}"
        raise ValueError(f"keypoints must be ({count}, 2) and finite, confidence ({count},), not {shapes}")
    length = float(np.ptp(keypoints, axis=0).max())
    thick = int(np.clip(length / 45, 1, 12))
    points = np.clip(keypoints, -9999, 9999)
    colours = {k: _rgb(FINGER_COLOURS[name]) for name, finger in FINGERS.items() for k in finger}
    for start, end in BONES:
        width = thick if min(confidence[start], confidence[end]) >= 0.5 else max(1, thick // 2)
        ends = [tuple(np.round(points[k] * 8).astype(int).tolist()) for k in (start, end)]
        cv2.line(image, *ends, (0, 0, 0), width + 2, cv2.LINE_AA, shift=3)
        cv2.line(image, *ends, colours[end], width, cv2.LINE_AA, shift=3)
    for k, point in enumerate(points):
        place = tuple(np.round(point * 8).astype(int).tolist())
        radius = 8 * (thick + 1)
        filled = -1 if confidence[k] >= 0.5 else 1
        cv2.circle(image, place, radius, colours.get(k, _rgb(WRIST_COLOUR)), filled, cv2.LINE_AA, shift=3)


def _rgb(colour: str) -> tuple[int, int, int]:
    """`#RRGGBB` as three numbers."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lets nothing be written to stderr: FFmpeg and OpenCV write there whatever one tells them."""
    try:
        kept = os.dup(2)
    except OSError:  # no such thing here
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
