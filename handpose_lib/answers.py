"""What `handpose predict` does: many files in, keypoints and drawings out, whatever some of the files are.

Pictures go into one `keypoints.json` and a drawing each; a video into a table (CSV), the same as JSON, and a film with
the skeleton drawn in.
"""

import contextlib
import csv
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from handpose_lib import pictures, plots, video
from handpose_lib.fields import counted
from handpose_lib.inputs import MOST_PIXELS_AT_ONCE
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.pictures import picture_files, read_reduced
from handpose_lib.predict import HandPosePredictor
from handpose_lib.reading import sentence_of
from handpose_lib.stopping import Stopped, insisting, stop_signal
from handpose_lib.storage import atomic_path, check_target, make_folder, remove_leftovers
from handpose_lib.track import Box, HandsTracker, TrackedHand

DRAWN = 800  # px; a drawing shows no more
ANSWERS = "keypoints.json"  # on pictures; labels have this name too
LONGEST_NAME = 150  # bytes of a name that answers are called by; a disk takes 255, and temporary files have more
FILM = "_hands"  # ends the name of a film with the skeleton drawn in


def files_of(given: Sequence[Path], out: Path) -> list[Path]:
    """The pictures and videos that are meant by files and folders, each once, without those in `out`.

    Drawings and films that `handpose predict` made before are left out, wherever they are, with a line that says so.

    Raises:
        ValueError: a folder without any, nothing but our own drawings, or `out` is itself a folder of pictures.
    """
    if any(path.is_dir() and path.resolve() == out.resolve() for path in given):
        raise ValueError(f"--out {out} is the folder of the pictures: the next run would take its drawings for hands")
    meant = (*pictures.SUFFIXES, *video.SUFFIXES)
    found = (picture_files(path, out, meant, "pictures or videos", drawings=True) for path in given)
    files = list(dict.fromkeys(file for files in found for file in files))
    own = [file for file in files if pictures.is_drawing(file) or _is_film(file)]
    if own and len(own) == len(files):
        raise ValueError(f"{own[0]} is a drawing of an earlier answer: give the photographs or videos themselves")
    if own:
        print(f"{counted(len(own), 'drawing')} of earlier answers left out, the first is {own[0]}")
    return [file for file in files if file not in set(own)]


def _is_film(file: Path) -> bool:
    """Whether a video is one that `answer_video` made: the answers lie beside it."""
    name = file.stem.removesuffix(FILM)
    return file.stem.endswith(FILM) and all(file.with_name(name + ending).is_file() for ending in (".csv", ".json"))


def answer_files(files: Sequence[Path], predictor: HandPosePredictor, out: Path) -> tuple[int, list[str]]:
    """Writes keypoints.json (px of each picture) and a drawing of each picture that can be read.

    What is done is written in any case. Answers of earlier runs on other pictures stay in the file.

    Returns:
        How many pictures were answered, and what is wrong with the others.

    Raises:
        ValueError: `out` has a keypoints.json that is no answer, such as labels.
        Stopped: the process was asked to stop.
    """
    make_folder(out)
    check_target(out / ANSWERS)
    earlier = _earlier_answers(out / ANSWERS)
    remove_leftovers(out)
    plots.use_style()
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*earlier, *map(str, files)]))}
    found: dict[str, dict] = {}
    failures: list[str] = []
    with stop_signal() as stopped:
        try:
            with insisting(stopped):
                _answer(files, numbers, predictor, out, found, failures, stopped)
        finally:
            if found:
                with atomic_path(out / ANSWERS) as temporary:
                    temporary.write_text(json.dumps(earlier | found, indent=1))
    if stopped:
        raise Stopped(f"stopped: {len(found)} of {len(files)} pictures are done, see {out}", stopped[0])
    return len(found), failures


