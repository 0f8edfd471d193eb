"""Writes rendered hands as FreiHAND lies on disk, any number of them, on several processes, resumable.

Layout (N = number of training hands, ids with 8 digits):
    training/rgb/ID.jpg     id = unique + N*k for k = 0 gs, 1 hom, 2 sample, 3 auto
    training/mask/ID.jpg    unversioned ids only; white on the hand, what it wears and holds, and what crosses it
    training_K.json         N x 3 x 3, px          training_xyz.json       N x 21 x 3, metres, camera coordinates
    training_scale.json     N, metres, bone 9-10   training_occluded.json  N x 21, 1 = behind something else
    evaluation/rgb/ID.jpg, evaluation_K.json, _xyz.json, _scale.json, _occluded.json
    synthhand.json          how the set was made
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..checksums import checksum, differing, keep_checksums, read_checksums
from ..fields import counted, is_whole
from ..layout import VERSIONS
from ..storage import atomic_path, check_space, lock_for, remove_leftovers
from .claim import SETTINGS_FILE, Settings, claim, is_complete, refuse_others, write_settings
from .picture import compose
from .scene import REFERENCE, Scene, sample_scene
from .shading import render_layer

RENDERING = 24 * 3600.0  # s; as long as this, one process waits for another that renders the same set
MOST_IMAGES = 10**8
SMALLEST, LARGEST = 16, 4096  # px, of an image's side
LEAST_BYTES = 5_000  # of an image of 224 px
LABELS = ("K", "xyz", "scale", "occluded")
_MASK_QUALITY = 70
PARTS = ("forearm", "lighting", "photographs")  # what can be left out, to see what it is good for


@dataclass
class RenderedHand:
    """One hand with its pictures."""

    scene: Scene
    images: dict[str, np.ndarray]  # version -> (H, W, 3) uint8 RGB
    mask: np.ndarray  # (H, W) uint8, 255 on the hand, its props and what crosses in front


def render_hand(
    index: int,
    seed: int = 0,
    split: str = "training",
    image_size: int = REFERENCE,
    versions: Iterable[str] | None = None,
    without: Iterable[str] = (),
) -> RenderedHand:
    """Hand number `index` of a split ("training" or "evaluation"); depends on nothing but the arguments.

    Args:
        versions: which pictures of it; all four, or the one of "evaluation", when None.
        without: any of "forearm" (and what is worn on it), "lighting" and "photographs" (as backgrounds), to leave out.
    """
    without = _checked_parts(without)
    if split not in ("training", "evaluation") or not (
        is_whole(index, 0) and is_whole(seed, 0) and is_whole(image_size, SMALLEST) and image_size <= LARGEST
    ):
        raise ValueError(
            f"split is {split!r}, index {index}, seed {seed} and image_size {image_size}: the split must be "
            f"training or evaluation, the others whole numbers, and the size from {SMALLEST} to {LARGEST}"
        )
    versions = (versions,) if isinstance(versions, str) else versions
    versions = tuple(versions or (("evaluation",) if split == "evaluation" else VERSIONS))
    if unknown := [version for version in versions if version not in (*VERSIONS, "evaluation")]:
        raise ValueError(f"unknown version {unknown[0]!r}: choose from {', '.join(VERSIONS)}")
    scene, streams = _scene_of(index, seed, split, image_size, without)
    layer = render_layer(streams["look"], scene, lighting="lighting" not in without)
    photographs = "photographs" not in without
    images = {version: compose(streams[version], scene, layer, version, photographs) for version in versions}
    return RenderedHand(scene, images, (layer.alpha * 255 + 0.5).astype(np.uint8))


def _scene_of(
    index: int, seed: int, split: str, image_size: int, without: Iterable[str]
) -> tuple[Scene, dict[str, np.random.Generator]]:
    """A hand in its scene, and the streams of random numbers that its look and its versions draw from."""
    # Scene, look and each version draw from their own stream: leaving a version out changes none of the others.
    key = [seed, index, 1] if split == "evaluation" else [seed, index]
    streams = dict(zip(("scene", "look", "evaluation", *VERSIONS), np.random.default_rng(key).spawn(7), strict=False))
    return sample_scene(streams["scene"], image_size, forearm="forearm" not in without), streams


def _checked_parts(without: Iterable[str]) -> set[str]:
    """What to leave out, one name or several; ValueError for a name that is none of `PARTS`."""
    without = {without} if isinstance(without, str) else set(without)
    if not without <= set(PARTS):
        raise ValueError(f"without {', '.join(sorted(without - set(PARTS)))}: choose from {', '.join(PARTS)}")
    return without


def write_dataset(
    out: str | Path,
    hands: int,
    seed: int = 0,
    workers: int | None = None,
    evaluation_hands: int = 0,
    image_size: int = REFERENCE,
    quality: int = 92,
    progress: bool = True,
    without: Iterable[str] = (),
) -> Path:
    """Renders a set into the folder `out`; a set that was begun with the same arguments is completed.

    A finished set is compared with the checksums of its files, and what is damaged or gone is rendered again.

    Args:
        hands: number of unique training hands; there are four images of each.
        seed: hand i depends on the seed and on i alone, whatever the number of workers.
        workers: processes; None takes all cores that this process may use.
        evaluation_hands: number of hands in `evaluation/`, one image each.
        image_size: side of the images, px; `FreiHAND` reads those of 224, as FreiHAND's are.
        quality: of the JPEG files, 1-100.
        progress: show a progress bar where the output is a terminal.
        without: parts to leave out, see `render_hand`.

    Raises:
        ValueError: `out` holds a set that was made with other arguments, or other files.
    """
    out, left_out = Path(out), tuple(sorted(_checked_parts(without)))
    settings = Settings(hands, evaluation_hands, seed, image_size, quality, without=left_out)
    if not (is_whole(hands) and is_whole(evaluation_hands, 0)):
        raise ValueError(f"hands={hands}, evaluation_hands={evaluation_hands}: at least one training hand is needed")
    if max(len(VERSIONS) * hands, evaluation_hands) >= MOST_IMAGES:
        raise ValueError(f"hands={hands}, evaluation_hands={evaluation_hands}: images are named by numbers of 8 digits")
    sized = is_whole(image_size, SMALLEST) and image_size <= LARGEST
    if not (is_whole(seed, 0) and sized and is_whole(quality)) or quality > 100:
        limits = f">= 0, from {SMALLEST} to {LARGEST} and 1-100"
        raise ValueError(f"seed={seed}, image_size={image_size}, quality={quality}: they must be {limits}")
    if workers is not None and not is_whole(workers):
        raise ValueError(f"workers={workers}: it must be at least 1, or be left out")
    refuse_others(out, settings)
    if not (out / SETTINGS_FILE).exists():
        there = next(place for place in (out.absolute(), *out.absolute().parents) if place.is_dir())
        needed = LEAST_BYTES * (image_size / REFERENCE) ** 2 * (len(VERSIONS) * hands + evaluation_hands)
        check_space(there, needed, f"a set of {hands:,} hands")
    if is_complete(out) and not _damaged(out, settings):  # may lie on a disk that can only be read
        return out
    with lock_for(out / SETTINGS_FILE, RENDERING):  # two processes that want the same set: one renders it
        claim(out, settings)
        damaged = _damaged(out, settings)
        if is_complete(out) and damaged:
            others = f" and {counted(len(damaged) - 1, 'other file')}" if len(damaged) > 1 else ""
            warnings.warn(f"{out / damaged[0]}{others}: missing or damaged, and made again", stacklevel=2)
        if damaged or not is_complete(out):
            _render_missing(out, settings, workers, progress)
    return out


def _jobs(settings: Settings) -> list[tuple[str, int]]:
    """Split and number of every hand of a set."""
    return [("training", i) for i in range(settings.hands)] + [
        ("evaluation", i) for i in range(settings.evaluation_hands)
    ]


def _pictures_of(settings: Settings, job: tuple[str, int]) -> list[str]:
    """The files that a hand's pictures are in, below the set's folder: its versions, then the mask."""
    split, index = job
    if split == "evaluation":
        return [f"evaluation/rgb/{index:08d}.jpg"]
    numbers = [index + k * settings.hands for k in range(len(VERSIONS))]
    return [f"training/rgb/{number:08d}.jpg" for number in numbers] + [f"training/mask/{index:08d}.jpg"]


def _damaged(out: Path, settings: Settings) -> list[str]:
    """Files of a set that are not there as they were written; where no checksums are kept, those that are not there."""
    names = [name for job in _jobs(settings) for name in _pictures_of(settings, job)]
    names += [f"{split}_{name}.json" for split in {job[0] for job in _jobs(settings)} for name in LABELS]
    sums = read_checksums(out)
    lost = [name for name in names if name not in sums and not (out / name).is_file()]
    return lost + differing(out, sums, [name for name in names if name in sums])


def _is_rendered(out: Path, settings: Settings, job: tuple[str, int], sums: Mapping[str, int]) -> bool:
    """Whether a hand's pictures are there as they were written."""
    names = _pictures_of(settings, job)
    label = _read_label(out, *job)
    known = label["checksums"] if label else sums
    return all(name in known for name in names) and not differing(out, known, names)


