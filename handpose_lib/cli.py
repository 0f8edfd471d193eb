"""The command line of the library, `handpose COMMAND`: the commands are those of `COMMANDS`.

A command's module in `commands/` is imported when that command is asked for, so that `handpose --help` is quick.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

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
    "figures": "redraw the README's pictures and tables from the files in figures/",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(arguments).parse_args(arguments)
    for name, value in vars(options).items():  # `~` is the home folder wherever a path is given
        if isinstance(value, Path):
            setattr(options, name, value.expanduser())
        elif isinstance(value, list):
            setattr(options, name, [each.expanduser() if isinstance(each, Path) else each for each in value])
    try:
        with warnings.catch_warnings():  # restores how warnings are shown: here, as one line
            warnings.showwarning = lambda message, *where: print(f"handpose: note: {message}", file=sys.stderr)
            options.run(options)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"handpose: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        print(f"handpose: {str(stop) or 'stopped'}", file=sys.stderr)
        raise SystemExit(130) from None


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
