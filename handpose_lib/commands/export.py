"""`handpose export`: a network as ONNX, which runs without PyTorch."""

import argparse
from pathlib import Path

from handpose_lib.commands import weights_file
from handpose_lib.export import export_onnx
from handpose_lib.predict import bundled_weights
from handpose_lib.storage import check_target
from handpose_lib.weights import load_model

EXAMPLE = "example: handpose export handpose.onnx --half"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose export`."""
    parser.epilog = EXAMPLE
    parser.add_argument("file", type=Path, help="the ONNX file to write")
    parser.add_argument("--weights", type=weights_file, help="best.safetensors of a run (default: bundled)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--half", action="store_true", help="store weights in 16 bits: half the size, the same speed")
    size.add_argument("--eight-bit", action="store_true", help="compute in 8 bits: a quarter of the size, faster")


def run(options: argparse.Namespace) -> None:
    """Write the file, and print how far it is from PyTorch."""
    if options.file.suffix != ".onnx":
        raise ValueError(f"{options.file} must end in .onnx")
    model = load_model(options.weights or bundled_weights())[0]
    check_target(options.file)  # tracing takes half a minute
    try:
        print(export_onnx(model, options.file, half=options.half, eight_bit=options.eight_bit))
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error