def _render_missing(out: Path, settings: Settings, workers: int | None, progress: bool) -> None:
    """Renders the hands that a claimed folder lacks, then gathers their labels."""
    jobs, sums = _jobs(settings), read_checksums(out)
    for folder in ("training/rgb", "training/mask", "evaluation/rgb", ".labels/training", ".labels/evaluation"):
        remove_leftovers(out / folder, certain=True)
    missing = [job for job in jobs if not _is_rendered(out, settings, job, sums)]
    workers = min(workers or _cores(), max(len(missing), 1))
    done = len(jobs) - len(missing)
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=len(jobs), initial=done, unit="hand", desc="rendering", disable=hidden) as bar:
        for _ in _run(out, settings, missing, workers):
            bar.update()
    for split, count in (("training", settings.hands), ("evaluation", settings.evaluation_hands)):
        sums |= _write_labels(out, settings, split, count)
    keep_checksums(out, sums)
    write_settings(out, settings, complete=True)
    shutil.rmtree(out / ".labels", ignore_errors=True)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(out: Path, settings: Settings, jobs: list[tuple[str, int]], workers: int) -> Iterator[None]:
    """Renders and writes the hands, yielding after each one."""
    if workers <= 1:
        for job in jobs:
            yield _write_hand(out, settings, job)
        return
    # Plain child processes: a fork of a process with threads may hang, and multiprocessing's spawn would run an
    # unguarded script of the caller once more. Each says a line for every hand on the pipe that all of them share.
    read, write = os.pipe()
    package_home = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [package_home, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    children = []
    try:
        for k in range(workers):
            command = [sys.executable, "-m", "handpose_lib.synthhand.dataset", str(out)]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=write, env=environment, text=True)
            children.append(child)
            with contextlib.suppress(BrokenPipeError), child.stdin:  # of one that has died already: told by `wait`
                child.stdin.write(json.dumps({"settings": settings.to_json(), "jobs": jobs[k::workers]}))
        os.close(write)
        with os.fdopen(read) as lines:
            for _ in lines:
                yield
        if any([child.wait() for child in children]):
            raise OSError(f"{out}: a worker failed (see above). What is done is kept: run the same command again.")
    finally:
        for child in children:
            child.terminate()
            child.wait()


