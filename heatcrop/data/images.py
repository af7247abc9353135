"""Read and write images: ``(H, W, 3) uint8 RGB`` everywhere in the program.

Pillow opens every file: it supports CMYK, palettes and transparency, raises an error for damaged files
instead of filling them with grey, and writes nothing to stderr. Plain JPEG files, which nearly all are, are
then decoded by libjpeg-turbo directly (simplejpeg): the same pixels in two thirds of the time.
"""

from __future__ import annotations

import io
import os
import stat
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from heatcrop.errors import HeatCropError
from heatcrop.files import write_atomic

MIN_SIDE_PX = 8
MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # a phone's MPO opens as JPEG
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})

# `read_image` checks the number of pixels and reports damage itself.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# EXIF orientation -> turn a decoded (H, W, 3) array upright; 5 to 8 swap width and height.
_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}
_STRIP_PIXELS = 8_000_000
# O_NONBLOCK: a pipe without a writer opens at once, to be refused. Windows has only O_BINARY.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class ImageError(HeatCropError, ValueError):
    """An image cannot be used; `reason` describes why."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(str(path), reason)  # the arguments that a worker process sends back
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(self.args)


def read_image(path: str | os.PathLike[str], at_least_px: int | None = None) -> NDArray[np.uint8]:
    """Read an image as RGB, upright.

    Grey, palette, 16-bit and CMYK images become 8-bit RGB, transparent ones are composited on white, the EXIF
    orientation is applied, and of several frames the first is read.

    Parameters
    ----------
    path : path
        JPEG, PNG, WebP, BMP, TIFF, GIF or PPM; its content counts, not its name.
    at_least_px : int, optional
        The shorter side that is needed, at least 1. A plain 8-bit RGB JPEG is then decoded at 1/2, 1/4 or 1/8
        of its scale, the smallest that suffices; this is several times faster. Other images, and by default
        all, are read at full scale.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB, contiguous and writable.

    Raises
    ------
    ImageError
        The file is missing, empty, damaged, no image, too small or too large.
    """
    data = _read_bytes(path)
    with _open(path, data) as image:
        # A small file must not fill the memory: the stored size is checked before decoding.
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(
                path, f"{width} x {height} px are {width * height:,} pixels; at most {MAX_PIXELS:,} are read"
            )
        if min(width, height) < MIN_SIDE_PX:
            raise ImageError(path, f"{width} x {height} px; each side must have at least {MIN_SIDE_PX}")
        orientation = _orientation(image)
        plain = _is_jpeg(image) and image.mode == "RGB"
        array = _decode_jpeg(data, image.size, at_least_px) if plain else None
        if array is None:
            array = _decode(path, data, image, at_least_px)
    upright = _UPRIGHT.get(orientation)
    return array if upright is None else np.require(upright(array), requirements=("C", "W"))


def _decode_jpeg(data: bytes, size: tuple[int, int], at_least_px: int | None) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG file; None on any fault, which Pillow then ignores or reports."""
    scale = 1
    while scale < 8 and at_least_px is not None and min(size) // (2 * scale) >= at_least_px:
        scale *= 2
    width, height = (-(-side // scale) for side in size)
    try:
        return np.asarray(
            simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, strict=True)
        )
    except (ValueError, OSError, MemoryError):
        return None


def _decode(
    path: str | os.PathLike[str], data: bytes, image: Image.Image, at_least_px: int | None
) -> NDArray[np.uint8]:
    """Decode any image that Pillow has opened; not yet upright."""
    if _is_jpeg(image) and _jpeg_is_cut(data):
        raise ImageError(path, "the JPEG file is cut off: its end marker is missing; fetch it again")
    if at_least_px is not None and _is_jpeg(image) and image.mode == "RGB":
        # Pillow reduces by the largest of 1, 2, 4, 8 that leaves both sides at least this long.
        image.draft(None, (at_least_px, at_least_px))
    try:
        return np.require(_to_rgb(image), requirements=("C", "W"))
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError) as error:
        # Pillow's decoders raise any of these on damaged data.
        raise ImageError(path, f"the {image.format} file is damaged: {error}") from None
    except MemoryError:
        raise ImageError(path, f"no memory for {image.size[0]} x {image.size[1]} pixels") from None


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read width and height in pixels, upright, from the header; ImageError where there is none."""
    with _open(path, _read_bytes(path)) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = 95) -> bytes:
    """Encode an (H, W, 3) image as JPEG; `quality` is 1 to 100."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, "RGB", "420"))


def write_jpeg(path: str | os.PathLike[str], rgb: NDArray[np.uint8], quality: int = 95) -> None:
    """Write an (H, W, 3) image as a JPEG file, atomically."""
    write_atomic(path, encode_jpeg(rgb, quality))


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a regular, non-empty file.

    With few system calls: after each, a thread waits until another one releases the interpreter.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        raise ImageError(path, "there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ImageError(path, f"cannot be read: {getattr(error, 'strerror', '') or error}") from None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(path, "is a folder, not an image")
        if not stat.S_ISREG(found.st_mode):  # reading a pipe could block for ever
            raise ImageError(path, "is not a regular file")
        if found.st_size == 0:
            raise ImageError(path, "the file is empty (0 bytes)")
        data = os.read(descriptor, found.st_size)
        while len(data) < found.st_size and (more := os.read(descriptor, found.st_size - len(data))):
            data += more
        return data
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror or error}") from None
    finally:
        os.close(descriptor)


def _open(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(path, f"is not an image (none of {', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, f"too many pixels: {error}") from None
    except Exception as error:  # damaged headers raise many kinds
        raise ImageError(path, f"the header is damaged: {error}") from None


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")


def _jpeg_is_cut(data: bytes) -> bool:
    """Check whether the end marker (FFD9) after the start of the scan is missing.

    Within a scan FF is followed by 00 or a restart marker, so FFD9 is never part of the pixels. The segments
    before the scan are skipped: a thumbnail in them has its own end marker.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) < 0


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; 1 (upright) where it is absent, invalid or already applied."""
    if image.format == "TIFF" or "exif" not in image.info:
        return 1  # Pillow turns TIFF upright itself; asking a PNG without EXIF would decode it
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the pixels can be used in spite of damaged EXIF data
        return 1
    return value if value in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Decode any mode to ``(H, W, 3) uint8``; not yet upright."""
    image.load()
    if image.mode == "F":
        raise ValueError("its values are floating point numbers; save it with 8 bits a channel")
    if image.mode.startswith("I"):  # one channel of 16 bits, which older Pillow widens to 32
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise ValueError("it has 32 bits a channel; save it with 8")
        return np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return _strip(image)
    # Converting a large image at once needs three times its memory.
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        out[top : top + rows] = _strip(image.crop((0, top, width, min(height, top + rows))))
    return out


def _strip(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a decoded image, or some rows of one, to RGB; composite it on white if transparent."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
