"""Weight files: safetensors with a network's shape and framing in the header, a checksum, and no code."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from handpose_lib.augment import Augmentation
from handpose_lib.devices import pick_device
from handpose_lib.layout import IMAGE_SIZE
from handpose_lib.settings import TrainSettings
from handpose_lib.stacked import StackedUNet
from handpose_lib.storage import bundled_file, make_folder, refuse_target
from handpose_lib.trusted import bones_in, built, check_kind, check_tensors, checksum_of, framing_in, numbers_in
from handpose_lib.unet import UNet2DHandPose

HALF_HIGHEST = torch.finfo(torch.float16).max
LARGEST_WEIGHT = 1000.0  # of a calibration; fitted ones are below 20
NETWORKS: dict[str, type[nn.Module]] = {"UNet2DHandPose": UNet2DHandPose, "StackedUNet": StackedUNet}


def bundled_weights() -> Path:
    """The weights in `data/weights/` of a checkout, or in the installed package; FileNotFoundError without them."""
    return bundled_file("data/weights/handpose.safetensors")


def named_weights(name: str) -> Path:
    """The file that somebody names to begin a training with: the word bundled, or a path."""
    return bundled_weights() if name == "bundled" else Path(name).expanduser()


def bundled_finder(device: torch.device | str = "cpu") -> nn.Module:
    """The finder that comes with the bundled weights; FileNotFoundError without its file."""
    return load_model(bundled_file("data/weights/finder.safetensors"), device)[0]


def network_of(settings: TrainSettings) -> UNet2DHandPose | StackedUNet:
    """The network that the settings ask for, with random weights."""
    if not settings.decoder:
        return UNet2DHandPose(settings.width, settings.depth, framing=settings.framing)
    shape = {name: getattr(settings, name) for name in ("width", "depth", "decoder", "refine")}
    model = StackedUNet(**shape, framing=settings.framing)
    model.heatmap_sigma = settings.sigma_end / model.stride
    return model


def save_model(model: nn.Module, path: str | Path, half: bool = False, **metadata: Any) -> None:
    """Write a network's weights as safetensors; its shape, framing and `metadata` go into the header.

    Args:
        model: a `UNet2DHandPose` or a `StackedUNet`.
        path: of the file.
        half: store 16 bits per weight: half the size, no difference that a score shows. `load_model` makes float32
            again.
        metadata: further JSON values for the header.

    Raises:
        ValueError: another network, bones that can't be its, weights that 16 bits can't hold, metadata that is no JSON
            or takes a name of the header's own.
        OSError: a file can't be written there.
    """
    if not isinstance(half, bool):
        raise ValueError(f"half is {half!r}, it must be true or false")
    refuse_target(path)
    make_folder(Path(path).absolute().parent)
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the model and prefixes its keys
    if type(model) not in NETWORKS.values():
        raise ValueError(f"model is a {type(model).__name__}, only {' and '.join(NETWORKS)} can be saved")
    header = {"network": type(model).__name__, **model.shape, "framing": model.framing.to_json()}
    header["heatmap_sigma"] = model.heatmap_sigma
    if calibration := model.calibration:
        header["calibration"] = list(calibration)
    if bones := bones_in({"bones": model.bones}, model.framing):
        header["bones"] = [list(bone) for bone in bones]
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        if any(bool((tensor.abs() > HALF_HIGHEST)[tensor.isfinite()].any()) for tensor in tensors.values()):
            raise ValueError("a weight is beyond what 16 bits hold (65,504): save it with half=False")
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    header["checksum"] = checksum_of(tensors)
    if taken := header.keys() & metadata.keys():
        raise ValueError(f"{min(taken)} says what network the file holds: give it another name in the header")
    try:
        about = json.dumps(header | metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"what goes into the header must be plain JSON values ({error})") from error
    # `save_file` would write to a file of its own first, which stays when the process is killed.
    Path(path).write_bytes(save(tensors, {"handpose": about}))


def load_model(path: str | Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The network that `save_model` wrote, in evaluation mode, and its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, damaged, or of a training that failed.
    """
    check_kind(path)
    try:
        with safe_open(str(path), "pt") as file:
            header = json.loads((file.metadata() or {}).get("handpose") or "null")
            if not isinstance(header, dict):
                raise ValueError("its header does not say what network it holds")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        check_tensors(tensors, header.get("checksum"))
        model = _network(header, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} holds no weights written by save_model ({error}): train again") from error
    return model.eval().to(pick_device(device)), header


