"""The arithmetic of memory, held against what autograd keeps on a CPU."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from handpose_lib.freihand import split_rows
from handpose_lib.memory import kept_activations, largest_batch, training_memory
from handpose_lib.settings import PRESETS
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import network_of

ROOT = Path(__file__).resolve().parent.parent
T4, HANDS = 15e9, 32_560  # bytes; FreiHAND's


def kept_by_autograd(width: int, depth: int, size: int, batch: int, dtype: torch.dtype) -> int:
    """Bytes of all that a forward pass keeps, each piece of memory once, the weights left out."""
    model = UNet2DHandPose(width, depth).to(dtype)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        heatmaps = model(torch.randn(batch, 3, size, size, dtype=dtype))
    total = sum(storage.nbytes() for storage in kept.values())
    heatmaps.sum().backward()
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("width", "depth", "size", "batch"), [(8, 3, 32, 2), (16, 2, 48, 3), (4, 4, 64, 2)])
def test_the_arithmetic_is_what_autograd_keeps(width, depth, size, batch, dtype):
    counted = kept_activations(width, depth, size, batch, torch.finfo(dtype).bits // 8)
    assert kept_by_autograd(width, depth, size, batch, dtype) == pytest.approx(counted, rel=0.01)


def test_full_trains_on_a_t4_with_freihand_on_the_gpu():
    settings = PRESETS["full"]
    assert type(network_of(settings)) is UNet2DHandPose, "the arithmetic is that of the course's U-Net"
    parameters = sum(p.numel() for p in UNet2DHandPose(settings.width, settings.depth).parameters())
    images = 4 * (len(split_rows(HANDS, "train")) + len(split_rows(HANDS, "val")))
    decoded = images * 3 * settings.framing.image_size**2
    assert decoded > T4 / 3, "streamed: `loader.fits` wants two thirds of the memory for the training"
    size = (settings.width, settings.depth, settings.framing.image_size)
    parts = training_memory(*size, settings.batch_size, parameters)
    assert parts["total"] <= 0.7 * T4, parts  # PyTorch reserved 11 % more than its peak on an H200; CUDA takes its own
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"a training step takes {parts['total'] / 1e9:.1f} GB by the arithmetic" in readme
    assert f"another {decoded / 1e9:.1f} GB" in readme
    assert largest_batch(T4, *size, parameters) == settings.batch_size
    # In 32 bits, as the textbook would, and with its loss, that batch does not fit.
    assert training_memory(*size, settings.batch_size, parameters, half=False)["total"] > T4


def test_the_arithmetic_is_what_an_h200_was_measured_at():
    """`torch.cuda.max_memory_allocated` over steps of `full` on the bundled sample's 1,476 images, torch 2.11."""
    settings = PRESETS["full"]
    parameters = sum(p.numel() for p in UNet2DHandPose(settings.width, settings.depth).parameters())
    size = (settings.width, settings.depth, settings.framing.image_size)
    total = training_memory(*size, settings.batch_size, parameters, resident_images=1_476)["total"]
    assert total == pytest.approx(9.146e9, rel=0.02)


def test_full_gets_by_with_the_memory_of_a_free_colab_machine():
    """Peaks that were measured on a tree of FreiHAND's size, pages of mapped files included; the batch was smaller."""
    stages = json.loads((ROOT / "figures" / "full_proof.json").read_text(encoding="utf-8"))["stages"]
    highest = max(row["peak_mb"] for row in stages)
    assert highest < 12_000
    assert f"a stage took {highest / 1e3:.1f} GB" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert max(row["own_mb_after"] for row in stages) < 6_000


def test_the_readmes_estimate_of_the_training_time_follows_from_the_network_and_the_preset():
    text, settings = (ROOT / "README.md").read_text(encoding="utf-8"), PRESETS["full"]
    side = settings.framing.image_size
    with torch.device("meta"):
        network, image = network_of(settings), torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(image)
    with FlopCounterMode(display=False) as both:
        network(image).sum().backward()
    batches = len(split_rows(HANDS, "train")) // settings.batch_size
    trained, validated = batches * settings.batch_size, 4 * len(split_rows(HANDS, "val"))
    step, look = both.get_total_flops(), forward.get_total_flops()
    assert f"of {trained:,} images ({batches} batches) at {step / 1e9:.1f} GFLOP each" in text
    assert re.search(rf"{validated:,} images at\s+{look / 1e9:.1f} GFLOP", text)
    total = settings.epochs * (trained * step + validated * look)
    assert f"{total / 1e17:.2f}·10¹⁷ divided by the rate" in text
    fast, slow = (f"{total / (65e12 * use) / 3600:.1f}" for use in (0.20, 0.15))
    (row,) = (line for line in text.splitlines() if "65 TFLOP/s" in line)
    assert f"{fast} to {slow} hours" in row and "15–20 % use" in row
    report = json.loads((ROOT / "figures" / "bench_gpu.json").read_text(encoding="utf-8"))["devices"]["cuda"]
    (measured,) = (row for row in report["rows"] if row["row"] == "e")
    assert (report["name"], report["settings"]["width"]) == ("NVIDIA H200", settings.width)
    rate, minutes = measured["images_per_second"], settings.epochs * trained / measured["images_per_second"] / 60
    (row,) = (line for line in text.splitlines() if line.startswith("| an H200 "))
    assert f"| {minutes:.0f} minutes, and" in row and f"{rate:,.0f} images/s" in row
    assert f"used to {100 * measured['flops'][0] / 990e12:.0f} %" in text
