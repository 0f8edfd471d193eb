"""Writes rendered hands as FreiHAND lies on disk, any number of them, on several processes, resumable.

Layout (N = number of training hands, ids with 8 digits):
    training/rgb/ID.jpg     id = unique + N*k for k = 0 gs, 1 hom, 2 sample, 3 auto
    training/mask/ID.jpg    unversioned ids only; white on the hand and what it wears and holds
    training_K.json         N x 3 x 3, px          training_xyz.json       N x 21 x 3, metres, camera coordinates
    training_scale.json     N, metres, bone 9-10   training_occluded.json  N x 21, 1 = behind something else
    evaluation/rgb/ID.jpg, evaluation_K.json, _xyz.json, _scale.json, _occluded.json
    synthhand.json          how the set was made
"""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..layout import VERSIONS
from ..storage import atomic_path, lock_for
from .picture import compose
from .scene import REFERENCE, Scene, sample_scene
from .shading import render_layer

GENERATOR = 2  # raise it when the same seed begins to give other pictures
SETTINGS_FILE = "synthhand.json"
RENDERING = 24 * 3600.0  # s; as long as this, one process waits for another that renders the same set
_MASK_QUALITY = 70


@dataclass(frozen=True)
class Settings:
    """All that decides what the files of a set contain."""

    hands: int
    evaluation_hands: int = 0
    seed: int = 0
    image_size: int = REFERENCE
    quality: int = 92
    generator: int = GENERATOR
    without: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The settings as plain JSON values; `without` only where something is left out."""
        values = asdict(self) | {"without": list(self.without)}
        return values if self.without else {name: v for name, v in values.items() if name != "without"}


PARTS = ("forearm", "lighting", "photographs")  # what can be left out, to see what it is good for


@dataclass
class RenderedHand:
    """One hand with its pictures."""

    scene: Scene
    images: dict[str, np.ndarray]  # version -> (H, W, 3) uint8 RGB
    mask: np.ndarray  # (H, W) uint8, 255 on the hand and its props


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
    evaluation = split == "evaluation"
    versions = tuple(versions or (("evaluation",) if evaluation else VERSIONS))
    # Scene, look and each version draw from their own stream: leaving a version out changes none of the others.
    key = [seed, index, 1] if evaluation else [seed, index]
    streams = dict(zip(("scene", "look", "evaluation", *VERSIONS), np.random.default_rng(key).spawn(7), strict=False))
    scene = sample_scene(streams["scene"], image_size, forearm="forearm" not in without)
    layer = render_layer(streams["look"], scene, lighting="lighting" not in without)
    photographs = "photographs" not in without
    images = {version: compose(streams[version], scene, layer, version, photographs) for version in versions}
    return RenderedHand(scene, images, (layer.alpha * 255 + 0.5).astype(np.uint8))


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
    if hands < 1 or evaluation_hands < 0:
        raise ValueError(f"hands={hands}, evaluation_hands={evaluation_hands}: at least one training hand is needed")
    if seed < 0 or image_size < 1 or not 1 <= quality <= 100:
        raise ValueError(f"seed={seed}, image_size={image_size}, quality={quality}: they must be >= 0, >= 1 and 1-100")
    _refuse_others(out, settings)
    if _is_complete(out):  # may lie on a disk that can only be read
        return out
    with lock_for(out / SETTINGS_FILE, RENDERING):  # two processes that want the same set: one renders it
        _claim(out, settings)
        if not _is_complete(out):
            _render_missing(out, settings, workers, progress)
    return out


def _render_missing(out: Path, settings: Settings, workers: int | None, progress: bool) -> None:
    """Renders the hands that a claimed folder lacks, then gathers their labels."""
    hands, evaluation_hands = settings.hands, settings.evaluation_hands
    jobs = [("training", i) for i in range(hands)] + [("evaluation", i) for i in range(evaluation_hands)]
    missing = [job for job in jobs if not _label_path(out, *job).is_file()]
    workers = min(workers or _cores(), max(len(missing), 1))
    done = len(jobs) - len(missing)
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=len(jobs), initial=done, unit="hand", desc="rendering", disable=hidden) as bar:
        for _ in _run(out, settings, missing, workers):
            bar.update()
    for split, count in (("training", hands), ("evaluation", evaluation_hands)):
        _write_labels(out, split, count)
    _write_json(out / SETTINGS_FILE, {**settings.to_json(), "complete": True})
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
            child.stdin.write(json.dumps({"settings": settings.to_json(), "jobs": jobs[k::workers]}))
            child.stdin.close()
        os.close(write)
        with os.fdopen(read) as lines:
            for _ in lines:
                yield
        if any([child.wait() for child in children]):
            raise RuntimeError(f"{out}: a worker failed (see above). What is done is kept: run the same command again.")
    finally:
        for child in children:
            child.terminate()
            child.wait()


def _write_hand(out: Path, settings: Settings, job: tuple[str, int]) -> None:
    """Renders one hand and writes its images; its label comes last and says that all else is there."""
    split, index = job
    hand = render_hand(index, settings.seed, split, settings.image_size, without=settings.without)
    for k, image in enumerate(hand.images.values()):
        number = index + k * settings.hands
        _write_jpeg(out / split / "rgb" / f"{number:08d}.jpg", image[..., ::-1], settings.quality)
    if split == "training":
        _write_jpeg(out / split / "mask" / f"{index:08d}.jpg", hand.mask, _MASK_QUALITY)
    scene = hand.scene
    label = {
        "K": scene.K.round(6).tolist(),
        "xyz": scene.xyz.round(8).tolist(),
        "scale": round(float(np.linalg.norm(scene.xyz[10] - scene.xyz[9])), 8),
        "occluded": scene.occluded.astype(int).tolist(),
    }
    _write_json(_label_path(out, split, index), label, durable=False)


def _write_jpeg(path: Path, image: np.ndarray, quality: int) -> None:
    """Writes a BGR or gray uint8 image, whole or not at all."""
    ok, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError(f"{path}: OpenCV could not encode the image")
    with atomic_path(path, durable=False) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _write_json(path: Path, content: object, durable: bool = True) -> None:
    """Writes JSON, whole or not at all."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(json.dumps(content))


