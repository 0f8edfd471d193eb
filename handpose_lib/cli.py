"""The command line of the library, `handpose COMMAND`: the commands are those of `COMMANDS`.

A command's module in `commands/` is imported when that command is asked for, so that `handpose --help` is quick.
"""

import argparse
import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from handpose_lib import stopping

COMMANDS = {  # each a module of `handpose_lib.commands`
    "data": "get, render and look at data sets",
    "train": "train a U-Net",
    "evaluate": "per-keypoint accuracy of a trained U-Net: a table and a plot",
    "predict": "keypoints of the hands in your photographs and videos",
    "camera": "the live picture of your camera with the skeleton of the hand",
    "annotate": "label your own pictures on a page of this computer",
    "reproduce": "FreiHAND from its files to the per-keypoint table of its test rows",
    "bench": "measure how fast this machine loads and trains, as ratios",
    "export": "write a network as ONNX, which runs without PyTorch",
    "web": "the page that finds hands in your browser, served on this computer",
    "figures": "redraw the pictures and tables of README and card from the files in figures/",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    received: list[int] = []  # signals

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal can't show is no reason to stop
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_place()
        options = _parser(arguments).parse_args(arguments)
        _check_paths(arguments, options)
        with stopping.handled(stop), warnings.catch_warnings():  # which are shown as one line here
            warnings.showwarning = lambda message, *where: print(f"handpose: note: {message}", file=sys.stderr)
            options.run(options)
        sys.stdout.flush()
    except (OSError, ValueError, FloatingPointError, MemoryError, RuntimeError, Warning) as error:
        if received:  # what a library made of the exception that the signal raised
            _end(received[0])
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"handpose: {sentence}", file=sys.stderr)
        raise SystemExit(2) from None
    except stopping.Stopped as stopped:
        _end(stopped.number, str(stopped))
    except KeyboardInterrupt as stopped:
        _end(*received[:1], message=str(stopped) or "stopped")


def _end(number: int = signal.SIGINT, message: str = "stopped") -> NoReturn:
    """Ends the command as one that a signal has stopped."""
    print(f"handpose: {message}", file=sys.stderr)
    raise SystemExit(128 + number) from None


def _open_closed_streams() -> None:
    """Puts nothing in the place of standard streams that are closed; the next files would get their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (it stays open)


def _check_place() -> None:
    """ValueError where the folder one works in is gone, at which libraries would end the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ValueError("the folder that you work in was deleted: go to another one, and run again") from None


def _check_paths(arguments: list[str], options: argparse.Namespace) -> None:
    """Puts the home folder in the place of `~` wherever a path is given; ValueError for one that can't be meant."""
    empty = next((each for each in arguments if not each or (each.startswith("--") and each.endswith("="))), None)
    if empty is not None:  # as a path it would be the folder that one works in
        raise ValueError(f"an argument is empty ({empty!r}): is a variable of the shell not set?")
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, _at_home(value))
        elif isinstance(value, list):
            setattr(options, name, [_at_home(each) if isinstance(each, Path) else each for each in value])


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: the home folder of this user is not known, write the path out") from error


def _sentence(error: Exception) -> str | None:
    """What is said of an error; None for one that nobody expected."""
    from handpose_lib.reading import sentence_of  # for `handpose --help`, this module is enough

    nameless = isinstance(error, OSError) and error.filename is None  # of what is printed, among others
    if nameless and error.errno in (errno.EPIPE, errno.ENOSPC) and _output_is_broken():
        return f"the output can't be written any more ({error.strerror or error}), so the command stopped early"
    first = str(error).partition("\n")[0]
    if isinstance(error, MemoryError) or "out of memory" in first or "can't allocate memory" in first:
        return f"there is not enough memory ({first or 'of this machine'}): take smaller settings or pictures"
    if "home directory" in first:  # of `~` in a variable of the environment
        return f"a path that begins with ~ names an unknown user ({first}): write the path out"
    if "Symlink loop" in first:
        return f"a path is a link that leads back to itself ({first}): give another path"
    if first.startswith("Key backend"):  # what matplotlib says when it is imported
        return f"the variable MPLBACKEND names no backend of matplotlib ({first.partition(';')[0]}): unset it"
    # torch's own errors are of this kind too, and their text is for who wrote the code.
    return None if isinstance(error, RuntimeError) else sentence_of(error)


def _output_is_broken() -> bool:
    """Whether standard output takes nothing more, such as a closed pipe; what waits for it is then given up."""
    try:
        print(flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end of the process complains again
        return True
    return False


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser of all commands, with the options of the one that the arguments name."""
    parser = argparse.ArgumentParser("handpose", description="2D hand-pose estimation: data, training, evaluation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        one = commands.add_parser(name, help=purpose)
        if arguments[:1] == [name]:
            module = import_module(f"handpose_lib.commands.{name}")
            module.add_options(one)
            if hasattr(module, "run"):  # `data` has commands of its own, which say what to run
                one.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    main()
