"""Settings and arguments are of the type that is meant, and not of one that is like it: true is no number."""

import dataclasses
import math
import operator
from typing import Any

import numpy as np

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
        return not isinstance(value, bool) and bool(0 < value < math.inf)
    except (TypeError, ValueError, RuntimeError):  # not comparable, or several numbers
        return False


def is_number(value: Any) -> bool:
    """Whether a value is one finite number; text and true are none."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number of at least `least`; 2.0 and true are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least


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