def _write_hand(out: Path, settings: Settings, job: tuple[str, int]) -> None:
    """Renders one hand and writes its images; its label comes last and says that all else is there."""
    split, index = job
    hand = render_hand(index, settings.seed, split, settings.image_size, without=settings.without)
    pictures = [(image[..., ::-1], settings.quality) for image in hand.images.values()]
    pictures += [(hand.mask, _MASK_QUALITY)] if split == "training" else []
    names = _pictures_of(settings, job)
    sums = {name: _write_jpeg(out / name, *each) for name, each in zip(names, pictures, strict=True)}
    _write_json(_label_path(out, split, index), _label_of(hand.scene) | {"checksums": sums}, durable=False)


def _label_of(scene: Scene) -> dict[str, object]:
    """What FreiHAND's files say of a hand."""
    return {
        "K": scene.K.round(6).tolist(),
        "xyz": scene.xyz.round(8).tolist(),
        "scale": round(float(np.linalg.norm(scene.xyz[10] - scene.xyz[9])), 8),
        "occluded": scene.occluded.astype(int).tolist(),
    }


def _write_jpeg(path: Path, image: np.ndarray, quality: int) -> int:
    """Writes a BGR or gray uint8 image, whole or not at all; returns its checksum."""
    ok, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"{path}: OpenCV could not encode the image")
    with atomic_path(path, durable=False) as temporary:
        temporary.write_bytes(encoded.tobytes())
    return checksum(encoded.tobytes())


def _write_json(path: Path, content: object, durable: bool = True) -> None:
    """Writes JSON, whole or not at all."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(json.dumps(content))


def _label_path(out: Path, split: str, index: int) -> Path:
    """Where the label of a finished hand waits until the set is complete."""
    return out / ".labels" / split / f"{index:08d}.json"


def _read_label(out: Path, split: str, index: int) -> dict | None:
    """The label that waits for the set to be complete; None where there is none that can be read."""
    try:
        label = json.loads(_label_path(out, split, index).read_text())
    except (OSError, ValueError):
        return None
    return label if isinstance(label, dict) and {*LABELS, "checksums"} <= label.keys() else None


def _write_labels(out: Path, settings: Settings, split: str, count: int) -> dict[str, int]:
    """Gathers the labels of all hands of a split in FreiHAND's files; returns the checksums of what was written."""
    if count == 0:
        return {}
    labels, sums = [], {}
    for index in range(count):
        label = _read_label(out, split, index)
        if label is None:  # of a finished set of which something else was damaged
            scene, _ = _scene_of(index, settings.seed, split, settings.image_size, settings.without)
            label = _label_of(scene)
        sums |= label.get("checksums", {})
        labels.append(label)
    for name in LABELS:
        path = out / f"{split}_{name}.json"
        _write_json(path, [label[name] for label in labels])
        sums[path.name] = checksum(path.read_bytes())
    return sums


def _work() -> None:
    """What a child process of `_run` does: jobs from its standard input, a line for each hand to its output."""
    cv2.setNumThreads(1)
    order = json.load(sys.stdin)
    try:
        for split, index in order["jobs"]:
            _write_hand(Path(sys.argv[1]), Settings(**order["settings"]), (split, index))
            print(index, flush=True)
    except OSError as error:  # such as a full disk
        print(f"handpose: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    _work()
