"""Rendered hands as an endless stream: all cores render, and a device trains on the hands that have come so far.

Training on files that were rendered before would leave the device idle first and the cores afterwards. Workers write
chunks of hands into a folder; `HandStream` takes them into the device's memory and draws batches from all of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import torch
from torch import Tensor

from handpose_lib import appearance, augment
from handpose_lib.augment import Augmentation
from handpose_lib.framing import Framing, compose, on_image, warp_keypoints
from handpose_lib.layout import VERSIONS
from handpose_lib.storage import atomic_path
from handpose_lib.synthhand.backdrop import backdrop, green_screen
from handpose_lib.synthhand.claim import GENERATOR
from handpose_lib.synthhand.dataset import render_hand

HANDS = 48  # of one chunk
PICTURES_OF_A_HAND = 4
BACKDROPS = 8  # pictures without a hand that come with each chunk
SIZE = 160  # px, the side of the pictures: a hand's crop of 128 px keeps its detail
HELD_OUT = 8  # the first chunks are for validation
AHEAD = 40  # chunks that may wait to be taken before the workers pause, where they are not kept
PICTURE_BYTES = 3 * SIZE * SIZE
QUALITY = (70, 96)  # of the JPEG compression that each picture goes through, lowest and highest


class HandStream:
    """Hands that arrive while one trains on them.

    Args:
        capacity: pictures that are kept; once they are there, each new one takes the place of the oldest.
        device: where they are kept, and where batches are made.
        workers: processes that render; 0: only what lies in `folder`.
        seed: of the hands. Which of them are there at which step depends on the machine's speed.
        folder: where chunks wait. None: a temporary folder. In a folder of one's own they stay, for another training
            with the same seed.
        hands: of one chunk.

    It is a context manager: at the end of the block the workers stop.
    """

    def __init__(
        self,
        capacity: int,
        device: torch.device | str = "cpu",
        workers: int = 1,
        seed: int = 0,
        folder: str | Path | None = None,
        hands: int = HANDS,
    ):
        self.device = torch.device(device)
        self.images = torch.empty(capacity, 3, SIZE, SIZE, dtype=torch.uint8, device=self.device)
        self.keypoints = torch.empty(capacity, 21, 2, device=self.device)  # px of the pictures
        self.backdrops = torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8, device=self.device)
        self.taken = 0  # pictures of hands that came so far
        # Pictures (N, 3, S, S) that no batch shows, and their keypoints (N, 21, 2), on the CPU.
        self.held_out = (torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8), torch.empty(0, 21, 2))
        self._known: set[str] = set()
        self._kept = folder is not None
        self.folder = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="handpose-stream-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prefix = chunk_prefix(seed, hands)
        limit = 10**9 if self._kept else AHEAD
        command = [
            sys.executable,
            "-m",
            "handpose_lib.recipes.stream",
            str(self.folder),
            str(seed),
            str(limit),
            str(hands),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._workers = [
            subprocess.Popen([*command, str(worker), str(workers)], env=environment) for worker in range(workers)
        ]

    def __enter__(self) -> "HandStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End the workers; what was taken stays."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait()

    def __len__(self) -> int:
        return min(self.taken, len(self.images))

    def take_in(self, most: int = 8) -> int:
        """Take up to `most` chunks that are ready; returns how many there were.

        Raises:
            OSError: all workers have ended.
            ValueError: a chunk that was kept is damaged.
        """
        ready = [name for name in waiting(self.folder, self.prefix) if name not in self._known]
        for name in ready[:most]:
            self._known.add(name)
            images, keypoints = read_chunk(self.folder / name)
            if int(name.removeprefix(self.prefix).removesuffix(".npy")) < HELD_OUT:
                new = images[: len(keypoints)], keypoints
                self.held_out = tuple(torch.cat(pair) for pair in zip(self.held_out, new, strict=True))
            else:
                self._add(images, keypoints)
            if not self._kept:
                (self.folder / name).unlink()
        if not ready and self._workers and all(worker.poll() is not None for worker in self._workers):
            raise OSError(f"no process renders hands any more, see above: is there room in {self.folder}?")
        return min(len(ready), most)

    def wait_for(self, pictures: int) -> None:
        """Wait until so many pictures of hands were taken."""
        while self.taken < min(pictures, len(self.images)):
            if not self.take_in():
                time.sleep(0.5)

    def _add(self, images: Tensor, keypoints: Tensor) -> None:
        hands = len(keypoints)
        places = (self.taken + torch.arange(hands)) % len(self.images)
        places = places.to(self.device)
        self.images[places] = images[:hands].to(self.device)
        self.keypoints[places] = keypoints.to(self.device)
        self.taken += hands
        self.backdrops = torch.cat((self.backdrops, images[hands:].to(self.device)))[-len(self.images) // 8 :]

    def batch(
        self, size: int, framing: Framing, augmentation: Augmentation, empty: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A random batch, framed and augmented.

        Args:
            size: B, samples.
            framing: how the pictures become the network's square; crops are taken around the true keypoints.
            augmentation: how far each sample is changed.
            empty: how many of the samples show a backdrop without a hand.

        Returns:
            images (B, 3, S, S), normalised; keypoints (B, 21, 2) in their px, NaN where there is no hand; visible
            (B, 21) bool: which maps count.
        """
        chosen = torch.randint(len(self), (size,), device=self.device)
        images, keypoints = self.images[chosen], self.keypoints[chosen]
        if empty:
            images[:empty] = self.backdrops[torch.randint(len(self.backdrops), (empty,), device=self.device)]
        made = framed(images, keypoints, framing, augmentation, torch.rand(size, DRAWS, device=self.device))
        made[1][:empty], made[2][:empty] = torch.nan, True
        return made


