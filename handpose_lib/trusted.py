"""What is checked of files with weights and of checkpoints before anything in them is used.

Both kinds can be cut, garbled, of another program, or wrong in their header; none of that may execute code, build a
network of absurd size, or give answers. Each error is one sentence that names the file and says what to do.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from handpose_lib.chains import Bones, check_bones, has_bones
from handpose_lib.framing import LARGEST_INPUT, Framing
from handpose_lib.reading import named_errors, refuse_no_text, refuse_special

LFS = b"version https://git-lfs"


def check_kind(path: str | Path) -> None:
    """ValueError where a file with weights is plainly something else; FileNotFoundError, OSError without one."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the file with weights in it, best.safetensors for a run")
    refuse_special(path)
    refuse_no_text(path)
    try:
        with named_errors(path), path.open("rb") as file:
            begin = file.read(64)
    except FileNotFoundError:
        todo = "train first (`handpose train`), or give the file's path"
        raise FileNotFoundError(f"{path} is not there: {todo}") from None
    except PermissionError:
        raise PermissionError(f"{path} is there, but you may not read it: ask its owner for permission") from None
    if begin.startswith(LFS):
        raise ValueError(f"{path} is a pointer of Git LFS, not the file itself: get it with `git lfs pull`")
    # A safetensors file begins with the length of its header, which may be any 8 bytes, and goes on with the header.
    if begin.startswith((b"PK", b"\x80")) and begin[8:9] not in (b"{", b""):
        raise ValueError(
            f"{path} is a checkpoint or another file of torch.save, not a file with weights alone: give the run's "
            "best.safetensors"
        )


def checksum_of(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of the content of all tensors, in the order of their names."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(
            tensors[name].contiguous().view(-1).view(torch.uint8).numpy(), zlib.crc32(name.encode(), total)
        )
    return total


def check_tensors(tensors: Mapping[str, Tensor], checksum: int | None = None) -> None:
    """ValueError where tensors are not as they were written, or which names the first with NaN or infinity in it."""
    if checksum is not None and checksum != checksum_of(tensors):
        raise ValueError("they are not as they were written: get the file again")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity: the training that made it has failed")


def framing_in(header: Mapping[str, Any], multiple: int) -> Framing:
    """The framing that a header describes.

    Args:
        header: of a file with weights; older ones have the framing's fields among the others.
        multiple: what the side of the network's input must be a multiple of.

    Raises:
        ValueError: it can't be meant.
    """
    if "checksum" in header and "framing" not in header:
        raise ValueError("framing is missing")
    values = header.get("framing", header)
    if not isinstance(values, Mapping):
        raise ValueError(f"framing is {values!r}, it must be an object")
    for name in ("image_size", "crop", "upright") if "framing" in header else ():
        if name not in values:
            raise ValueError(f"framing has no {name}")
        if name in header and header[name] != values[name]:
            raise ValueError(f"{name} is {header[name]!r} in its header and {values[name]!r} in its framing")
    size, crop, upright = values.get("image_size", 128), values.get("crop", 0.0), values.get("upright", False)
    if type(size) is not int or not 0 < size <= LARGEST_INPUT or size % multiple:
        raise ValueError(f"image_size is {size!r}, it must be a multiple of {multiple} up to {LARGEST_INPUT}")
    if type(crop) not in (int, float) or not 0 <= crop <= 1 or type(upright) is not bool:
        raise ValueError(f"crop and upright are {crop!r} and {upright!r}, they must be a share and true or false")
    if crop and "upright" not in values:
        raise ValueError("crop is there, but upright is missing")
    return Framing(size, float(crop), upright)


def bones_in(header: Mapping[str, Any], framing: Framing) -> Bones:
    """The bones that a header describes, see `chains.fit_bones`; empty without any. ValueError for what can't be."""
    bones = header.get("bones", [])
    if not has_bones(bones):
        return ()
    check_bones(bones)
    if not framing.upright:
        raise ValueError("bones are there, but its framing turns no crops upright")
    return tuple((float(mean), float(across), float(along)) for mean, across, along in bones)


def numbers_in(header: Mapping[str, Any], names: Iterable[str], tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Those entries of a header that say how large a network is; ValueError for what its tensors can't be."""
    most = max([len(tensors), *(side for tensor in tensors.values() for side in tensor.shape)], default=0)
    found = {name: header.get(name) for name in names}
    for name, value in found.items():
        if type(value) is not int or not 0 < value <= most:
            raise ValueError(f"{name} is {value!r}, which does not fit the tensors in the file")
    return found


def built(make: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network with these tensors; ValueError where it would need others, before memory is taken for it."""
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    for name, shape in wanted.items():
        if name not in tensors:
            raise ValueError(f"{name} is missing")
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, the header asks for {shape}")
    if extra := tensors.keys() - wanted.keys():
        raise ValueError(f"{min(extra)} does not belong to such a network")
    model = make()
    model.load_state_dict(dict(tensors))
    return model


def holds_weights(path: Path) -> bool:
    """Whether a file is there that `save_model` wrote and that can be read to its end."""
    try:
        with safe_open(str(path), "pt") as file:
            header = json.loads((file.metadata() or {})["handpose"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        check_tensors(tensors, header.get("checksum"))
    except Exception:  # in any case it is rewritten
        return False
    return True


def load_state(path: Path, device: torch.device | str, keys: Iterable[str]) -> dict[str, Any]:
    """The content of a checkpoint, after its checksums were compared; nothing in it is ever executed.

    Args:
        path: a file that `torch.save` wrote. It is a zip, and has a checksum for each of its parts.
        device: where the tensors go.
        keys: what must be in it.

    Raises:
        ValueError: it is not a checkpoint, or it is damaged; it names the file and says what to do.
    """
    todo = "copy it again from an intact source, or delete it and train again"
    with named_errors(path), path.open("rb") as file:  # a disk that fails is not a damaged file
        file.read(64)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a checkpoint, or was cut off: {todo}")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"its part {bad} is not as it was written")
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # zipfile's, pickle's, torch's own: whatever it is, the file can't be used
        raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]}): {todo}") from error
    missing = [key for key in keys if not isinstance(state, dict) or key not in state]
    if missing:
        raise ValueError(f"{path} is not a checkpoint of this library: it has no {missing[0]!r}: {todo}")
    return state
