"""Rendered hands as a stream: chunks, batches, the workers, and training on them."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from handpose_lib.augment import NO_AUGMENTATION
from handpose_lib.framing import Framing
from handpose_lib.onnx_look import fingerprint
from handpose_lib.predict import bundled_weights
from handpose_lib.recipes import pretrained, stream, streamed
from handpose_lib.recipes.stream import SIZE, HandStream
from handpose_lib.weights import load_model


def dots(hands: int = 12, empty: int = 4, seed: int = 0) -> np.ndarray:
    """A chunk of black pictures with a white square of 5 px on each keypoint of a flat open hand."""
    rng = np.random.default_rng(seed)
    finger, joint = np.divmod(np.arange(20), 4)
    flat = np.concatenate(([[0.0, 0.0]], np.stack((finger * 9.0 - 18, -20.0 - 12 * joint), -1)))
    keypoints = (flat + rng.uniform(70, 110, (hands, 1, 2)) + [0, 20]).round().astype(np.float32)
    images = np.zeros((hands + empty, SIZE, SIZE, 3), np.uint8)
    for image, points in zip(images, keypoints, strict=False):
        for x, y in points.astype(int).tolist():
            cv2.rectangle(image, (x - 2, y - 2), (x + 2, y + 2), (255, 255, 255), -1)
    images[hands:] = 200
    return stream.packed(images.transpose(0, 3, 1, 2), keypoints)


@pytest.fixture
def filled(tmp_path):
    """A folder of chunks of seed 0: those that are held out, and four to train on."""
    for number in range(stream.HELD_OUT + 4):
        np.save(tmp_path / f"{stream.chunk_prefix(0)}{number:06d}.npy", dots(seed=number))
    return tmp_path


def test_a_chunk_comes_out_as_it_went_in():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 3, SIZE, SIZE), dtype=np.uint8)
    keypoints = rng.uniform(0, SIZE, (3, 21, 2)).astype(np.float32)
    got, points = stream.unpacked(stream.packed(images, keypoints))
    assert np.array_equal(got.numpy(), images) and np.array_equal(points.numpy(), keypoints)


def test_rendered_chunks_depend_on_number_and_seed_alone(monkeypatch):
    monkeypatch.setattr(stream, "BACKDROPS", 1)
    first, again, other = (stream.render_chunk(k, 1, hands=1) for k in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    images, keypoints = stream.unpacked(first)
    assert images.shape == (stream.PICTURES_OF_A_HAND + 1, 3, SIZE, SIZE)
    assert torch.equal(keypoints[0], keypoints[3])  # versions of one hand
    assert keypoints.amin() > 0 and keypoints.amax() < SIZE


def test_batches_hold_what_the_folder_held_but_for_the_held_out(filled):
    with HandStream(1000, workers=0, folder=filled) as hands:
        hands.wait_for(48)
        assert hands.taken == len(hands) == 48
        assert len(hands.held_out[0]) == len(hands.held_out[1]) == 12 * stream.HELD_OUT
        torch.manual_seed(0)
        images, keypoints, visible = hands.batch(16, Framing(128), NO_AUGMENTATION, empty=3)
    assert images.shape == (16, 3, 128, 128) and visible.all()
    assert keypoints[:3].isnan().all() and keypoints[3:].isfinite().all()
    assert torch.allclose(images[:3], torch.tensor((200 / 255 - 0.5) / 0.25), atol=1e-4)  # backdrops, as they are
    rows, columns = keypoints[3:, :, 1].round().long(), keypoints[3:, :, 0].round().long()
    assert (images[3:, 0][torch.arange(13)[:, None], rows, columns] > 1.9).all()  # white where the keypoints are
    kept = stream.waiting(filled, hands.prefix)
    assert sorted(path.name for path in filled.iterdir()) == kept  # a folder of one's own stays


def test_crops_show_the_hand_where_its_keypoints_are(filled):
    with HandStream(1000, workers=0, folder=filled) as hands:
        hands.wait_for(48)
        _, keypoints, visible = hands.batch(32, Framing(128, crop=0.55, upright=True), pretrained.LAST.augmentation)
    assert visible.float().mean() > 0.9
    width = (keypoints.amax(1) - keypoints.amin(1)).amax(-1)  # px; the crop's share, times the random scale
    assert (width > 0.55 * 128 / 1.5 - 1).all() and (width < 0.55 * 128 * 1.5 * 1.42).all()


def test_new_pictures_take_the_place_of_the_oldest(filled):
    with HandStream(20, workers=0, folder=filled) as hands:
        while hands.take_in():
            pass
        newest = stream.unpacked(dots(seed=stream.HELD_OUT + 3))[1]
        assert hands.taken == 48 and len(hands) == 20
        there = {tuple(points.flatten().tolist()) for points in hands.keypoints}
    assert {tuple(points.flatten().tolist()) for points in newest} <= there


def test_a_folder_that_is_kept_gives_only_the_hands_that_were_asked_for(filled, monkeypatch):
    def found(**options) -> int:
        with HandStream(100, workers=0, folder=filled, **options) as hands:
            return hands.take_in(100)

    np.save(filled / f"{stream.chunk_prefix(10)}000000.npy", dots())
    assert found(seed=0) == stream.HELD_OUT + 4
    assert found(seed=1) == found(seed=0, hands=2) == 0
    for name in ("GENERATOR", "PICTURES_OF_A_HAND", "BACKDROPS"):
        with monkeypatch.context() as patch:
            patch.setattr(stream, name, 99)
            assert found(seed=0) == 0, name


def test_a_worker_renders_the_hands_of_its_seed_beside_those_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "BACKDROPS", 1)
    parents = iter((1, 1, 2))  # it ends after its first chunk
    monkeypatch.setattr(stream.os, "getppid", lambda: next(parents))
    np.save(tmp_path / f"{stream.chunk_prefix(0, 1)}000000.npy", dots(1, 1))
    stream._work(tmp_path, 1, 9, 1, 0, 1)
    (name,) = stream.waiting(tmp_path, stream.chunk_prefix(1, 1))
    assert np.array_equal(np.load(tmp_path / name), stream.render_chunk(0, 1, hands=1))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_chunk_that_breaks_off_is_named(filled):
    path = filled / stream.waiting(filled, stream.chunk_prefix(0))[0]
    said = rf"{re.escape(path.name)} is damaged .*: delete it"
    for content in (path.read_bytes()[:5000], b""):
        path.write_bytes(content)
        with HandStream(100, workers=0, folder=filled) as hands, pytest.raises(ValueError, match=said):
            hands.take_in()


def test_workers_render_until_nobody_wants_their_hands(tmp_path):
    code = (
        "from handpose_lib.recipes import stream\n"
        f"with stream.HandStream(100, workers=1, folder={str(tmp_path)!r}, hands=1) as hands:\n"
        "    while not stream.waiting(hands.folder, hands.prefix): pass\n"
        "    print(hands._workers[0].pid, flush=True)\n"
        "    import os; os._exit(0)\n"  # as if killed: the worker is not told
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    pid = int(done.stdout)
    for _ in range(200):
        if not is_alive(pid):
            break
        time.sleep(0.1)
    assert not is_alive(pid)
    chunk = np.load(tmp_path / stream.waiting(tmp_path, stream.chunk_prefix(0, 1))[0])
    assert len(stream.unpacked(chunk)[1]) == stream.PICTURES_OF_A_HAND


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_dead_workers_are_an_error_and_no_endless_wait(tmp_path):
    with HandStream(100, workers=1, folder=tmp_path) as hands:
        hands.stop()
        with pytest.raises(OSError, match="no process renders hands any more"):
            hands.wait_for(1)


@pytest.mark.parametrize("name", ["handpose", "finder"])
def test_a_learner_learns_and_its_average_follows(filled, name):
    settings = {"handpose": pretrained.NETWORK, "finder": pretrained.FINDER}[name]
    settings = dataclasses.replace(
        settings, batch_size=16, framing=dataclasses.replace(settings.framing, image_size=64), width=8
    )
    learner = streamed.Learner(settings, 1 / 16, torch.device("cpu"))
    with HandStream(1000, workers=0, folder=filled) as hands:
        hands.wait_for(48)
        losses = [learner.step(hands, 0.1 + step / 100).item() for step in range(40)]
    assert learner.empty == 1 and learner.steps == 40
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    ours, theirs = (dict(each.named_parameters()) for each in (learner.average, learner.model))
    assert all(torch.isfinite(each).all() for each in ours.values())
    assert not torch.equal(ours["head.weight"], theirs["head.weight"])
    again = streamed.Learner(settings, 0, torch.device("cpu"), start=learner)
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), learner.average.parameters(), strict=True))


def test_errors_are_taken_in_squares_that_move_with_the_keypoints(filled):
    settings = dataclasses.replace(pretrained.NETWORK, batch_size=16)
    learner = streamed.Learner(settings, 0, torch.device("cpu"))
    with HandStream(1000, workers=0, folder=filled) as hands:
        hands.wait_for(1)
        images, keypoints = (each[:8] for each in hands.held_out)
    errors = learner.errors(images, keypoints)
    assert errors.shape == (8, 21) and errors.isfinite().all() and errors.mean() > 10  # an empty heatmap's answer
    shifted = learner.errors(images, keypoints + 4.0)  # the crop moves along, so the answer stays at the same place
    assert torch.allclose(errors, shifted, atol=1e-3)


def test_training_reports_as_often_as_told_and_ends_in_time(filled):
    settings = dataclasses.replace(
        pretrained.FINDER, batch_size=8, framing=Framing(32), width=4, decoder=(8, 8), sigma_start=4.0, sigma_end=3.0
    )
    learner = streamed.Learner(settings, 0.1, torch.device("cpu"))
    seen = []
    with HandStream(1000, workers=0, folder=filled) as hands:
        hands.wait_for(48)
        began = time.perf_counter()
        streamed.train_networks(
            {"one": learner}, hands, 3.0, {"one": 1}, lambda *values: seen.append(values), reports=3
        )
        assert time.perf_counter() - began < 20
    assert 1 <= len(seen) <= 3 and seen[-1][0] == 1.0
    assert all(set(means) == {"one"} and np.isfinite(means["one"]) for _, _, means in seen)


def test_the_recipe_ends_with_weights_that_load_and_a_history(filled, tmp_path_factory, monkeypatch):
    project = tmp_path_factory.mktemp("project")
    small = {"width": 8, "decoder": (8, 8, 8), "refine": (8, 8)}
    monkeypatch.setattr(pretrained, "NETWORK", dataclasses.replace(pretrained.NETWORK, **small))
    monkeypatch.setattr(pretrained, "LAST", dataclasses.replace(pretrained.LAST, **small))
    monkeypatch.setattr(pretrained, "FIRST", 24)
    monkeypatch.setattr(pretrained, "MOST", 100)
    monkeypatch.setattr(pretrained, "VALIDATION", 8)
    found = pretrained.train(0.05, torch.device("cpu"), 0, pretrained.settings_for(8), filled, seed=0)
    (project / "data" / "weights").mkdir(parents=True)
    (project / "figures").mkdir()
    pretrained.export(*found, project)
    model, _ = load_model(project / "data" / "weights" / "handpose.safetensors")
    assert model.framing == pretrained.NETWORK.framing and len(model.calibration) == 3
    assert load_model(project / "data" / "weights" / "finder.safetensors")[0].framing == Framing(96)
    history = (project / "figures" / "weights_history.csv").read_text().splitlines()
    assert history[0].startswith("step,seconds,pictures,learning_rate") and len(history) >= 3
    steps = [int(line.split(",")[0]) for line in history[1:]]
    assert steps == sorted(steps)


def test_the_recipe_goes_on_from_weights_and_leaves_the_finder(filled, tmp_path_factory, monkeypatch):
    project = tmp_path_factory.mktemp("project")
    (project / "data" / "weights").mkdir(parents=True)
    (project / "figures").mkdir()
    shutil.copy(bundled_weights().with_name("finder.safetensors"), project / "data" / "weights")
    finder = (project / "data" / "weights" / "finder.safetensors").read_bytes()
    monkeypatch.setattr(pretrained, "AGAIN", dataclasses.replace(pretrained.AGAIN, learning_rate=1e-9, warmup=0.5))
    monkeypatch.setattr(pretrained, "LAST", dataclasses.replace(pretrained.LAST, learning_rate=1e-9))
    monkeypatch.setattr(pretrained, "FIRST", 24)
    monkeypatch.setattr(pretrained, "MOST", 100)
    monkeypatch.setattr(pretrained, "VALIDATION", 8)
    settings = pretrained.settings_for(4, bundled_weights())
    found = pretrained.train(0.02, torch.device("cpu"), 0, settings, filled, bundled_weights(), seed=0)
    assert set(found[0]) == {"handpose"} and found[1][-1]["step"] >= 2
    before = load_model(bundled_weights())[0].state_dict()
    after = found[0]["handpose"].average.state_dict()
    for name, values in before.items():
        if "running" not in name and values.is_floating_point():
            assert torch.allclose(after[name], values, atol=1e-5), name
    pretrained.export(*found, project)
    assert len(load_model(project / "data" / "weights" / "handpose.safetensors")[0].bones) == 20
    assert (project / "data" / "weights" / "finder.safetensors").read_bytes() == finder


@pytest.fixture
def used(tmp_path, monkeypatch) -> list[dict]:
    """The settings of trainings of the recipe, which trains and scores nothing here, in a checkout of its own."""
    (tmp_path / "figures").mkdir()
    used = []
    monkeypatch.setattr(pretrained, "checkout_root", lambda: tmp_path)
    monkeypatch.setattr(pretrained, "train", lambda *given: used.append(given[3]) or ())
    monkeypatch.setattr(pretrained, "export", lambda *given: None)
    monkeypatch.setattr(pretrained.HandPosePredictor, "from_pretrained", lambda **options: None)
    row = {"data": "none", "pck_0.2_bbox": 0.5, "epe": 1.0, "unit": "px"}
    monkeypatch.setattr(pretrained, "score_rendered", lambda predictor: row)
    monkeypatch.setattr(pretrained, "write_per_keypoint", lambda *given: None)
    return used


def test_what_is_recorded_of_a_training_is_what_was_used(tmp_path, monkeypatch, used):
    drawn = []
    monkeypatch.setattr(pretrained, "write_graphs", drawn.append)

    def recorded(*arguments: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["pretrained", *arguments])
        pretrained.main()
        report = json.loads((tmp_path / "figures" / "weights.json").read_text())
        return {name: (each["learning_rate"], each["batch_size"]) for name, each in report["settings"].items()}

    rates = {"handpose": pretrained.NETWORK, "handpose, last": pretrained.LAST, "finder": pretrained.FINDER}
    whole = recorded("--batch-size", "8")
    assert whole == {name: (each.learning_rate, 8) for name, each in rates.items()}
    assert whole == {name: (each.learning_rate, each.batch_size) for name, each in used[0].items()}
    again = recorded("--batch-size", "4", "--start-from", "bundled")
    assert again["handpose"] == (pretrained.AGAIN.learning_rate, 4) == (used[1]["handpose"].learning_rate, 4)
    assert "finder" not in used[1] and again["finder"] == whole["finder"]  # which was not trained
    assert recorded("--score") == again and len(used) == len(drawn) == 2


def test_graphs_are_written_alone_too_and_those_of_earlier_networks_go(tmp_path, monkeypatch, capsys, used):
    weights = tmp_path / "data" / "weights"
    (weights / "graphs").mkdir(parents=True)
    for name, file in (("handpose", bundled_weights()), ("finder", bundled_weights().with_name("finder.safetensors"))):
        (weights / f"{name}.safetensors").write_bytes(file.read_bytes())
    (weights / "graphs" / "old.onnx").touch()

    def write(network: nn.Module, folder: Path, eight_bit: bool = False) -> Path:
        path = folder / f"{fingerprint(network, eight_bit)}.onnx"
        path.touch()
        return path

    monkeypatch.setattr(pretrained, "write_graph", write)
    monkeypatch.setattr(pretrained, "write_decoder", lambda graph, decoder: decoder.touch())
    monkeypatch.setattr(sys, "argv", ["pretrained", "--graphs"])
    pretrained.main()
    bundled = bundled_weights().parent / "graphs"
    assert {path.name for path in (weights / "graphs").iterdir()} == {path.name for path in bundled.glob("*.onnx")}

    def refuse(*given) -> Path:
        raise ModuleNotFoundError("this needs onnx")

    monkeypatch.setattr(pretrained, "write_graph", refuse)
    monkeypatch.setattr(sys, "argv", ["pretrained"])
    pretrained.main()  # the scores are written all the same
    assert (tmp_path / "figures" / "weights.json").is_file()
    assert "no graphs were written (this needs onnx): write them elsewhere, with --graphs" in capsys.readouterr().out


def test_the_last_stage_disturbs_less_than_the_first():
    first, last = pretrained.NETWORK.augmentation, pretrained.LAST.augmentation
    for name in ("spectrum", "wear", "occluders", "brightness", "contrast", "saturation", "tint"):
        assert getattr(last, name) < getattr(first, name), name
    assert (last.rotation, last.scale, last.shift) == (first.rotation, first.scale, first.shift)
    assert pretrained.LAST.sigma_start == pretrained.LAST.sigma_end == pretrained.NETWORK.sigma_end
