"""What a rendered set was made with, and whose a folder is: the file `synthhand.json` in it."""

import json
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from ..checksums import NAME as CHECKSUMS
from ..storage import atomic_path
from .scene import REFERENCE

GENERATOR = 3  # raise it when the same seed begins to give other pictures
SETTINGS_FILE = "synthhand.json"
SYSTEM_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")  # which Finder and Explorer leave in folders they have shown


@dataclass(frozen=True)
class Settings:
    """All that decides what the files of a set contain."""

    hands: int
    evaluation_hands: int = 0
    seed: int = 0
    image_size: int = REFERENCE
    quality: int = 92
    generator: int = GENERATOR
    without: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The settings as plain JSON values; `without` only where something is left out."""
        values = asdict(self) | {"without": list(self.without)}
        return values if self.without else {name: v for name, v in values.items() if name != "without"}


def claim(out: Path, settings: Settings) -> None:
    """Marks an empty folder as ours, or one whose mark was damaged; refuses one that holds something else."""
    refuse_others(out, settings)
    if _found_settings(out) is None:
        if (out / SETTINGS_FILE).exists():
            warnings.warn(f"{out / SETTINGS_FILE} was damaged: the set will be rendered again", stacklevel=3)
            shutil.rmtree(out / ".labels", ignore_errors=True)  # whatever they are of
            (out / CHECKSUMS).unlink(missing_ok=True)
        write_settings(out, settings)


def refuse_others(out: Path, settings: Settings) -> None:
    """ValueError where a folder holds a set of other settings, or something else."""
    found = _found_settings(out)
    if found is not None:
        wanted = settings.to_json()
        names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name) and name != "complete"]
        other = [f"{name}={found.get(name)!r} (now {wanted.get(name)!r})" for name in names]
        if other:
            difference = ", ".join(other)
            raise ValueError(f"{out} holds a set of other settings: {difference}. Choose another folder or delete it.")
    elif not (out / SETTINGS_FILE).exists() and out.is_dir() and any(map(is_content, out.iterdir())):
        raise ValueError(f"{out} is not empty and has no {SETTINGS_FILE}: choose another folder, nothing was written.")


def is_content(path: Path) -> bool:
    """Whether a file or folder is somebody's: neither a lock of ours nor what a file manager leaves behind."""
    is_lock = path.name.startswith(".") and path.suffix == ".lock"
    return not is_lock and path.name not in SYSTEM_FILES


def _found_settings(out: Path) -> dict | None:
    """What the settings file of a folder says; None where there is none that can be read."""
    try:
        found = json.loads((out / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_complete(out: Path) -> bool:
    return bool((_found_settings(out) or {}).get("complete"))


def write_settings(out: Path, settings: Settings, complete: bool = False) -> None:
    """Writes the settings file of a set."""
    with atomic_path(out / SETTINGS_FILE) as temporary:
        temporary.write_text(json.dumps(settings.to_json() | ({"complete": True} if complete else {})))
