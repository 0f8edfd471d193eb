"""Labelled photographs, the ablation and the seeds, on small sets made here; real ones are nobody's to hand out."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trees import make_tree

from handpose_lib.annotate.store import LabelStore
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.recipes import ablation, losses, seeds
from handpose_lib.recipes.photographs import labelled_photographs, score
from handpose_lib.recipes.tables import read_rows
from handpose_lib.settings import PRESETS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((100, 200, 3), 40 * number, np.uint8))
        entries.append({"file": f"{number}.png", "uv": rng.uniform(10, 90, (21, 2)).tolist(), "scene": number // 2})
    (tmp_path / "keypoints.json").write_text(json.dumps(entries))
    return tmp_path


def test_wrong_labels_can_be_left_out_and_scenes_are_counted(folder: Path):
    photographs = labelled_photographs(folder, leave_out=["3.png"])
    assert [file.name for file in photographs.files] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    assert photographs.scenes.tolist() == [0, 0, 1, 2, 2]
    both = photographs + labelled_photographs(folder)
    assert both.scenes.tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 4, 5, 5] and len(both.keypoints) == 11


def test_freihands_layout_is_read_whole(tmp_path: Path):
    photographs = labelled_photographs(make_tree(tmp_path / "tree", 7, versions=("gs", "hom")))
    assert len(photographs.files) == 14 and len(set(photographs.scenes)) == 7
    assert len(set(photographs.files)) == 14


def test_a_folder_without_labels_and_an_entry_without_keypoints_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"neither keypoints\.json nor training_K\.json"):
        labelled_photographs(tmp_path / "nothing")
    entries = json.loads((folder / "keypoints.json").read_text())
    entries[4]["uv"] = entries[4]["uv"][:20]
    (folder / "keypoints.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"keypoints\.json, entry 4 \(4\.png\): it has 20 keypoints, a hand has 21"):
        labelled_photographs(folder)


def test_damaged_annotations_are_named(tmp_path: Path):
    tree = make_tree(tmp_path / "tree", 7)
    (tree / "training_K.json").write_text("[[[1, 2")
    with pytest.raises(ValueError, match=r"training_K\.json breaks off or is damaged"):
        labelled_photographs(tree)


def test_what_annotate_writes_is_read_and_scored_where_it_is_labelled(folder: Path):
    (folder / "keypoints.json").unlink()
    store = LabelStore(folder, lambda file: pytest.fail("no proposal is needed"))
    hand = np.stack((np.arange(21) * 4.0 + 10, np.arange(21) * 2.0 + 20), -1).tolist()  # the box's longer side: 80 px
    for number in range(4):
        points = [None if number == 1 and k < 14 else point for k, point in enumerate(hand)]
        store.save(number, {"keypoints": points, "side": "left", "group": "anna" if number < 2 else ""})
    store.save(4, {"keypoints": [hand[0], *[None] * 20], "side": "", "group": ""})
    with pytest.warns(UserWarning, match=r"keypoints\.json: 1 of 5 hands have fewer than 2 labelled keypoints"):
        photographs = labelled_photographs(folder)
    assert [file.name for file in photographs.files] == ["0.png", "1.png", "2.png", "3.png"]
    assert len(set(photographs.scenes)) == 3 and photographs.scenes[0] == photographs.scenes[1]
    assert photographs.keypoints.isnan().all(-1).sum(1).tolist() == [0, 14, 0, 0]

    def predictor(pictures):
        found = torch.tensor(hand).repeat(4, 1, 1)
        found[1, :14] += 1000  # where nobody labelled
        found[1, 20, 1] += 4  # one of seven; the box of what is labelled is 24 px long: within 0.2, not within 0.1
        return found, torch.ones(4, 21)

    result = score(predictor, photographs)
    assert result["images"] == 4 and result["pck_0.2_bbox"] == 1
    assert result["pck_0.1_bbox"] == pytest.approx((3 + 6 / 7) / 4)  # each picture counts the same
    assert result["epe"] == pytest.approx(4 / 7 / 4)
    assert result["epe_px128"] == pytest.approx(4 / 7 / 4 * 128 / 200)


def test_scores_are_those_of_known_errors(folder: Path):
    photographs = labelled_photographs(folder)
    box = np.ptp(photographs.keypoints.numpy(), axis=1).max(1)

    def predictor(pictures):
        assert all(picture.shape == (100, 200, 3) for picture in pictures)
        found = photographs.keypoints.clone()
        found[0, :, 0] += 0.5 * float(box[0])  # one picture wrong altogether
        found[1, :7, 1] += 0.15 * float(box[1])  # a third of another within 0.2, not within 0.1
        return found, torch.ones(6, 21)

    result = score(predictor, photographs)
    assert result["pck_0.2_bbox"] == pytest.approx(5 / 6)
    assert result["pck_0.1_bbox"] == pytest.approx((6 - 1 - 1 / 3) / 6)
    error = (0.5 * box[0] + 0.15 * box[1] / 3) / 6
    assert result["epe"] == pytest.approx(error, rel=1e-4)
    assert result["epe_px128"] == pytest.approx(error * 128 / 200, rel=1e-4)
    # Three scenes, of which one is half wrong: the interval reaches from all of it to none of it.
    assert result["scenes"] == 3 and result["low"] < 0.75 and result["high"] == 1.0


def test_the_ablation_fills_its_table_once(tmp_path: Path, monkeypatch, folder: Path):
    for name in ("runs_folder", "work_folder"):
        monkeypatch.setattr(ablation, name, lambda: tmp_path / "runs")
    monkeypatch.setattr(ablation, "sample_root", lambda: make_tree(tmp_path / "sample", 4))
    out, short = tmp_path / "ablation.csv", {"epochs": 1, "batch_size": 4, "width": 4, "framing": Framing(32)}
    rows, photographs = ablation.ROWS[:2], labelled_photographs(folder)
    ablation.run(out, photographs, rows, seeds=(0,), hands=4, settings=short)
    lines = read_rows(out)
    assert [(line["row"], line["data"]) for line in lines] == [
        (row.name, data) for row in rows for data in ("rendered hands", "real hands")
    ]
    assert all(0 <= float(line["pck_0.2_bbox"]) <= 1 and int(line["samples"]) > 0 for line in lines)
    before = out.read_bytes()
    monkeypatch.setattr(ablation, "_one", lambda *_: pytest.fail("a row that is there is run again"))
    ablation.run(out, photographs, rows, seeds=(0,), hands=4, settings=short)
    assert out.read_bytes() == before


def test_each_seed_is_trained_and_scored_on_the_test_hands(tiny_root: Path, tmp_path: Path):
    settings = dataclasses.replace(
        PRESETS["quick"], framing=Framing(16), width=4, depth=2, decoder=(), refine=(), epochs=1
    )
    table = seeds.score_seeds(settings, tiny_root, tmp_path, (1, 2))
    assert tuple(table.columns) == seeds.COLUMNS and len(table) == 2 * 21
    assert (table["count"] == len(FreiHAND(tiny_root, "test"))).all()
    one, two = (table[table["seed"] == seed]["epe_px128"].to_numpy() for seed in (1, 2))
    assert not np.allclose(one, two)
    assert len(list(tmp_path.glob("unet4_16px_*/best.safetensors"))) == 2


def test_recorded_seeds_are_three_runs_of_the_quick_preset_and_not_the_readers_own():
    table = seeds.recorded_seeds()
    assert set(table["seed"]) == {1, 2, 3} and PRESETS["quick"].seed not in set(table["seed"])
    assert all(tuple(one["keypoint"]) == KEYPOINT_NAMES for _, one in table.groupby("seed"))
    assert table["pck_0.2_bbox"].between(0, 1).all()
    assert table.groupby("keypoint")["pck_0.2_bbox"].nunique().max() > 1, "three seeds can't agree everywhere"


def test_without_the_recorded_file_the_error_names_it(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(seeds, "SEEDS_FILE", "seeds_missing.csv")
    with pytest.raises(FileNotFoundError, match=r"seeds_missing\.csv comes with the project, but is not at"):
        seeds.recorded_seeds()


def test_losses_are_recorded_once_and_equal_steps_are_seeds_apart(tmp_path: Path, monkeypatch, bundled_root: Path):
    out = tmp_path / "losses.csv"
    monkeypatch.setattr(losses, "sample_root", lambda: bundled_root)
    monkeypatch.setattr(losses, "LOSSES", {name: losses.LOSSES[name] for name in ("MSE", "MSE, map")})
    steps = {"by heart": (2,), "new hands": (2,)}
    losses.run(out, steps, seeds=(0,))
    first = read_rows(out)
    assert [(row["experiment"], row["loss"]) for row in first] == [
        ("by heart", "MSE"), ("by heart", "MSE, map"), ("new hands", "MSE"), ("new hands", "MSE, map"),
    ]  # fmt: skip
    assert [row["pck_0.2_bbox"] == "" for row in first] == [True, True, False, False]
    losses.run(out, steps, seeds=(0, 1))
    both = read_rows(out)
    assert both[:4] == first and [row["seed"] for row in both] == ["0"] * 4 + ["1"] * 4
    assert {row["median_peak"] for row in both[:4]}.isdisjoint({""}) and both[0] != both[4] | {"seed": "0"}
    assert list(losses.recorded_losses().columns) == list(both[0]), "the record is not what the command writes today"


def test_a_weight_map_counts_pixels_near_a_peak_eleven_times():
    target = torch.zeros(1, 8, 8)
    target[0, 4, 4] = 1.0
    wrong = torch.zeros(2, 1, 8, 8)
    wrong[0, 0, 3, 3] = wrong[1, 0, 0, 0] = 0.5  # near the peak, and far from it
    near, far = (losses.mse_with_map(target + each, target).item() for each in wrong)
    assert near == pytest.approx(11 * far)


def test_each_batch_of_an_epoch_holds_other_hands():
    batches = losses.batches_of("new hands", 20, seed=0)
    assert len(batches) == 20 and sorted(torch.cat(batches[:16]).tolist()) == list(range(losses.TRAINED))


def test_of_the_recorded_losses_all_had_equal_chances():
    table = losses.recorded_losses()
    lengths = [(experiment, count) for experiment, counts in losses.STEPS.items() for count in counts]
    whole = {(*length, loss, seed) for length in lengths for loss in losses.LOSSES for seed in losses.SEEDS}
    assert set(table[["experiment", "steps", "loss", "seed"]].itertuples(index=False, name=None)) == whole
    assert len(table) == len(whole)
    for (experiment, steps), runs in table.groupby(["experiment", "steps"]):
        assert steps in losses.STEPS[experiment]
        seeds_of = runs.groupby("loss")["seed"].apply(sorted)
        assert set(seeds_of.index) == set(losses.LOSSES) and len(set(map(tuple, seeds_of))) == 1
    assert table["pck_0.2_bbox"].dropna().between(0, 1).all() and table["above_half"].between(0, 1).all()
