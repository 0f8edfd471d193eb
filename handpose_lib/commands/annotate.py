"""`handpose annotate`: label your own pictures on a page of this computer; a network proposes the points."""

import argparse
from pathlib import Path

from handpose_lib.annotate.server import AnnotationServer
from handpose_lib.annotate.store import LabelStore
from handpose_lib.commands.network import add_network_options
from handpose_lib.commands.web import check_port, serve
from handpose_lib.devices import pick_device
from handpose_lib.fields import counted
from handpose_lib.predict import HandPosePredictor

EXAMPLES = """examples:
  handpose annotate my_hands
  handpose annotate my_hands --weights tuned/best.safetensors --no-browser

The labels are in my_hands/keypoints.json, saved at each change. Next:
  handpose evaluate --root my_hands --split all
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose annotate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument("folder", type=Path, help="of pictures, each with one hand to label; folders in it count too")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any that is free)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    add_network_options(parser)


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    check_port(options.port)
    predictor = HandPosePredictor.from_pretrained(options.weights, pick_device(options.device))
    store = LabelStore(options.folder, predictor)
    with AnnotationServer(store, options.port) as server:
        count = counted(len(store.files), "picture")
        said = f"{server.address}\n{count}; labels go to {store.path}; Ctrl-C ends it"
        try:
            serve(server, said, not options.no_browser)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"ended; the labels are in {store.path}") from None
