import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from trees import make_tree

from handpose_lib import freihand, loader
from handpose_lib.augment import Augmentation, normalize
from handpose_lib.framing import Framing, warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoints import hand_direction
from handpose_lib.loader import HandBatches, decoded_images


@pytest.fixture
def own_tree(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_root, tmp_path / "tree"))


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were decoded, in any order."""
    seen: list[Path] = []
    original = freihand.read_image
    monkeypatch.setattr(freihand, "read_image", lambda path, *more: (seen.append(path), original(path, *more))[1])
    return seen


def test_decoded_images_are_the_data_sets_own_resized(tiny_train: FreiHAND):
    images = decoded_images(tiny_train, 64)
    assert images.shape == (len(tiny_train), 3, 64, 64) and images.dtype == torch.uint8
    for index in (0, 7, len(tiny_train) - 1):
        expected = interpolate(tiny_train[index][0].data[None], size=(64, 64), mode="bilinear", antialias=True)[0]
        assert torch.equal(images[index], expected)
    assert torch.equal(decoded_images(tiny_train, 224)[3], tiny_train[3][0].data)


def test_images_are_decoded_once(own_tree: Path, decodings: list[Path]):
    dataset = FreiHAND(own_tree, "train")
    decoded_images(dataset, 32)
    assert len(decodings) == len(dataset)
    decoded_images(FreiHAND(own_tree, "train"), 32)
    assert len(decodings) == len(dataset)


def test_images_of_two_sizes_are_kept_side_by_side(own_tree: Path, decodings: list[Path]):
    dataset = FreiHAND(own_tree, "train")
    for size in (32, 48, 32, 48):
        assert decoded_images(dataset, size).shape[2:] == (size, size)
    assert len(decodings) == 2 * len(dataset)


def test_a_changed_image_renews_the_cache(own_tree: Path, decodings: list[Path]):
    dataset = FreiHAND(own_tree, "train")
    before = decoded_images(dataset, 32).clone()
    shutil.copyfile(dataset.image_path(1), dataset.image_path(0))
    os.utime(dataset.image_path(0), ns=(1, 1))
    after = decoded_images(dataset, 32)
    assert len(decodings) == 2 * len(dataset)
    assert torch.equal(after[0], before[1]) and torch.equal(after[1:], before[1:])


@pytest.mark.filterwarnings("ignore:.*was damaged")
def test_a_cache_that_was_cut_short_is_built_again(own_tree: Path):
    dataset = FreiHAND(own_tree, "train")
    whole = decoded_images(dataset, 32).clone()
    (path,) = loader.derived_folder(own_tree).glob("images_train*.npy")
    path.write_bytes(path.read_bytes()[:-1000])
    assert torch.equal(decoded_images(dataset, 32), whole)


def test_a_failed_decoding_leaves_nothing_behind(own_tree: Path):
    dataset = FreiHAND(own_tree, "train")
    dataset.image_path(5).write_bytes(b"no image")
    with pytest.raises(ValueError, match=dataset.image_path(5).name):
        decoded_images(dataset, 32)
    assert not list(loader.derived_folder(own_tree).glob("*images*.npy"))


def test_two_that_ask_at_once_decode_once(own_tree: Path, decodings: list[Path]):
    dataset = FreiHAND(own_tree, "train")
    threads = [threading.Thread(target=decoded_images, args=(dataset, 32)) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(decodings) == len(dataset)


def test_in_order_gives_every_item_once_unchanged(tiny_train: FreiHAND):
    batches = HandBatches(tiny_train, Framing(64), batch_size=7, augmentation=Augmentation())
    got = list(batches.in_order())
    assert torch.equal(torch.cat([b.index for b in got]), torch.arange(len(tiny_train)))
    images = torch.cat([b.images for b in got])
    assert torch.allclose(images, normalize(decoded_images(tiny_train, 64).float() / 255))
    keypoints = torch.cat([b.keypoints for b in got])
    assert np.allclose(keypoints.numpy(), (tiny_train.keypoints + 0.5) * 64 / 224 - 0.5, atol=1e-4)


def test_an_epoch_shows_every_item_once_in_an_order_of_its_own(tiny_train: FreiHAND):
    batches = HandBatches(tiny_train, Framing(32), batch_size=5, seed=3)
    epochs = [torch.cat([b.index for b in batches.epoch(e)]) for e in (0, 1, 0)]
    assert all(len(set(order.tolist())) == len(order) == 5 * len(batches) for order in epochs)
    assert torch.equal(epochs[0], epochs[2]) and not torch.equal(epochs[0], epochs[1])


def test_order_and_augmentation_depend_on_the_seed_and_on_the_epoch(tiny_train: FreiHAND):
    shown = []
    for seed, epoch in ((3, 0), (4, 0), (3, 1)):
        batches = list(HandBatches(tiny_train, Framing(32), 4, Augmentation(), seed=seed).epoch(epoch))
        order = torch.cat([batch.index for batch in batches])
        shown.append((order, dict(zip(order.tolist(), torch.cat([b.keypoints for b in batches]), strict=True))))
    for (order, keypoints), (other_order, others) in ((shown[0], shown[1]), (shown[0], shown[2]), (shown[1], shown[2])):
        assert not torch.equal(order, other_order)
        both = keypoints.keys() & others.keys()
        assert len(both) > 4 and not any(torch.allclose(keypoints[i], others[i], atol=0.1) for i in both)


def test_no_order_comes_twice_in_many_epochs_of_many_seeds():
    states = {(seed * loader.SEED_STEP + epoch) % 2**32 for seed in range(200) for epoch in range(1000)}
    assert len(states) == 200 * 1000


def test_one_version_shows_each_hand_once_in_versions_that_change(tiny_train: FreiHAND):
    batches = HandBatches(tiny_train, Framing(32), batch_size=5, one_version=True)
    hands = len(tiny_train) // 4
    assert batches.samples_per_epoch == hands
    versions = set()
    for epoch in range(4):
        index = torch.cat([b.index for b in batches.epoch(epoch)]).numpy()
        assert len(set(tiny_train.hand_ids[index])) == len(index)
        versions |= set(tiny_train.version_names[index])
    assert versions == set(tiny_train.versions)


def test_a_samples_augmentation_depends_on_neither_batch_size_nor_place(tiny_train: FreiHAND):
    def by_item(batch_size: int) -> dict[int, torch.Tensor]:
        batches = HandBatches(tiny_train, Framing(32), batch_size, Augmentation(), seed=1)
        return {int(i): image for b in batches.epoch(4) for i, image in zip(b.index, b.images, strict=True)}

    small, large = by_item(3), by_item(8)
    for index in small.keys() & large.keys():
        assert torch.allclose(small[index], large[index], atol=1e-5)


def test_an_epoch_can_start_at_any_batch(tiny_train: FreiHAND):
    batches = HandBatches(tiny_train, Framing(32), 4, Augmentation())
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, first=3))
    assert len(rest) == len(whole) - 3
    assert torch.equal(rest[0].images, whole[3].images) and torch.equal(rest[0].index, whole[3].index)


def test_augmented_keypoints_stay_on_what_they_marked(tiny_train: FreiHAND):
    # The tree's images have a white square on each keypoint.
    settings = Augmentation(brightness=0, contrast=0, saturation=0, tint=0, shift=0.3)
    batches = HandBatches(tiny_train, Framing(224), 8, settings)
    batch = next(batches.epoch(0))
    for image, keypoints, visible in zip(batch.images, batch.keypoints, batch.visible, strict=True):
        x, y = keypoints[visible].round().long().clamp(0, 223).T
        assert (image[:, y, x] > 1.2).float().mean() > 0.97  # normalised white is 2
    assert not batch.visible.all()  # and some left the image, which is said


def test_a_set_without_labels_gives_images_but_no_training_epoch(tiny_root: Path):
    batches = HandBatches(FreiHAND(tiny_root, "evaluation"), Framing(32), 2)
    batch = next(batches.in_order())
    assert batch.keypoints is None and batch.visible is None and batch.images.shape == (2, 3, 32, 32)
    with pytest.raises(ValueError, match="no keypoints"):
        next(batches.epoch(0))


def test_a_batch_larger_than_the_set_is_an_error(tiny_val: FreiHAND):
    with pytest.raises(ValueError, match="larger than an epoch"):
        HandBatches(tiny_val, Framing(32), batch_size=1000)


@pytest.mark.parametrize("augmentation", [None, Augmentation(brightness=0, contrast=0, saturation=0, tint=0)])
def test_cropped_hands_keep_image_and_keypoints_together(tiny_train: FreiHAND, augmentation: Augmentation | None):
    """A white square marks each keypoint of the tiny trees: it must be white where the batch says the keypoint is."""
    batches = HandBatches(tiny_train, Framing(64, crop=0.5, upright=True), 8, augmentation, source_size=224)
    batch = next(batches.in_order() if augmentation is None else batches.epoch(0))
    images = batch.images * 0.25 + 0.5
    for image, points, visible in zip(images, batch.keypoints, batch.visible, strict=True):
        x, y = points[visible].round().long().clamp(0, 63).T
        assert image[:, y, x].min(0).values.mean() > 0.8
    full = torch.from_numpy(tiny_train.keypoints[batch.index])
    assert torch.allclose(warp_keypoints(full, batch.from_full), batch.keypoints, atol=1e-3)


def test_crops_have_the_wanted_share_and_point_up(tiny_train: FreiHAND):
    batch = next(HandBatches(tiny_train, Framing(64, crop=0.5, upright=True), 8, source_size=96).in_order())
    low, high = batch.keypoints.amin(1), batch.keypoints.amax(1)
    assert torch.allclose((high - low).amax(1), torch.tensor(32.0), atol=1e-2)
    assert torch.allclose((high + low) / 2, torch.tensor(31.5), atol=1e-2)
    direction = hand_direction(batch.keypoints)
    assert direction[:, 0].abs().max() < 1e-2 and (direction[:, 1] < 0).all()


def test_batches_made_in_inference_mode_leave_memory_that_training_can_use(tiny_train: FreiHAND):
    batches = HandBatches(tiny_train, Framing(32), 8, Augmentation())
    with torch.inference_mode():
        seen = next(batches.epoch(0))
    assert torch.equal(next(batches.epoch(0)).images, seen.images)


def test_a_set_without_keypoints_can_not_be_cropped(tmp_path: Path):
    root = make_tree(tmp_path / "tree", 0, evaluation=3, evaluation_labels=False)
    with pytest.raises(ValueError, match="crop must be 0"):
        HandBatches(FreiHAND(root, "evaluation"), Framing(32, crop=0.5), 2)


def test_a_keypoint_beyond_the_photograph_stays_unseen_where_the_warp_brings_it_in(tiny_train: FreiHAND, monkeypatch):
    keypoints = tiny_train.keypoints.copy()
    keypoints[:, 0] = (-10, 100)
    monkeypatch.setattr(tiny_train, "keypoints", keypoints)
    batch = next(HandBatches(tiny_train, Framing(64, crop=0.3), 8).in_order())
    assert ((batch.keypoints[:, 0] > 0) & (batch.keypoints[:, 0] < 63)).all(), "the crop shows its place"
    assert not batch.visible[:, 0].any() and batch.visible[:, 1:].any()


def test_streamed_batches_are_those_of_images_that_live_on_the_device(tiny_train: FreiHAND, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)  # which needs a GPU
    resident, streamed = (HandBatches(tiny_train, Framing(32), 5, Augmentation(), seed=2) for _ in range(2))
    streamed.resident = False
    for walk in (lambda batches: batches.epoch(1), lambda batches: batches.in_order()):
        pairs = list(zip(walk(resident), walk(streamed), strict=True))
        assert len(pairs) > 3
        for one, other in pairs:
            assert torch.equal(one.index, other.index) and torch.equal(one.images, other.images)
            assert torch.equal(one.keypoints, other.keypoints) and torch.equal(one.visible, other.visible)


# --- several processes, and where the images live ---------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 3])
def test_the_parts_of_all_processes_in_order_are_the_whole(tiny_train: FreiHAND, processes: int):
    whole = HandBatches(tiny_train, Framing(32), 6, Augmentation(), seed=4)
    parts = [
        HandBatches(tiny_train, Framing(32), 6, Augmentation(), seed=4, rank=rank, processes=processes, progress=False)
        for rank in range(processes)
    ]
    for batch, *shares in zip(whole.epoch(1), *(part.epoch(1) for part in parts), strict=True):
        assert all(len(share.index) == 6 // processes for share in shares)
        assert torch.equal(torch.cat([share.index for share in shares]), batch.index)
        assert torch.allclose(torch.cat([share.images for share in shares]), batch.images, atol=1e-5)
    stretches = [torch.cat([batch.index for batch in part.in_order()]) for part in parts]
    assert torch.equal(torch.cat(stretches), torch.arange(len(tiny_train)))
    assert max(map(len, stretches)) - min(map(len, stretches)) <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size 0 must be at least 1"),
        ({"batch_size": 4, "rank": 2, "processes": 2}, "rank 2 one of 2"),
        ({"batch_size": 4, "rank": -1, "processes": 2}, "rank -1 one of 2"),
        ({"batch_size": 5, "processes": 2}, "a batch of 5 can't be shared by 2 processes"),
    ],
)
def test_batches_that_no_process_could_take_are_refused(tiny_train: FreiHAND, options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        HandBatches(tiny_train, Framing(32), **options)


def test_images_may_fill_a_third_of_what_is_free_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (150, 1000))
    assert loader.fits(torch.device("cuda"), 50) and not loader.fits(torch.device("cuda"), 51)
    assert loader.fits(torch.device("mps"), 10**15)  # which shares the computer's memory
    assert not loader.fits(torch.device("cpu"), 1)


@pytest.mark.parametrize("resident", [True, False, None])
def test_images_go_to_the_device_where_they_may_live_there(tiny_train: FreiHAND, monkeypatch, capsys, resident):
    monkeypatch.setattr(loader, "fits", lambda device, size: size < 0)  # for None
    batches = HandBatches(tiny_train, Framing(32), 4, device="meta", resident=resident)  # a device without memory
    assert batches.resident == bool(resident)
    assert batches.images.device.type == ("meta" if resident else "cpu")
    assert ("kept on the device" if resident else "streamed to it") in capsys.readouterr().out


@pytest.mark.parametrize(("rank", "progress"), [(0, True), (0, False), (1, True)])
def test_one_process_alone_speaks(tiny_train: FreiHAND, monkeypatch, capsys, rank: int, progress: bool):
    asked, original = [], loader.decoded_images
    monkeypatch.setattr(
        loader, "decoded_images", lambda dataset, size, bar: asked.append(bar) or original(dataset, size, False)
    )
    options = {"rank": rank, "processes": 2, "device": "meta", "resident": False, "progress": progress}
    HandBatches(tiny_train, Framing(32), 4, **options)
    speaks = progress and rank == 0
    assert asked == [speaks] and bool(capsys.readouterr().out) == speaks


def test_all_batches_are_made_in_the_same_memory(tiny_train: FreiHAND):
    batches = HandBatches(tiny_train, Framing(32), 4, Augmentation())
    walk = batches.epoch(0)
    next(walk)
    first = batches._memory
    next(walk)
    assert batches._memory is first and first.shape[1] == 4
