"""The pictures of a folder and their labels: proposed by a network, saved one by one in `keypoints.json`."""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from handpose_lib.fields import is_whole
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.labels import GROUP_KEYS, LABELS, SIDES, check_entry, hand_of, picture_of, read_labels
from handpose_lib.pictures import picture_files, picture_size
from handpose_lib.storage import atomic_path, lock_for, refuse_target

MOST_PICTURES = 10_000
LONGEST_GROUP = 100  # letters
FARTHEST = 1.0  # of the picture's side: a keypoint may lie so far off it
VISIBLE = 2  # COCO's number for it


class LabelChangedError(ValueError):
    """A label is no longer what whoever wants to change it has seen."""


class LabelStore:
    """Labels of the pictures in a folder and the folders in it, one hand per picture.

    Args:
        folder: of the pictures; its `keypoints.json` is read and written.
        predictor: a file -> keypoints (1, 21, 2) px and confidence (1, 21).

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: it can't be written, holds no or too many pictures, or its `keypoints.json` is of another kind.
    """

    def __init__(self, folder: str | Path, predictor: Callable[[Path], tuple[Tensor, Tensor]]):
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is not a folder: give the folder that holds your pictures")
        self.path = self.folder / LABELS
        _check_writable(self.folder, self.path)
        inside = self.folder.resolve()
        places = {file: file.resolve() for file in picture_files(self.folder)}
        # A link may lead out of the folder; what it leads to is not shown.
        self.files = [file for file, place in places.items() if place.is_relative_to(inside)]
        if not 0 < len(self.files) <= MOST_PICTURES:
            raise ValueError(f"{self.folder} holds {len(self.files):,} pictures: from 1 to {MOST_PICTURES:,} are shown")
        self.names = [file.relative_to(self.folder).as_posix() for file in self.files]
        self._places = [places[file] for file in self.files]
        self._named: dict[str, Path | None] = dict(zip(self.names, self._places, strict=True))  # grows, see _place
        self._predictor = predictor
        self._proposals: dict[int, tuple[list, list]] = {}
        self._removed: dict[int, dict[str, Any]] = {}  # entries that were taken away, for who takes that back
        self._written: dict[int, tuple[str | None, str]] = {}  # which window changed a label last, to which version
        self._looking, self._writing = threading.Lock(), threading.Lock()
        self._read_again()

    def _read_again(self) -> None:
        seen = _state(self.path)  # before the content: who writes in between is then noticed by the next writer here
        self._entries, self._seen = self._read(), seen

    def _read(self) -> list[dict[str, Any]]:
        """The entries of keypoints.json as they stand there."""
        refuse_target(self.path)  # before any label is made that could not be saved
        if not self.path.is_file():
            return []
        if self.path.read_bytes().strip(b"\xef\xbb\xbf \r\n") in (b"", b"[]"):
            return []
        read_labels(self.path)  # says what is wrong, if anything
        content = json.loads(self.path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, list):
            raise ValueError(f"{self.path} is a COCO file, and labels of another form would go there: rename it")
        return content

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time, in this process and in others, who begins with what the one before has written."""
        with self._writing, lock_for(self.path, patience=10.0):
            if _state(self.path) != self._seen:
                self._read_again()
            yield

    def overview(self) -> dict[str, Any]:
        """What the page shows of all pictures: names, and which are labelled."""
        with self._alone():
            done = self._done()
        pictures = [{"name": name, "done": place in done} for name, place in zip(self.names, self._places, strict=True)]
        return {"folder": self.folder.name or str(self.folder.resolve()), "pictures": pictures}

    def hand(self, number: int) -> dict[str, Any]:
        """A picture's label where it is saved, else the network's proposal, the size (W, H) in px, and `version`.

        Raises:
            ValueError: the picture can't be read.
        """
        self._check_number(number)
        height, width = picture_size(self.files[number])
        with self._alone():
            entry = self._saved(number)
        answer: dict[str, Any] = {"name": self.names[number], "size": [width, height], "saved": entry is not None}
        answer["version"] = _version(entry)
        keypoints, confidence = self._proposal(number)
        answer |= {"proposed": keypoints, "confidence": confidence}
        if entry is None:
            return answer | {"keypoints": keypoints, "side": "", "group": self._group(number)}
        hand = hand_of(self.path, "the label", entry)
        return answer | {"keypoints": _shown(hand.keypoints), "side": hand.side or "", "group": hand.group or ""}

    def _check_number(self, number: int) -> None:
        if not is_whole(number, 0) or number >= len(self.files):
            raise ValueError(f"there is no picture {number!r}: they are numbered from 0 to {len(self.files) - 1}")

    def _place(self, entry: dict[str, Any]) -> Path | None:
        """Where the picture of an entry is, which may name it otherwise than `names`; None: nowhere."""
        name = entry["file"]
        if name not in self._named:
            picture = picture_of(self.folder, name)
            self._named[name] = picture and picture.resolve()
        return self._named[name]

    def _saved(self, number: int) -> dict[str, Any] | None:
        return next((entry for entry in self._entries if self._place(entry) == self._places[number]), None)

    def _group(self, number: int) -> str:
        """What a new label's group may be: the picture's folder, else that of the picture before."""
        above = Path(self.names[number]).parent.as_posix()
        if above != ".":
            return above
        before = self._saved(number - 1) if number else None
        return (before and hand_of(self.path, "the label", before).group) or ""

    def _proposal(self, number: int) -> tuple[list, list]:
        with self._looking:  # one picture at a time
            if number not in self._proposals:
                keypoints, confidence = self._predictor(self.files[number])
                self._proposals[number] = (
                    keypoints[0].double().numpy().round(1).tolist(),
                    confidence[0].double().numpy().round(3).tolist(),
                )
            return self._proposals[number]

    def save(self, number: int, label: Any, version: str | None = None, window: str | None = None) -> dict[str, Any]:
        """Writes a picture's label, at once and whole; returns `done`, how many have one, and the label's `version`.

        What the page does not edit stays in the entry as it stands: other keys, and the points that did not move. With
        `undone`, a removal is taken back: so they stay in the entry that was removed.

        Args:
            number: of the picture.
            label: `{"keypoints": 21 of [x, y] or null, "side": "left", "right" or "", "group": str}`, and `"undone"`.
            version: of the label that was seen; None: whatever is there now is changed.
            window: who changes it. What a window itself has written it may change without having heard the version.

        Raises:
            LabelChangedError: somebody else has changed it since.
            ValueError: the label is not like that.
            OSError: the file can't be written.
        """
        self._check_number(number)
        height, width = picture_size(self.files[number])
        checked = _checked(label, width, height)
        check_entry(self.path, {"file": self.names[number], **checked}, "the label")
        with self._alone():
            self._check_version(number, version, window)
            old = self._saved(number)
            before = self._removed.get(number) if old is None and label.get("undone") is True else old
            entry = {"file": self.names[number], **checked} if before is None else self._merged(before, checked)
            entries = [entry if each is old else each for each in self._entries]
            self._write(entries if old is not None else [*entries, entry])
            self._removed.pop(number, None)  # what is changed after a removal is a label of its own
            return self._changed(number, window)

    def _merged(self, old: dict[str, Any], label: dict[str, Any]) -> dict[str, Any]:
        """An entry with what a label changes in it; all else as it stands."""
        was = hand_of(self.path, "the label", old)
        points, side, group = old.get("keypoints", old.get("uv")), label.get("side"), label.get("group")
        new, gone = {"keypoints": _merged_points(points, _shown(was.keypoints), label["keypoints"])}, ["uv"]
        if side != was.side:
            gone.append("side")
            new |= {"side": side} if side else {}
        if group != was.group:
            keys = [key for key in GROUP_KEYS if key in old]
            gone += keys[:1] if group else keys  # where there is no group, the next key would be taken for it
            new |= {"group": group} if group else {}
        return {key: value for key, value in old.items() if key not in gone} | new

    def remove(self, number: int, version: str | None = None, window: str | None = None) -> dict[str, Any]:
        """Takes a picture's label away; see `save`."""
        self._check_number(number)
        with self._alone():
            old = self._saved(number)
            if old is not None:
                self._check_version(number, version, window)
                self._write([each for each in self._entries if each is not old])
                self._removed[number] = old
            return self._changed(number, window)

    def _changed(self, number: int, window: str | None) -> dict[str, Any]:
        """What is answered to a change."""
        version = _version(self._saved(number))
        self._written[number] = window, version
        return {"done": self._count(), "version": version}

    def _check_version(self, number: int, version: str | None, window: str | None) -> None:
        now = _version(self._saved(number))
        if version in (None, now) or (window and self._written.get(number) == (window, now)):
            return
        raise LabelChangedError(
            f"the label of {self.names[number]} was changed elsewhere since it was shown here, in another window or by "
            "another program: load the page again to see it; what you changed here since then is lost"
        )

    def _done(self) -> set[Path | None]:
        """The places of the pictures that have a label."""
        return {self._place(entry) for entry in self._entries}

    def _count(self) -> int:
        return len(self._done().intersection(self._places))

    def _write(self, entries: list[dict[str, Any]]) -> None:
        # In the order of the pictures; labels of pictures that are elsewhere stay at the end.
        rank = {place: number for number, place in enumerate(self._places)}
        entries = sorted(entries, key=lambda entry: rank.get(self._place(entry), len(rank)))
        lines = ",\n ".join(_line(entry) for entry in entries)
        try:
            with atomic_path(self.path) as temporary:
                temporary.write_text(f"[{lines}]\n", encoding="utf-8")
                seen = _state(temporary)  # before it has its name: who writes after that is noticed
        except OSError as error:
            raise OSError(
                f"{self.path} can't be written ({error.strerror or error}): make room or give leave"
            ) from error
        self._entries, self._seen = entries, seen


