"""Batches for training: every image is decoded once, and a batch is made as a whole on the device.

A conventional loader decodes a JPEG, warps it and draws 21 heatmaps for each sample, again in every epoch. Here the
images are decoded and resized once, into a uint8 file that is memory-mapped; a batch is then gathered by index, warped
with one affine map per sample and recoloured in a few operations. Explained in `notebooks/06_gpu_training.ipynb`.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from handpose_lib import appearance, augment
from handpose_lib.augment import Augmentation
from handpose_lib.cache import cached_bytes, fingerprint
from handpose_lib.fields import is_whole
from handpose_lib.framing import LARGEST_INPUT, Framing, compose, on_image, resize_matrix, warp_keypoints
from handpose_lib.freihand import IMAGE_SIZE, FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.keypoints import with_gaps_filled
from handpose_lib.storage import derived_folder

FULL_SIZE = (IMAGE_SIZE, IMAGE_SIZE)  # (H, W) of a data set's images
SEED_STEP = 0x9E3779B1  # from a seed's orders to the next one's; so many epochs apart, small seeds share none


def decoded_images(dataset: FreiHAND | KeypointFolder, image_size: int = 128, progress: bool = True) -> Tensor:
    """All images of a data set, resized: uint8 (M, 3, image_size, image_size), memory-mapped, in item order.

    Decoded once, on all cores, into a file under `storage.derived_folder(root)`. The file is written whole or not at
    all, and again when a source image changed; processes that ask at the same time wait for the one that writes.
    """
    if not is_whole(image_size, 8) or image_size > LARGEST_INPUT:
        raise ValueError(f"image_size is {image_size!r}, it must be a whole number from 8 to {LARGEST_INPUT}")
    shape = (len(dataset), 3, image_size, image_size)
    name = f"images_{dataset.split}_{'-'.join(dataset.versions)}_{image_size}.npy"
    path = derived_folder(dataset.root) / name
    # The squares of a `KeypointFolder` depend on its labels, too.
    facts = [dataset.squares.tolist()] if hasattr(dataset, "squares") else []
    mark = fingerprint(map(dataset.image_path, range(len(dataset))), image_size, *facts)
    what = f"{name} (the decoded images of {dataset.root})"
    return torch.from_numpy(cached_bytes(path, mark, shape, partial(_decode_all, dataset, path.stem, progress), what))


def _decode_all(dataset: FreiHAND, name: str, progress: bool, array: np.ndarray) -> None:
    # Threads suffice: decoding and resizing leave the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(partial(_decode_into, array, dataset), range(len(dataset)))
        # disable=None: a bar on a terminal, nothing in a notebook or a log.
        for _ in tqdm(done, f"decode {name}", len(dataset), disable=None if progress else True, leave=False):
            pass


def _decode_into(array: np.ndarray, dataset: FreiHAND, index: int) -> None:
    image = dataset.read(index)  # (3, 224, 224) uint8
    if array.shape[-1] != image.shape[-1]:
        image = interpolate(image[None], size=array.shape[2:], mode="bilinear", antialias=True)[0]
    array[index] = image.numpy()


@dataclass
class Batch:
    """One batch on the device, ready for the network."""

    images: Tensor  # (B, 3, S, S) float32, normalised
    keypoints: Tensor | None  # (B, 21, 2) float32, px of the S image; None where the set has no labels
    visible: Tensor | None  # (B, 21) bool: labelled, on the photograph and on `images`, so that it counts
    index: Tensor  # (B,) int64 on the CPU: the item's number in the data set
    from_full: Tensor  # (B, 2, 3) the map from pixels of the 224 image to those of `images`


def fits(device: torch.device, size: int) -> bool:
    """Whether `size` bytes of images may live on a device: at most a third of what is free, training needs the rest."""
    if device.type == "cuda":
        return size <= torch.cuda.mem_get_info(device)[0] / 3
    return device.type == "mps"  # shares the computer's memory


class HandBatches:
    """Batches of a data set as one framing shows it.

    The images stay on the device where they fit (see `fits`), so that a batch is one gather there. Where they do not,
    a thread gathers the next batch into pinned memory while the device works on this one.

    Args:
        dataset: a `FreiHAND` or a `KeypointFolder`; its images are decoded by `decoded_images`.
        framing: how the pictures become the network's square; crops are taken around the true keypoints.
        batch_size: samples per batch, over all processes; a shorter rest is left out of a training epoch.
        augmentation: how far samples are changed in `epoch`; None leaves them as they are.
        one_version: an epoch shows each hand once, in one of its versions, drawn at random, instead of in all of them.
        seed: with (epoch, image id) it fixes order and augmentation, whatever the batch size and number of processes.
        device: where the batches are made.
        source_size: side of the decoded images, px; larger than the framing's where crops should keep their detail.
        rank, processes: which part of each batch is this process's; the parts in order are the whole batch.
        resident: True or False decides where the images live, None asks `fits`.
        progress: show a bar while images are decoded, and say where they live.
    """

    def __init__(
        self,
        dataset: FreiHAND | KeypointFolder,
        framing: Framing,
        batch_size: int = 32,
        augmentation: Augmentation | None = None,
        one_version: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        processes: int = 1,
        resident: bool | None = None,
        progress: bool = True,
        source_size: int | None = None,
    ):
        if not hasattr(dataset, "keypoints") or not isinstance(framing, Framing):
            kinds = f"a {type(dataset).__name__} and a {type(framing).__name__}"
            raise ValueError(f"dataset and framing are {kinds}: give open_data(root, split) and a Framing")
        if augmentation is not None and not isinstance(augmentation, Augmentation):
            raise ValueError(f"augmentation is {augmentation!r}, it must be an Augmentation or None")
        for name, flag in (("one_version", one_version), ("resident", resident)):
            if not isinstance(flag, bool) and (flag is not None or name == "one_version"):
                raise ValueError(f"{name} is {flag!r}, it must be true or false")
        if not (is_whole(batch_size) and is_whole(rank, 0) and is_whole(processes)) or rank >= processes:
            raise ValueError(
                f"batch_size {batch_size} must be at least 1, and rank {rank} one of {processes} processes"
            )
        if batch_size % processes:
            raise ValueError(f"a batch of {batch_size} can't be shared by {processes} processes: take a multiple")
        if not is_whole(seed, 0) or seed >= 2**31:
            raise ValueError(f"seed is {seed}, it must be a whole number from 0 to 2**31 - 1")
        if source_size is not None and not is_whole(source_size, 0):
            raise ValueError(f"source_size is {source_size}, it must be a whole number of pixels")
        self.framing = framing
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.one_version = one_version
        self.seed = seed
        self.device = torch.device(device)
        self.rank, self.processes = rank, processes
        self.ids = torch.from_numpy(dataset.ids)
        self.num_versions = len(dataset.versions)
        source_size = source_size or framing.image_size
        self.images = decoded_images(dataset, source_size, progress and rank == 0)
        self.resident = self._make_resident(resident, progress and rank == 0)
        self.keypoints = self.labelled = None
        if dataset.keypoints is not None:
            keypoints = torch.from_numpy(dataset.keypoints).to(self.device)  # px of the 224 image
            self.labelled = keypoints.isfinite().all(-1)  # (M, 21)
            self.keypoints = with_gaps_filled(keypoints)
        elif framing.crop:
            raise ValueError("this data set has no keypoints, so its hands can't be cropped: crop must be 0")
        # The map from pixels of the decoded images to those of the 224 image.
        self.to_full = resize_matrix((source_size, source_size), FULL_SIZE).to(self.device)
        self._memory: Tensor | None = None
        self._current: tuple[int, Tensor] | None = None  # the epoch at work and its order
        if len(self) == 0:
            raise ValueError(
                f"a batch of {batch_size} is larger than an epoch of {self.samples_per_epoch} samples: make it smaller "
                "(--batch-size), or give more pictures"
            )

    def _make_resident(self, resident: bool | None, progress: bool) -> bool:
        if self.device.type == "cpu":
            return True  # memory-mapped: the operating system keeps what it can
        size = self.images.nbytes
        resident = fits(self.device, size) if resident is None else resident
        if resident:
            self.images = self.images.to(self.device)
        if progress:
            how = (
                "kept on the device"
                if resident
                else "streamed to it from pinned memory: more than a third of what is free"
            )
            print(f"{len(self.images):,} images, {size / 1e9:.2f} GB, {how}")
        return resident

    @property
    def samples_per_epoch(self) -> int:
        """How many samples an epoch draws, all items or one per hand."""
        return len(self.ids) // (self.num_versions if self.one_version else 1)

    def __len__(self) -> int:
        return self.samples_per_epoch // self.batch_size

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Shuffled, augmented batches of a training epoch, this process's part, from batch number `first` on."""
        if self.keypoints is None:
            raise ValueError("this data set has no keypoints, so there is nothing to train on")
        if not (is_whole(epoch, 0) and is_whole(first, 0)):
            raise ValueError(f"epoch and first must be whole numbers from 0 on, not {epoch!r} and {first!r}")
        return self._batches([self.items(epoch, number) for number in range(first, len(self))], epoch)

    def in_order(self) -> Iterator[Batch]:
        """All items once, unchanged, in the data set's order; the last batch may be shorter.

        Several processes take one stretch each, which in the order of their ranks make up the whole.
        """
        mine = torch.arange(len(self.ids)).tensor_split(self.processes)[self.rank]
        return self._batches(mine.split(self.batch_size // self.processes), None)

    def items(self, epoch: int, number: int) -> Tensor:
        """Which items of the data set are this process's part of a training batch: (B / processes,) int64."""
        share = self.batch_size // self.processes
        begin = number * self.batch_size + self.rank * share
        return self.order(epoch)[begin : begin + share]

    def order(self, epoch: int) -> Tensor:
        """The items in the order in which a training epoch shows them, those of all processes (M,) int64."""
        if self._current is None or self._current[0] != epoch:
            self._current = epoch, self._shuffled(epoch)
        return self._current[1]

    def _shuffled(self, epoch: int) -> Tensor:
        # A generator of the CPU looks at 32 bits of its seed only.
        generator = torch.Generator().manual_seed((self.seed * SEED_STEP + epoch) % 2**32)
        order = torch.randperm(self.samples_per_epoch, generator=generator)
        if self.one_version:  # items are blocks of versions, each with the hands in the same order
            version = torch.randint(self.num_versions, order.shape, generator=generator)
            order = version * self.samples_per_epoch + order
        return order

    def _batches(self, indices: Sequence[Tensor], epoch: int | None) -> Iterator[Batch]:
        if self.resident:
            for index in indices:
                yield self._make(index, self.images.index_select(0, index.to(self.images.device)), epoch)
            return
        with ThreadPoolExecutor(1) as pool:  # gathers one batch ahead
            waiting = None
            for index in [*indices, None]:
                ahead = None if index is None else pool.submit(self._pinned, index)
                if waiting is not None:
                    yield self._make(waiting[0], waiting[1].result().to(self.device, non_blocking=True), epoch)
                waiting = (index, ahead)

    def _pinned(self, index: Tensor) -> Tensor:
        return self.images.index_select(0, index).pin_memory()

    def _make(self, index: Tensor, images: Tensor, epoch: int | None) -> Batch:
        keypoints = None if self.keypoints is None else self.keypoints[index.to(self.device)]
        from_full = self._from_full(len(index), keypoints)
        size = self.framing.size
        augmented = epoch is not None and self.augmentation is not None
        if augmented:
            count = augment.DRAWS + appearance.DRAWS * self.augmentation.disturbs
            uniform = augment.keyed_uniform(self.seed, epoch, self.ids[index], count)
            matrices = augment.affine_matrices(uniform, self.augmentation, size).to(self.device)
            from_full = compose(matrices, from_full)
            colours = augment.colour_matrices(uniform[:, 5 : augment.DRAWS], self.augmentation)
        else:
            colours = torch.eye(3, 4).expand(len(index), -1, -1)
        if augmented or self.framing.crop or images.shape[-2:] != size:
            from_source = compose(from_full, self.to_full)
            colours = augment.for_bytes(colours).to(self.device)
            images = augment.warp_and_recolour(images, from_source, colours, size, self._memory_for(images))
            if augmented and self.augmentation.disturbs:
                images = appearance.disturb(images, uniform[:, augment.DRAWS :], self.augmentation)
        else:
            images = augment.normalize(images.float().div_(255))
        if keypoints is None:
            return Batch(images, None, None, index, from_full)
        warped = warp_keypoints(keypoints, from_full)
        # What was beyond the photograph stays unseen, wherever the warp takes it.
        visible = self.labelled[index.to(self.device)] & on_image(keypoints, FULL_SIZE) & on_image(warped, size)
        return Batch(images, warped, visible, index, from_full)

    def _memory_for(self, images: Tensor) -> Tensor:
        """Memory for `warp_and_recolour`, the same for all batches."""
        if self._memory is None or self._memory.shape[1] < len(images):
            with torch.inference_mode(False):  # or training could not write into it
                self._memory = torch.empty(2, *images.shape, device=self.device)
        return self._memory

    def _from_full(self, count: int, keypoints: Tensor | None) -> Tensor:
        """Maps (count, 2, 3) from the 224 image to the network's, before augmentation."""
        if self.framing.crop:
            return self.framing.around(keypoints)
        return self.framing.whole(FULL_SIZE).to(self.device).expand(count, -1, -1)
