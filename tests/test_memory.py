"""The arithmetic of memory, held against what autograd keeps on a CPU."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from handpose_lib.freihand import split_rows
from handpose_lib.memory import kept_activations, largest_batch, training_memory
from handpose_lib.settings import PRESETS
from handpose_lib.unet import UNet2DHandPose

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
    parameters = sum(p.numel() for p in UNet2DHandPose(settings.width, settings.depth).parameters())
    images = 4 * (len(split_rows(HANDS, "train")) + len(split_rows(HANDS, "val")))
    assert images * 3 * settings.framing.image_size**2 <= T4 / 2, (
        "streamed: `loader.fits` wants half of the memory free"
    )
    size = (settings.width, settings.depth, settings.framing.image_size)
    parts = training_memory(*size, settings.batch_size, parameters, images)
    assert parts["total"] <= T4, parts
    assert largest_batch(T4 - parts["decoded images"], *size, parameters) == settings.batch_size
    # In 32 bits, as the textbook would, and with its loss, that batch does not fit.
    assert training_memory(*size, settings.batch_size, parameters, images, half=False)["total"] > T4
