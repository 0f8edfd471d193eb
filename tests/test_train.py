import io
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from trees import make_tree

from handpose_lib import runs
from handpose_lib.augment import NO_AUGMENTATION, Augmentation
from handpose_lib.cli import main
from handpose_lib.evaluate import evaluate
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import render_heatmaps
from handpose_lib.settings import PRESETS, TrainSettings, learning_rate_at, sigma_at
from handpose_lib.stopping import Stopped
from handpose_lib.train import Trainer, train_or_load
from handpose_lib.weights import load_model

SETTINGS = TrainSettings(framing=Framing(32), width=4, depth=2, batch_size=8, epochs=3, sigma_start=3, sigma_end=1.5)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "best.safetensors")[0].state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_after(trainer: Trainer, steps: int, number: int) -> None:
    """Have the process receive a signal in the middle of a step."""
    original, count = trainer.train_step, iter(range(1, 10_000))

    def step(batch):
        if next(count) == steps:
            os.kill(os.getpid(), number)
        return original(batch)

    trainer.train_step = step


@pytest.fixture(scope="module")
def whole(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    parts = FreiHAND(tiny_root, "train"), FreiHAND(tiny_root, "val")
    return Trainer(SETTINGS, *parts, tmp_path_factory.mktemp("whole") / "run").run(progress=False).folder


def test_training_writes_history_best_weights_and_checkpoint(tiny_train: FreiHAND, tiny_val: FreiHAND, tmp_path: Path):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).run(progress=False)
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3]
    assert history["step"].iloc[-1] == trainer.total_steps == 3 * (len(tiny_train) // 8)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert trainer.best_error == history["val_epe_px128"].min()
    assert load_model(tmp_path / "best.safetensors")[0].framing == Framing(32)


def test_history_holds_the_epochs_mean_loss_not_its_last_batchs(tiny_train, tiny_val, tmp_path: Path):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path)
    losses, original = [], trainer.train_step
    trainer.train_step = lambda batch: losses.append(float(result := original(batch))) or result
    trainer.run(progress=False)
    first = losses[: len(trainer.batches)]
    assert trainer.history[0]["train_loss"] == pytest.approx(sum(first) / len(first))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_train, tiny_val, tmp_path: Path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = TrainSettings(**{**SETTINGS.__dict__, "seed": seed, "epochs": 1})
        Trainer(settings, tiny_train, tiny_val, tmp_path / name).run(progress=False)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_a_run_can_start_from_the_weights_of_another(tiny_train, tiny_val, tmp_path: Path):
    first = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "first").run(progress=False)
    best = tmp_path / "first" / "best.safetensors"
    second = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "second").start_from(best)
    assert same(second.average.module.state_dict(), weights(tmp_path / "first"))
    assert same(second.model.state_dict(), weights(tmp_path / "first"))
    assert (second.step, second.best_epoch) == (0, 0) and math.isinf(second.best_error)
    second.run(progress=False)
    assert second.history[0]["train_loss"] < first.history[0]["train_loss"]
    wider = Trainer(replace(SETTINGS, width=8), tiny_train, tiny_val, tmp_path / "wider")
    with pytest.raises(ValueError, match=r"best.safetensors holds .*'width': 4.*'width': 8"):
        wider.start_from(best)


def test_a_run_stopped_on_its_last_batch_is_still_validated(tiny_train, tiny_val, tmp_path: Path, whole: Path):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts")
    stop_after(trainer, trainer.total_steps, signal.SIGTERM)
    with pytest.raises(Stopped):
        trainer.run(progress=False)
    resumed = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts").resume().run(progress=False)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    assert same(weights(whole), weights(tmp_path / "parts"))


def test_a_set_without_keypoints_is_refused_before_training(tiny_root, tiny_train, tmp_path: Path):
    with pytest.raises(ValueError, match=r"val_set \(.*evaluation\) has no keypoints"):
        Trainer(SETTINGS, tiny_train, FreiHAND(tiny_root, "evaluation"), tmp_path)


def test_what_is_no_data_set_is_refused_before_anything_is_made(tiny_train, tiny_val, tmp_path: Path):
    for arguments, words in (
        ((SETTINGS, "mine", tiny_val), r"train_set is a str: open it first, with open_data\(root, split\)"),
        ((SETTINGS, tiny_train, None), "val_set is a NoneType: open it first"),
        ((SETTINGS.to_json(), tiny_train, tiny_val), "settings is a dict, it must be TrainSettings"),
        ((replace(SETTINGS, batch_size=1000), tiny_train, tiny_val), "a batch of 1000 is larger than an epoch"),
    ):
        with pytest.raises(ValueError, match=words):
            Trainer(*arguments, tmp_path / "run", "cpu")
    for minutes in (math.nan, -1, "10"):
        with pytest.raises(ValueError, match=r"checkpoint_minutes is .*, it must be a number, and not negative"):
            Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "run", "cpu", checkpoint_minutes=minutes)
    assert not (tmp_path / "run").exists()
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "run", "cpu")
    for steps in (1.5, "1", -1):
        with pytest.raises(ValueError, match=r"until_step is .*, it must be a whole number of steps"):
            trainer.run(progress=False, until_step=steps)


