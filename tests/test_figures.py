"""The README's pictures and tables are those of the files in figures/; `handpose figures` makes them again."""

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from handpose_lib import cli, figures
from handpose_lib.commands import figures as figures_command

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
import tracking  # noqa: E402 (after its folder is known)

README = ROOT / "README.md"


def test_the_readmes_tables_are_those_of_the_files():
    card = (ROOT / "data" / "weights" / "README.md").read_text(encoding="utf-8")
    assert figures.with_tables(card, ROOT / "figures") == card, (
        "the weights' card is out of date: run `handpose figures`"
    )
    text = README.read_text(encoding="utf-8")
    assert {"bench", "weights"} <= set(re.findall(r"<!-- table: (\S+) -->", text))
    assert figures.with_tables(text, ROOT / "figures") == text, "README.md is out of date: run `handpose figures`"


@pytest.mark.parametrize("name", figures.PICTURES)
def test_a_picture_was_drawn_from_the_files_that_are_there(name: str):
    noted = figures.noted_hash(ROOT / "figures" / name)
    assert noted == figures.source_hash(name, ROOT / "figures"), f"{name} is out of date: run `handpose figures`"


def test_the_readme_shows_no_picture_that_nobody_draws():
    shown = re.findall(r"!\[[^\]]*\]\(figures/([^)]+)\)", README.read_text(encoding="utf-8"))
    assert shown and set(shown) <= set(figures.PICTURES)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A README and the files in figures/, without the pictures."""
    shutil.copytree(ROOT / "figures", tmp_path / "figures", ignore=shutil.ignore_patterns(*figures.PICTURES))
    shutil.copyfile(README, tmp_path / "README.md")
    return tmp_path


def test_write_all_makes_pictures_and_tables_anew(copy: Path):
    folder = copy / "figures"
    (copy / "README.md").write_text("a\n<!-- table: bench -->\nold\n<!-- /table -->\nb\n")
    written = figures.write_all([copy / "README.md"], folder)
    assert [path.name for path in written] == [*figures.PICTURES, "README.md"]
    for name in figures.PICTURES:
        assert cv2.imread(str(folder / name)).std() > 10
        assert figures.noted_hash(folder / name) == figures.source_hash(name, folder)
    text = (copy / "README.md").read_text()
    assert (
        text.startswith("a\n<!-- table: bench -->\n|") and text.endswith("<!-- /table -->\nb\n") and "old" not in text
    )


def test_another_csv_makes_the_picture_out_of_date(copy: Path):
    before = figures.source_hash("per_keypoint_accuracy.png", copy / "figures")
    path = copy / "figures" / "per_keypoint_accuracy.csv"
    table = pd.read_csv(path)
    table.loc[3, "pck_0.2_bbox"] += 0.01
    table.to_csv(path, index=False)
    assert figures.source_hash("per_keypoint_accuracy.png", copy / "figures") != before
    assert figures.draw_per_keypoint(copy / "figures").axes[0].patches[3].get_height() == pytest.approx(
        table.loc[3, "pck_0.2_bbox"]
    )


def test_the_mean_hand_stands_beside_scores_of_the_same_hands_only(copy: Path):
    def legend() -> list[str]:
        figure = figures.draw_per_keypoint(copy / "figures")
        return [text.get_text().split(":")[0] for text in figure.legends[0].get_texts()]

    assert legend() == ["bars, U-Net", "mean hand"]
    path = copy / "figures" / "per_keypoint_accuracy.csv"
    table = pd.read_csv(path)
    table.assign(count=3960).to_csv(path, index=False)  # of another test set
    assert legend() == ["bars, U-Net"] and not figures.draw_per_keypoint(copy / "figures").axes[0].lines
    table.drop(columns="count").to_csv(path, index=False)
    assert legend() == ["bars, U-Net"]


def test_another_bench_makes_the_readme_out_of_date(copy: Path):
    path = copy / "figures" / "bench_cpu.json"
    report = json.loads(path.read_text())
    report["devices"]["cpu"]["rows"][0]["ratio"] = 1.234
    path.write_text(json.dumps(report))
    text = README.read_text(encoding="utf-8")
    assert "1.23 (" in figures.with_tables(text, copy / "figures") != text


def test_results_of_chapter_07_are_copied_first(copy: Path, tmp_path_factory: pytest.TempPathFactory):
    results = tmp_path_factory.mktemp("results")
    with pytest.raises(FileNotFoundError, match="make notebooks CHAPTER=07"):
        figures.write_all([copy / "README.md"], copy / "figures", results)
    table = pd.read_csv(copy / "figures" / "per_keypoint_accuracy.csv").assign(**{"pck_0.2_bbox": 0.5})
    table.to_csv(results / "per_keypoint_accuracy.csv", index=False)
    figures.write_all([copy / "README.md"], copy / "figures", results)
    assert (pd.read_csv(copy / "figures" / "per_keypoint_accuracy.csv")["pck_0.2_bbox"] == 0.5).all()


def test_a_gpu_that_was_measured_has_a_column_of_its_own(copy: Path):
    report = json.loads((copy / "figures" / "bench_cpu.json").read_text())
    (copy / "figures" / "bench_gpu.json").unlink(missing_ok=True)
    assert "| a GPU |" in figures.bench_table(copy / "figures").splitlines()[0]
    gpu = json.loads(json.dumps(report["devices"]["cpu"])) | {"name": "A GPU of 1999"}
    gpu["rows"] = [row | {"ratio": 0.5} for row in gpu["rows"] if row["row"] == "a"]
    report["devices"]["cuda"] = gpu
    (copy / "figures" / "bench_gpu.json").write_text(json.dumps(report | {"gpu_over_cpu": 41.7}))
    lines = figures.bench_table(copy / "figures").splitlines()
    assert "A GPU of 1999; width" in lines[0]
    cells = {line.split("|")[1].strip()[:3]: line.split("|")[3] for line in lines[2:]}
    assert cells["(a)"].startswith(" 0.5 (") and cells["(b)"] == " not measured " and cells["(f)"] == " 42 "
    assert cells["(g)"] == " – " and {line.split("|")[2] for line in lines if "(f)" in line} == {" – "}


def test_the_processor_of_a_gpu_has_a_column_and_rows_say_how_long_a_picture_takes(tmp_path: Path):
    (tmp_path / "bench_cpu.json").write_bytes((ROOT / "figures" / "bench_cpu.json").read_bytes())
    (tmp_path / "bench_gpu.json").write_bytes((ROOT / "figures" / "bench_gpu.json").read_bytes())
    lines = figures.bench_table(tmp_path).splitlines()
    assert [head.split(";")[0].strip() for head in lines[0].split("|")[2:-1]] == [
        "Intel(R) Xeon(R) Processor, 2 threads", "NVIDIA H200", "Intel(R) Xeon(R) Processor, 16 threads",
    ]  # fmt: skip
    (tracked,) = (line.split("|") for line in lines if "(i)" in line)
    assert tracked[3] == " – " and tracked[4] == " 0.264 (0.26–0.267): 10.8 ÷ 40.3 ms each "


def test_the_table_of_the_weights_says_how_each_score_was_made(tmp_path: Path):
    assert "not measured" in figures.weights_table(tmp_path)
    row = {"data": "rendered hands", "images": 1240, "hands": 310, "pck_0.2_bbox": 0.9127, "epe": 3.456,
           "unit": "px of 128", "how": "whole image", "interval": [0.89, 0.931]}  # fmt: skip
    (tmp_path / "weights.json").write_text(json.dumps({"rows": [row], "settings": {}}))
    line = figures.weights_table(tmp_path).splitlines()[2]
    assert line == "| rendered hands | 0.913 (0.890–0.931) | 3.46 px of 128 | 1,240 images, 310 hands; whole image |"


def test_the_ablation_shows_the_mean_over_seeds_with_lowest_and_highest(tmp_path: Path):
    assert "not measured" in figures.ablation_table(tmp_path)
    rows = [("all", seed, "rendered", 0.8 + seed / 100, 5.0) for seed in (0, 1, 2)] + [
        ("no forearm", 0, "real", 0.5, 9)
    ]
    columns = ["row", "seed", "data", "pck_0.2_bbox", "epe_px128"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "ablation.csv", index=False)
    lines = figures.ablation_table(tmp_path).splitlines()
    assert lines[2] == "| all | 3 | 0.810 (0.800–0.820), 5.0 px | – |"
    assert lines[3] == "| no forearm | 1 | – | 0.500 (0.500–0.500), 9.0 px |"


def test_the_rehearsal_shows_minutes_and_gigabytes_of_each_stage(tmp_path: Path):
    assert "not measured" in figures.rehearsal_table(tmp_path)
    stages = [
        {"stage": "zips", "seconds": 90, "machine_mb": 0, "drive_mb": 0},
        {"stage": "06_gpu_training: resumed", "seconds": 600, "cpu_seconds": 720, "peak_mb": 2345, "machine_mb": 4321},
    ]
    (tmp_path / "rehearsal.json").write_text(json.dumps({"stages": stages}))
    lines = figures.rehearsal_table(tmp_path).splitlines()
    assert lines[2] == "| zips | 1.5 min |  |  |  |  |"
    assert lines[3] == "| 06 gpu training: resumed | 10.0 min | 12.0 min | 2.3 GB | 4.3 GB |  |"


def test_an_unknown_table_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="no table is called 'banch': there are bench, profile, weights, ablation"):
        figures.with_tables("<!-- table: banch -->\n<!-- /table -->", ROOT / "figures")


def test_an_installed_package_says_that_it_has_no_readme(monkeypatch, capsys):
    monkeypatch.setattr(figures_command, "checkout_root", lambda: None)
    with pytest.raises(SystemExit):
        cli.main(["figures"])
    assert "a checkout of the project" in capsys.readouterr().err


def test_the_readme_quotes_the_bench_beside_mediapipe_as_it_was_measured():
    report = json.loads((ROOT / "figures" / "bench_mediapipe.json").read_text())
    rows = {row["row"]: row for row in report["devices"]["cpu"]["rows"]}
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert f"an {report['cpu']} that other programs shared (`figures/bench_mediapipe.json`)" in text
    assert (
        f"took {rows['m']['ms_each'][0]:.1f} ms there, {rows['m']['ratio']:.2f} times as long as by PyTorch alone; in "
        f"8 bits {rows['n']['ms_each'][0]:.1f} ms where it was {rows['n']['ms_each'][1]:.1f} in 32, "
        f"{rows['n']['ratio']:.2f} times as long, and "
        f"{rows['k']['ratio']:.2f} times as long as MediaPipe 0.10.21"
    ) in text
    assert f"{rows['l']['ratio']:.2f} times as long as without choosing peaks" in text


def test_what_small_squares_and_8_bits_cost_is_quoted_as_it_was_measured():
    error = json.loads((ROOT / "figures" / "tracking.json").read_text())["mean"]
    page = json.loads((ROOT / "figures" / "page.json").read_text())
    files = README, ROOT / "data" / "weights" / "README.md"
    readme, card = (" ".join(file.read_text(encoding="utf-8").split()) for file in files)
    share = page["fastest"]["cpu_ms_per_frame"] / page["fast"]["cpu_ms_per_frame"]
    assert page["auto"]["side"] == page["fastest"]["side"] < page["fast"]["side"], "it was measured where it switches"
    small, whole = (error[name] for name in ("error_small_squares_px", "error_px_32_bits"))
    small_live, whole_live = (error[name] for name in ("error_live_small_squares_px", "error_live_px"))
    assert (
        f"frame then takes {share:.2f} times as long (`figures/page.json`), and the mean error on four rendered films "
        f"is {small:.1f} px instead of {whole:.1f}. But if a look at a whole square takes two frames of a camera and "
        f"one at a small square takes one, the newest answer is {small_live:.1f} px from where the hand has got to by "
        f"then, instead of {whole_live:.1f} (`figures/tracking.json`)"
    ) in readme
    assert f"films is {error['error_px']:.2f} px instead of {error['error_px_32_bits']:.2f} (" in card


def test_a_live_answer_is_as_old_as_a_look_takes():
    """A hand that moves 1 px per frame, and answers that are right: the next one comes a look after its frame."""
    truth = torch.arange(9.0)[:, None, None] * torch.tensor([1.0, 0.0]).expand(21, 2)
    assert tracking.live_error(truth, truth, late=1) == pytest.approx(1)
    assert tracking.live_error(truth[::2], truth, late=2) == pytest.approx(np.mean([2, 3, 2, 3, 2, 3, 2]))
