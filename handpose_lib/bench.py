"""`handpose bench`: what the data path, the loss and the step cost, as ratios from one run on one machine.

Each row divides two times (or sizes) that were measured in turn, a few times over; its spread is the middle half of the
ratios so found. On a GPU the network is the course's full one, on a CPU a narrow one. The README says "not measured" of
a GPU until `handpose bench --json figures/bench_gpu.json` has run on a machine that has one.
"""

import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from handpose_lib.bench_predict import PICTURES, prediction
from handpose_lib.conventional import SIGMA, ConventionalSamples, decode_by_loop, render_by_loop, textbook_awing
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import decode_heatmaps, render_heatmaps
from handpose_lib.loader import Batch, HandBatches
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.settings import TrainSettings
from handpose_lib.storage import atomic_path
from handpose_lib.synthhand import write_dataset
from handpose_lib.train import Trainer
from handpose_lib.unet import UNet2DHandPose

HANDS_PER_SECOND = 25.0  # what row g is measured against: 10,000 hands in less than seven minutes


class Bench:
    """The measurements of one run on one device."""

    def __init__(self, root: Path, device: torch.device, repeats: int = 7):
        self.device, self.repeats = device, repeats
        gpu = device.type == "cuda"
        width, batch = (64, 128) if gpu else (16, 32)
        self.settings = TrainSettings(width=width, batch_size=batch, framing=Framing(128))
        self.train_set, self.val_set = FreiHAND(root, "train"), FreiHAND(root, "val")
        if len(self.train_set) < batch or len(self.val_set) < PICTURES:
            raise ValueError(
                f"{root} has {len(self.train_set)} images for training and {len(self.val_set)} for validation: the "
                f"bench needs {batch} and {PICTURES}, as the bundled sample has (leave out --root)"
            )
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = Trainer(self.settings, self.train_set, self.val_set, self.folder.name, device)
        self.trainer.model.train()
        self.steps = 20 if gpu else 1  # of a timed stretch
        self.rows: list[dict] = []

    def time(self, work: Callable[[], object]) -> float:
        """Seconds of one call, the device's work included."""
        self._wait()
        begin = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begin

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def compare(self, name: str, what: str, one: Callable[[], object], other: Callable[[], object], **notes) -> float:
        """Add the row one / other: both warmed up, then timed in turn."""
        one(), other()
        pairs = [(self.time(one), self.time(other)) for _ in range(self.repeats)]
        return self.add(name, what, [a / b for a, b in pairs], seconds=medians(pairs), **notes)

    def add(self, name: str, what: str, ratios: list[float], **notes) -> float:
        """Add a row from ratios that were measured; its value is their median."""
        low, middle, high = np.percentile(ratios, [25, 50, 75]).tolist()
        notes = {k: [float(f"{x:.4g}") for x in v] if isinstance(v, list) else v for k, v in notes.items()}
        row = {"row": name, "what": what, "ratio": middle, "low": low, "high": high, **notes}
        self.rows.append(row)
        print(f"{name:4s} {what:72s} {middle:8.3f}  ({low:.3f} to {high:.3f})", flush=True)
        return middle

    def endless(self) -> Callable[[], Batch]:
        """A function that gives the next training batch, epoch after epoch."""
        stream = (batch for epoch in range(10**9) for batch in self.trainer.batches.epoch(epoch))
        return lambda: next(stream)

    def step(self) -> float:
        """Rows a and e; returns the seconds of a training step."""
        following = self.endless()
        fixed = following()

        def steps(get: Callable[[], Batch]) -> None:
            for _ in range(self.steps):
                self.trainer.train_step(get())

        self.compare("a", "training step / the same on a fixed batch on the device", lambda: steps(following),
                     lambda: steps(lambda: fixed))  # fmt: skip
        seconds = self.rows[-1]["seconds"][0] / self.steps
        with FlopCounterMode(display=False) as counter, torch.device("meta"):
            UNet2DHandPose(self.settings.width)(torch.empty(1, 3, 128, 128))
        flop = 3 * counter.get_total_flops() * self.settings.batch_size  # backward costs twice the forward pass
        side = 8192 if self.device.type == "cuda" else 2048
        matrix = torch.randn(side, side, device=self.device, dtype=self.trainer.precision or torch.float32)
        matrix @ matrix
        peak = [2 * side**3 / self.time(lambda: matrix @ matrix) for _ in range(self.repeats)]
        rate = flop / seconds
        notes = {"flops": [rate, statistics.median(peak)], "images_per_second": self.settings.batch_size / seconds}
        self.add("e", "FLOP/s of the step / FLOP/s of a large matrix product", [rate / p for p in peak], **notes)
        return seconds

    def profile(self, steps: int = 3, count: int = 10) -> dict[str, float]:
        """Which operations of torch the training step consists of: their shares of its time, the largest first."""
        batch = self.endless()()
        gpu = self.device.type == "cuda"
        with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiler:
            for _ in range(steps):
                self.trainer.train_step(batch)
            self._wait()
        own = "self_device_time_total" if gpu else "self_cpu_time_total"
        times: dict[str, float] = {}
        for event in profiler.key_averages():
            name = operation_name(event.key)
            times[name] = times.get(name, 0) + getattr(event, own)
        total = sum(times.values())
        largest = sorted(times, key=times.get, reverse=True)[:count]
        shares = {name: round(times[name] / total, 4) for name in largest}
        print(
            "     of the step:", ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()), flush=True
        )
        return shares

    def data_path(self) -> None:
        """Row b: our batches against a `DataLoader` of conventional samples with two workers."""
        settings = self.settings
        conventional = ConventionalSamples(self.train_set, settings)
        ours = HandBatches(
            self.train_set, settings.framing, settings.batch_size, settings.augmentation, device=self.device
        )
        order = ours.order(0)
        batch = next(ours.epoch(0))
        theirs = [conventional[int(i)] for i in batch.index[:8]]
        heatmaps = render_heatmaps(batch.keypoints, ours.framing.size, SIGMA)
        memory = torch.empty_like(heatmaps)
        same_images = float((torch.stack([t[0] for t in theirs]) - batch.images[:8].cpu()).abs().mean())
        drawn = [
            (t[1] - h.cpu()).abs().max() for t, h, v in zip(theirs, heatmaps, batch.visible, strict=False) if v.all()
        ]
        batches = DataLoader(
            conventional, self.settings.batch_size, sampler=order.tolist(), num_workers=2, drop_last=True
        )

        def consume_theirs() -> int:
            count = 0
            for images, maps in batches:
                images.to(self.device), maps.to(self.device)
                count += len(images)
            return count

        def consume_ours() -> int:
            count = 0
            for made in ours.epoch(0):
                render_heatmaps(made.keypoints, ours.framing.size, SIGMA, out=memory)
                count += len(made.index)
            return count

        consume_ours()
        rates = []
        for _ in range(3):
            begin = time.perf_counter()
            count = consume_theirs()
            middle = time.perf_counter()
            for _ in range(4):
                consume_ours()
            self._wait()
            rates.append((4 * count / (time.perf_counter() - middle), count / (middle - begin)))
        largest = float(max(drawn)) if drawn else None  # None: no hand of these is wholly visible
        notes = {"mean_image_difference": same_images, "largest_heatmap_difference": largest}
        what = "images/s of our data path / of a conventional one, two workers"
        self.add("b", what, [a / b for a, b in rates], images_per_second=medians(rates), **notes)

    def loss(self) -> None:
        """Row c: Adaptive Wing loss, time and peak memory against the textbook form."""
        pred, target = loss_inputs(self.settings.batch_size, self.device)
        criterion = AdaptiveWingLoss()
        forms = (criterion, textbook_awing)
        ours, textbook = (lambda form=form: form(pred, target).backward() for form in forms)
        self.compare("c", "Adaptive Wing loss, forward + backward / the textbook form", ours, textbook)
        if self.device.type == "cuda":
            sizes = [peak_on_gpu(work, self.device) for work in (ours, textbook)]
        else:
            try:
                sizes = [peak_in_process(form, self.settings.batch_size) for form in ("ours", "textbook")]
            except subprocess.CalledProcessError as error:
                reason = (error.stderr.strip() or str(error)).splitlines()[-1]
                print(f"c    the peak memory can't be measured here ({reason}): no row with it")
                return
        megabytes = [size / 1e6 for size in sizes]
        self.add("c", "the same, peak memory beyond its inputs", [sizes[0] / sizes[1]], megabytes=megabytes)

    def heatmaps(self, step_seconds: float) -> None:
        """Row d: rendering and decoding, against numpy loops and as a share of a training step."""
        batch = next(self.trainer.batches.epoch(0))
        keypoints, size = batch.keypoints, self.trainer.batches.framing.size
        maps = render_heatmaps(keypoints, size, SIGMA)
        points, drawn = keypoints.cpu().numpy(), maps.cpu().numpy()
        works = (
            (
                "rendering",
                lambda: render_heatmaps(keypoints, size, SIGMA, out=maps),
                lambda: render_by_loop(points, size[0]),
            ),
            ("decoding", lambda: decode_heatmaps(maps), lambda: decode_by_loop(drawn)),
        )
        for name, ours, loop in works:
            self.compare("d", f"{name} heatmaps / a numpy loop over keypoints", ours, loop)
        together = sum(row["seconds"][0] for row in self.rows[-2:])
        self.add("d", "rendering and decoding together / a training step", [together / step_seconds])

    def rendering_of_hands(self, hands: int = 150) -> None:
        """Row g: unique hands rendered per second, each in four versions of 224 px, on all cores."""
        rates = []
        for seed in range(3):
            with tempfile.TemporaryDirectory() as folder:
                begin = time.perf_counter()
                write_dataset(Path(folder) / "hands", hands, seed=seed, progress=False)
                rates.append(hands / (time.perf_counter() - begin))
        what = f"rendered hands per second, in four versions each / {HANDS_PER_SECOND:g}"
        self.add("g", what, [rate / HANDS_PER_SECOND for rate in rates], hands_per_second=statistics.median(rates))


