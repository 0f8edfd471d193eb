"""Shared by all tests: caches in a temporary folder, a small tree in FreiHAND's layout, the real images if given."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Whoever starts two test processes reads this file, too, and needs neither torch nor the library: they are imported
# where they are used.
if TYPE_CHECKING:
    from handpose_lib.export import Look
    from handpose_lib.freihand import FreiHAND

# They take about a minute each, or more.
LONGEST = ("test_rehearsal", "test_web_page", "test_site", "test_train", "test_export", "test_mutations",
           "test_jupyterlab")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: at the end one process would wait for the other."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def heard_signals() -> None:
    """Tests that are run in the background, or by nohup, do not ignore the signals that some of them send."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
            signal.signal(getattr(signal, name), handler)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing that a test derives is left beside the data or in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["HANDPOSE_CACHE"] = str(folder)
    os.environ["HANDPOSE_PRESET"] = "quick"  # whatever was chosen in chapter 00 of this checkout
    for name in ("HANDPOSE_RUNS", "HANDPOSE_FREIHAND_ROOT", "HANDPOSE_REHEARSAL"):
        os.environ.pop(name, None)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two test processes share two cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """No test leaves its figures to the next one."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hands in four versions, with an unlabelled evaluation set of three: noise, not hands."""
    from trees import make_tree

    return make_tree(tmp_path_factory.mktemp("trees") / "tiny", hands=12, evaluation=3, evaluation_labels=False)


@pytest.fixture(scope="session")
def bundled_root() -> Path:
    """The bundled SynthHAND sample."""
    from handpose_lib.synthhand import sample_root

    return sample_root()


@pytest.fixture(scope="session")
def real_root() -> Path:
    """A few real FreiHAND images in the published layout; they are not part of this project."""
    folder = os.environ.get("HANDPOSE_FREIHAND_SAMPLE")
    if not folder:
        pytest.skip("HANDPOSE_FREIHAND_SAMPLE is not set: it names a folder with a few real FreiHAND images")
    if not Path(folder).is_dir():
        pytest.skip(f"HANDPOSE_FREIHAND_SAMPLE names {folder}, which is not there")
    return Path(folder).resolve()


@pytest.fixture
def tiny_train(tiny_root: Path) -> "FreiHAND":
    from handpose_lib.freihand import FreiHAND

    return FreiHAND(tiny_root, "train")


@pytest.fixture
def tiny_val(tiny_root: Path) -> "FreiHAND":
    from handpose_lib.freihand import FreiHAND

    return FreiHAND(tiny_root, "val")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all test processes of this run; what they make there, they make under a lock."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def traced_once(shared: Path) -> Callable[["Look"], Any]:
    """`export.traced`, except that a network is traced once for all test processes: it takes half a minute."""
    from handpose_lib import export
    from handpose_lib.calibration import calibration_of
    from handpose_lib.onnx_graph import needed
    from handpose_lib.predict import decoding_of
    from handpose_lib.storage import atomic_path, lock_for

    folder, trace = shared / "traced", export.traced

    def answer(look: "Look") -> Any:
        facts = repr((look, look.framing, look.method, decoding_of(look.model), calibration_of(look.model)))
        weights = b"".join(value.numpy().tobytes() for value in look.state_dict().values())
        onnx, path = needed("onnx"), folder / f"{hashlib.sha256(facts.encode() + weights).hexdigest()}.onnx"
        with lock_for(path):
            if not path.is_file():
                with atomic_path(path) as temporary:
                    onnx.save(trace(look), str(temporary))
        return onnx.load(str(path))

    return answer


@pytest.fixture(scope="session")
def wheel(shared: Path) -> Path:
    """The wheel, built with the build backend that is installed: no network."""
    from handpose_lib.storage import lock_for

    out, root = shared / "wheel", Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(root)]
    with lock_for(out):
        if not out.is_dir():
            subprocess.run(command, check=True, capture_output=True, text=True)
    (path,) = out.glob("*.whl")
    return path