def _answer(
    files: Sequence[Path], numbers: dict[str, int], predictor: HandPosePredictor, out: Path,
    found: dict[str, dict], failures: list[str], stopped: Sequence[int],
) -> None:  # fmt: skip
    """Adds the answers on files to `found`, and what is wrong with the others to `failures`; until it is `stopped`.

    Drawings begin with the `numbers` of their pictures, so that those of one name do not replace each other.
    """
    waiting: dict[Path, tuple[np.ndarray, tuple[float, float]]] = {}
    for number, file in enumerate(files, 1):
        if stopped:
            break
        try:
            waiting[file] = read_reduced(file)
        except (OSError, ValueError) as error:
            failures.append(sentence_of(error))
        pixels = sum(picture.shape[0] * picture.shape[1] for picture, _ in waiting.values())
        if number < len(files) and len(waiting) < predictor.batch_size and pixels < MOST_PIXELS_AT_ONCE:
            continue
        answers = predictor([picture for picture, _ in waiting.values()]) if waiting else ((), ())
        for (name, (_, factors)), keypoints, confidence in zip(waiting.items(), *answers, strict=True):
            own = (keypoints + 0.5) * torch.tensor(factors) - 0.5 if factors != (1.0, 1.0) else keypoints
            found[str(name)] = _numbers(own, confidence)
        for place, (name, (picture, _)) in enumerate(waiting.items()):
            if stopped:
                break
            try:
                drawing = _free_drawing(out, f"{numbers[str(name)]:04d}_{_short(name.stem)}")
                title = f"{name.name}, confidence {answers[1][place].mean():.2f}"
                _draw(picture, answers[0][place], title, drawing)
            except OSError as error:
                failures.append(f"the drawing of {name} ({sentence_of(error)})")
        waiting = {}


def _numbers(keypoints: Tensor, confidence: Tensor) -> dict[str, Any]:
    """A hand as JSON values."""
    return {
        "keypoints": keypoints.double().numpy().round(2).tolist(),
        "confidence": confidence.double().numpy().round(3).tolist(),
    }