def test_hands_in_both_sets_and_transforms_that_do_nothing_are_said(tiny_root, tiny_train, tiny_val, tmp_path: Path):
    with pytest.warns(UserWarning, match=rf"val_set shows {len(set(tiny_val.hand_ids))} hands? or groups of train_set"):
        Trainer(replace(SETTINGS, batch_size=4), tiny_val, tiny_val, tmp_path, "cpu")
    changed = FreiHAND(tiny_root, "train", transforms=lambda image, target: (image, target))
    with pytest.warns(UserWarning, match="train_set has transforms, which training leaves out"):
        Trainer(SETTINGS, changed, tiny_val, tmp_path, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(SETTINGS, tiny_train, tiny_val, tmp_path, "cpu")


@pytest.mark.parametrize(
    ("name", "value"), [("seed", -1), ("seed", 2**31), ("weight_decay", -1.0), ("foreground_weight", -1.0)]
)
def test_settings_that_can_not_work_are_refused(name: str, value: float):
    with pytest.raises(ValueError, match=name):
        replace(SETTINGS, **{name: value})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("steps", [2, 5])
def test_a_run_stopped_in_an_epoch_and_resumed_equals_the_unbroken_one(
    tiny_train, tiny_val, tmp_path: Path, whole: Path, number: int, steps: int
):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts")
    stop_after(trainer, steps, number)
    with pytest.raises(Stopped, match=f"after step {steps} of") as stopped:
        trainer.run(progress=False)
    assert stopped.value.number == number
    resumed = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts").resume()
    assert resumed.step == steps
    resumed.run(progress=False)
    assert same(weights(whole), weights(tmp_path / "parts"))
    columns = ["epoch", "step", "learning_rate", "sigma_px", "train_loss", "val_pck_0.2_bbox", "val_epe_px128"]
    histories = [pd.read_csv(folder / "history.csv")[columns] for folder in (whole, tmp_path / "parts")]
    pd.testing.assert_frame_equal(*histories)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_signal_while_it_validates_stops_the_run_before_the_next_step(
    tiny_train, tiny_val, tmp_path: Path, whole: Path, epoch: int
):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts")
    original = trainer._predict_validation

    def predict():
        if trainer.epoch == epoch - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original()

    trainer._predict_validation = predict
    step = epoch * len(trainer.batches)
    with pytest.raises(Stopped, match=f"after step {step} of {trainer.total_steps}"):
        trainer.run(progress=False)
    Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts").resume().run(progress=False)
    assert same(weights(whole), weights(tmp_path / "parts"))


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_run_can_be_asked_for_up_to_a_step(tiny_train, tiny_val, tmp_path: Path, whole: Path, step: int):
    first = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts").run(progress=False, until_step=step)
    assert first.step == step
    Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "parts").resume().run(progress=False)
    assert same(weights(whole), weights(tmp_path / "parts"))


def test_signal_handlers_are_given_back(tiny_train, tiny_val, tmp_path: Path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).run(progress=False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_nan_loss_stops_with_the_images_ids_and_keeps_the_last_good_checkpoint(tiny_train, tiny_val, tmp_path: Path):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path)
    original = trainer.train_step
    trainer.train_step = lambda batch: torch.tensor(math.nan) if trainer.epoch == 1 else original(batch)
    with pytest.raises(
        FloatingPointError, match=r"epoch 2, batch 1, image ids \[\d+, .*checkpoint\.pt holds the last good state"
    ):
        trainer.run(progress=False)
    assert Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).resume().epoch == 1


def test_resuming_with_other_settings_names_what_differs(tiny_train, tiny_val, tmp_path: Path):
    Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).save_checkpoint()
    other = TrainSettings(**{**SETTINGS.__dict__, "learning_rate": 1e-3})
    with pytest.raises(ValueError, match="another learning_rate"):
        Trainer(other, tiny_train, tiny_val, tmp_path).resume()
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "new").resume()


def test_train_or_load_trains_once_even_when_two_ask_at_once(tiny_train, tiny_val, tmp_path: Path, monkeypatch):
    calls = []
    original = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, progress=True: (calls.append(1), original(self, progress))[1])
    found = []

    def ask() -> None:
        found.append(train_or_load(SETTINGS, tiny_train, tiny_val, tmp_path, progress=False))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(calls) == 1 and len(found) == 2
    assert found[0][1] == found[1][1]
    assert same(found[0][0].state_dict(), found[1][0].state_dict())


