"""What runs on a GPU stays there: proved without one, by tensors that have a shape and a device but no numbers.

PyTorch's `FakeTensorMode` makes tensors on "cuda" where there is none, and raises where two devices meet in one
operation. So this proves where tensors lie, and neither speed nor numbers; for those a GPU is needed
(`handpose bench --json figures/bench_gpu.json`). What needs real numbers is left out or replaced: the keyed random
numbers (which go through numpy), the backward pass and the optimiser, pinned memory.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, Future

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from handpose_lib import augment, devices, evaluate, loader, train
from handpose_lib.augment import Augmentation
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import METHODS, decode_heatmaps, render_heatmaps
from handpose_lib.loader import HandBatches, decoded_images
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.metrics import epe, pck
from handpose_lib.predict import HandPosePredictor
from handpose_lib.settings import TrainSettings
from handpose_lib.train import Trainer
from handpose_lib.unet import UNet2DHandPose

CUDA = torch.device("cuda", 0)
FRAMINGS = [Framing(32), Framing(32, crop=0.5, upright=True)]
PRECISIONS = {(7, 5): torch.float16, (8, 0): torch.bfloat16}  # compute capability -> what it multiplies in


@pytest.fixture
def gpu(tiny_train: FreiHAND, tiny_val: FreiHAND, monkeypatch) -> Iterator[None]:
    """A machine that seems to have a GPU; images are decoded before, since that takes real memory."""
    for dataset in (tiny_train, tiny_val):
        decoded_images(dataset, 32, progress=False)
    monkeypatch.setattr(augment, "keyed_uniform", lambda seed, epoch, ids, count: torch.rand(len(ids), count))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # or autocast is off
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (10**10, 10**10))
    copy = lambda self, memo: network(self.width, self.depth, framing=self.framing)  # noqa: E731
    monkeypatch.setattr(UNet2DHandPose, "__deepcopy__", copy, raising=False)  # fake weights can't be copied
    monkeypatch.setattr(nn.Module, "to", lambda self, *where, **how: self)  # `network` makes them where they belong
    monkeypatch.setattr(loader, "ThreadPoolExecutor", InTurn)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


class InTurn(Executor):
    """Does at once what a thread would do beside: fake tensors are not made for two threads."""

    def __init__(self, workers: int):
        pass

    def submit(self, work, /, *arguments) -> Future:
        done: Future = Future()
        done.set_result(work(*arguments))
        return done


def network(*shape, **options) -> UNet2DHandPose:
    """A U-Net whose weights are made on the GPU."""
    with torch.device(CUDA):
        return UNet2DHandPose(*shape, **options)


def batches(dataset: FreiHAND, framing: Framing, resident: bool, size: int = 8) -> HandBatches:
    return HandBatches(dataset, framing, size, Augmentation(), device=CUDA, resident=resident, progress=False)


def test_two_devices_in_one_operation_are_noticed(gpu):
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(3, device=CUDA) + torch.ones(3)


@pytest.mark.parametrize("framing", FRAMINGS, ids=["whole", "cropped"])
@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_batches_are_made_on_the_gpu(gpu, tiny_train, framing, resident):
    made = batches(tiny_train, framing, resident)
    assert made.images.device == (CUDA if resident else torch.device("cpu"))
    for batch in (next(made.epoch(0)), next(made.in_order())):
        assert {batch.images.device, batch.keypoints.device, batch.visible.device, batch.from_full.device} == {CUDA}
        assert batch.images.shape == (8, 3, 32, 32) and batch.index.device.type == "cpu"


@pytest.mark.parametrize(("capability", "dtype"), PRECISIONS.items())
def test_a_training_step_up_to_the_loss_runs_on_the_gpu(
    gpu, tiny_train, tiny_val, tmp_path, monkeypatch, capability, dtype
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(train, "network_of", lambda s: network(s.width, s.depth, framing=s.framing))
    monkeypatch.setattr(train, "pick_device", lambda wanted: CUDA)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: seen.append(self))
    settings = TrainSettings(framing=Framing(32), width=4, depth=2, batch_size=8)
    trainer = Trainer(settings, tiny_train, tiny_val, tmp_path, "cuda")
    monkeypatch.setattr(trainer.optimizer, "step", lambda *_, **__: None)
    trainer.scaler = torch.amp.GradScaler("cpu", enabled=False)
    seen, widths = [], []
    trainer.model.head.register_forward_hook(lambda module, inputs, output: widths.append(output.dtype))
    step = trainer.train_step
    loss = step(next(trainer.batches.epoch(0)))
    assert trainer.precision == dtype == widths[0]
    assert loss.device == CUDA and seen[0].dtype == torch.float32 and trainer.losses.device == CUDA
    trainer.losses[0] = loss


@pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=str)
@pytest.mark.parametrize("foreground_weight", [0, 10])
def test_the_loss_is_computed_in_float32_on_the_gpu(gpu, dtype, foreground_weight):
    keypoints, visible = torch.rand(2, 21, 2, device=CUDA), torch.ones(2, 21, dtype=torch.bool, device=CUDA)
    targets = render_heatmaps(keypoints, (32, 32), 2.0)
    heatmaps = torch.rand(2, 21, 32, 32, device=CUDA, dtype=dtype, requires_grad=True)
    loss = AdaptiveWingLoss(foreground_weight=foreground_weight)(heatmaps, targets, visible)
    assert loss.device == CUDA and loss.dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_decoders_stay_on_the_gpu_and_metrics_take_their_points_to_the_processor(gpu, method, monkeypatch):
    keypoints, confidence = decode_heatmaps(torch.rand(2, 21, 32, 32, device=CUDA), method)
    assert keypoints.device == confidence.device == CUDA
    monkeypatch.setattr(FakeTensor, "__bool__", lambda self: False)  # "is anything not finite?"
    visible = torch.ones(2, 21, dtype=torch.bool, device=CUDA)
    for score in (pck, epe):
        assert score(keypoints, torch.rand(2, 21, 2, device=CUDA), visible=visible).device.type == "cpu"


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_predictions_for_a_data_set_come_back_to_the_processor(gpu, tiny_val, resident):
    model = network(4, 2, framing=Framing(32))
    keypoints, confidence = evaluate.predict_keypoints(model, batches(tiny_val, Framing(32), resident, 2))
    assert keypoints.shape == (len(tiny_val), 21, 2)
    assert keypoints.device == confidence.device == torch.device("cpu")


@pytest.mark.parametrize("framing", FRAMINGS, ids=["whole", "cropped"])
def test_the_predictors_network_sees_pictures_on_the_gpu(gpu, framing):
    predictor = HandPosePredictor(network(4, 2, framing=framing), CUDA)
    seen = []
    predictor.model.register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0], output)))
    heatmaps = predictor._heatmaps(torch.rand(2, 3, 32, 32, device=CUDA), mirrored=True)
    assert heatmaps.device == CUDA and heatmaps.dtype == torch.float32
    assert {each.device for each in seen} == {CUDA} and seen[1].dtype == torch.float16


@pytest.mark.parametrize(
    ("device", "capability", "wanted", "dtype"),
    [
        ("cpu", None, "auto", None),
        ("mps", None, "auto", None),
        ("cpu", None, "bfloat16", torch.bfloat16),
        ("cuda", (6, 0), "auto", torch.float16),  # P100
        ("cuda", (7, 0), "auto", torch.float16),  # V100
        ("cuda", (7, 5), "auto", torch.float16),  # T4: PyTorch says that it supports bfloat16, and emulates it
        ("cuda", (7, 5), "bfloat16", torch.float16),
        ("cuda", (7, 5), "float32", None),
        ("cuda", (8, 0), "auto", torch.bfloat16),  # A100
        ("cuda", (8, 9), "auto", torch.bfloat16),  # L4
        ("cuda", (9, 0), "bfloat16", torch.bfloat16),  # H100
        ("cuda", (10, 0), "auto", torch.bfloat16),
        ("cuda", (10, 0), "float32", None),
    ],
)
def test_each_device_gets_the_precision_that_it_is_fast_in(monkeypatch, device, capability, wanted, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)  # what it says on a T4, too
    assert devices.half_precision(torch.device(device), wanted) == dtype
