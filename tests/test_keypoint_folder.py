"""Your own pictures with 2D labels: three kinds of files, gaps, sizes, groups, and every engine that takes them."""

import ast
import csv
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from dots import dot_predictor, draw_dots, hand_of_dots
from matplotlib.collections import LineCollection
from trees import make_tree

from handpose_lib import plots
from handpose_lib.augment import Augmentation
from handpose_lib.cli import main
from handpose_lib.datasets import open_data
from handpose_lib.evaluate import evaluate, make_report, mean_hand
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.keypoints import KEYPOINT_NAMES, with_gaps_filled
from handpose_lib.labels import find_labels, read_labels
from handpose_lib.loader import HandBatches
from handpose_lib.predict import bundled_weights
from handpose_lib.settings import TrainSettings
from handpose_lib.train import Trainer
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import fine_tuning, load_model, save_model

SIZES = ((240, 320), (300, 200), (180, 180))  # (H, W)


def hands_of(count: int) -> list[np.ndarray]:
    """Hands that lie on pictures of `SIZES`, in turn."""
    sizes = [SIZES[i % 3] for i in range(count)]
    return [hand_of_dots((w / 2 - 5, h / 2 + 3), 0.6 * min(h, w), 25 * i) for i, (h, w) in enumerate(sizes)]


