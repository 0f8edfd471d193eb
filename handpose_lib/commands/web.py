"""`handpose web`: the page that finds hands in the browser, served on this computer."""

import argparse
import threading
import webbrowser
from pathlib import Path

from handpose_lib.commands import weights_file
from handpose_lib.web.place import BUILD, copy_source, page_folder, problem_of
from handpose_lib.web.server import LocalServer, page_server

EXAMPLE = f"example: {BUILD}    once, then: handpose web"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose web`."""
    parser.epilog = EXAMPLE
    parser.add_argument("--port", type=int, default=8321, help="on 127.0.0.1 (default: 8321; 0: any that is free)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    parser.add_argument("--build", action="store_true", help="build the page again, and end")
    parser.add_argument("--out", type=Path, help="with --build: the folder to write, for any host to serve")
    parser.add_argument("--weights", type=weights_file, help="with --build: weights of your own (default: bundled)")
    parser.add_argument(
        "--runtime", type=Path, help="with --build: file of the npm package onnxruntime-web, so that npm is not needed"
    )


def run(options: argparse.Namespace) -> None:
    """Build the page, or serve it until Ctrl-C."""
    if options.build:
        _build(options.out or page_folder(), options.runtime, options.weights)
        return
    for name in ("out", "weights", "runtime"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} goes with --build: run {BUILD} --{name} {getattr(options, name)}")
    check_port(options.port)
    folder = page_folder()
    problem = problem_of(folder)
    if problem:
        raise ValueError(f"{problem}: run {BUILD} once (it needs npm, and pip install 'handpose-lib[export]')")
    copy_source(folder)
    with page_server(folder, options.port) as server:
        said = f"{server.address} (Ctrl-C ends it; pictures and video stay on this computer)"
        serve(server, said, not options.no_browser)


def check_port(port: int) -> None:
    """ValueError for a number that no port can have."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port is {port}, it must be from 0 to 65535")


def serve(server: LocalServer, said: str, browser: bool) -> None:
    """Prints what is said of a page, opens it in the browser where that is wanted, and serves it until Ctrl-C."""
    print(said, flush=True)
    if browser:
        threading.Timer(0.3, webbrowser.open, (server.address,)).start()
    server.serve_forever()


def _build(folder: Path, runtime: Path | None, weights: Path | None) -> None:
    from handpose_lib.web.build import build_page  # brings in torch, which serving does not need

    try:
        sizes = build_page(folder, runtime, weights)
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error
    for name, size in sizes.items():
        print(f"{size / 1000:10,.0f} kB  {name}")
    print(f"{sum(sizes.values()) / 1e6:.1f} MB in {folder}; to open it: handpose web")
