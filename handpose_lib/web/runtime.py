"""ONNX Runtime's build for browsers: two files of one npm package, of a version that is named here."""

import importlib.metadata
import lzma
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from handpose_lib.onnx_graph import needed
from handpose_lib.reading import refuse_special
from handpose_lib.storage import atomic_path, user_cache
from handpose_lib.web.place import fingerprint

RUNTIME = "onnxruntime-web"
VERSION = "1.30.0"
FILES = {  # of the package's dist/, with their SHA-256
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
LICENCES = {"LICENSE": "LICENSE.txt", "ThirdPartyNotices.txt": "ThirdPartyNotices.txt"}  # there, and on the page
PATIENCE = 600  # s; the package has 33 MB


def write_runtime(folder: Path, package: Path | None = None) -> None:
    """Write ONNX Runtime's files for one or several threads, and its licence, into `folder`, which is made.

    Args:
        folder: to write.
        package: the npm package's file; None: the one in the user's cache, for which npm is asked once.

    Raises:
        ModuleNotFoundError: the Python package onnxruntime is not installed, which has the licence.
        ValueError: npm is not installed or could not get the package, or this is another package.
    """
    package = package or packed_runtime()
    refuse_special(package)
    folder.mkdir(parents=True)
    try:
        with tarfile.open(package) as archive:
            for name in FILES:
                (folder / name).write_bytes(archive.extractfile(f"package/dist/{name}").read())
    except (tarfile.TarError, KeyError, AttributeError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        cause = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{package} is not the npm package {RUNTIME} {VERSION} ({cause}): give that one") from error
    for name, expected in FILES.items():
        if fingerprint(folder / name) != expected:
            raise ValueError(f"{name} in {package} is not that of {RUNTIME} {VERSION}: give that version")
    _write_licences(folder)


def _write_licences(folder: Path) -> None:
    """The npm package brings no licence text; the Python package of the same project does."""
    needed("onnxruntime")
    found = {f.name: f.locate() for f in importlib.metadata.files("onnxruntime") or () if len(f.parts) == 2}
    for name, new_name in LICENCES.items():
        if name not in found:
            raise ValueError(f"the installed Python package onnxruntime has no {name}: install it again with pip")
        shutil.copy(found[name], folder / new_name)


def packed_runtime() -> Path:
    """The npm package's file in the user's cache, which npm is asked for once; ValueError where it can't be had."""
    packed = user_cache() / f"{RUNTIME}-{VERSION}.tgz"
    if packed.is_file():
        return packed
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"the page needs the npm package {RUNTIME} {VERSION}, and npm is not there: install Node.js, or get that "
            "package elsewhere and name its file with --runtime"
        )
    with atomic_path(packed) as temporary, TemporaryDirectory() as work:
        command = [npm, "pack", f"{RUNTIME}@{VERSION}", "--silent", "--pack-destination", work]
        try:
            result = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"npm did not get {RUNTIME} {VERSION} within {PATIENCE} s: try again") from error
        files = list(Path(work).glob("*.tgz"))
        if result.returncode or len(files) != 1:
            lines = result.stderr.strip().splitlines() or ["no message"]
            raise ValueError(f"npm could not get {RUNTIME} {VERSION} (is there a network?): {lines[-1]}")
        shutil.move(files[0], temporary)
    return packed
