"""Fetching FreiHAND: a download that continues where it stopped, and an unpacking that can be repeated.

The two zips are on the authors' server, 3.7 GB and 0.7 GB. No checksums are published, so what is checked is the
length that the server announces and the CRC that the zip itself holds for each of its files.
"""

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from handpose_lib.checksums import differing, read_checksums
from handpose_lib.fields import is_address
from handpose_lib.reading import named_errors, refuse_special
from handpose_lib.storage import atomic_path, check_space, lock_for, make_folder
from handpose_lib.zips import progress_line, restore

PROJECT_PAGE = "https://lmb.informatik.uni-freiburg.de/projects/freihand/"
BASE_URL = "https://lmb.informatik.uni-freiburg.de/data/freihand/"
TRAINING_ZIP, EVALUATION_ZIP = "FreiHAND_pub_v2.zip", "FreiHAND_pub_v2_eval.zip"
MARKER = ".unpacked.json"  # in the data set's folder: what was unpacked there
OWN_FILES = (MARKER, TRAINING_ZIP, f"{TRAINING_ZIP}.part")  # one of them is there once a download was begun
TERMS = f"""\
FreiHAND is provided for research purposes only; any commercial use is prohibited. Whoever uses it cites
  Christian Zimmermann, Duygu Ceylan, Jimei Yang, Bryan Russell, Max Argus, Thomas Brox:
  FreiHAND: A Dataset for Markerless Capture of Hand Pose and Shape from Single RGB Images. ICCV 2019.
The authors' own words: {PROJECT_PAGE}"""

ATTEMPTS = 4  # in a row that bring nothing new, before giving up
BACK_OFF = 1.0  # s before the second attempt, doubled for each further one
TIMEOUT = 60.0  # s without a byte from the server
CHUNK = 1 << 20  # bytes
UNPACKED_PER_ZIPPED = 1.5  # an estimate for the check before the download; exact sizes are checked before unpacking
_DROPPED = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError)