def _label_path(out: Path, split: str, index: int) -> Path:
    """Where the label of a finished hand waits until the set is complete."""
    return out / ".labels" / split / f"{index:08d}.json"


def _write_labels(out: Path, split: str, count: int) -> None:
    """Gathers the labels of all hands of a split in FreiHAND's files."""
    if count == 0:
        return
    labels = [json.loads(_label_path(out, split, i).read_text()) for i in range(count)]
    for name in ("K", "xyz", "scale", "occluded"):
        _write_json(out / f"{split}_{name}.json", [label[name] for label in labels])


def _claim(out: Path, settings: Settings) -> None:
    """Marks an empty folder as ours, or one whose mark was damaged; refuses one that holds something else."""
    _refuse_others(out, settings)
    if _found_settings(out) is None:
        if (out / SETTINGS_FILE).exists():
            warnings.warn(f"{out / SETTINGS_FILE} was damaged: the set is rendered anew", stacklevel=3)
            shutil.rmtree(out / ".labels", ignore_errors=True)
        _write_json(out / SETTINGS_FILE, settings.to_json())


def _refuse_others(out: Path, settings: Settings) -> None:
    """ValueError where a folder holds a set of other settings, or something else."""
    found = _found_settings(out)
    if found is not None:
        wanted = settings.to_json()
        names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name) and name != "complete"]
        other = [f"{name}={found.get(name)!r} (now {wanted.get(name)!r})" for name in names]
        if other:
            difference = ", ".join(other)
            raise ValueError(f"{out} holds a set of other settings: {difference}. Choose another folder or delete it.")
    elif not (out / SETTINGS_FILE).exists() and out.is_dir() and any(not _is_lock(path) for path in out.iterdir()):
        raise ValueError(f"{out} is not empty and has no {SETTINGS_FILE}: choose another folder, nothing was written.")


def _is_lock(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".lock"


def _found_settings(out: Path) -> dict | None:
    """What the settings file of a folder says; None where there is none that can be read."""
    try:
        found = json.loads((out / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_complete(out: Path) -> bool:
    return bool((_found_settings(out) or {}).get("complete"))


def _work() -> None:
    """What a child process of `_run` does: jobs from its standard input, a line for each hand to its output."""
    cv2.setNumThreads(1)
    order = json.load(sys.stdin)
    for split, index in order["jobs"]:
        _write_hand(Path(sys.argv[1]), Settings(**order["settings"]), (split, index))
        print(index, flush=True)


if __name__ == "__main__":
    _work()