def _draw(picture: np.ndarray, keypoints: Tensor, title: str, path: Path) -> None:
    """A picture with its keypoints, of no more pixels than the drawing has."""
    step = max(1, max(picture.shape[:2]) // DRAWN)
    if step > 1:
        size = max(1, picture.shape[1] // step), max(1, picture.shape[0] // step)
        shares = torch.tensor([size[0] / picture.shape[1], size[1] / picture.shape[0]])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        keypoints = (keypoints + 0.5) * shares - 0.5
    figure, ax = plt.subplots(figsize=(6, 6))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # letters of a file's name that the font does not have
            plots.draw_hand(picture, keypoints, ax, title)
            plots.save(figure, path)
    finally:
        plt.close(figure)


def answer_video(
    file: Path, tracker: HandsTracker, out: Path, ending: str = ".mp4", boxes: Sequence[Box] | None = None
) -> tuple[str, int]:
    """Follows the hands through a video; writes NAME.csv, NAME.json and the film NAME_hands with the skeletons.

    What is done is written in any case; but where the process is asked to stop, answers of an earlier run on the same
    video that have more frames are left as they are.

    Args:
        file: the video.
        tracker: is told to forget other videos first.
        out: folder; where it has answers on another video of this name, these are called NAME_2.
        ending: of the film, see `VideoWriter`.
        boxes: where the hands are in the first frame; see `HandsTracker`.

    Returns:
        The name of the answers, and in how many frames any hand was found.

    Raises:
        FileNotFoundError, ValueError: the video can't be read, or the film not be written.
        Stopped: the process was asked to stop.
    """
    tracker.reset()
    facts = video.video_facts(file)
    name, earlier = _free_name(out, file, ending)
    for kind in (".json", ".csv"):
        check_target(out / f"{name}{kind}")
    done = f"{len(facts.times)} frames of {file} are done"
    rows: list[dict[str, Any]] = []
    with stop_signal() as stopped:
        try:
            with atomic_path(out / f"{name}{FILM}{ending}") as temporary, _called(temporary, f"{name}{FILM}{ending}"):
                film = video.VideoWriter(temporary, facts.size, facts.fps)
                try:
                    with insisting(stopped):
                        _follow(file, tracker, boxes, facts, film, rows, stopped)
                finally:
                    film.close()
                if stopped and len(rows) <= earlier:
                    kept = f"; the answers of an earlier run on {earlier} are kept" if earlier else ""
                    raise Stopped(f"stopped: {len(rows)} of {done}{kept}", stopped[0])
        finally:
            if rows and not (stopped and len(rows) <= earlier):  # whatever became of the film
                _write_numbers(rows, out / f"{name}.json", file, facts, tracker)
    if stopped:
        raise Stopped(f"stopped: {len(rows)} of {done}, see {out}", stopped[0])
    return name, sum(any(row["hands"]) for row in rows)


@contextlib.contextmanager
def _called(temporary: Path, name: str) -> Iterator[None]:
    """Calls a file by its own name in errors that call it by a temporary one."""
    try:
        yield
    except (OSError, ValueError) as error:
        if type(error) not in (OSError, ValueError) or temporary.name not in str(error) or len(error.args) > 1:
            raise
        raise type(error)(str(error).replace(temporary.name, name)) from error


def _follow(
    file: Path, tracker: HandsTracker, boxes: Sequence[Box] | None, facts: video.VideoFacts, film: video.VideoWriter,
    rows: list[dict[str, Any]], stopped: Sequence[int],
) -> None:  # fmt: skip
    """Adds what is found in each frame to `rows`, and the frame with the skeletons to the film; until `stopped`."""
    # disable=None: a bar on a terminal, nothing in a log.
    for frame, time in tqdm(video.read_video(file), file.name, len(facts.times), disable=None, leave=False):
        if stopped:
            break
        hands = tracker(frame, time, boxes if not rows else None)
        rows.append({"frame": len(rows), "time": round(time, 6), "hands": [_plain(hand) for hand in hands]})
        for hand in hands:
            if hand is not None:
                video.draw_skeleton(frame, hand.keypoints.numpy(), hand.confidence.numpy())
        if frame.shape[:2] != facts.size:  # some recordings change their size on the way
            frame = cv2.resize(frame, facts.size[::-1], interpolation=cv2.INTER_AREA)
        film.write(frame, time)


def _write_numbers(
    rows: list[dict[str, Any]], path: Path, file: Path, facts: video.VideoFacts, tracker: HandsTracker
) -> None:
    """The hands of a video as JSON, and as a table beside it."""
    about = {"video": str(file), "path": str(file.absolute()), "size": facts.size[::-1], "fps": round(facts.fps, 3)}
    about |= {"tracker": tracker.to_json()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(about | {"frames": rows}))
    _write_table(rows, path.with_suffix(".csv"))


def _earlier_answers(path: Path) -> dict[str, dict]:
    """The answers of earlier runs; ValueError where `answer_files` did not write the file: nothing else is replaced."""
    content = _json_at(path)
    mine = isinstance(content, dict) and all(isinstance(one, dict) and "confidence" in one for one in content.values())
    if path.is_file() and path.stat().st_size and not mine:
        raise ValueError(f"{path} is no answer of `handpose predict` and would be replaced: give another --out")
    return content if mine else {}


def _json_at(path: Path) -> Any:
    """What a JSON file holds; None where it is not there, or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def _free_name(out: Path, file: Path, ending: str) -> tuple[str, int]:
    """A name for the answers on a video, and how many frames those of an earlier run under this name have.

    The name is its own, with a number where that is of other files or another video.
    """
    ours = str(file), str(file.absolute())
    for number in range(1, 10_000):
        name = _short(file.stem) if number == 1 else f"{_short(file.stem)}_{number}"
        theirs = _json_at(out / f"{name}.json")
        mine = isinstance(theirs, dict) and "frames" in theirs
        if mine and (theirs.get("video"), theirs.get("path", ours[1])) == ours:  # older answers hold no path
            return name, len(theirs["frames"])
        taken = (out / f"{name}.json", out / f"{name}.csv", out / f"{name}{FILM}{ending}")
        if f"{name}.json" != ANSWERS and not any(path.exists() for path in taken):
            return name, 0
    raise ValueError(f"{out} holds too many answers on videos called {file.stem}: give another --out")


def _free_drawing(out: Path, name: str) -> Path:
    """A path for a drawing at which nothing is, or an earlier drawing."""
    paths = (out / f"{name}{number}.png" for number in ("", *(f"_{n}" for n in range(2, 10_000))))
    return next(path for path in paths if not path.exists() or pictures.is_drawing(path))


def _short(stem: str) -> str:
    """A file's name without its ending, cut where other files could not be called by it."""
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= LONGEST_NAME else encoded[:LONGEST_NAME].decode("utf-8", "ignore")


def _plain(hand: TrackedHand | None) -> dict[str, Any] | None:
    """A hand as JSON values; None where there is none."""
    if hand is None:
        return None
    return _numbers(hand.keypoints, hand.confidence)


def _write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """One line per frame and hand; the cells of a hand that was not found are empty."""
    names = [f"{keypoint}_{part}" for keypoint in KEYPOINT_NAMES for part in ("x", "y", "confidence")]
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "time", "hand", *names])
        for row in rows:
            for number, hand in enumerate(row["hands"]):
                cells = [""] * len(names)
                if hand:
                    values = zip(hand["keypoints"], hand["confidence"], strict=True)
                    cells = [cell for point, sure in values for cell in (*point, sure)]
                writer.writerow([row["frame"], row["time"], number, *cells])