def test_run_name_tells_settings_and_data_apart(tiny_root: Path, tiny_train: FreiHAND):
    name = runs.run_name(SETTINGS, tiny_train)
    assert name == runs.run_name(TrainSettings.from_json(SETTINGS.to_json()), tiny_train)
    assert name != runs.run_name(TrainSettings(**{**SETTINGS.__dict__, "seed": 9}), tiny_train)
    assert name != runs.run_name(SETTINGS, FreiHAND(tiny_root, "train", versions=["gs"]))


def test_schedules_start_rise_and_end_where_they_should():
    s = TrainSettings()
    assert learning_rate_at(0, s) == 0
    assert learning_rate_at(s.warmup, s) == pytest.approx(s.learning_rate)
    assert learning_rate_at(1, s) == pytest.approx(0, abs=1e-12)
    assert sigma_at(0, s) == s.sigma_start
    assert sigma_at(s.sigma_until, s) == sigma_at(1, s) == pytest.approx(s.sigma_end)
    assert sigma_at(s.sigma_until / 2, s) == pytest.approx(math.sqrt(s.sigma_start * s.sigma_end))


def test_settings_survive_json_and_refuse_nonsense():
    settings = TrainSettings(width=8, augmentation=Augmentation(rotation=10))
    assert TrainSettings.from_json(settings.to_json()) == settings
    with pytest.raises(ValueError, match="learning_rate is 0"):
        TrainSettings(learning_rate=0)


def test_one_batch_can_be_learnt_by_heart(bundled_root: Path, tmp_path: Path):
    # The classic check of a training set-up: peaks must rise above 0.5, not sink into the background.
    settings = TrainSettings(framing=Framing(64), width=16, batch_size=4, augmentation=NO_AUGMENTATION, sigma_start=2.0)
    parts = FreiHAND(bundled_root, "train", "gs"), FreiHAND(bundled_root, "val", "gs")
    trainer = Trainer(settings, *parts, tmp_path)
    batch = next(trainer.batches.epoch(0))
    trainer.total_steps = 80
    while trainer.batch < trainer.total_steps:
        trainer.train_step(batch)
        trainer.batch += 1
    peaks = trainer.model(batch.images).amax((-1, -2))
    assert (peaks[batch.visible] > 0.5).float().mean() > 0.95