def _state(path: Path) -> tuple[int, int, int] | None:
    """Number, size and time of a file, which change when somebody writes it; None where it is not there."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns
    return None


def _version(entry: dict[str, Any] | None) -> str:
    """What tells a label from earlier and later ones of the same picture."""
    return "none" if entry is None else hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:16]


def _shown(keypoints: np.ndarray) -> list[list[float] | None]:
    """Keypoints (21, 2) as the page has them: null where not labelled."""
    return [point.tolist() if np.isfinite(point).all() else None for point in keypoints]


def _rounded(point: list | None) -> list[float] | None:
    return None if point is None else [round(float(value), 2) for value in point]


def _merged_points(old: list, shown: list, new: list) -> list:
    """Keypoints for an entry that has some: those that were not moved stay as they stand, with their visibility.

    Args:
        old: 21, as they stand in the entry.
        shown: the same as the page had them.
        new: what came from the page, rounded.
    """
    visible = [VISIBLE] if any(len(point or ()) == 3 for point in old) else []
    return [
        before if _rounded(was) == point else point and [*point, *visible]
        for before, was, point in zip(old, shown, new, strict=True)
    ]


def _line(entry: dict[str, Any]) -> str:
    """An entry as JSON, with its letters as they are; a byte of a file's name that is none is written as an escape."""
    text = json.dumps(entry, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(entry)


def _check_writable(folder: Path, path: Path) -> None:
    """ValueError where labels could not be saved; by the mode bits too, which an administrator could pass over."""
    wrong = not os.access(folder, os.W_OK) or not folder.stat().st_mode & 0o222
    wrong = wrong or (path.exists() and not path.stat().st_mode & 0o222)
    if wrong:
        raise ValueError(
            f"{path} can't be written, and the labels go there: make the folder writable, or copy the pictures into "
            "one that is"
        )


def _checked(label: Any, width: int, height: int) -> dict[str, Any]:
    """A label from the page as an entry of keypoints.json, without `file`."""
    points = label.get("keypoints") if isinstance(label, dict) else None
    if not isinstance(points, list) or len(points) != len(KEYPOINT_NAMES):
        raise ValueError(f"a label must have {len(KEYPOINT_NAMES)} keypoints")
    keypoints = []
    for name, point in zip(KEYPOINT_NAMES, points, strict=True):
        pair = isinstance(point, list) and len(point) == 2 and all(type(value) in (int, float) for value in point)
        if point is not None and not pair:
            raise ValueError(f"{name} must be [x, y] or null")
        if point is not None:
            reach = np.array([width, height])
            numbers = all(abs(value) < 1e9 for value in point)  # neither NaN nor beyond what numpy holds
            near = numbers and (np.abs(np.array(point) / reach - 0.5) <= 0.5 + FARTHEST).all()
            if not near:
                raise ValueError(f"{name} is far off the picture of {width}×{height} px: {point}")
        keypoints.append(_rounded(point))
    side, group = label.get("side") or "", label.get("group") or ""
    if side not in ("", *SIDES) or not isinstance(group, str) or len(group) > LONGEST_GROUP:
        raise ValueError(f"side must be left, right or nothing, and group at most {LONGEST_GROUP} letters")
    group = group.strip()
    return {"keypoints": keypoints, **({"side": side} if side else {}), **({"group": group} if group else {})}
