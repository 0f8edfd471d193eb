"""Settings and arguments are of the type that is meant, and not of one that is like it: true is no number."""

import dataclasses
import math
import operator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

WANTED = {int: "a whole number", float: "a number", bool: "true or false"}


def check_fields(settings: Any) -> None:
    """ValueError for a field of a dataclass that must be a number or a truth value, and is not.

    A whole number may stand where any number may; numpy's numbers become Python's.

    >>> from handpose_lib.framing import Framing
    >>> Framing(64, upright="no")
    Traceback (most recent call last):
    ValueError: upright is 'no', it must be true or false
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, np.generic):
            value = value.item()
            object.__setattr__(settings, field.name, value)  # these classes are frozen
        right = type(value) is field.type or (field.type is float and type(value) is int)
        if field.type in WANTED and not right:
            raise ValueError(f"{field.name} is {value!r}, it must be {WANTED[field.type]}")


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0; text and true are no numbers."""
    try:
        truth = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
        return not truth and bool(0 < value < math.inf)
    except (TypeError, ValueError, RuntimeError):  # not comparable, or several numbers
        return False


def is_number(value: Any) -> bool:
    """Whether a value is one finite number; text and true are none."""
    try:
        real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        return real and math.isfinite(value)
    except (OverflowError, TypeError):  # a whole number beyond all fractions; a time, which numpy calls an integer
        return False


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number of at least `least`; 2.0 and true are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least


def as_numbers(name: str, values: Any, flags: bool = False, lists: torch.dtype = torch.float32) -> Tensor:
    """A tensor of real numbers, of a tensor, an array or lists of them; tensors keep their type, device and gradient.

    Args:
        name: of the argument, for the error.
        values: what was given.
        flags: whether true and false may be meant, and not only numbers.
        lists: type of the fractions that lists become.

    Raises:
        ValueError: text, None, complex numbers, and whatever else holds no numbers, or hides some of them.

    >>> as_numbers("keypoints", [[1, 2.5]])
    tensor([[1.0000, 2.5000]])
    """
    found: Any = values
    try:
        if not isinstance(values, Tensor):
            array = np.asarray(values)  # of lists of unequal length: ValueError
            if np.ma.is_masked(values) or array.dtype.kind not in "biuf":
                raise TypeError
            found = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
            if not isinstance(values, np.ndarray | np.generic) and found.is_floating_point():
                found = found.to(lists)
        if found.is_complex() or found.is_sparse or found.is_quantized or (found.dtype == torch.bool and not flags):
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        kind = f"{found.dtype}" if isinstance(found, Tensor) else f"{values!r:.60}"
        raise ValueError(
            f"{name} must be numbers, not {' '.join(kind.split())}: give a tensor, an array or lists of them"
        ) from None
    return found


def as_flags(name: str, values: Any) -> Tensor:
    """A tensor of true and false, of what is that or 1 and 0; ValueError for anything else."""
    flags = as_numbers(name, values, flags=True)
    if flags.dtype != torch.bool and not bool(((flags == 0) | (flags == 1)).all()):
        raise ValueError(f"{name} must be true or false (1 or 0) for each keypoint")
    return flags.bool()


def is_address(text: str) -> bool:
    """Whether a text can be the address of something on a server, or of a file."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    there = parts.netloc or (parts.scheme == "file" and parts.path)
    return parts.scheme in ("http", "https", "ftp", "file") and bool(there) and not any(map(str.isspace, text))


def checked_index(index: Any, count: int) -> int:
    """The number of an item as Python's; TypeError for what is none, IndexError for one beyond the `count` items."""
    try:
        number = operator.index(index)
    except TypeError:
        raise TypeError(
            f"an item's number must be a whole number, not {index!r}: ask for one after the other"
        ) from None
    if not -count <= number < count:
        raise IndexError(f"there is no item {number}: the data set has {count:,} items, from 0 on")
    return number


def counted(number: int, noun: str) -> str:
    """A number with what it counts.

    >>> counted(1, "picture"), counted(2000, "picture")
    ('1 picture', '2,000 pictures')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