def operation_name(key: str) -> str:
    """What the profiler calls an operation or a GPU's kernel, without namespaces, types and tile sizes.

    >>> operation_name("void at::native::(anonymous namespace)::upsample_nhwc<float>(float const*, int)")
    'upsample_nhwc'
    """
    if inner := re.search(r"(\w+)_kernel_cuda", key):  # what an elementwise kernel does is among its types
        return inner[1]
    if product := re.match(r"sm\d+_xmma_\w*?gemm", key):
        return product[0]
    return re.split(r"[<(]", key.replace("(anonymous namespace)::", ""))[0].split("::")[-1].removeprefix("void ")


def medians(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """The median of the first and of the second numbers."""
    return np.median(np.array(pairs), axis=0).tolist()


def loss_inputs(batch: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Predictions near their targets, and targets: (batch, 21, 128, 128)."""
    generator = torch.Generator().manual_seed(0)
    target = render_heatmaps(torch.rand(batch, 21, 2, generator=generator) * 128, (128, 128), SIGMA)
    pred = target + 0.1 * torch.randn(target.shape, generator=generator)
    return pred.to(device).requires_grad_(), target.to(device)


def peak_on_gpu(work: Callable[[], object], device: torch.device) -> int:
    """Bytes that a call takes at its peak beyond what was taken before."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def peak_in_process(form: str, batch: int) -> int:
    """The same on a CPU: how far a fresh process's largest resident size grows over the loss.

    Raises:
        subprocess.CalledProcessError: the system does not tell: it is no Linux, or `clear_refs` can't be written.
    """
    code = (
        "from handpose_lib import bench; from pathlib import Path\n"
        f"pred, target = bench.loss_inputs({batch}, 'cpu')\n"
        f"loss = bench.AdaptiveWingLoss() if '{form}' == 'ours' else bench.textbook_awing\n"
        "loss(pred[:1], target[:1]).backward(); pred.grad = bench.torch.zeros_like(pred)\n"
        "status = lambda: Path('/proc/self/status').read_text().split('VmHWM:')[1]\n"
        "Path('/proc/self/clear_refs').write_text('5'); before = int(status().split()[0])\n"
        "loss(pred, target).backward(); print((int(status().split()[0]) - before) * 1024)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return max(1, int(result.stdout))


def processor_name() -> str:
    """The CPU's model, where the system says it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """Of a package that may be missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def run(root: Path, out: Path, devices: list[torch.device]) -> dict:
    """Measure on each device, write the JSON file and return what is in it; at most 8 minutes."""
    started = time.perf_counter()
    report: dict = {
        "cpu": processor_name(), "cpu_threads": torch.get_num_threads(), "torch": torch.__version__,
        "onnxruntime": installed_version("onnxruntime"), "devices": {},
    }  # fmt: skip
    for device in devices:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        print(f"{name}: ratio (middle half)")
        bench = Bench(root, device)
        seconds = bench.step()
        shares = bench.profile()
        bench.data_path()
        bench.loss()
        bench.heatmaps(seconds)
        if device.type == "cpu":  # which renders the hands
            bench.rendering_of_hands()
            prediction(bench)
        report["devices"][device.type] = {
            "name": name, "settings": bench.settings.to_json(), "rows": bench.rows, "profile": shares,
        }  # fmt: skip
    if len(devices) == 2:
        # The same narrow network on both: the CPU's settings, the GPU's time.
        gpu = Bench(root, devices[0])
        narrow = report["devices"]["cpu"]
        gpu.settings = TrainSettings.from_json(narrow["settings"])
        gpu.trainer = Trainer(gpu.settings, gpu.train_set, gpu.val_set, gpu.folder.name, devices[0])
        gpu.trainer.model.train()
        gpu.step()
        rates = [next(r for r in rows if r["row"] == "e")["images_per_second"] for rows in (gpu.rows, narrow["rows"])]
        report["gpu_over_cpu"] = rates[0] / rates[1]
        print(f"f    training images/s, GPU / CPU, same network: {report['gpu_over_cpu']:.1f}")
    report["minutes"] = round((time.perf_counter() - started) / 60, 2)
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report
