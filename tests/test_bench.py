import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from handpose_lib import bench, conventional
from handpose_lib.cli import main
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import decode_heatmaps, render_heatmaps
from handpose_lib.loader import Batch, HandBatches
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.settings import TrainSettings


def test_only_what_the_bench_takes_is_offered(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    shown = capsys.readouterr().out
    assert "--root" in shown and "--share" not in shown


def test_the_conventional_pipeline_gives_our_tensors(bundled_root: Path):
    dataset, settings = FreiHAND(bundled_root, "val"), TrainSettings()
    usual = conventional.ConventionalSamples(dataset, settings)
    batch = next(HandBatches(dataset, settings.framing, 8, settings.augmentation).epoch(0))
    heatmaps = render_heatmaps(batch.keypoints, (128, 128), conventional.SIGMA)
    for item, image, maps, visible in zip(batch.index, batch.images, heatmaps, batch.visible, strict=True):
        their_image, their_maps = usual[int(item)]
        assert (their_image - image).abs().mean() < 0.03  # of a range of 4: OpenCV interpolates in 1/32 px
        assert (their_maps - maps)[visible].abs().max() < 0.06  # a dot spread over four pixels is a little wider


def test_the_loops_that_we_compare_with_compute_the_same():
    keypoints = torch.tensor([[[20.3, 40.8], [70.0, 9.5]]])
    maps = render_heatmaps(keypoints, (96, 96), conventional.SIGMA)
    assert np.allclose(conventional.render_by_loop(keypoints.numpy(), 96), maps.numpy(), atol=1e-5)
    assert np.allclose(conventional.decode_by_loop(maps.numpy()), decode_heatmaps(maps)[0].numpy(), atol=0.05)
    pred, target = bench.loss_inputs(1, "cpu")
    assert conventional.textbook_awing(pred, target).item() == pytest.approx(
        AdaptiveWingLoss()(pred, target).item(), rel=1e-4
    )


def test_the_row_of_rendered_hands_counts_what_was_written(bundled_root: Path, monkeypatch: pytest.MonkeyPatch):
    written = []
    write_dataset = bench.write_dataset

    def watched(out: Path, hands: int, **options) -> Path:
        write_dataset(out, hands, workers=1, **options)
        written.append(len(list((out / "training" / "rgb").glob("*.jpg"))))
        return out

    monkeypatch.setattr(bench, "write_dataset", watched)
    rows = bench.Bench(bundled_root, torch.device("cpu"))
    rows.rendering_of_hands(hands=2)
    assert written == [8, 8, 8]  # four versions each
    (row,) = rows.rows
    assert row["row"] == "g" and row["ratio"] == pytest.approx(row["hands_per_second"] / bench.HANDS_PER_SECOND)
    assert row["low"] > 0


def test_a_row_holds_the_median_ratio_and_its_middle_half(bundled_root: Path, capsys):
    rows = bench.Bench(bundled_root, torch.device("cpu"), repeats=3)
    assert rows.add("x", "test", [1.0, 2.0, 3.0, 4.0, 10.0]) == 3.0
    assert rows.rows == [{"row": "x", "what": "test", "ratio": 3.0, "low": 2.0, "high": 4.0}]
    calls = []
    rows.compare("y", "test", lambda: calls.append(1), lambda: calls.append(2))
    assert calls == [1, 2] * 4  # warmed up once, then in turn
    assert len(json.loads(json.dumps(rows.rows))) == 2
    assert "x" in capsys.readouterr().out


def test_rows_of_prediction_compare_what_they_say(bundled_root, capsys):
    rows = bench.Bench(bundled_root, torch.device("cpu"), repeats=1)
    threads = torch.get_num_threads()
    bench.prediction(rows, pictures=3)
    assert torch.get_num_threads() == threads
    found = {row["row"]: row for row in rows.rows}
    assert {"h", "i", "j", "l"} <= found.keys()
    said = capsys.readouterr().out
    assert ("m" in found) != ("for want of ONNX Runtime" in said)
    assert "m" not in found or ("n" in found) != ("no row in 8 bits" in said)
    assert ("k" in found) != ("MediaPipe is not installed" in said)
    assert all(row["seconds"][0] == pytest.approx(row["ratio"] * row["seconds"][1], rel=0.01) for row in rows.rows)
    assert found["i"]["ms_each"][1] == pytest.approx(found["h"]["ms_each"][0], rel=3)  # the same work, timed twice


def test_a_package_that_is_missing_has_no_version():
    assert bench.installed_version("numpy") == np.__version__ and bench.installed_version("no-such-package") is None


def test_where_the_peak_memory_can_not_be_measured_its_row_alone_is_left_out(bundled_root, monkeypatch, capsys):
    run = subprocess.run

    def elsewhere(command: list[str], **options) -> subprocess.CompletedProcess:  # as on a system without /proc
        return run([sys.executable, "-c", "open('/nowhere/clear_refs')"], **options)

    monkeypatch.setattr(bench.subprocess, "run", elsewhere)
    rows = bench.Bench(bundled_root, torch.device("cpu"), repeats=1)
    rows.settings = dataclasses.replace(rows.settings, batch_size=1)
    rows.loss()
    assert [row["what"] for row in rows.rows] == ["Adaptive Wing loss, forward + backward / the textbook form"]
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("c    the peak memory can't be measured here (FileNotFoundError: ") and "/nowhere/" in said


def test_the_data_path_is_measured_where_no_hand_is_wholly_visible(bundled_root: Path, monkeypatch):
    class CutOff(HandBatches):
        def epoch(self, number: int) -> Iterator[Batch]:
            for batch in super().epoch(number):
                yield dataclasses.replace(batch, visible=torch.zeros_like(batch.visible))

    rows = bench.Bench(bundled_root, torch.device("cpu"), repeats=1)
    theirs = torch.zeros(8, 3, 128, 128), torch.zeros(8, 21, 128, 128)
    monkeypatch.setattr(bench, "DataLoader", lambda *given, **options: [theirs])  # not timed here
    monkeypatch.setattr(bench, "HandBatches", CutOff)
    rows.train_set, rows.settings = rows.val_set, dataclasses.replace(rows.settings, batch_size=8)
    rows.data_path()
    (row,) = json.loads(json.dumps(rows.rows, allow_nan=False))
    assert row["row"] == "b" and row["largest_heatmap_difference"] is None and row["mean_image_difference"] < 0.03
