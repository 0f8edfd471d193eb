"""What every exercise's check does: run the learner's function beside the right one and beside the usual wrong ones."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

NOT_YET = "not yet"


@dataclass(frozen=True)
class Check:
    """The check of one exercise; call it with the learner's function.

    Args:
        truth: the function that the learner writes, written right.
        cases: returns the argument tuples to try, such that no two of truth and mistakes agree on all of them.
        mistakes: hint -> what somebody who makes that mistake computes; tried in order.
        right: what a right answer earns.
        atol, rtol: how far an answer may be from the truth.
    """

    truth: Callable[..., Any]
    cases: Callable[[], Sequence[tuple]]
    mistakes: dict[str, Callable[..., Any]] = field(default_factory=dict)
    right: str = "right"
    atol: float = 1e-4
    rtol: float = 1e-4

    def __call__(self, answer: Callable[..., Any]) -> None:
        """Print the verdict on the learner's function."""
        print(self.verdict(answer))

    def verdict(self, answer: Callable[..., Any]) -> str:
        """ "not yet", `right`, or "not right: " and the likely mistake."""
        cases = self.cases()
        try:
            answers = [answer(*deepcopy(case)) for case in cases]
        except Exception as error:  # the learner's code may do anything; it must not stop the notebook
            return f"not right: it raises {type(error).__name__}: {error}"
        if any(given is None or given is Ellipsis for given in answers):
            return NOT_YET
        try:
            answers = [_tensors(given) for given in answers]
        except (TypeError, ValueError, RuntimeError):
            kinds = ", ".join(sorted({type(given).__name__ for given in answers}))
            return f"not right: it returns {kinds}, where numbers or a tensor are wanted"
        wanted = [_tensors(self.truth(*deepcopy(case))) for case in cases]
        if self._agree(answers, wanted):
            return self.right
        for hint, wrong in self.mistakes.items():
            if self._agree(answers, [_tensors(wrong(*deepcopy(case))) for case in cases]):
                return f"not right: {hint}"
        for given, truth in zip(answers, wanted, strict=True):
            if [t.shape for t in given] != [t.shape for t in truth]:
                return f"not right: its shape is {_shapes(given)}, wanted is {_shapes(truth)}"
        pairs = [pair for given, truth in zip(answers, wanted, strict=True) for pair in zip(given, truth, strict=True)]
        return f"not right: the shape is right, but {self._first_difference(pairs)}"

    def _agree(self, some: list[list[Tensor]], others: list[list[Tensor]]) -> bool:
        return all(
            len(a) == len(b)
            and all(
                x.shape == y.shape and torch.allclose(x, y, self.rtol, self.atol, equal_nan=True)
                for x, y in zip(a, b, strict=True)
            )
            for a, b in zip(some, others, strict=True)
        )

    def _first_difference(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> str:
        """Where the first number of an answer is wrong, and what it should be."""
        for given, truth in pairs:
            wrong = ~torch.isclose(given, truth, self.rtol, self.atol, equal_nan=True)
            if wrong.any():
                index = tuple(wrong.nonzero()[0].tolist())
                place = f"the number at {list(index)}" if index else "the number"
                return f"{place} is {given[index].item():.5g} and should be {truth[index].item():.5g}"
        raise AssertionError("the answers agree")


def _tensors(value: Any) -> list[Tensor]:
    """A number, array, tensor, or tuple of them, as float64 tensors."""
    parts = value if isinstance(value, tuple) else (value,)
    # A copy in C order: torch takes no array that is read backwards, such as points[:, ::-1].
    return [
        p.detach().double() if isinstance(p, Tensor) else torch.as_tensor(np.array(p, order="C")).double()
        for p in parts
    ]


def _shapes(tensors: list[Tensor]) -> str:
    return " and ".join(str(tuple(t.shape)) for t in tensors)