def write_pictures(folder: Path, count: int = 12) -> list[dict]:
    """Pictures of dots in a folder, and entries for their keypoints.json: three hands per group."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for i, hand in enumerate(hands_of(count)):
        picture = draw_dots([hand], SIZES[i % 3], 3)
        cv2.imwrite(str(folder / f"{i:02d}.png"), picture[..., ::-1])
        entries.append({"file": f"{i:02d}.png", "keypoints": hand.round(2).tolist(), "group": f"person {i // 3}"})
    return entries


def write_json(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def as_coco(entries: list[dict], names: list[str] | None = None) -> dict:
    """The same labels as a COCO file."""
    images = [{"id": 7 + i, "file_name": e["file"], "width": 1, "height": 1} for i, e in enumerate(entries)]
    annotations = []
    for i, entry in enumerate(entries):
        triples = [[*point, 2] if point else [0, 0, 0] for point in entry["keypoints"]]
        values = [value for triple in triples for value in triple]
        annotations.append({"id": i, "image_id": 7 + i, "category_id": 1, "keypoints": values})
    kind = {"id": 1, "name": "hand", "keypoints": names or list(KEYPOINT_NAMES)}
    return {"images": images, "annotations": annotations, "categories": [kind]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entries = write_pictures(tmp_path / "mine")
    write_json(tmp_path / "mine" / "keypoints.json", entries)
    return tmp_path / "mine"


# --- files of labels --------------------------------------------------------------------------------------------------


def test_the_three_kinds_of_files_tell_the_same(folder: Path, tmp_path: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    entries[2]["keypoints"][4] = None
    entries[3]["side"] = "left"
    own = read_labels(write_json(tmp_path / "a" / "keypoints.json", entries))
    coco = as_coco(entries)
    for annotation, entry in zip(coco["annotations"], entries, strict=True):
        annotation["attributes"] = {"side": entry.get("side"), "group": entry["group"]}
    others = [read_labels(write_json(tmp_path / "coco.json", coco))]
    with open(tmp_path / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        axes = [f"{name}_{axis}" for name in reversed(KEYPOINT_NAMES) for axis in "xy"]
        writer.writerow(["group", "file", "side", *axes])
        for e in entries:
            cells = [v for point in reversed(e["keypoints"]) for v in (point or ["", "nan"])]
            writer.writerow([e["group"], e["file"], e.get("side", ""), *cells])
    others.append(read_labels(tmp_path / "table.csv"))
    assert np.isnan(own[2].keypoints[4]).all() and np.isfinite(np.delete(own[2].keypoints, 4, 0)).all()
    assert [hand.side for hand in own[:5]] == [None, None, None, "left", None]
    for hands in others:
        assert [(h.file, h.side, h.group) for h in hands] == [(h.file, h.side, h.group) for h in own]
        for ours, theirs in zip(own, hands, strict=True):
            np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)


MMPOSE = [
    "wrist",
    *(f"{f}{j}" for f in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger") for j in "1234"),
]
CVAT = ["Wrist", *(f"{f} {j}" for f, js in [("Thumb", ("CMC", "MCP", "IP", "tip")), *((f, ("MCP", "PIP", "DIP", "tip")) for f in ("Index finger", "Middle finger", "Ring finger", "Little finger"))] for j in js)]  # fmt: skip # noqa: E501


@pytest.mark.parametrize("names", [MMPOSE, CVAT, [str(k) for k in range(1, 22)]])
def test_coco_keypoints_are_put_in_order_by_their_names(folder: Path, tmp_path: Path, names: list[str]):
    entries = json.loads((folder / "keypoints.json").read_text())[:2]
    shuffled = np.random.default_rng(3).permutation(21) if not names[0].isdigit() else np.arange(21)
    mixed = [entry | {"keypoints": [entry["keypoints"][k] for k in shuffled]} for entry in entries]
    path = write_json(tmp_path / "coco.json", as_coco(mixed, [names[k] for k in shuffled]))
    for entry, hand in zip(entries, read_labels(path), strict=True):
        np.testing.assert_allclose(hand.keypoints, entry["keypoints"])


def test_visibility_0_is_not_labelled_and_1_is(folder: Path, tmp_path: Path):
    coco = as_coco(json.loads((folder / "keypoints.json").read_text())[:1])
    coco["annotations"][0]["keypoints"][2] = 1
    coco["annotations"][0]["keypoints"][5] = 0
    coco["annotations"].append({"id": 9, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]})
    coco["categories"][0]["name"] = "left_hand"
    (hand,) = read_labels(write_json(tmp_path / "coco.json", coco))
    assert np.isfinite(hand.keypoints[0]).all() and np.isnan(hand.keypoints[1]).all() and hand.side == "left"


def test_what_is_wrong_is_one_sentence_with_file_and_entry(folder: Path, tmp_path: Path):
    entries = json.loads((folder / "keypoints.json").read_text())

    def refused(content, message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            read_labels(write_json(tmp_path / "labels.json", content))
        assert "labels.json" in str(error.value) and "\n" not in str(error.value)

    coco = as_coco(entries)
    body = ["nose", "left_eye", *(f"joint {k}" for k in range(15))]
    coco["categories"][0] |= {"name": "person", "keypoints": body}
    for annotation in coco["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:51]
    refused(coco, r"annotation 0: the skeleton of 'person' has 17 keypoints \(nose, left_eye, ...\), and a hand has 21")
    refused(
        [entries[0], entries[1] | {"keypoints": entries[1]["keypoints"][:20]}], r"entry 1 \(01.png\): it has 20 key"
    )
    refused(
        [entries[0] | {"keypoints": [[1, "x"], *entries[0]["keypoints"][1:]]}], r"entry 0 .*wrist must be two numbers"
    )
    refused(
        [entries[0] | {"keypoints": [[1], *entries[0]["keypoints"][1:]]}], r"entry 0 .*wrist must be \[x, y\] or null"
    )
    refused([entries[0] | {"side": "up"}], r"entry 0 .*side must be left or right.*'up'")
    refused([{"keypoints": []}], 'entry 0: it must be an object with "file"')
    refused({"a.jpg": {"keypoints": [], "confidence": []}}, "answers of `handpose predict`")
    refused({"a": 1}, "neither a list of hands")
    refused([], "no labelled hand")
    refused({"images": [], "annotations": [{"id": 1, "image_id": 5, "keypoints": [0] * 63}]}, "no image 5")
    refused(as_coco(entries, ["wrist", "thumb1", "claw", *KEYPOINT_NAMES[3:]]), "'claw' is not known")
    (tmp_path / "labels.json").write_text("[1, ")
    with pytest.raises(ValueError, match=r"labels\.json is not valid JSON"):
        read_labels(tmp_path / "labels.json")
    (tmp_path / "labels.csv").write_text("file,wrist_x\n")
    with pytest.raises(ValueError, match=r"labels\.csv lacks 41 columns, wrist_y, thumb_cmc_x"):
        read_labels(tmp_path / "labels.csv")


def test_coco_labels_of_a_picture_of_another_size_are_refused(folder: Path, tmp_path: Path):
    coco = as_coco(json.loads((folder / "keypoints.json").read_text())[:3])
    for image, (height, width) in zip(coco["images"], SIZES, strict=True):
        image |= {"width": width, "height": height}
    path = write_json(folder / "coco.json", coco)
    assert len(KeypointFolder(path, "all")) == 3
    coco["images"][1] |= {"width": 300, "height": 200}  # as before the picture was turned
    write_json(path, coco)
    with pytest.raises(ValueError, match=r"annotation 1 \(01\.png\): the labels are of .* 300×200 px, .* has 200×300"):
        KeypointFolder(path, "all")
    coco["annotations"][2]["category_id"] = 9
    write_json(path, coco)
    with pytest.raises(ValueError, match=r"annotation 2 \(02\.png\): there is no category 9 in the file"):
        KeypointFolder(path, "all")


def test_a_table_says_each_thing_once_and_in_plain_digits(folder: Path, tmp_path: Path):
    entry = json.loads((folder / "keypoints.json").read_text())[0]
    names = ["file", *(f"{name}_{axis}" for name in KEYPOINT_NAMES for axis in "xy")]
    cells = [entry["file"], *(str(value) for point in entry["keypoints"] for value in point)]
    for wrong, words in (("1_0", r"line 2 \(00\.png\): wrist must be two numbers"), ("\u0661\u0660", "wrist must be")):
        (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{','.join([cells[0], wrong, *cells[2:]])}\n")
        with pytest.raises(ValueError, match=words):
            read_labels(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(f"{','.join([*names, 'wrist_x'])}\n{','.join([*cells, '7'])}\n")
    with pytest.raises(ValueError, match=r"a\.csv has several columns 'wrist_x': it is not clear which is meant"):
        read_labels(tmp_path / "a.csv")


def test_a_group_that_is_not_a_number_is_none_and_one_that_is_true_is_refused(folder: Path, tmp_path: Path):
    entries = json.loads((folder / "keypoints.json").read_text())[:2]
    entries[1]["group"] = float("nan")
    hands = read_labels(write_json(tmp_path / "keypoints.json", entries))
    assert [hand.group for hand in hands] == ["person 0", None]
    entries[1]["group"] = True
    with pytest.raises(ValueError, match=r"entry 1 \(01\.png\): side and group must be text or a number, not True"):
        read_labels(write_json(tmp_path / "keypoints.json", entries))


def test_a_name_that_no_file_can_have_is_not_there(folder: Path):
    entry = json.loads((folder / "keypoints.json").read_text())[0]
    for name in ("x" * 400, "a\0.png"):
        write_json(folder / "keypoints.json", [entry | {"file": name}])
        with pytest.raises(FileNotFoundError, match=r"keypoints\.json, entry 0 \(.*\): the picture is not in "):
            KeypointFolder(folder, "all")


def test_labels_are_found_or_asked_for(folder: Path, tmp_path: Path):
    assert find_labels(folder) == folder / "keypoints.json" == find_labels(folder / "keypoints.json")
    (folder / "keypoints.json").rename(folder / "a.json")
    assert find_labels(folder) == folder / "a.json"
    (folder / "b.csv").write_text("")
    with pytest.raises(ValueError, match=r"several files .*a\.json, b\.csv"):
        find_labels(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no labels .*handpose annotate"):
        find_labels(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="is not there"):
        find_labels(tmp_path / "nowhere")


# --- the data set -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_labels_sit_on_the_hand_whatever_the_size(folder: Path, share: float):
    dataset = KeypointFolder(folder, "all", share)
    assert len(dataset) == dataset.num_hands == 12
    colours = draw_dots([hand_of_dots((120, 120), 200)], (240, 240))
    centres = hand_of_dots((120, 120), 200).round().astype(int)
    for image, target in (dataset[i] for i in range(3)):
        assert image.shape == (3, 224, 224) and image.dtype == torch.uint8
        for (x, y), (u, v) in zip(target["keypoints"].round().int().tolist(), centres.tolist(), strict=True):
            assert image[:, y, x].int().sub(torch.from_numpy(colours[v, u].astype(int))).abs().max() < 100
    sides = np.ptp(dataset.keypoints, axis=1).max(-1)
    if share:
        np.testing.assert_allclose(sides, 112, rtol=1e-4)


def test_missing_keypoints_and_those_off_the_picture_are_nan_and_invisible(folder: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    entries[0]["keypoints"][4] = None
    entries[0]["keypoints"][8] = [9999.0, 10.0]
    entries[1]["keypoints"] = [None] * 20 + [[5.0, 5.0]]
    write_json(folder / "keypoints.json", entries)
    with pytest.warns(UserWarning, match=r"1 hands have fewer than 2 .*entry 1 \(01\.png\)"):
        dataset = KeypointFolder(folder, "all")
    assert dataset.ids.tolist() == [0, *range(2, 12)]
    target = dataset[0][1]
    assert (~target["visible"]).nonzero().flatten().tolist() == [4, 8]
    assert target["keypoints"][[4, 8]].isnan().all() and target["group"] == "person 0"


def test_groups_stay_together_and_their_order_does_not_matter(folder: Path):
    parts = {split: KeypointFolder(folder, split) for split in ("train", "val", "test")}
    groups = {split: set(part.group_names) for split, part in parts.items()}
    assert [len(groups[split]) for split in parts] == [2, 1, 1]
    assert sorted(name for names in groups.values() for name in names) == [f"person {k}" for k in range(4)]
    assert sum(map(len, parts.values())) == 12
    entries = json.loads((folder / "keypoints.json").read_text())
    write_json(folder / "keypoints.json", entries[::-1])
    assert set(KeypointFolder(folder, "test").group_names) == groups["test"]


def test_groups_are_not_split_in_the_order_of_their_names(folder: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    write_json(folder / "keypoints.json", [e | {"group": f"day {k:02d}"} for k, e in enumerate(entries)])
    days = [f"day {k:02d}" for k in range(len(entries))]
    parts = [sorted(set(KeypointFolder(folder, split).group_names)) for split in ("train", "val", "test")]
    order = [day for part in parts for day in part]
    assert sorted(order) == days and order != days


def test_folders_that_end_alike_are_split_alike_in_every_process(folder: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    for number, entry in enumerate(entries):
        del entry["group"]
        place = Path(f"person{number % 6}") / "images" / entry["file"]
        (folder / place.parent).mkdir(parents=True, exist_ok=True)
        (folder / entry["file"]).rename(folder / place)
        entry["file"] = place.as_posix()
    write_json(folder / "keypoints.json", entries)
    code = f"""
