"""Where the page's source is, where the built page is, and whether that one is up to date. Imports nothing heavy."""

import hashlib
import json
import shutil
from pathlib import Path

from handpose_lib.storage import INSTALLED, bundled_file, checkout_root, user_cache

FORMAT = 5  # of models/facts.json; to be raised when the page's modules need other facts than before
FACTS = Path("models", "facts.json")
BUILD = "handpose web --build"
BUNDLED = {"landmark": "data/weights/handpose.safetensors", "finder": "data/weights/finder.safetensors"}


def source_folder() -> Path:
    """The page's source: `web/` of a checkout, or its copy in the installed package."""
    root = checkout_root()
    return root / "web" if root else INSTALLED / "web"


def page_folder() -> Path:
    """Where the built page is: in a checkout's `build/`, else in the user's cache."""
    root = checkout_root()
    return root / "build" / "web" if root else user_cache() / "web"


def problem_of(folder: Path) -> str | None:
    """Why the page in `folder` can't be used as it is; None where it can."""
    if not (folder / FACTS).is_file():
        return f"there is no built page in {folder}"
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return f"{folder / FACTS} is damaged"
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        return f"the page in {folder} was built by another version of handpose_lib"
    if facts.get("bundled", True) and facts.get("weights") != bundled_fingerprints():
        return f"the page in {folder} was built from other weights than the bundled ones of now"
    return None


def copy_source(folder: Path) -> None:
    """Copy the page's own files into `folder`, those of an older version are replaced; a second's work at most."""
    shutil.copytree(source_folder(), folder, dirs_exist_ok=True)


def bundled_fingerprints() -> dict[str, str]:
    """SHA-256 of the bundled weights, by what their network is for."""
    return {role: fingerprint(bundled_file(name)) for role, name in BUNDLED.items()}


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