def run_training(arguments: list[str], processes: int) -> subprocess.CompletedProcess:
    """torchrun of `python -m handpose_lib.cli train`, in processes of one thread."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *launcher, "-m", "handpose_lib.cli", "train", "--device", "cpu", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def flags(root: Path, out: Path, settings: TrainSettings) -> list[str]:
    names = ("image_size", "width", "depth", "batch_size", "epochs", "sigma_start", "sigma_end")
    stored = settings.to_json()
    values = [text for name in names for text in (f"--{name.replace('_', '-')}", str(stored[name]))]
    return ["--root", str(root), "--out", str(out), "--preset", "full", "--no-one-version", *values]


@pytest.fixture(scope="module")
def unbroken(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    main(["train", "--device", "cpu", *flags(tiny_root, folder, SETTINGS)])
    return folder


def check_that_a_killed_run_resumes(victim: str, root: Path, folder: Path, unbroken: Path) -> None:
    """`victim` is a program that trains and kills itself; resumed in this process, its run must end as one unbroken."""
    arguments = ["train", "--device", "cpu", *flags(root, folder / "parts", SETTINGS)]
    killed = subprocess.run(
        [sys.executable, "-c", victim, *arguments],
        check=False,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL
    main([*arguments, "--resume"])
    assert same(weights(unbroken), weights(folder / "parts"))


def test_a_run_killed_in_an_epoch_and_resumed_equals_the_unbroken_one(tiny_root: Path, tmp_path: Path, unbroken):
    # The process kills itself without warning in the second epoch, after a step that no checkpoint holds.
    victim = (
        "import os, signal, sys; from handpose_lib import cli, train; original = train.Trainer.train_step\n"
        "def step(self, batch):\n"
        "    result = original(self, batch)\n"
        "    return os.kill(os.getpid(), signal.SIGKILL) if (self.epoch, self.batch) == (1, 2) else result\n"
        "train.Trainer.train_step = step; cli.main()"
    )
    check_that_a_killed_run_resumes(victim, tiny_root, tmp_path, unbroken)


def test_a_run_killed_while_it_writes_a_checkpoint_still_resumes(tiny_root: Path, tmp_path: Path, unbroken):
    # The second checkpoint is cut short: half of its bytes are on the disk when the process dies.
    victim = (
        "import os, pathlib, signal; from handpose_lib import cli; original = pathlib.Path.write_bytes; seen = []\n"
        "def write(path, data):\n"
        "    if 'checkpoint' not in path.name or not seen:\n"
        "        return seen.append(original(path, data)) if 'checkpoint' in path.name else original(path, data)\n"
        "    with open(path, 'wb') as file:\n"
        "        file.write(data[: len(data) // 2]); file.flush(); os.fsync(file.fileno())\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "pathlib.Path.write_bytes = write; cli.main()"
    )
    check_that_a_killed_run_resumes(victim, tiny_root, tmp_path, unbroken)


ONE_EPOCH = replace(SETTINGS, epochs=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def two(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run of two processes, and what they printed."""
    folder = tmp_path_factory.mktemp("two") / "run"
    result = run_training([*flags(tiny_root, folder, ONE_EPOCH), "--learning-rate", "1e-3"], processes=2)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_two_processes_take_the_steps_of_one_that_averages_two_halves(tiny_root: Path, tmp_path: Path, two):
    folder, printed = two
    assert printed.count("lowest validation error") == 1  # process 0 alone speaks and writes
    settings = ONE_EPOCH
    trainer = Trainer(settings, FreiHAND(tiny_root, "train"), FreiHAND(tiny_root, "val"), tmp_path / "one", "cpu")
    losses = []
    for step, batch in enumerate(trainer.batches.epoch(0)):
        share = step / trainer.total_steps
        for group in trainer.optimizer.param_groups:
            group["lr"] = learning_rate_at(share, settings)
        targets = render_heatmaps(batch.keypoints, (32, 32), sigma_at(share, settings))
        trainer.optimizer.zero_grad()
        halves = []
        for half in (slice(0, 4), slice(4, 8)):  # batch normalisation sees each half alone
            heatmaps = trainer.model(batch.images[half].contiguous(memory_format=torch.channels_last))
            count = batch.visible.sum() / 2  # visible maps per process, on average
            halves.append(trainer.criterion(heatmaps, targets[half], batch.visible[half], count))
            (halves[-1] / 2).backward()
        trainer.optimizer.step()
        losses.append(float(sum(halves).detach()) / 2)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    for name, value in trainer.model.named_parameters():
        assert torch.allclose(state[name], value, rtol=1e-3, atol=1e-5), name
    history = pd.read_csv(folder / "history.csv")
    assert history["train_loss"][0] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_two_processes_validate_on_every_hand_once(tiny_val: FreiHAND, two):
    folder, _ = two
    report = evaluate(load_model(folder / "best.safetensors")[0], tiny_val)
    history = pd.read_csv(folder / "history.csv")
    assert history["val_epe_px128"][0] == pytest.approx(report.summary["epe_px128"], rel=1e-4)