def download(url: str, path: str | Path, progress: bool = True, magic: bytes = b"") -> Path:
    """Download `url` to `path`, continuing where an earlier attempt stopped; nothing is asked if `path` is there.

    What has arrived is kept as `path`.part, beside it `path`.part.json says of which version of the remote file (its
    ETag or Last-Modified, and length). Only the same version is continued; a changed one starts again, and so does
    one from a server that can't send parts. A broken connection is tried again a few times, with growing pauses.

    Args:
        url: of the file.
        path: where to write it.
        progress: show a bar.
        magic: what the file begins with; an answer that does not never replaces what has arrived.

    Raises:
        ConnectionError: it keeps breaking off (the part stays).
        OSError: a refusal, a web page in the place of the file, or a full disk.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with lock_for(path):
        most, failures = -1, 0
        while not path.exists():
            try:
                _continue(url, part, progress, magic)
                part.replace(path)
                _note_of(part).unlink(missing_ok=True)
            except _DROPPED as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
                    raise OSError(f"{url}: the server refuses it (HTTP {error.code} {error.reason})") from error
                size = _size(part)
                failures = 0 if size > most else failures + 1
                most = max(most, size)
                if failures >= ATTEMPTS:
                    kept = f"{part} keeps the {size:,} bytes that arrived; run it again to go on from there"
                    kept = kept if size else "nothing has arrived; is this machine online? Then try again later"
                    raise ConnectionError(f"{url} broke off {failures} times in a row ({error}): {kept}") from error
                pause = BACK_OFF * 2**failures
                if progress:
                    tqdm.write(f"{url} broke off ({error}), next attempt in {pause:.0f} s")
                time.sleep(pause)
    return path


def _continue(url: str, part: Path, progress: bool, magic: bytes) -> None:
    """One request: the rest of `part`, or all of it; returns when it is whole."""
    note = _read_note(_note_of(part))
    start = _size(part) if note.get("url") == url and note.get("validator") else 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if start and start == note.get("length"):
        return
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", note["validator"])
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the remote file is shorter than our part: another one
            part.unlink(missing_ok=True)
            raise ConnectionError("the remote file changed") from error
        raise
    with response:
        found = {"url": url, "validator": _validator(response.headers), "length": _total(response)}
        if response.status == 206 and not _fits(response, found, note, start):
            part.unlink(missing_ok=True)
            raise ConnectionError("the remote file changed")
        if response.status != 206:  # all of it: the file changed, or the server can't send parts
            start = 0
        length = found["length"]
        block = response.read1(CHUNK)
        _check_answer(url, response.headers, block, magic if _size(part) and not start else b"", part)
        if length is not None:
            check_space(part.parent, length - start, f"the download of {url}")
        with part.open("ab" if start else "wb") as file:
            if not start:
                _note_of(part).write_text(json.dumps(found))
            shown = {"total": length, "initial": start, "unit": "B", "unit_scale": True}
            with progress_line(f"download {part.stem}", progress, **shown) as bar:
                while block:  # read1: what has arrived is written at once, a break then costs nothing
                    file.write(block)
                    bar.update(len(block))
                    block = response.read1(CHUNK)
    if length is not None and _size(part) != length:
        raise ConnectionError(f"{_size(part):,} of {length:,} bytes arrived")


def _check_answer(url: str, headers: Any, begin: bytes, magic: bytes, part: Path) -> None:
    """OSError where a server answers with something else than the file, such as a page that asks to log in."""
    kind = headers.get_content_type() if headers.get("Content-Type") else ""
    text = begin[:512].lstrip().lower()
    kept = f"the {_size(part):,} bytes that arrived before are kept" if _size(part) else "nothing was written"
    if kind == "text/html" or text.startswith((b"<!doctype html", b"<html")):
        raise OSError(f"{url} answers with a web page, not with the file: open it in a browser to see why; {kept}")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise OSError(f"{url} is sent compressed ({headers['Content-Encoding']}), which was not asked for; {kept}")
    if not begin.startswith(magic):
        raise OSError(f"{url} answers with something that is not a zip file: open it in a browser to see why; {kept}")


def _fits(response: Any, found: dict, note: dict, start: int) -> bool:
    """Whether a partial answer is the rest of what we have; some servers send parts and ignore If-Range."""
    begins = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    same = found["validator"] in (None, note.get("validator"))
    return begins and same and found["length"] == note.get("length")


def _validator(headers: Any) -> str | None:
    etag = headers.get("ETag")
    return headers.get("Last-Modified") if etag is None or etag.startswith("W/") else etag  # weak ones can't continue


def _total(response: Any) -> int | None:
    """Length of the whole remote file, from whichever header gives it."""
    if response.status == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length") or ""
    return int(total) if total.isdecimal() else None


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(path: Path) -> dict:
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def find_tree(folder: str | Path) -> Path | None:
    """Where FreiHAND's files are: in `folder`, or in the one folder inside it that has them; None without them.

    A zip with a folder of its own, unpacked into a folder of the same name, puts them one folder too deep.
    """
    folder = Path(folder).expanduser()
    if (folder / "training_K.json").is_file():
        return folder
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [entry for entry in inside if (entry / "training_K.json").is_file()]
    return found[0] if len(found) == 1 else None


def is_fetched(root: str | Path) -> bool:
    """Whether FreiHAND's training part lies in `root`, unpacked here with nothing lost since, or put there by hand.

    False, too, where `fetch_freihand` broke off before the evaluation set that it was asked for: it goes on from there.
    """
    root = Path(root).expanduser()
    if any((root / name).exists() for name in OWN_FILES):
        return _is_unpacked(root, TRAINING_ZIP) and None not in _read_note(_marker(root)).values()
    return find_tree(root) is not None


def fetch_freihand(
    root: str | Path = "data/FreiHAND_pub_v2",
    evaluation: bool = True,
    accept_terms: bool = False,
    base_url: str | None = None,
    keep_zip: bool = True,
    progress: bool = True,
    zips: Sequence[str | Path] = (),
) -> Path:
    """Download FreiHAND, check it and unpack it into `root`, which `FreiHAND(root)` then opens; returns `root`.

    Each step that is done is not done again: call it after any interruption. What lies there is compared with the
    checksums of the zip, and what is damaged or gone is restored from it: call it when a file is damaged.

    Args:
        root: folder to make; the zips lie in it too, while they are kept.
        evaluation: also the official evaluation set (0.7 GB).
        accept_terms: that `TERMS` were read and are kept to.
        base_url: the folder on the server that holds the zips; None is `$HANDPOSE_FREIHAND_URL` (a copy nearer to you,
            say), else the authors' server.
        keep_zip: keep each zip after it is unpacked, so that damaged files can be restored without a download.
        zips: FreiHAND's zips that you have already; they are unpacked, and nothing is downloaded.

    Raises:
        PermissionError: the terms were not accepted.
        OSError, ConnectionError: as `download`.
        ValueError: a zip is damaged, is not FreiHAND's, or holds paths that lead out of `root`.
    """
    if not accept_terms:
        todo = "If you agree, call again with accept_terms=True (on the command line: --accept-terms)."
        raise PermissionError(f"{TERMS}\n{todo}")
    root = Path(root).expanduser()
    given = {name: Path(path).expanduser() for path in zips for name in _parts_of(Path(path).expanduser())}
    base_url = base_url or os.environ.get("HANDPOSE_FREIHAND_URL") or BASE_URL
    if not is_address(base_url):  # no attempt would mend it
        raise ValueError(f"HANDPOSE_FREIHAND_URL is {base_url!r}: it must be an address such as {BASE_URL}, or not set")
    make_folder(root, "give another --root")
    names = [TRAINING_ZIP, EVALUATION_ZIP] if evaluation else [TRAINING_ZIP]
    with lock_for(root / "fetch"):
        done = {name: held for name, held in _read_note(_marker(root)).items() if held}
        with atomic_path(_marker(root)) as temporary:  # None: wanted; from now on, what lies here may be half unpacked
            temporary.write_text(json.dumps(dict.fromkeys(given or names) | done))
        if given:
            for path in dict.fromkeys(given.values()):
                unpack(path, root, progress, [name for name in given if given[name] == path])
        else:
            _fetch_missing(root, names, base_url, progress)
        if not keep_zip:  # one that was not unpacked stays: it was a long download
            for path in (*given.values(), *(root / name for name in names if _is_unpacked(root, name))):
                path.unlink(missing_ok=True)
        missing = [name for name in names if not _is_unpacked(root, name)]
    if missing:
        print(f"not unpacked, since no zip was given: {', '.join(missing)}; run it without a zip to download the rest")
    there = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    print(f"FreiHAND is unpacked in {root}: {', '.join(there)}")
    print(f"open it with: from handpose_lib.freihand import FreiHAND; FreiHAND({str(root)!r})")
    return root


def _fetch_missing(root: Path, names: Sequence[str], base_url: str, progress: bool) -> None:
    """Download (where it is not kept) and unpack those of the zips whose files are not all there and whole."""
    sources = {name: f"{base_url.rstrip('/')}/{name}" for name in names if not _is_whole(root, name, progress)}
    check_space(root, sum(_bytes_to_come(url, root / name) for name, url in sources.items()), "FreiHAND")
    for name, url in sources.items():
        path = download(url, root / name, progress, magic=b"PK")
        if name not in _parts_of(path):
            raise ValueError(f"{path} is not FreiHAND's zip of that name: delete it and run again")
        unpack(path, root, progress)


def unpack(zip_path: str | Path, root: str | Path, progress: bool = True, parts: Sequence[str] = ()) -> None:
    """Check every CRC of a zip, then unpack it into `root`; files that are there and whole are left as they are.

    A single folder around everything is dropped. `parts` are the names of the zips that this one stands for (its own
    name, by default). Raises ValueError naming the member that is damaged or leads out.
    """
    zip_path, root = Path(zip_path), Path(root)
    paths = restore(zip_path, root, progress, forbidden={TRAINING_ZIP, EVALUATION_ZIP})
    for name in parts or [zip_path.name]:
        _mark_unpacked(root, name, paths)


def _parts_of(zip_path: Path) -> list[str]:
    """Which of FreiHAND's two zips a file stands for, by what it holds and not by its name; both, if it holds all."""
    refuse_special(zip_path)
    if zip_path.is_dir():
        raise ValueError(f"{zip_path} is a folder, not a zip: give the zip; a folder that is unpacked needs no --zip")
    try:
        with named_errors(zip_path), zipfile.ZipFile(zip_path) as archive:
            names = {PurePosixPath(name).name for name in archive.namelist()}
    except FileNotFoundError:
        raise FileNotFoundError(f"{zip_path} is not there: give the path of FreiHAND's zip") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{zip_path} is not a complete zip file ({error}): delete it and download it again") from error
    parts = [TRAINING_ZIP] if {"training_K.json", "training_xyz.json"} <= names else []
    # The large zip has the evaluation images, too; the labels are in the small one alone.
    parts += [EVALUATION_ZIP] if "evaluation_xyz.json" in names else []
    if not parts:
        raise ValueError(f"{zip_path} holds neither training_K.json nor evaluation_xyz.json: it is not FreiHAND's zip")
    return parts


