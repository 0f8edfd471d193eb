"""What a network runs on: which device, in how many bits, and how a CPU's memory is kept."""

import ctypes
import os
import sys

import torch


def pick_device(wanted: torch.device | str | None = None) -> torch.device:
    """The device asked for, or the best available: cuda (this process's own), then mps, then cpu.

    "cuda" without a number is this process's own GPU, too. ValueError for a device that can't be used.
    """
    if wanted and not (str(wanted) == "cuda" and torch.cuda.is_available()):
        try:
            found = torch.zeros(1, device=wanted).device
            if found.type == "meta":
                raise RuntimeError("it has shapes and no numbers")
            return found
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device '{wanted}' can't be used ({reason}): try cuda, mps or cpu, or none") from None
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def half_precision(device: torch.device, wanted: str = "auto") -> torch.dtype | None:
    """The type of 16 bits to multiply in, None for float32.

    "auto" takes what a GPU is fast in (bfloat16, on older ones such as the T4 float16) and float32 elsewhere.
    "bfloat16" pays off on processors that multiply it too (AVX-512 BF16 or AMX: about 1.7 times as fast). A GPU that
    only emulates it (PyTorch calls that "supported") gets float16 for it.
    """
    if wanted == "float32" or (wanted == "auto" and device.type != "cuda"):
        return None
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16
    return torch.bfloat16


def keep_freed_memory() -> bool:
    """Have the C library keep what this process frees for its next tensors; whether it could be told (glibc only).

    It usually gives large blocks back to the system and asks for them again, and each page is then filled with zeros
    when it is first touched: 250,000 pages in a training step of width 16 and batch 32 at 128 px, a fifth of its time
    on the two cores where it was measured. The process keeps its largest size instead. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, mmap_max = -1, -4  # numbers of the options in malloc.h
    # No block in a mapping of its own, and nothing at the heap's end is given back.
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, -1))