@pytest.fixture
def first_of_two(monkeypatch):
    """A trainer believes that it is the first of two that train together; they are not connected."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr("handpose_lib.train.DistributedDataParallel", lambda model, devices: model)


@pytest.mark.parametrize("asked", [True, False])
def test_several_gpus_normalise_over_the_whole_batch_where_that_is_asked_for(
    first_of_two, tiny_train, tiny_val, tmp_path: Path, asked: bool
):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path, "cpu", sync_batchnorm=asked)
    kinds = {type(module) for module in trainer.model.modules()}
    assert (torch.nn.SyncBatchNorm in kinds, torch.nn.BatchNorm2d in kinds) == (asked, not asked)


def test_one_gpu_has_no_batch_to_share(tiny_train, tiny_val, tmp_path: Path):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path, "cpu", sync_batchnorm=True)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in trainer.model.modules())


def test_all_ranks_validate_with_the_statistics_of_rank_0(first_of_two, tiny_train, tiny_val, tmp_path, monkeypatch):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path, "cpu")
    sent = []
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: sent.append((id(tensor), src)))
    monkeypatch.setattr(dist, "all_gather_object", lambda parts, mine: parts.__setitem__(slice(None), [mine, mine]))
    keypoints, confidence = trainer._predict_validation()
    assert sorted(sent) == sorted((id(buffer), 0) for buffer in trainer.average.module.buffers()) and len(sent) > 9
    half = (len(tiny_val) + 1) // 2  # the first of two has the larger part
    assert keypoints.shape == (2 * half, 21, 2) and torch.equal(keypoints[:half], keypoints[half:])
    assert confidence.shape == (2 * half, 21)


def test_the_bar_of_an_epoch_is_gone_at_its_end(tiny_train, tiny_val, tmp_path: Path, monkeypatch):
    class Terminal(io.StringIO):
        isatty = lambda self: True  # noqa: E731

    terminal = Terminal()
    trainer = Trainer(replace(SETTINGS, epochs=1), tiny_train, tiny_val, tmp_path, "cpu")
    monkeypatch.setattr(sys, "stderr", terminal)
    trainer.run()
    assert "epoch 1/1" in terminal.getvalue() and "\n" not in terminal.getvalue()


def test_a_compiled_run_leaves_weights_that_load_without_compilation(tiny_train, tiny_val, tmp_path: Path, monkeypatch):
    # The compiler itself is not what is tested: one that only counts takes its place.
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: compiled.append(call) or call)
    settings = replace(SETTINGS, epochs=1)
    Trainer(settings, tiny_train, tiny_val, tmp_path, "cpu", compiled=True).run(progress=False)
    assert len(compiled) == 1
    assert not [name for name in weights(tmp_path) if "_orig_mod" in name]
    assert Trainer(settings, tiny_train, tiny_val, tmp_path, "cpu").resume().epoch == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma_until", 0),
        ("warmup", 1),
        ("ema_decay", 1),
        ("learning_rate", math.nan),
        ("width", -1),
    ],
)
def test_settings_that_can_not_work_are_refused_by_name(name: str, value: float):
    with pytest.raises(ValueError, match=name):
        TrainSettings(**{name: value})


def test_an_input_that_the_poolings_do_not_divide_is_refused_by_name():
    with pytest.raises(ValueError, match="image_size is 20, it must be a multiple of 8"):
        TrainSettings(framing=Framing(20))


def test_settings_are_stored_flat_as_earlier_checkpoints_have_them():
    stored = PRESETS["weights"].to_json()
    assert (stored["image_size"], stored["crop"], stored["upright"], stored["source_size"]) == (64, 0.55, True, 112)
    assert "framing" not in stored
    assert all(TrainSettings.from_json(preset.to_json()) == preset for preset in PRESETS.values())


def test_validation_says_when_crops_are_around_the_true_boxes(tiny_train, tiny_val, tmp_path: Path, capsys):
    cropped = replace(SETTINGS, framing=Framing(32, crop=0.5), epochs=1)
    Trainer(cropped, tiny_train, tiny_val, tmp_path / "cropped", "cpu").run()
    assert "(true boxes)" in capsys.readouterr().out
    Trainer(replace(SETTINGS, epochs=1), tiny_train, tiny_val, tmp_path / "whole", "cpu").run()
    assert "true boxes" not in capsys.readouterr().out
    rows = [runs.read_history(tmp_path / name / "history.csv") for name in ("cropped", "whole")]
    assert [row[0]["val_boxes"] for row in rows] == ["truth", "none"]


def test_a_history_begun_by_an_older_version_can_go_on(tmp_path: Path):
    rows = [{"epoch": 1.0}, {"epoch": 2.0, "val_boxes": "none"}]
    runs.write_history(rows, tmp_path / "history.csv")
    assert [row["val_boxes"] for row in runs.read_history(tmp_path / "history.csv")] == ["", "none"]


def test_equal_run_names_mean_equal_hands(tmp_path: Path):
    roots = [make_tree(tmp_path / place / "same_name", hands=4, seed=seed) for place, seed in (("a", 1), ("b", 2))]
    first, other = (FreiHAND(root, "train") for root in roots)
    assert runs.run_name(SETTINGS, first) != runs.run_name(SETTINGS, other)
    small = replace(SETTINGS, batch_size=4)
    Trainer(small, first, FreiHAND(roots[0], "val"), tmp_path / "run", "cpu").save_checkpoint()
    with pytest.raises(ValueError, match="other training hands"):
        Trainer(small, other, FreiHAND(roots[1], "val"), tmp_path / "run", "cpu").resume()


def test_on_a_drive_a_lost_or_damaged_checkpoint_is_replaced_by_the_one_before(
    tiny_train, tiny_val, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setenv("HANDPOSE_DRIVE", str(tmp_path / "drive"))
    unbroken = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "unbroken").run(progress=False)
    assert not (tmp_path / "unbroken" / "checkpoint.previous.pt").exists()  # the machine's own disk needs none
    folder = tmp_path / "drive" / "run"
    last = Trainer(SETTINGS, tiny_train, tiny_val, folder, checkpoint_minutes=0).run(progress=False, until_step=8)
    assert last.step == 8 and (folder / "checkpoint.previous.pt").is_file()
    newest = (folder / "checkpoint.pt").read_bytes()
    for damage in (newest[:-2000], b"", None):
        if damage is None:
            (folder / "checkpoint.pt").unlink()
        else:
            (folder / "checkpoint.pt").write_bytes(damage)
        resumed = Trainer(SETTINGS, tiny_train, tiny_val, folder).resume()
        assert resumed.step == 7
        assert ("is damaged: going on from checkpoint.previous.pt" in capsys.readouterr().out) == (damage is not None)
    assert runs.has_checkpoint(folder)
    resumed.run(progress=False)
    assert same(resumed.model.state_dict(), unbroken.model.state_dict())
    assert same(weights(folder), weights(tmp_path / "unbroken"))


def test_on_a_drive_there_is_no_checkpoint_for_each_epoch(tiny_train, tiny_val, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HANDPOSE_DRIVE", str(tmp_path / "drive"))
    saved = {}
    for place in ("drive", "disk"):
        trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / place / "run")
        saved[place], original = [], trainer.save_checkpoint
        trainer.save_checkpoint = lambda steps=saved[place], of=trainer, save=original: steps.append(of.step) or save()
        trainer.run(progress=False)
    length = len(trainer.batches)
    assert saved == {"drive": [3 * length], "disk": [length, 2 * length, 3 * length]}


# --- what can be wrong in a run's folder ------------------------------------------------------------------------------


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A finished run, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def without(path: Path, key: str) -> None:
    state = torch.load(path, weights_only=True)
    del state[key]
    torch.save(state, path)


def with_a_flipped_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.find(b"data/", len(data) // 2) + 3000] ^= 64
    path.write_bytes(data)


class Evil:
    def __reduce__(self):
        return (os.mkdir, (os.environ["EXECUTED"],))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbled": lambda path: path.write_bytes(b"x" * path.stat().st_size),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a flipped bit": with_a_flipped_bit,
    "without a key": lambda path: without(path, "where"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Evil())),
    "a pickle in a zip": lambda path: torch.save(Evil(), path),
    "another program's": lambda path: torch.save([1, 2], path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_in_one_sentence_and_never_executed(
    run, tiny_train, tiny_val, tmp_path, monkeypatch, damage
):
    monkeypatch.setenv("EXECUTED", str(tmp_path / "executed"))
    DAMAGES[damage](run / "checkpoint.pt")
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt is .*: copy it again .* or delete it and train again"
    ) as caught:
        Trainer(SETTINGS, tiny_train, tiny_val, run).resume()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["best.safetensors", "history.csv"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_what_is_lost_beside_the_checkpoint_is_written_anew(run, tiny_train, tiny_val, tmp_path, capsys, name, damage):
    path, whole = run / name, (run / name).read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else whole[:-40])
    resumed = Trainer(SETTINGS, tiny_train, tiny_val, run).resume()
    assert path.read_bytes() == whole
    assert f"{path} was missing or damaged: restored" in capsys.readouterr().out
    assert resumed.run(progress=False).best_error == min(row["val_epe_px128"] for row in resumed.history)


def test_a_finished_run_without_its_weights_is_loaded_and_not_trained_again(
    tiny_train, tiny_val, tmp_path, monkeypatch
):
    model, folder = train_or_load(SETTINGS, tiny_train, tiny_val, tmp_path, progress=False)
    (folder / "best.safetensors").unlink()
    (folder / "history.csv").write_text("epoch,st")
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("it was trained before"))
    again, _ = train_or_load(SETTINGS, tiny_train, tiny_val, tmp_path, progress=False)
    assert same(model.state_dict(), again.state_dict())


def test_a_history_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,x\n")
    with pytest.raises(ValueError, match=r"history\.csv is damaged .*resume the run"):
        runs.read_history(tmp_path / "history.csv")


def test_a_second_training_in_the_same_folder_is_refused(tiny_root, tiny_train, tiny_val, tmp_path: Path):
    inner = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "run")
    outer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path / "run")
    original, said = outer.train_step, []

    def try_to_train() -> None:
        with pytest.raises(ValueError, match="another training") as caught:
            inner.run(progress=False)
        said.append(caught)

    def step(batch):
        if not said:
            thread = threading.Thread(target=try_to_train)
            thread.start()
            thread.join()
        return original(batch)

    outer.train_step = step
    outer.run(progress=False)
    assert f"another training is running in {tmp_path / 'run'}" in str(said[0].value)
    assert inner.step == 0


def test_a_checkpoint_without_a_scaler_goes_on_where_float16_is_used(tiny_train, tiny_val, tmp_path: Path):
    first = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).run(progress=False, until_step=4)
    assert first.scaler.state_dict() == {}
    other = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path)
    other.scaler = torch.amp.GradScaler("cpu", enabled=True)
    assert other.resume().step == 4 and other.scaler.get_scale() > 1


def test_the_same_data_in_another_folder_is_the_same_data(tmp_path: Path):
    roots = [make_tree(tmp_path / name, hands=4) for name in ("FreiHAND_pub_v2", "freihand")]
    small = replace(SETTINGS, batch_size=4, epochs=1)
    first, moved = ({split: FreiHAND(root, split) for split in ("train", "val")} for root in roots)
    assert runs.run_name(small, first["train"]) == runs.run_name(small, moved["train"])
    Trainer(small, *first.values(), tmp_path / "run", "cpu").run(progress=False)
    assert Trainer(small, *moved.values(), tmp_path / "run", "cpu").resume().epoch == 1
    path = moved["train"].image_path(0)
    path.write_bytes(path.read_bytes() + b"\0")  # other pictures of the same hands are other data
    assert runs.run_name(small, first["train"]) != runs.run_name(small, moved["train"])


def test_a_validation_error_that_is_never_a_number_keeps_the_last_epochs_weights(
    tiny_train, tiny_val, tmp_path: Path, monkeypatch
):
    nothing = torch.full((len(tiny_val), 21, 2), math.nan), torch.zeros(len(tiny_val), 21)
    monkeypatch.setattr(Trainer, "_predict_validation", lambda self: nothing)
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).run(progress=False)
    assert math.isinf(trainer.best_error) and load_model(tmp_path / "best.safetensors")[1]["epoch"] == 3
    assert same(weights(tmp_path), trainer.average.module.state_dict())


def test_the_best_weights_are_those_of_the_epoch_with_the_lowest_error(tiny_train, tiny_val, tmp_path, monkeypatch):
    shifts = iter((30.0, 5.0, 60.0))
    truth = torch.from_numpy(tiny_val.keypoints)
    answer = lambda self: (truth + next(shifts), torch.ones(truth.shape[:2]))  # noqa: E731
    monkeypatch.setattr(Trainer, "_predict_validation", answer)
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).run(progress=False)
    assert load_model(tmp_path / "best.safetensors")[1]["epoch"] == trainer.best_epoch == 2
    assert not same(weights(tmp_path), trainer.average.module.state_dict())


def test_the_best_epoch_is_remembered_by_a_run_that_goes_on(tiny_train, tiny_val, tmp_path, monkeypatch):
    shifts = iter((30.0, 5.0, 60.0))
    truth = torch.from_numpy(tiny_val.keypoints)
    answer = lambda self: (truth + next(shifts), torch.ones(truth.shape[:2]))  # noqa: E731
    monkeypatch.setattr(Trainer, "_predict_validation", answer)
    first = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path)
    first.run(progress=False, until_step=2 * len(first.batches))
    second = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).resume()
    assert second.best_error == first.best_error < 10
    second.run(progress=False)
    assert load_model(tmp_path / "best.safetensors")[1]["epoch"] == second.best_epoch == 2


def test_the_weights_that_are_kept_score_what_the_history_says(tiny_val, whole: Path):
    model, header = load_model(whole / "best.safetensors")
    row = pd.read_csv(whole / "history.csv").set_index("epoch").loc[header["epoch"]]
    report = evaluate(model, tiny_val)  # the averaged weights, on the pictures as they are
    assert report.summary["epe_px128"] == pytest.approx(row["val_epe_px128"], rel=1e-4)
    assert report.summary["pck_0.2_bbox"] == pytest.approx(row["val_pck_0.2_bbox"], abs=1e-3)


def test_what_counts_and_its_weight_reach_the_loss(tiny_train, tiny_val, tmp_path: Path, monkeypatch):
    trainer = Trainer(replace(SETTINGS, foreground_weight=3.0), tiny_train, tiny_val, tmp_path)
    assert trainer.criterion.foreground_weight == 3.0
    batch = next(iter(trainer.batches.epoch(0)))
    batch.visible[0, 5] = False
    given, original = [], trainer.criterion.forward
    monkeypatch.setattr(trainer.criterion, "forward", lambda *a: (given.append(a), original(*a))[1])
    trainer.train_step(batch)
    ((_, _, visible, count),) = given
    assert torch.equal(visible, batch.visible) and float(count) == int(batch.visible.sum())


def test_a_nan_loss_names_a_checkpoint_only_where_there_is_one(tiny_train, tiny_val, tmp_path: Path):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path)
    trainer.train_step = lambda batch: torch.tensor(math.nan)
    with pytest.raises(FloatingPointError, match=r"at epoch 1, batch 1, .*; start again$"):
        trainer.run(progress=False)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")
def test_everyone_may_read_what_a_run_writes(tiny_train, tiny_val, tmp_path: Path):
    before = os.umask(0o022)
    try:
        Trainer(replace(SETTINGS, epochs=1), tiny_train, tiny_val, tmp_path / "run").run(progress=False)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").glob("[!.]*")}
    assert modes == {"best.safetensors": 0o644, "checkpoint.pt": 0o644, "history.csv": 0o644}


# --- what a step does beside the gradient -----------------------------------------------------------------------------


def test_rate_and_sigma_change_from_step_to_step(tiny_train, tiny_val, tmp_path: Path, monkeypatch):
    trainer = Trainer(replace(SETTINGS, warmup=0.4), tiny_train, tiny_val, tmp_path)
    seen, original = [], trainer.criterion.forward

    def look(*arguments):
        widest = trainer.targets.amax((0, 1)).sum()  # grows with sigma
        seen.append((trainer.optimizer.param_groups[0]["lr"], trainer.optimizer.param_groups[1]["lr"], float(widest)))
        return original(*arguments)

    monkeypatch.setattr(trainer.criterion, "forward", look)
    monkeypatch.setattr(
        "handpose_lib.train.render_heatmaps", lambda *a, **k: render_heatmaps(torch.full_like(a[0], 16), *a[1:])
    )
    trainer.run(progress=False)
    shares = [step / trainer.total_steps for step in range(trainer.total_steps)]
    assert [rates[:2] for rates in seen] == [(learning_rate_at(share, trainer.settings),) * 2 for share in shares]
    widths = [
        float(render_heatmaps(torch.full((1, 1, 2), 16.0), (32, 32), sigma_at(share, trainer.settings)).sum())
        for share in shares
    ]
    assert [width for *_, width in seen] == pytest.approx(widths, rel=1e-5) and widths[0] > 2 * widths[-1]


def test_a_young_average_forgets_fast_and_an_old_one_slowly(tiny_train, tiny_val, tmp_path: Path):
    trainer = Trainer(replace(SETTINGS, ema_decay=0.5), tiny_train, tiny_val, tmp_path)
    for step, decay in ((0, 1 / 10), (1, 2 / 11), (2, 3 / 12), (15, 0.5)):
        trainer.epoch, trainer.batch = divmod(step, len(trainer.batches))
        before = {name: tensor.clone() for name, tensor in trainer.average.module.state_dict().items()}
        trainer.train_step(next(iter(trainer.batches.epoch(0))))
        now, model = trainer.average.module.state_dict(), trainer.model.state_dict()
        for name in ("head.weight", "down.0.0.weight", "down.0.1.running_mean"):
            expected = decay * before[name] + (1 - decay) * model[name]
            assert torch.allclose(now[name], expected, atol=1e-7), (step, name)
        assert now["down.0.1.num_batches_tracked"] == model["down.0.1.num_batches_tracked"]


def test_weights_of_convolutions_decay_and_nothing_else(tiny_train, tiny_val, tmp_path: Path):
    trainer = Trainer(replace(SETTINGS, weight_decay=0.3), tiny_train, tiny_val, tmp_path)
    decay = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    kinds = {"conv": set(), "other": set()}
    for module in trainer.model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            kind = "conv" if isinstance(module, torch.nn.Conv2d) and name == "weight" else "other"
            kinds[kind].add(decay[id(parameter)])
    assert kinds == {"conv": {0.3}, "other": {0.0}} and len(decay) == len(list(trainer.model.parameters()))


@pytest.mark.parametrize(("minutes", "within_an_epoch"), [(0.0, True), (60.0, False)])
def test_there_are_checkpoints_by_the_clock(tiny_train, tiny_val, tmp_path: Path, minutes, within_an_epoch):
    trainer = Trainer(SETTINGS, tiny_train, tiny_val, tmp_path, checkpoint_minutes=minutes)
    steps, original = [], trainer.save_checkpoint
    trainer.save_checkpoint = lambda: (steps.append(trainer.step), original())
    trainer.run(progress=False)
    per_epoch = len(trainer.batches)
    assert any(step % per_epoch for step in steps) == within_an_epoch
    assert {per_epoch, 2 * per_epoch, 3 * per_epoch} <= set(steps)


@pytest.mark.parametrize(("dtype", "scaled"), [(torch.float16, True), (torch.bfloat16, False), (None, False)])
def test_gradients_are_scaled_where_float16_is_used(tiny_train, tiny_val, tmp_path, monkeypatch, dtype, scaled):
    monkeypatch.setattr("handpose_lib.train.half_precision", lambda *_: dtype)
    assert Trainer(SETTINGS, tiny_train, tiny_val, tmp_path).scaler.is_enabled() == scaled


def test_on_a_processor_freed_memory_is_kept_and_times_have_two_decimals(tiny_train, tiny_val, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("handpose_lib.train.keep_freed_memory", lambda: asked.append(True))
    trainer = Trainer(replace(SETTINGS, epochs=1), tiny_train, tiny_val, tmp_path, "cpu")
    assert asked == [True]
    trainer.seconds = 0.123456
    trainer.run(progress=False)
    (row,) = trainer.history
    assert row["seconds"] > 0.12 and row["seconds"] == round(row["seconds"], 2)