DRAWS = augment.DRAWS + appearance.DRAWS


def chunk_prefix(seed: int, hands: int = HANDS) -> str:
    """What the names of chunks begin with, before their numbers: all that decides what is in them."""
    pictures = f"{hands}x{PICTURES_OF_A_HAND}+{BACKDROPS}"
    return f"generator{GENERATOR}_seed{seed}_{pictures}_{SIZE}px_jpeg{QUALITY[0]}-{QUALITY[1]}_"


def waiting(folder: Path, prefix: str) -> list[str]:
    """The chunks whose names begin with `prefix` that are complete in a folder, by their numbers."""
    return sorted(name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(".npy"))


def framed(
    images: Tensor, keypoints: Tensor, framing: Framing, augmentation: Augmentation, uniform: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 3, S, S) uint8 and keypoints (B, 21, 2) as a network is shown them: see `HandStream.batch`."""
    source = (images.shape[-2], images.shape[-1])
    base = framing.around(keypoints) if framing.crop else framing.whole(source).to(images.device)
    matrices = compose(augment.affine_matrices(uniform, augmentation, framing.size), base)
    colours = augment.for_bytes(augment.colour_matrices(uniform[:, 5 : augment.DRAWS], augmentation))
    shown = augment.warp_and_recolour(images, matrices, colours, framing.size)
    if augmentation.disturbs:
        shown = appearance.disturb(shown, uniform[:, augment.DRAWS :], augmentation)
    points = warp_keypoints(keypoints, matrices)
    return shown, points, on_image(keypoints, source) & on_image(points, framing.size)


def packed(images: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """One array of bytes (N, 3 * S * S + 168) of pictures (N, 3, S, S) and the keypoints (M, 21, 2) of the first M."""
    points = np.full((len(images), 21, 2), np.nan, np.float32)
    points[: len(keypoints)] = keypoints
    return np.concatenate((images.reshape(len(images), -1), points.reshape(len(images), -1).view(np.uint8)), axis=1)


def unpacked(chunk: np.ndarray) -> tuple[Tensor, Tensor]:
    """What `packed` packed: images (N, 3, S, S) uint8, keypoints (M, 21, 2) float32."""
    images = torch.from_numpy(chunk[:, :PICTURE_BYTES].reshape(-1, 3, SIZE, SIZE))
    keypoints = np.ascontiguousarray(chunk[:, PICTURE_BYTES:]).view(np.float32).reshape(-1, 21, 2)
    return images, torch.from_numpy(keypoints[~np.isnan(keypoints[:, 0, 0])])


def read_chunk(path: Path) -> tuple[Tensor, Tensor]:
    """What `unpacked` says of a chunk's file; ValueError for a damaged one."""
    try:
        return unpacked(np.load(path, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and it is rendered again") from error


def render_chunk(number: int, seed: int, hands: int = HANDS) -> np.ndarray:
    """Chunk number `number` of a seed, see `packed`: it depends on nothing but the arguments."""
    images, keypoints = [], []
    for index in range(number * hands, (number + 1) * hands):
        rng = np.random.default_rng([3, seed, index])
        versions = rng.choice([*VERSIONS, "evaluation"], PICTURES_OF_A_HAND, replace=False).tolist()
        hand = render_hand(index, seed, image_size=SIZE, versions=versions)
        for image in hand.images.values():
            images.append(_compressed(rng, image))
            keypoints.append(hand.scene.uv)
    for index in range(BACKDROPS):
        rng = np.random.default_rng([4, seed, number, index])
        image = backdrop(rng, SIZE, True) if rng.random() < 0.9 else green_screen(rng, SIZE)
        images.append(_compressed(rng, np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)))
    return packed(np.stack(images).transpose(0, 3, 1, 2), np.stack(keypoints))


def _compressed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 after JPEG compression."""
    quality = int(rng.integers(*QUALITY))
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def _work(folder: Path, seed: int, ahead: int, hands: int, worker: int, workers: int) -> None:
    """Render chunks worker, worker + workers, ... until the process that asked for them has ended."""
    cv2.setNumThreads(1)
    parent, prefix = os.getppid(), chunk_prefix(seed, hands)
    for number in count(worker, workers):
        path = folder / f"{prefix}{number:06d}.npy"
        while len(waiting(folder, prefix)) >= ahead and os.getppid() == parent:
            time.sleep(0.2)
        if os.getppid() != parent:
            return
        if not path.exists():
            chunk = render_chunk(number, seed, hands)
            with atomic_path(path, durable=False) as temporary, open(temporary, "wb") as file:
                np.save(file, chunk)


if __name__ == "__main__":
    _work(Path(sys.argv[1]), *map(int, sys.argv[2:7]))