from handpose_lib.keypoint_folder import KeypointFolder
print([sorted(set(KeypointFolder({str(folder)!r}, split).group_names.tolist())) for split in ("train", "val", "test")])
"""
    said = set()
    for seed in range(2):
        own = os.environ | {"PYTHONHASHSEED": str(seed)}
        said.add(subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, check=True).stdout.decode())
    assert len(said) == 1, said
    parts = ast.literal_eval(said.pop())
    order = [name for part in parts for name in part]
    assert sorted(order) == [f"person{number}/images" for number in range(6)] != order
    moved = folder.parent / "elsewhere"
    folder.rename(moved)
    assert [sorted(set(KeypointFolder(moved, split).group_names)) for split in ("train", "val", "test")] == parts


def test_pictures_with_several_hands_can_be_shown(folder: Path, tmp_path: Path, capsys):
    entries = json.loads((folder / "keypoints.json").read_text())
    other = entries[0] | {"keypoints": [[x + 9, y] for x, y in entries[0]["keypoints"]]}
    write_json(folder / "keypoints.json", [*entries, other])
    command = ["data", "show", str(folder), "--out", str(tmp_path / "hands.png")]
    with pytest.raises(SystemExit):
        main(command)
    assert "give a share (share=0.4, or --share 0.4)" in capsys.readouterr().err
    main([*command, "--share", "0.4"])
    assert "13 images with keypoints" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "show", str(make_tree(tmp_path / "tree", hands=3)), *command[3:], "--share", "0.4"])
    assert "leave out --share" in capsys.readouterr().err


def test_a_share_that_would_put_a_keypoint_on_the_edge_is_refused(folder: Path):
    assert KeypointFolder(folder, "all", share=0.99)[0][1]["visible"].sum() == 21
    with pytest.raises(ValueError, match="share is 1, it must be from 0 to below 1"):
        KeypointFolder(folder, "all", share=1)
    with pytest.raises(ValueError, match=r"crop is 1, .* from 0 to below 1"):
        Framing(64, crop=1)


@pytest.mark.parametrize("missing", [1, 19])
def test_hands_with_missing_keypoints_are_drawn_and_their_errors_shown(folder: Path, missing: int):
    dataset = KeypointFolder(folder, "all", share=0.5)
    dataset.keypoints[:, :missing] = np.nan
    targets = torch.from_numpy(dataset.keypoints)
    predictions = torch.nan_to_num(targets, nan=50.0)
    predictions[:, -1] += 150
    report = make_report(dataset, predictions, torch.ones(len(dataset), 21), boxes="truth")
    figure = plots.worst_cases(report, [image for image, _ in dataset], 2)
    figure.canvas.draw()
    limits = [(*ax.get_xlim(), *ax.get_ylim()) for ax in figure.axes if ax.images]
    assert limits and np.isfinite(limits).all()
    lines = [
        len(each.get_segments()) for each in figure.axes[0].collections
        if isinstance(each, LineCollection) and each.get_linestyles()[0][1] is not None
    ]  # fmt: skip
    assert lines == [1], "the keypoint that is far off is tied to its true place"
    plt.close(figure)


def test_a_keypoint_that_is_labelled_in_no_training_picture_has_a_mean(folder: Path):
    dataset = KeypointFolder(folder, "all")
    dataset.keypoints[:, 3] = np.nan
    assert torch.isfinite(mean_hand(dataset)).all()


def test_a_picture_in_two_groups_would_be_in_two_splits_and_is_refused(folder: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    (folder / "link.png").symlink_to(folder / "00.png")
    for name in ("00.png", "link.png"):
        other = {"file": name, "group": "person 3", "keypoints": [[x + 9, y] for x, y in entries[0]["keypoints"]]}
        write_json(folder / "keypoints.json", [*entries, other])
        with pytest.raises(
            ValueError, match=rf"entry 12 \({name}\): its picture is in the groups 'person 0' and 'pers"
        ):
            KeypointFolder(folder, "train", share=0.4)
        assert len(KeypointFolder(folder, "all", share=0.4)) == 13


def test_names_of_groups_that_differ_in_their_case_are_asked_about(folder: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    entries[0]["group"] = "Person 0"
    write_json(folder / "keypoints.json", entries)
    with pytest.warns(UserWarning, match=r"has 2 groups 'person 0' in other letters: are they one person\?"):
        KeypointFolder(folder, "train")


def test_parts_that_are_no_shares_are_one_sentence(folder: Path):
    for parts in ("abc", None, (0.5, 0.5), (True, 0.5, 0.5)):
        with pytest.raises(ValueError, match=r"parts are .*: they must be three positive shares whose sum is 1"):
            KeypointFolder(folder, "train", parts=parts)


def test_without_groups_folders_are_groups_and_without_both_there_is_a_warning(folder: Path):
    entries = [
        {k: v for k, v in e.items() if k != "group"} for e in json.loads((folder / "keypoints.json").read_text())
    ]
    write_json(folder / "keypoints.json", entries)
    with pytest.warns(UserWarning, match="names no groups .*scores are too good"):
        assert len(set(KeypointFolder(folder, "train").group_names)) == len(KeypointFolder(folder, "train"))
    for i, entry in enumerate(entries):
        (folder / f"video{i % 3}").mkdir(exist_ok=True)
        (folder / entry["file"]).rename(folder / f"video{i % 3}" / entry["file"])
        entry["file"] = f"video{i % 3}/{entry['file']}"
    write_json(folder / "keypoints.json", entries)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(KeypointFolder(folder, "train").group_names)) == 1
    write_json(folder / "keypoints.json", [entries[0] | {"group": "a"}, *entries[1:]])
    with pytest.raises(ValueError, match=r"entry 1 .*has no group"):
        KeypointFolder(folder, "train")


def test_pictures_of_an_exported_folder_are_found(folder: Path, tmp_path: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    root = tmp_path / "export"
    write_json(root / "annotations" / "person_keypoints_default.json", as_coco(entries))
    (folder).rename(root / "images")
    dataset = KeypointFolder(root, "all")
    assert dataset.image_path(0) == root / "images" / "00.png" and len(dataset) == 12


def test_bad_folders_are_one_sentence(folder: Path, tmp_path: Path):
    entries = json.loads((folder / "keypoints.json").read_text())
    with pytest.raises(ValueError, match="unknown split 'evaluation': choose one of train, val, test, all"):
        KeypointFolder(folder, "evaluation")
    with pytest.raises(ValueError, match="share is 2"):
        KeypointFolder(folder, share=2)
    write_json(folder / "keypoints.json", [e | {"group": "one"} for e in entries])
    with pytest.raises(ValueError, match=r"has 1 group, none for test: from 3 groups on"):
        KeypointFolder(folder, "test")
    second = {"file": "00.png", "keypoints": [[x + 9, y] for x, y in entries[0]["keypoints"]]}
    write_json(folder / "keypoints.json", [entries[0], second | {"group": entries[0]["group"]}])
    with pytest.raises(ValueError, match=r"00\.png shows several labelled hands.*--share"):
        KeypointFolder(folder, "all")
    assert len(KeypointFolder(folder, "all", share=0.4)) == 2
    write_json(folder / "keypoints.json", [entries[0] | {"file": "gone.png"}])
    with pytest.raises(FileNotFoundError, match=r"entry 0 \(gone\.png\): the picture is not in"):
        KeypointFolder(folder, "all")
    far = (np.array(entries[0]["keypoints"]) + 5000).tolist()
    write_json(folder / "keypoints.json", [entries[0] | {"keypoints": far}])
    with pytest.raises(ValueError, match=r"no keypoint is on the picture of 320×240 px"):
        KeypointFolder(folder, "all")
    (folder / "00.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"00\.png can't be read as a picture"):
        KeypointFolder(folder, "all")


def test_a_photograph_is_turned_as_viewers_turn_it(tmp_path: Path):
    from PIL import Image

    hand = hand_of_dots((100, 150), 150)
    picture = Image.fromarray(draw_dots([hand], (300, 200), 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers turn it clockwise
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    write_json(tmp_path / "keypoints.json", [{"file": "phone.jpg", "keypoints": hand.tolist()}])
    dataset = KeypointFolder(tmp_path, "all")
    assert dataset.picture(0).shape == (300, 200, 3)
    x, y = dataset.keypoints[0, 0].round().astype(int)
    assert dataset.read(0)[:, y, x].max() > 150


# --- the engines ------------------------------------------------------------------------------------------------------

SETTINGS = TrainSettings(
    framing=Framing(32), width=4, depth=2, batch_size=4, epochs=2, augmentation=Augmentation(), ema_decay=0.5
)


def with_gaps(folder: Path) -> Path:
    entries = json.loads((folder / "keypoints.json").read_text())
    for number, entry in enumerate(entries):
        entry["keypoints"][number % 21] = None
    write_json(folder / "keypoints.json", entries)
    return folder


@pytest.mark.parametrize("framing", [Framing(32), Framing(32, crop=0.55, upright=True)])
def test_gaps_are_masked_in_every_batch(folder: Path, framing: Framing):
    dataset = KeypointFolder(with_gaps(folder), "all")
    batches = HandBatches(dataset, framing, 4, augmentation=Augmentation(), progress=False)
    for batch in (*batches.epoch(0), *batches.in_order()):
        assert batch.keypoints.isfinite().all() and batch.images.isfinite().all()
        assert not batch.visible[torch.arange(4), batch.index % 21].any()
    assert batch.visible.sum() == 4 * 20


def test_filled_gaps_change_no_box():
    hand = torch.from_numpy(hand_of_dots((50, 60), 80))[None]
    gaps = hand.clone()
    gaps[0, 3] = torch.nan
    filled = with_gaps_filled(gaps)
    assert filled.isfinite().all() and torch.equal(filled[0, 4:], hand[0, 4:])
    assert torch.equal(with_gaps_filled(hand), hand)


@pytest.mark.parametrize("framing", [Framing(32), Framing(32, crop=0.55, upright=True)])
def test_a_network_trains_on_a_folder_and_is_scored_on_it(folder: Path, tmp_path: Path, framing: Framing):
    import dataclasses

    parts = [KeypointFolder(with_gaps(folder), split) for split in ("train", "val")]
    settings = dataclasses.replace(SETTINGS, framing=framing)
    trainer = Trainer(settings, *parts, tmp_path / "run", "cpu").run(progress=False)
    assert all(np.isfinite(row["train_loss"]) and np.isfinite(row["val_epe_px128"]) for row in trainer.history)
    for boxes in ("found", "truth"):
        report = evaluate(trainer.model, parts[1], boxes=boxes)
        assert report.visible.sum() == 3 * 20 and np.isfinite(report.summary["epe_px128"])
    assert np.isfinite(make_report(parts[1], mean_hand(parts[0])).summary["pck_0.2_bbox"])


def test_a_labelled_gap_changes_no_loss(folder: Path, tmp_path: Path):
    """What stands where a keypoint is missing must not matter."""
    losses = []
    for number, value in enumerate((None, [1.0, 1.0, 0])):
        entries = json.loads((folder / "keypoints.json").read_text())
        for entry in entries:
            entry["keypoints"][5] = value
        path = write_json(folder / f"labels{number}.json", entries)
        trainer = Trainer(
            SETTINGS, KeypointFolder(path, "train"), KeypointFolder(path, "val"), tmp_path / str(number), "cpu"
        )
        losses.append([row["train_loss"] for row in trainer.run(progress=False).history])
    assert losses[0] == losses[1]


def test_a_good_predictor_scores_well_on_the_pictures_and_gaps_do_not_count(folder: Path):
    dataset = KeypointFolder(with_gaps(folder), "all", share=0.5)
    report = evaluate(dot_predictor(), dataset)
    assert report.summary["pck_0.2_bbox"] > 0.95 and report.table["count"].sum() == 12 * 20
    assert report.by_version["version"].tolist() == ["unmarked"]


def test_other_labels_are_other_squares_and_the_cache_knows(folder: Path):
    first = HandBatches(KeypointFolder(folder, "all", 0.5), Framing(32), 4, progress=False).images.clone()
    entries = json.loads((folder / "keypoints.json").read_text())
    entries[0]["keypoints"] = (0.5 * np.array(entries[0]["keypoints"])).tolist()
    write_json(folder / "keypoints.json", entries)
    second = HandBatches(KeypointFolder(folder, "all", 0.5), Framing(32), 4, progress=False).images
    assert not torch.equal(first[0], second[0]) and torch.equal(first[1:], second[1:])


def test_a_path_says_which_kind_of_data_set_it_is(folder: Path, tmp_path: Path):
    tree = make_tree(tmp_path / "tree", 4)
    assert isinstance(open_data(tree, "train"), FreiHAND)
    assert isinstance(open_data(folder, "train"), KeypointFolder)
    with pytest.raises(ValueError, match=r"FreiHAND's layout.*leave out --share"):
        open_data(tree, "train", 0.4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"neither FreiHAND's files .* nor labels .* `handpose annotate"):
        open_data(tmp_path / "empty", "all")


def test_the_commands_take_a_folder(folder: Path, tmp_path: Path, capsys):
    options = ["--image-size=32", "--width=4", "--depth=2", "--batch-size=4", "--epochs=1", "--device=cpu"]
    main(["train", "--root", str(folder), "--out", str(tmp_path / "run"), *options])
    main(["evaluate", str(tmp_path / "run" / "best.safetensors"), "--root", str(folder), "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert "mean hand: PCK@0.2" in out and (tmp_path / "per_keypoint_test.csv").is_file()
    main(["data", "show", str(folder), "--out", str(tmp_path / "hands.png")])
    assert (tmp_path / "hands.png").stat().st_size > 10_000
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path / "run" / "best.safetensors"), "--root", str(folder), "--split", "evaluation"])
    error = capsys.readouterr().err
    assert "unknown split 'evaluation'" in error and "Traceback" not in error


def test_fine_tuning_begins_with_the_weights_own_network(folder: Path, tmp_path: Path, capsys):
    model = UNet2DHandPose(4, 2, framing=Framing(32, crop=0.55, upright=True))
    save_model(model, tmp_path / "old.safetensors")
    settings = fine_tuning(tmp_path / "old.safetensors", epochs=3)
    assert (settings.width, settings.depth, settings.framing, settings.epochs) == (4, 2, model.framing, 3)
    command = ["train", "--root", str(folder), "--start-from", str(tmp_path / "old.safetensors"), "--device=cpu"]
    main([*command, "--out", str(tmp_path / "tuned"), "--epochs=1", "--batch-size=4"])
    assert "6 images of" in capsys.readouterr().out
    assert load_model(tmp_path / "tuned" / "best.safetensors")[0].framing == model.framing
    assert fine_tuning(bundled_weights()).framing == load_model(bundled_weights())[0].framing