def begin_with(model: nn.Module, path: str | Path, device: torch.device | str) -> None:
    """Give a network the weights of an earlier run.

    A `StackedUNet` also takes the encoder of a U-Net of the same width and depth, and nothing else of it. What made
    chances of the earlier run's confidence is left behind: as a network learns, the heights of its peaks change, and on
    some pictures it would no longer take a hand for one. Its confidence is then the heights themselves.

    Args:
        model: the network, which is changed.
        path: of a file that `save_model` wrote.
        device: of the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds another network.
    """
    found, _ = load_model(path, device)
    if isinstance(model, StackedUNet) and isinstance(found, UNet2DHandPose):
        model.start_from_unet(found)
    elif type(found) is type(model) and found.shape == model.shape:
        model.load_state_dict(found.state_dict())
        model.bones = found.bones if found.framing == model.framing else ()
    else:
        theirs, ours = (f"{type(one).__name__} {one.shape}" for one in (found, model))
        raise ValueError(f"{path} holds a network of {theirs}, the settings ask for {ours}: make them the same")


def _network(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network that a header describes, with these tensors in it; ValueError where they do not fit each other."""
    kind = header.get("network", "UNet2DHandPose")  # older files hold a U-Net and do not say so
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise ValueError(f"network is {kind!r}, it must be one of {', '.join(NETWORKS)}")
    shape: dict[str, Any] = numbers_in(header, ("width", "depth", "num_keypoints"), tensors)
    if kind == "StackedUNet":
        for name in ("decoder", "refine"):
            numbered = dict(enumerate(header.get(name, ())))
            shape[name] = tuple(numbers_in(numbered, numbered, tensors).values())
    framing = framing_in(header, multiple=2 ** shape["depth"] * (2 if kind == "StackedUNet" else 1))
    model = built(lambda: NETWORKS[kind](**shape, framing=framing), tensors)
    sigma = header.get("heatmap_sigma", model.heatmap_sigma)
    if type(sigma) not in (int, float) or not 0 < sigma < 100:
        raise ValueError(f"heatmap_sigma is {sigma!r}, it must be a number of pixels")
    model.heatmap_sigma = float(sigma)
    calibration = header.get("calibration", [])
    if not isinstance(calibration, list) or len(calibration) not in (0, 3):
        raise ValueError(f"calibration is {calibration!r}, it must be three numbers")
    if not all(type(one) in (int, float) and abs(one) <= LARGEST_WEIGHT for one in calibration):
        raise ValueError(f"calibration is {calibration!r}, it must be three numbers")
    model.calibration = tuple(float(one) for one in calibration)
    model.bones = bones_in(header, framing)
    return model


def fine_tuning(path: str | Path, **changes: Any) -> TrainSettings:
    """Settings to train on from weights with a few pictures of one's own: the same network, small and careful steps.

    Args:
        path: of a file that `save_model` wrote.
        changes: settings to replace, by name.

    Raises:
        FileNotFoundError, ValueError: see `load_model`.
    """
    model, _ = load_model(path)
    size, sigma = model.framing.image_size, model.heatmap_sigma * model.stride
    settings = TrainSettings(
        framing=model.framing,
        source_size=min(IMAGE_SIZE, size * 5 // 4) if model.framing.crop else 0,  # crops keep most of their detail
        width=model.width,
        depth=model.depth,
        decoder=tuple(model.shape.get("decoder", ())),
        refine=tuple(model.shape.get("refine", ())),
        batch_size=8,  # some steps per epoch, with few pictures too
        epochs=20,
        learning_rate=3e-4,  # a tenth of what a network that knows nothing bears: it shall not forget
        warmup=0.1,
        sigma_start=sigma,  # as at the end of its training
        sigma_end=sigma,
        ema_decay=0.9,  # over some ten steps, of which there are not many
        augmentation=Augmentation(rotation_focus=2.0 if model.framing.upright else 1.0),
    )
    return dataclasses.replace(settings, **changes)