def _marker(root: Path) -> Path:
    return root / MARKER


def _mark_unpacked(root: Path, name: str, paths: set[PurePosixPath]) -> None:
    """Note what lies there now: the size of each file in the root itself, the number of files in each folder."""
    touched = {path if len(path.parts) == 1 else path.parent for path in paths}
    now = {path.as_posix(): _measure(root / path) for path in touched}
    before = _read_note(_marker(root))  # an archive may overwrite files of the other
    merged = {other: held and {p: now.get(p, amount) for p, amount in held.items()} for other, held in before.items()}
    with atomic_path(_marker(root)) as temporary:
        temporary.write_text(json.dumps(merged | {name: now}))


def _is_unpacked(root: Path, name: str) -> bool:
    """Whether an archive was unpacked here, and nothing of it was deleted or cut since."""
    held = _read_note(_marker(root)).get(name)
    return held is not None and all(_measure(root / path) >= amount for path, amount in held.items())


def _is_whole(root: Path, name: str, progress: bool) -> bool:
    """Whether an archive was unpacked here, and each file of it is as it was then."""
    if not _is_unpacked(root, name):
        return False
    held, sums = _read_note(_marker(root))[name], read_checksums(root)
    own = [path for path in sums if path in held or path.rpartition("/")[0] in held]
    checked = progress_line(f"check files of {name}", progress, iterable=own, unit="file")
    return bool(own) and not differing(root, sums, checked)


def _measure(path: Path) -> int:
    return sum(1 for _ in path.iterdir()) if path.is_dir() else _size(path)


def _bytes_to_come(url: str, path: Path) -> float:
    """Estimated disk space that one archive still takes; 0 when the server does not tell."""
    if path.exists():
        return 0.0  # unpacking checks exactly
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT) as response:
            length = _total(response) or 0
    except _DROPPED:
        return 0.0  # the download itself will say what is wrong
    return length * (1 + UNPACKED_PER_ZIPPED) - _size(path.with_name(path.name + ".part"))
