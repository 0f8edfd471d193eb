"""Signals that ask a process to stop: it does so between two pieces of its work, and keeps what is done."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, `kill` and batch systems, a closed terminal (which Windows has not).
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A process was asked to stop, and says what it has done.

    Args:
        message: what is done, and where it is.
        number: of the signal.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


@contextmanager
def stop_signal() -> Iterator[list[int]]:
    """A list that is filled when the process is asked to stop, so that the current piece of work can end first.

    The exception that Ctrl-C raises otherwise can come up anywhere, and libraries may lose it or make another of it.
    """
    received: list[int] = []
    with handled(lambda number, frame: received.append(number)):
        yield received


@contextmanager
def insisting(received: list[int]) -> Iterator[None]:
    """Ends the work inside at once when the process is asked to stop a second time, for work that may take long.

    Args:
        received: of `stop_signal`.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    try:
        with handled(stop):
            yield
    except BaseException:  # libraries make others of a KeyboardInterrupt
        if len(received) < 2:
            raise


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Has a handler receive the signals to stop, but those that are ignored, as `nohup` and the background have them.

    Outside the main thread signals stay with whoever has them.
    """
    before = {}
    try:
        for number in SIGNALS:
            if (now := signal.getsignal(number)) not in (signal.SIG_IGN, None):  # None: set by another language
                before[number] = now
                signal.signal(number, handler)
    except ValueError:  # not the main thread
        before.clear()
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
