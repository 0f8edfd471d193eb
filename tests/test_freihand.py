import json
import os
import pickle
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2
from trees import background, make_hands, make_tree, write_json

from handpose_lib import annotations
from handpose_lib.freihand import VERSIONS, FreiHAND, project, split_rows
from handpose_lib.storage import derived_folder

TRUE_SIZE = 32_560


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Seven hands in four versions (5 train, 1 val, 1 test), three labelled evaluation images."""
    return make_tree(tmp_path / "tree", hands=7, evaluation=3)


def edit(path: Path, change) -> None:
    entries = json.loads(path.read_text())
    change(entries)
    write_json(path, entries)


# --- projection and splits --------------------------------------------------------------------------------------------


def test_projection_agrees_with_the_pinhole_equations_in_numpy_and_torch():
    K, xyz = make_hands(6)
    fx, fy, cx, cy = K[:, 0, 0, None], K[:, 1, 1, None], K[:, 0, 2, None], K[:, 1, 2, None]
    expected = np.stack([fx * xyz[..., 0] / xyz[..., 2] + cx, fy * xyz[..., 1] / xyz[..., 2] + cy], -1)
    found = project(xyz, K)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    in_torch = project(torch.tensor(xyz), torch.tensor(K))
    assert isinstance(in_torch, torch.Tensor)
    np.testing.assert_allclose(in_torch.numpy(), expected, atol=1e-9)


def test_projection_takes_any_leading_dimensions_any_number_of_points_and_skew():
    K, xyz = make_hands(6)
    K[:, 0, 1] = 3.0
    whole = project(xyz, K)
    homogeneous = np.einsum("nij,npj->npi", K, xyz)
    np.testing.assert_allclose(whole, homogeneous[..., :2] / homogeneous[..., 2:])
    np.testing.assert_allclose(project(xyz[0], K[0]), whole[0])
    np.testing.assert_allclose(project(xyz[0, :1], K[0]), whole[0, :1])
    np.testing.assert_allclose(project(xyz.reshape(2, 3, 21, 3), K.reshape(2, 3, 3, 3)).reshape(6, 21, 2), whole)


@pytest.mark.parametrize("z", [0.0, -0.3, float("nan")])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_projection_names_the_first_point_that_is_not_in_front(z, kind):
    K, xyz = make_hands(6)
    xyz[3, 20, 2] = xyz[4, 7, 2] = z
    with pytest.raises(ValueError, match=r"xyz\[3, 20\] has z = "):
        project(kind(xyz), kind(K))


def test_projection_is_differentiable():
    K, xyz = make_hands(1)
    points = torch.tensor(xyz, requires_grad=True)
    project(points, torch.tensor(K)).sum().backward()
    assert points.grad.abs().sum() > 0


def test_the_true_size_is_split_at_the_published_rows():
    assert split_rows(TRUE_SIZE, "train") == range(27_440)
    assert split_rows(TRUE_SIZE, "val") == range(27_440, 30_000)
    assert split_rows(TRUE_SIZE, "test") == range(30_000, 32_560)
    assert split_rows(3960, "evaluation") == range(3960)


@pytest.mark.parametrize("hands", [*range(1, 60), 400, 3960, 10_000, TRUE_SIZE - 1])
def test_splits_cover_all_hands_once_and_have_one_each_from_three_on(hands):
    parts = [split_rows(hands, split) for split in ("train", "val", "test")]
    assert [row for part in parts for row in part] == list(range(hands))
    if hands >= 3:
        assert min(map(len, parts)) >= 1
        assert abs(len(parts[0]) - hands * 27_440 / TRUE_SIZE) <= 2
    else:
        assert [len(part) for part in parts] == [hands, 0, 0]


@pytest.mark.parametrize(("hands", "split"), [(5, "training"), (0, "train")])
def test_unknown_splits_and_empty_sets_are_errors(hands, split):
    with pytest.raises(ValueError, match=r"train, val, test, evaluation|at least one hand"):
        split_rows(hands, split)


# --- items ------------------------------------------------------------------------------------------------------------


def test_an_item_has_the_documented_types(tree):
    image, target = FreiHAND(tree)[0]
    assert type(image) is tv_tensors.Image and image.dtype == torch.uint8 and image.shape == (3, 224, 224)
    assert type(target["keypoints"]) is tv_tensors.KeyPoints and target["keypoints"].canvas_size == (224, 224)
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in target.items() if hasattr(value, "shape")}
    assert shapes == {
        "keypoints": ((21, 2), torch.float32),
        "xyz": ((21, 3), torch.float32),
        "K": ((3, 3), torch.float32),
    }
    assert (target["id"], target["version"]) == (0, "gs")
    assert type(target["id"]) is int and type(target["version"]) is str


def test_images_are_rgb_and_belong_to_their_id_and_keypoints_sit_on_them(tree):
    for split in ("train", "val", "test"):
        for image, target in FreiHAND(tree, split):
            corner = image[:, :3, :3].float().mean((1, 2))
            torch.testing.assert_close(corner, torch.tensor(background(target["id"])).float(), atol=3, rtol=0)
            x, y = target["keypoints"].round().long().T
            assert image[:, y, x].min() > 200  # trees.py draws a white square on each keypoint


def test_keypoints_are_the_projection_rounded_once(tree):
    data = FreiHAND(tree, "test")
    K, xyz = (np.array(json.loads((tree / f"training_{name}.json").read_text())) for name in ("K", "xyz"))
    np.testing.assert_array_equal(data.keypoints, project(xyz, K)[data.hand_ids].astype(np.float32))
    np.testing.assert_array_equal(data.xyz, xyz[data.hand_ids].astype(np.float32))
    np.testing.assert_array_equal(data.K, K[data.hand_ids].astype(np.float32))


def test_ids_are_row_plus_hands_times_version_and_in_order(tree):
    data = FreiHAND(tree, "train")
    assert len(data) == 20 and data.num_hands == 7 and data.versions == VERSIONS
    numbers = np.array([VERSIONS.index(version) for version in data.version_names])
    np.testing.assert_array_equal(data.ids, data.hand_ids + 7 * numbers)
    assert (np.diff(data.ids) > 0).all()
    assert data.ids.dtype == data.hand_ids.dtype == np.int64
    assert data.image_path(19) == tree / "training" / "rgb" / "00000025.jpg"
    assert data[-1][1]["id"] == 25


def test_four_versions_of_a_hand_share_a_split(tree):
    hands = [set(FreiHAND(tree, split).hand_ids.tolist()) for split in ("train", "val", "test")]
    assert hands == [{0, 1, 2, 3, 4}, {5}, {6}]
    for split in ("train", "val", "test"):
        data = FreiHAND(tree, split)
        assert (np.unique(data.hand_ids, return_counts=True)[1] == 4).all()


def test_versions_can_be_chosen_in_any_order(tree):
    assert FreiHAND(tree, versions=("auto", "gs")).versions == ("gs", "auto")
    only = FreiHAND(tree, "val", versions="sample")
    assert only.ids.tolist() == [5 + 7 * 2] and only[0][1]["version"] == "sample"


def test_transforms_move_image_and_keypoints_together(tree):
    plain, flipped = FreiHAND(tree), FreiHAND(tree, transforms=v2.RandomHorizontalFlip(p=1))
    (image, target), (mirrored, moved) = plain[3], flipped[3]
    torch.testing.assert_close(torch.flip(image, [2]), mirrored)
    torch.testing.assert_close(moved["keypoints"][:, 0].as_subclass(torch.Tensor), 223 - target["keypoints"][:, 0])
    torch.testing.assert_close(moved["xyz"], target["xyz"])
    assert moved["keypoints"].canvas_size == (224, 224)


def test_changing_an_item_leaves_the_data_set_as_it_was(tree):
    data = FreiHAND(tree)
    _, target = data[0]
    for name in ("keypoints", "xyz", "K"):
        target[name].zero_()
    assert data[0][1]["keypoints"].min() > 0 and data[0][1]["xyz"][0, 2] > 0 and data[0][1]["K"][2, 2] == 1


def test_loader_workers_and_pickle_see_the_same_items(tree):
    data = FreiHAND(tree, "val", versions="gs")
    again = pickle.loads(pickle.dumps(data))
    torch.testing.assert_close(again[0][0], data[0][0])
    ((image, target),) = DataLoader(data, batch_size=None, num_workers=1)
    torch.testing.assert_close(torch.as_tensor(image), torch.as_tensor(data[0][0]))
    assert target["id"] == 5


def test_occluded_is_in_the_item_where_the_file_is_there(tmp_path):
    data = FreiHAND(make_tree(tmp_path / "o", hands=4, occluded=True))
    flags = np.array(json.loads((data.root / "training_occluded.json").read_text()))
    assert data.occluded.dtype == bool and flags.any()
    np.testing.assert_array_equal(data.occluded, flags[data.hand_ids])
    assert data[1][1]["occluded"].tolist() == flags[1].tolist()


@pytest.mark.parametrize("labels", [True, False])
def test_evaluation_opens_with_and_without_its_labels(tmp_path, labels):
    root = make_tree(tmp_path / "e", hands=0, evaluation=4, evaluation_labels=labels)
    data = FreiHAND(root, "evaluation", versions="gs")
    assert len(data) == 4 and data.versions == ("evaluation",) and data[3][1]["version"] == "evaluation"
    assert ("keypoints" in data[0][1], "xyz" in data[0][1]) == (labels, labels)
    assert (data.keypoints is None, data.xyz is None) == (not labels, not labels)
    assert data.image_path(3) == root / "evaluation" / "rgb" / "00000003.jpg"


def test_the_representation_says_what_it_is(tree):
    text = repr(FreiHAND(tree, "val"))
    assert "val" in text and "gs, hom, sample, auto" in text and str(tree) in text


# --- versions that are there, in part, or not -------------------------------------------------------------------------


def test_a_version_without_images_is_left_out_and_said_so(tmp_path):
    root = make_tree(tmp_path / "v", hands=4, versions=("gs", "sample"))
    with pytest.warns(UserWarning, match=r"rgb holds no image of version hom, auto: left out") as caught:
        data = FreiHAND(root)
    assert caught[0].filename == __file__
    assert data.versions == ("gs", "sample") and set(data.version_names) == {"gs", "sample"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FreiHAND(root, versions=("gs", "sample"))


def test_asking_only_for_versions_that_are_not_there_is_an_error(tmp_path):
    root = make_tree(tmp_path / "v", hands=4, versions=("gs",))
    with pytest.raises(FileNotFoundError, match=r"no image of version hom, auto"):
        FreiHAND(root, versions=("hom", "auto"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_version_with_missing_images_is_an_error_that_names_the_first(tree, split):
    for image_id in (7 + 6, 7 + 2):  # version hom, hands 6 (test) and 2 (train)
        (tree / "training" / "rgb" / f"{image_id:08d}.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"00000009\.jpg.*first of 2 missing images of version 'hom'"):
        FreiHAND(tree, split)
    assert FreiHAND(tree, split, versions=("gs", "auto")).versions == ("gs", "auto")


def test_a_missing_image_is_noticed_by_a_later_opening(tree):
    FreiHAND(tree)
    (tree / "training" / "rgb" / "00000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"00000001\.jpg"):
        FreiHAND(tree)


def test_a_missing_evaluation_image_is_an_error(tree):
    (tree / "evaluation" / "rgb" / "00000002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"00000002\.jpg"):
        FreiHAND(tree, "evaluation")


def test_images_beyond_the_annotations_are_an_error_and_other_files_are_not(tree):
    folder = tree / "training" / "rgb"
    for stray in (".DS_Store", "Thumbs.db", "00000099.png", "notes123.jpg"):
        (folder / stray).write_bytes(b"")
    assert len(FreiHAND(tree)) == 20
    (folder / "00032560.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"00032560\.jpg.*7 entries.*00000027\.jpg"):
        FreiHAND(tree)


@pytest.mark.parametrize("versions", ["green", ("gs", "homo"), ()])
def test_unknown_versions_are_errors_that_list_the_known_ones(tree, versions):
    with pytest.raises(ValueError, match="choose from gs, hom, sample, auto"):
        FreiHAND(tree, versions=versions)


def test_an_unknown_split_is_an_error_that_lists_the_known_ones(tree):
    with pytest.raises(ValueError, match="unknown split 'training': choose one of train, val, test, evaluation"):
        FreiHAND(tree, "training")


def test_a_part_that_two_hands_do_not_have_is_an_error(tmp_path):
    root = make_tree(tmp_path / "two", hands=2)
    assert len(FreiHAND(root)) == 8
    with pytest.raises(ValueError, match=r"2 hands, too few for a val part: it takes 3"):
        FreiHAND(root, "val")


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_root_that_is_not_there_is_an_error_that_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not there.*handpose data freihand"):
        FreiHAND(tmp_path / "nowhere")


def test_a_root_one_level_off_gets_a_hint(tree):
    for wrong in (tree.parent, tree / "training"):
        with pytest.raises(FileNotFoundError, match=rf"training_K\.json is not there: did you mean {tree}\?"):
            FreiHAND(wrong)


@pytest.mark.parametrize("name", ["training_K.json", "training_xyz.json", "training/rgb"])
def test_a_missing_part_is_named(tree, name):
    (tree / name).rename(tree / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"{name} is not there.*unpack it again"):
        FreiHAND(tree)


@pytest.mark.parametrize("name", ["training_K.json", "training_xyz.json"])
@pytest.mark.parametrize("keep", [0, 1, 150])
def test_truncated_json_is_named_with_its_position(tree, name, keep):
    (tree / name).write_text((tree / name).read_text()[:keep])
    with pytest.raises(ValueError, match=rf"{name} breaks off .* character \d+ of {keep} .*unpack it again"):
        FreiHAND(tree)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{}", b"[]", b"3"])
def test_files_that_hold_something_else_are_named(tree, content):
    (tree / "training_xyz.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"training_xyz\.json is not "):
        FreiHAND(tree)


def test_lengths_that_differ_are_told_apart(tree):
    edit(tree / "training_xyz.json", lambda entries: entries.pop())
    message = r"training_xyz\.json has 6 entries, training_K\.json 7: the data set is incomplete.*unpack it again"
    with pytest.raises(ValueError, match=message):
        FreiHAND(tree)


def spoil_ragged(entries):
    entries[4].pop()


def spoil_coordinate(entries):
    entries[4][3].pop()


def spoil_text(entries):
    entries[4][3][0] = "0.1"


def spoil_null(entries):
    entries[4][3] = None


def spoil_scalar(entries):
    entries[4] = 1.0


@pytest.mark.parametrize("spoil", [spoil_ragged, spoil_coordinate, spoil_text, spoil_null, spoil_scalar])
def test_an_entry_of_the_wrong_form_is_named(tree, spoil):
    edit(tree / "training_xyz.json", spoil)
    with pytest.raises(ValueError, match=r"training_xyz\.json, entry 4 is .*not 21×3 numbers"):
        FreiHAND(tree)


def test_a_file_of_the_wrong_form_throughout_is_named_at_its_first_entry(tree):
    (tree / "training_K.json").write_text((tree / "training_xyz.json").read_text())
    with pytest.raises(ValueError, match=r"training_K\.json, entry 0 is 21×3, not 3×3 numbers"):
        FreiHAND(tree)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["training_K.json", "training_xyz.json"])
def test_nan_and_infinity_are_named(tree, name, value):
    edit(tree / name, lambda entries: entries[4][2].__setitem__(1, value))
    with pytest.raises(ValueError, match=rf"{name}, entry 4 holds NaN or infinity \(at \[2, 1\]\)"):
        FreiHAND(tree)


@pytest.mark.parametrize("z", [0, -0.6])
def test_a_point_behind_the_camera_is_named(tree, z):
    edit(tree / "training_xyz.json", lambda entries: entries[6][8].__setitem__(2, z))
    with pytest.raises(ValueError, match=r"training_xyz\.json, entry 6, keypoint 8 \(index_tip\): z is"):
        FreiHAND(tree, "train")  # entry 6 is of the test part


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("xyz", (3, 5), [1e38, 0.0, 0.7], r"entry 3, keypoint 5 \(index_mcp\): it is 1e\+38 m away"),
        ("xyz", (3, 5), [1e38, 1e38, 1e39], "keypoint 5 .*m away"),
        ("xyz", (3, 5), [10.0, -20.0, 700.0], "are these metres"),
        ("xyz", (3, 5), [True, 0.0, 0.7], "entry 3 holds true or false"),
        ("xyz", (3, 5), [0.0, False, 0.7], "entry 3 holds true or false"),
        ("xyz", (3, 5), [1.0, 0.0, 1e-9], "keypoint 5 .*px off"),
        ("xyz", (3, 5), [0.0, 1.2, 0.7], "entry 3 is no hand, its keypoints span 1.2.* m; are these metres"),
        ("xyz", (3, slice(None)), [[0.0, 0.0, 0.7]] * 21, "entry 3 is no hand, all are in one place"),
        ("K", (2, 1), [3.0, 500, 112], "entry 2 is not a camera matrix: .* what is below them 0"),
        ("K", (2, 0), [500.0, 600, 112], "entry 2 is not a camera matrix"),
        ("K", (2, 0), [1e30, 0, 112], "entry 2 is not a camera matrix"),
        ("K", (2, 0), [500.0, 0, 1e9], "entry 2 is not a camera matrix"),
        ("K", (2, 0), [500.0, 0, True], "entry 2 holds true or false"),
        ("occluded", (3, 5), -7.5, "entry 3, keypoint 5 .* is -7.5, it must be 0 or 1"),
        ("occluded", (3, 5), 1e300, "must be 0 or 1"),
        ("occluded", (3, 5), 2, "must be 0 or 1"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused_by_name(tmp_path, name, place, value, words):
    root = make_tree(tmp_path / "tree", hands=12, occluded=True)
    FreiHAND(root)
    edit(root / f"training_{name}.json", lambda entries: entries[place[0]].__setitem__(place[1], value))
    with pytest.raises(ValueError, match=rf"training_{name}\.json, {'' if 'entry' in words else '.*'}{words}"):
        FreiHAND(root)


def test_a_hand_in_centimetres_is_noticed_though_its_pixels_are_right(tmp_path):
    root = make_tree(tmp_path / "tree", hands=12)
    edit(root / "training_xyz.json", lambda hands: hands.__setitem__(0, (100 * np.array(hands[0])).tolist()))
    with pytest.raises(
        ValueError, match=r"training_xyz\.json, entry 0 is no hand, its keypoints span .* are these metres"
    ):
        FreiHAND(root)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_what_is_no_file_in_the_place_of_an_image_is_one_sentence(tree):
    data = FreiHAND(tree)
    for number, make in ((0, Path.mkdir), (1, lambda path: path.symlink_to(path))):
        path = data.image_path(number)
        path.unlink()
        make(path)
        with pytest.raises(OSError, match=rf"{path.name} can't be read \(.*\): the data set is incomplete"):
            data[number]


def test_a_number_in_other_digits_is_no_image(tree):
    path = FreiHAND(tree).image_path(1)
    path.rename(path.with_name("\u0660" * 7 + "\u0661.jpg"))
    with pytest.raises(FileNotFoundError, match=r"00000001\.jpg is not there, the first of 1 missing"):
        FreiHAND(tree)


def test_every_truncation_of_an_image_is_noticed(tree):
    data = FreiHAND(tree)
    path = data.image_path(1)
    whole = path.read_bytes()
    for keep in (0, 1, 2, 10, *range(100, len(whole), 101), len(whole) - 2, len(whole) - 1):
        for tail in (b"", bytes(len(whole) - keep)):  # cut off, or never written
            path.write_bytes(whole[:keep] + tail)
            with pytest.raises(ValueError, match=r"00000001\.jpg .*is not a complete JPEG: the data set is .* unpack"):
                data[1]
    path.write_bytes(whole + b"\r\n")
    assert data[1][1]["id"] == 1


def test_an_image_of_another_size_or_kind_is_named(tree):
    data = FreiHAND(tree)
    cv2.imwrite(str(data.image_path(0)), np.zeros((128, 225, 3), np.uint8))
    data.image_path(1).write_text("hello")
    data.image_path(2).unlink()
    with pytest.raises(ValueError, match=r"00000000\.jpg is 225×128, not 224×224"):
        data[0]
    with pytest.raises(ValueError, match=r"00000001\.jpg .*not a complete JPEG"):
        data[1]
    with pytest.raises(FileNotFoundError, match=r"00000002\.jpg is not there"):
        data[2]


def test_a_grey_jpeg_becomes_three_channels(tree):
    data = FreiHAND(tree)
    cv2.imwrite(str(data.image_path(0)), np.full((224, 224), 77, np.uint8))
    assert data[0][0].shape == (3, 224, 224) and (data[0][0] == 77).all()


# --- the cached annotations -------------------------------------------------------------------------------------------


@pytest.fixture
def parsings(monkeypatch) -> list:
    """Grows by one with each parsing of the JSON files."""
    seen, real = [], annotations._parse
    monkeypatch.setattr(annotations, "_parse", lambda sources: seen.append(sources) or real(sources))
    return seen


def test_annotations_are_parsed_once_for_all_splits(tree, parsings):
    first = FreiHAND(tree)
    again, _ = FreiHAND(tree), FreiHAND(tree, "test")
    assert len(parsings) == 1
    np.testing.assert_array_equal(first.keypoints, again.keypoints)
    FreiHAND(tree, "evaluation")
    assert len(parsings) == 2


def test_changed_annotations_are_read_again(tree, parsings):
    before = FreiHAND(tree).K[0, 0, 0]
    edit(tree / "training_K.json", lambda entries: entries[0][0].__setitem__(0, 123.0))
    assert FreiHAND(tree).K[0, 0, 0] == 123.0 != before
    os.utime(tree / "training_xyz.json", ns=(1, 1))
    FreiHAND(tree)
    assert len(parsings) == 3


def test_labels_that_are_published_later_are_seen(tmp_path):
    root = make_tree(tmp_path / "e", hands=0, evaluation=3, evaluation_labels=False)
    assert FreiHAND(root, "evaluation").keypoints is None
    make_tree(root, hands=0, evaluation=3)
    assert FreiHAND(root, "evaluation").keypoints.shape == (3, 21, 2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", "cut", "pickle", "other"])
def test_an_unreadable_cache_is_built_anew(tree, parsings, content):
    expected = FreiHAND(tree).keypoints
    cache = derived_folder(tree) / "annotations_training.npz"
    if content == "cut":
        cache.write_bytes(cache.read_bytes()[:-100])
    elif content == "pickle":
        np.savez(cache, fingerprint=np.array(object(), dtype=object))
    elif content == "other":
        np.savez(cache, other=np.zeros(3))
    else:
        cache.write_bytes(content)
    np.testing.assert_array_equal(FreiHAND(tree).keypoints, expected)
    assert len(parsings) == 2
    FreiHAND(tree)
    assert len(parsings) == 2


def test_nothing_is_cached_of_annotations_that_are_wrong(tree):
    edit(tree / "training_xyz.json", spoil_ragged)
    for _ in range(2):
        with pytest.raises(ValueError, match="entry 4"):
            FreiHAND(tree)
    assert not (derived_folder(tree) / "annotations_training.npz").exists()


# --- real images ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*left out")
def test_the_real_sample_opens_in_every_split(real_root):
    parts = [FreiHAND(real_root, split) for split in ("train", "val", "test")]
    assert [part.ids.tolist() for part in parts] == [[0, 1, 2], [3], [4]]
    assert parts[0].versions == ("gs",)
    for part in parts:
        for image, target in part:
            assert image.shape == (3, 224, 224)
            assert ((target["keypoints"] > 0) & (target["keypoints"] < 223)).all()


@pytest.mark.filterwarnings("ignore:.*left out")
def test_real_keypoints_lie_on_skin_and_swapped_or_mirrored_ones_do_not(real_root):
    """Rows 0, 1, 3, 4: within 3 px of each joint something is redder than the green screen (row 2's label is wrong)."""
    shares = []
    for split in ("train", "val", "test"):
        for image, target in FreiHAND(real_root, split):
            redness = image[0].float() - image[1].float()
            skin = torch.nn.functional.max_pool2d(redness[None], 7, stride=1, padding=3)[0] > 8
            x, y = target["keypoints"].round().long().T
            if target["id"] != 2:
                guesses = ((x, y), (y, x), (223 - x, y), (x, 223 - y))
                shares.append([skin[v, u].float().mean().item() for u, v in guesses])
    right, *wrong = np.array(shares).T
    assert len(right) == 4 and (right == 1).all()
    assert max(guess.mean() for guess in wrong) < 0.9


def test_the_real_evaluation_sample_opens_without_labels(real_root):
    data = FreiHAND(real_root, "evaluation")
    assert len(data) == 16 and data.keypoints is None
    for image, target in data:
        assert image.shape == (3, 224, 224) and set(target) == {"K", "id", "version"}


@pytest.mark.parametrize(
    ("content", "message"),
    [("[" * 100_000, "can't be read"), ("[" + "9" * 5000 + "]", "can't be read")],
    ids=["deep", "long"],
)
def test_absurd_json_is_an_error_that_names_the_file(tmp_path: Path, content: str, message: str):
    root = make_tree(tmp_path / "tree", hands=3)
    (root / "training_xyz.json").write_text(content)
    with pytest.raises(ValueError, match=rf"training_xyz\.json.*{message}"):
        FreiHAND(root)


def test_a_camera_that_is_none_is_an_error_that_names_the_entry(tmp_path: Path):
    root = make_tree(tmp_path / "tree", hands=3)
    cameras = json.loads((root / "training_K.json").read_text())
    cameras[1] = [[0, 0, 0]] * 3
    (root / "training_K.json").write_text(json.dumps(cameras))
    with pytest.raises(ValueError, match=r"training_K\.json, entry 1 is not a camera matrix"):
        FreiHAND(root)


def test_a_point_that_projects_to_infinity_is_an_error_that_names_the_entry(tmp_path: Path):
    root = make_tree(tmp_path / "tree", hands=3)
    points = json.loads((root / "training_xyz.json").read_text())
    points[2][5][2] = 1e-320
    (root / "training_xyz.json").write_text(json.dumps(points))
    with pytest.raises(ValueError, match=r"training_xyz\.json, entry 2, keypoint 5 .*its projection"):
        FreiHAND(root)
