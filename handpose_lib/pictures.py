"""Picture files as arrays: damage is noticed where a file lets one notice it, and turned pictures are turned.

A JPEG has no checksum, and decoders fill in what is damaged, most of them without a word. So a JPEG is decoded by
libjpeg-turbo with its warnings taken for errors, after a look at the file's structure. What is still a valid JPEG after
the damage can only be noticed by a checksum: `freihand` compares those of the sets that this library has written.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageOps
from torch import Tensor

from handpose_lib.reading import named_errors, refuse_special

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"),
    *(".heic", ".heif"),  # not readable, but photographs: they are named, not passed over
)
MOST_PIXELS = 200_000_000  # a picture with more is refused
MOST_BYTES = 8 * MOST_PIXELS  # nor does any file of a picture have more: four channels of 16 bits, not compressed
LARGE, SMALL = 4096, 2048  # px; a JPEG with a longer side than the first is decoded at half, a quarter or an eighth
DARKEST = 4096  # of 65,536: pictures of 8, 10 or 12 bits in a file of 16 end below it
DRAWN_BY = "handpose_lib, a drawing"  # the entry "Software" of our PNG files
ORIENTATION = 0x0112  # the EXIF entry: 1 is upright
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in the scan of a JPEG, 00 and D0 to D7 are part of it
_ZEROS = bytes(40)


def read_picture(path: str | Path, longest: int | None = None) -> np.ndarray:
    """A picture file as RGB uint8 (H, W, 3), turned as its EXIF data say, as all viewers show it.

    Grey ones become RGB, transparent ones lie on white, pictures of 16 bits are taken to 8, of an animation this is
    the first frame.

    Args:
        path: JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF.
        longest: a longer side above this may be decoded at half, a quarter or an eighth of the size, but not below
            half of `longest`: for large JPEGs this costs a fraction of the memory. None: the size it has.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is damaged, not a picture, or too large.
    """
    return read_reduced(path, longest)[0]


def read_reduced(path: str | Path, longest: int | None = LARGE) -> tuple[np.ndarray, tuple[float, float]]:
    """As `read_picture`, and how many pixels of the file's picture one pixel of the array is wide and high."""
    data = _bytes_of(path)
    try:
        image = Image.open(io.BytesIO(data))
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width:,} × {height:,} px are more than {MOST_PIXELS // 10**6} megapixels")
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            turn = image.getexif().get(ORIENTATION, 1)
            image = Image.fromarray(decode_jpeg(data, longest))
            image.getexif()[ORIENTATION] = turn
            factors = width / image.size[0], height / image.size[1]
        else:
            deep = _has_16_bits(image, data)
            image, factors = to_rgb(image), (1.0, 1.0)
            if deep and max(high for _, high in image.getextrema()) < DARKEST >> 8:
                raise ValueError("it has 16 bits per colour but uses few of them, so it would be black")
        turned = ImageOps.exif_transpose(image)
    except Exception as error:  # what decoders raise for a damaged file is anything from SyntaxError to MemoryError
        known = not isinstance(error, Image.UnidentifiedImageError)
        cause = error if known else f"its {len(data):,} bytes are of no format that is known here"
        raise ValueError(f"{path} can't be read as a picture ({cause}): save it again as JPEG or PNG") from error
    if turned.size != image.size:
        factors = factors[::-1]
    return np.array(turned), factors


def picture_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a picture file as `read_picture` returns it, found without decoding it.

    Raises:
        FileNotFoundError, ValueError: see `read_picture`.
    """
    refuse_special(path)
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return image.size if turned else image.size[::-1]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there") from None
    except Exception as error:
        unknown = isinstance(error, Image.UnidentifiedImageError)
        cause = "it is of no format that is known here" if unknown else getattr(error, "strerror", None) or error
        raise ValueError(f"{path} can't be read as a picture ({cause}): save it again as JPEG or PNG") from error


def is_drawing(path: str | Path) -> bool:
    """Whether a file is a PNG that `plots.save` wrote, whatever it is called now: it shows keypoints already."""
    begin = b""  # the mark stands before the pixels
    if Path(path).is_file():
        with contextlib.suppress(OSError), Path(path).open("rb") as file:  # who reads it will say what is wrong
            begin = file.read(1024)
    return begin.startswith(b"\x89PNG") and b"tEXtSoftware\0" + DRAWN_BY.encode() in begin


def _has_16_bits(image: Image.Image, data: bytes) -> bool:
    """Whether a picture in colour has 16 bits per colour, of which Pillow reads the upper 8."""
    if image.format == "PNG":
        return data[24] == 16
    return image.format == "TIFF" and image.tag_v2.get(258, (8,))[0] == 16


def _bytes_of(path: str | Path) -> bytes:
    refuse_special(path)
    try:
        with named_errors(path):
            size = Path(path).stat().st_size
            if size > MOST_BYTES:
                raise ValueError(f"{path} has {size:,} bytes, more than a picture can have: give the picture itself")
            return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder, not a picture: give the files in it") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of Pillow's in RGB of 8 bits, not turned, with what it knows of its orientation.

    Raises:
        ValueError: its values are not of 8 or 16 bits.
    """
    image.load()  # which turns a TIFF
    turn = image.getexif().get(ORIENTATION, 1)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its values are not of 8 or 16 bits")
        if 0 < values.max() < DARKEST:
            raise ValueError(f"it has 16 bits per pixel, but no value above {values.max()}, so it would be black")
        image = Image.fromarray((values // 257).astype(np.uint8))  # 65535 becomes 255
    elif image.mode == "F":
        raise ValueError("its values are floating-point numbers")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.getexif()[ORIENTATION] = turn
    return image


def is_pillows(entry: Any) -> bool:
    """Whether this is an image of Pillow's, or of something that behaves like one."""
    return hasattr(entry, "convert") and hasattr(entry, "getexif")


def as_array(entry: Any, name: str) -> np.ndarray:
    """A picture in any of the forms that people have it in, as RGB uint8 (H, W, 3).

    Args:
        entry: a file, an RGB array (H, W, 3), a tensor (3, H, W), an image of Pillow's, or a function that returns one.
        name: of the picture, for errors.

    Raises:
        TypeError, ValueError, FileNotFoundError: it can't be used.
    """
    if callable(entry):
        entry = entry()
    if isinstance(entry, str | Path):
        return read_picture(entry)
    if is_pillows(entry):
        entry = np.asarray(to_rgb(entry))
    if isinstance(entry, Tensor):
        entry = entry.detach().cpu().numpy()
        entry = entry.transpose(1, 2, 0) if entry.ndim == 3 and entry.shape[0] == 3 else entry
    if not isinstance(entry, np.ndarray):
        raise TypeError(
            f"{name} is a {type(entry).__name__}: give a path, an array (H, W, 3), a tensor (3, H, W) or a Pillow image"
        )
    if entry.ndim != 3 or entry.shape[2] != 3 or 0 in entry.shape:
        raise ValueError(f"{name} has the shape {entry.shape}: an RGB array is (H, W, 3), a tensor (3, H, W)")
    if entry.dtype != np.uint8:
        raise TypeError(f"{name} is {entry.dtype}: give uint8 from 0 to 255 (a float image from 0 to 1: times 255)")
    return entry


def decode_jpeg(data: bytes, longest: int | None = None) -> np.ndarray:
    """A JPEG as RGB uint8 (H, W, 3), not turned; ValueError where anything shows that it is damaged.

    Args:
        data: the file.
        longest: see `read_picture`.
    """
    _check_structure(data)
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    least = {}
    if longest and max(height, width) > longest:
        share = longest / 2 / max(height, width)
        least = {"min_height": round(height * share), "min_width": round(width * share)}
    return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True, **least)


def orientation(data: bytes) -> int:
    """The EXIF orientation of a picture file: 1 is upright, as is a file that says nothing."""
    if b"Exif" not in data[:65536]:
        return 1
    return Image.open(io.BytesIO(data)).getexif().get(ORIENTATION, 1)


def _check_structure(data: bytes) -> None:
    """Walks through the parts of a JPEG: all whole up to the end marker, and no scan with a hole of zeros.

    Many zero bits in a scan would be blocks in which every coefficient is the same. Only where the code of zeros means
    "end of block", for each of the scan's colours, are they a plain surface, and then they are let pass.
    """
    if not data.startswith(b"\xff\xd8"):
        raise ValueError("it does not begin as a JPEG")
    place, sequential = 2, True
    codes_of_zeros: dict[int, int] = {}  # AC table -> what its code of zeros means
    while True:
        while data[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        kind = data[place + 1] if data[place : place + 1] == b"\xff" and place + 1 < len(data) else None
        if kind is None:
            raise ValueError(f"it breaks off or is damaged at byte {place:,} of {len(data):,}")
        if kind == 0xD9:
            return
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        content, place = data[place + 4 : place + 2 + length], place + 2 + length
        if length < 2 or place > len(data):
            raise ValueError(f"it breaks off in a part of {length:,} bytes")
        if kind == 0xC4:
            codes_of_zeros.update(_codes_of_zeros(content))
        elif kind in (0xC2, 0xC6, 0xCA, 0xCE):
            sequential = False
        elif kind == 0xDA:
            end = _MARKER.search(data, place)
            if end is None:
                raise ValueError("its end is missing")
            used = [codes_of_zeros.get(table & 15) for table in content[2 : 2 + 2 * content[0] : 2]] if content else []
            if sequential and any(used) and data.find(_ZEROS, place, end.start()) >= 0:
                raise ValueError("a part of it was overwritten with zeros")
            place = end.start()


def _codes_of_zeros(tables: bytes) -> Iterator[tuple[int, int]]:
    """Number and first symbol, whose code is all zeros, of each AC table in a JPEG's part with Huffman tables."""
    place = 0
    while place + 17 < len(tables):
        count = sum(tables[place + 1 : place + 17])
        if tables[place] >> 4 == 1 and count:
            yield tables[place] & 15, tables[place + 17]
        place += 17 + count


def picture_files(
    path: str | Path,
    besides: Path | None = None,
    suffixes: Sequence[str] = SUFFIXES,
    what: str = "pictures",
    drawings: bool = False,
) -> list[Path]:
    """The file itself, or the pictures in a folder and the folders in it (links too), sorted by name.

    Hidden files are passed over (macOS keeps a `._x.jpg` beside the photograph `x.jpg` on other disks), and so are
    drawings of answers, see `is_drawing`.

    Args:
        path: a file or a folder.
        besides: a folder to leave out, such as the one that drawings go to.
        suffixes: of the files that are meant, and `what` they are.
        drawings: list drawings of answers, too.

    Raises:
        ValueError: a folder without any picture.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return [path]
    left_out = besides.expanduser().resolve() if besides else None
    found = [file for file in _files_below(path) if file.suffix.lower() in suffixes and file.is_file()]
    found = [file for file in found if left_out is None or not file.resolve().is_relative_to(left_out)]
    found = [file for file in found if drawings or not is_drawing(file)]
    if not found:
        raise ValueError(f"{path} holds no {what} ({', '.join(suffixes)}): give files, or another folder")
    return found


def _files_below(folder: Path) -> list[Path]:
    """All files in a folder and the folders in it, linked ones too, sorted; what is hidden is left out.

    A folder that links lead to is looked into once, under its own name where it has one here.
    """
    found: list[Path] = []
    seen: set[str] = set()
    folders, links = [folder], []
    while folders or links:
        place = (folders or links).pop(0)
        if os.path.realpath(place) in seen:
            continue
        seen.add(os.path.realpath(place))
        try:
            entries = [entry for entry in os.scandir(place) if not entry.name.startswith(".")]
        except OSError as error:
            warnings.warn(f"{place} can't be read ({error.strerror}): left out", stacklevel=3)
            continue
        for entry in sorted(entries, key=lambda entry: entry.name):
            within = found if not entry.is_dir() else links if entry.is_symlink() else folders
            within.append(place / entry.name)
    return sorted(found)
