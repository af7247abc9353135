"""Read and write images: ``(H, W, 3) uint8 RGB`` everywhere in the program.

Pillow opens every file: it supports CMYK, palettes and transparency, raises an error for damaged files
instead of filling them with grey, and writes nothing to stderr. Plain JPEG files, which nearly all are, are
then decoded by libjpeg-turbo directly (simplejpeg): the same pixels in two thirds of the time.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import warnings
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, features

from heatcrop.errors import HeatCropError
from heatcrop.files import write_atomic
from heatcrop.wording import counted

MIN_SIDE_PX = 8
MAX_PIXELS = 100_000_000
MAX_SIDE_PX = 65_500
"""Of a JPEG file, which a crop is written to."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # a phone's MPO opens as JPEG
# fmt: off
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp",
    ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".avifs",
    ".heic", ".heics", ".heif", ".heifs", ".hif",
})
"""Ends of the names of files that are read as images, in lower case."""
OTHER_SUFFIXES = frozenset({
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm", ".jxl", ".jxr", ".hdp", ".wdp", ".jls", ".psd",
    ".psb", ".xcf", ".kra", ".ora", ".svg", ".svgz", ".eps", ".ai", ".ico", ".icns", ".cur", ".tga", ".pcx",
    ".dcx", ".dds", ".exr", ".hdr", ".qoi", ".sgi", ".rgb", ".ras", ".xbm", ".xpm", ".wmf", ".emf", ".fits",
    ".fit", ".dcm", ".dicom", ".nii", ".svs", ".ndpi", ".czi", ".lif", ".dng", ".cr2", ".cr3", ".crw", ".nef",
    ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".rwl", ".pef", ".srw", ".x3f", ".3fr", ".fff",
    ".iiq", ".mrw", ".kdc", ".dcr", ".erf", ".mef", ".mos", ".raw", ".bpg", ".flif", ".fpx", ".pcd", ".pict",
    ".pct", ".insp",
})
"""Ends of the names of images in formats that are not read."""
# fmt: on

# `read_image` checks the number of pixels and reports damage itself.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_DEEP_PNG = (b"\x10\2", b"\x10\4", b"\x10\6")  # 16 bits: RGB, grey with transparency, RGB with it

# In `Image.info` where an image may have an orientation; a PNG file may have it behind the pixels.
_ORIENTED = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
_ORIENTED_PNG = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of files above 4 GB
_NUMBERS = {1: "integers", 2: "integers", 3: "floating point numbers"}
_TIFF_FIX = "save it as grey or RGB, with 8 or 16 bits a channel"
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

# Orientation -> turn a decoded (H, W, 3) array upright; 5 to 8 swap width and height.
_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}
# Pillow's decoders raise any of these, or OSError, on damaged data.
_DAMAGE = (ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, RuntimeError)
# Tags of a TIFF file, and values of them.
_CHANNELS, _ARRANGEMENT, _COLOUR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 277, 284, 320, 338, 339
_BLACK_IS_ZERO, _RGB, _CMYK, _APART = 1, 2, 5, 2
_ALPHA = frozenset({1, 2})
_BITS = (8, 10, 12, 14, 16)
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

    Grey, palette and CMYK images become 8-bit RGB; those of more bits and of floating point numbers are
    scaled by the range that they use. Transparent ones are composited on white, the orientation in EXIF or
    XMP is applied, and of several frames the first is read.

    Parameters
    ----------
    path : path
        JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or HEIC; its content counts, not its name.
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
        _check_size(path, image.size)
        tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
        if image.mode == "L" and tags.get(_CHANNELS, 1) > 1:
            raise ImageError(
                path, f"is a TIFF image with a channel beside grey that is not transparency; {_TIFF_FIX}"
            )
        orientation = 1 if image.format == "TIFF" else _orientation(data, image)  # Pillow turns TIFF
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
        rgb = _to_rgb(image)
        # Fewer than 14 of the 16 bits are used, or it is unknown which share is transparent.
        if _has_deep_colours(data, image) and (rgb.max() < 64 or image.mode != "RGB"):
            rgb = _deep_colours(data, rgb)
        return np.require(rgb, requirements=("C", "W"))
    except (OSError, *_DAMAGE) as error:
        raise ImageError(path, f"the {image.format} file is damaged: {error}") from None
    except MemoryError:
        raise ImageError(path, f"no memory for {image.size[0]} x {image.size[1]} pixels") from None


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read width and height in pixels, upright, from the header; ImageError where there is none."""
    data = _read_bytes(path)
    with _open(path, data) as image:
        width, height = image.size
        if image.format == "TIFF" and ExifTags.Base.Orientation in image.tag_v2:  # type: ignore[attr-defined]
            return width, height  # upright already
        return (height, width) if _orientation(data, image) >= 5 else (width, height)


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
    formats: tuple[str, ...] = FORMATS
    if _is_heif(data):
        _support_heif()
        formats = (*FORMATS, "HEIF")
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        if data[8:12] in _AVIF_BRANDS and not features.check("avif"):
            reason = (
                "is an AVIF image, which this Pillow cannot read; update Pillow, or save the image as JPEG"
            )
            raise ImageError(path, reason) from None
        if data[:4] in _TIFF:
            return _open_numbers(path, data)
        raise ImageError(path, f"is not an image (none of {', '.join(FORMATS)}, HEIF)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, f"too many pixels: {error}") from None
    except Exception as error:  # damaged headers raise many kinds
        raise ImageError(path, f"the header is damaged: {error}") from None


def _open_numbers(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    """Decode a TIFF file of numbers that Pillow does not know, such as RGB in floating point; upright.

    ImageError, which names the kind, where it is of another one.
    """
    import cv2

    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2:4] in (b"+\0", b"\0+") else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        size = int(tags[ExifTags.Base.ImageWidth]), int(tags[ExifTags.Base.ImageLength])
        n_channels = int(tags.get(_CHANNELS, 1))
        bits = set(tags.get(ExifTags.Base.BitsPerSample, (1,)))
        (numbers,) = set(tags.get(_SAMPLE_FORMAT, (1,)))
        colours = int(tags[ExifTags.Base.PhotometricInterpretation])
        kind = f"{max(bits)}-bit {_NUMBERS[numbers]}"
    except Exception:  # damaged headers raise many kinds
        raise ImageError(path, "is a TIFF image that is damaged, or of a kind that is not read") from None
    _check_size(path, size)
    apart = n_channels > 1 and tags.get(_ARRANGEMENT, 1) == _APART
    decodable = not apart and bits <= ({32, 64} if numbers == 3 else {16, 32}) and len(bits) == 1
    if n_channels not in (1, 3, 4) or colours not in (_BLACK_IS_ZERO, _RGB) or not decodable:
        what = (
            f"{counted(n_channels, 'channel(s)')} of {kind}"
            + " (CMYK)" * (colours == _CMYK)
            + " in separate planes" * apart
        )
        raise ImageError(path, f"is a TIFF image with {what}, which is not read; {_TIFF_FIX}")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # faults are reported here
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise ValueError(f"it cannot be decoded, and may be of a kind that is not read; {_TIFF_FIX}")
        return Image.fromarray(_scaled(values, not _ALPHA.isdisjoint(tags.get(_EXTRA_SAMPLES, ()))))
    except (cv2.error, ValueError, TypeError, MemoryError) as error:
        reason = str(error) or "no memory for its pixels"
        raise ImageError(path, f"the TIFF file is damaged: {' '.join(reason.split())}") from None


def _check_size(path: str | os.PathLike[str], size: tuple[int, int]) -> None:
    """Refuse an image by its stored size: a small file must not fill the memory."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(
            path, f"{width} x {height} px are {width * height:,} pixels; at most {MAX_PIXELS:,} are read"
        )
    if max(width, height) > MAX_SIDE_PX:
        raise ImageError(path, f"{width} x {height} px; each side may have at most {MAX_SIDE_PX:,}")
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(path, f"{width} x {height} px; each side must have at least {MIN_SIDE_PX}")


def _is_heif(data: bytes) -> bool:
    """Check whether a file is in one of the HEIF formats other than AVIF."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    return not brands.isdisjoint(_HEIF_BRANDS) and brands.isdisjoint(_AVIF_BRANDS)


@functools.cache
def _support_heif() -> None:
    """Let Pillow open HEIC images."""
    import pi_heif

    pi_heif.register_heif_opener(thumbnails=False)


def has_signature(path: str | os.PathLike[str]) -> bool:
    """Return whether a file starts as an image that is read; False where it cannot be opened."""
    try:
        if not os.path.isfile(path):  # opening a pipe could block for ever
            return False
        with open(path, "rb") as file:
            head = file.read(256)
    except (OSError, ValueError):
        return False
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", *_TIFF))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0")
        or (head[4:8] == b"ftyp" and (head[8:12] in _AVIF_BRANDS or _is_heif(head)))
    )


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


def _orientation(data: bytes, image: Image.Image) -> int:
    """Read the orientation, 1 to 8, from EXIF or else XMP; 1 (upright) where it is absent or invalid."""
    try:  # the pixels can be used in spite of damaged metadata
        if image.format == "PNG" and any(name in data for name in _ORIENTED_PNG):
            if image.width * image.height > MAX_PIXELS:
                return 1
            image.load()
        if image.format != "TIFF" and _ORIENTED.isdisjoint(image.info):
            return 1  # asking a PNG without EXIF would decode it
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in _UPRIGHT else 1
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Decode any mode to ``(H, W, 3) uint8``; not yet upright."""
    if image.format == "TIFF" and image.mode == "P":
        colours = image.tag_v2.get(_COLOUR_MAP, (0xFFFF,))  # type: ignore[attr-defined]
        image.load()
        if max(colours) <= 255:  # some programs write 8 bits a colour, where the format has 16
            image.putpalette(bytes(colours), "RGB;L")
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
        if image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
            values = values.view(np.uint32)  # Pillow has no mode for it
        return np.repeat(_to_bytes(values)[:, :, None], 3, axis=2)
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return _strip(image)
    # Converting a large image at once needs three times its memory.
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        out[top : top + rows] = _strip(image.crop((0, top, width, min(height, top + rows))))
    return out


def _has_deep_colours(data: bytes, image: Image.Image) -> bool:
    """Return whether an image has several channels of 16 bits, of which Pillow keeps the upper 8."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, ())  # type: ignore[attr-defined]
        return image.mode in ("RGB", "RGBA") and set(bits) == {16}
    return image.format == "PNG" and data[24:26] in _DEEP_PNG


def _deep_colours(data: bytes, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode an image with all its bits; return `rgb` where that fails."""
    import cv2

    wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if wide is None or wide.dtype != np.uint16 or wide.ndim != 3 or wide.shape[:2] != rgb.shape[:2]:
        return rgb
    return _scaled(wide, with_alpha=True)


def _scaled(values: NDArray[Any], with_alpha: bool) -> NDArray[np.uint8]:
    """Scale an image of any numbers, grey or in OpenCV's order of colours, to RGB; composite it on white."""
    if values.ndim == 2:
        return np.repeat(_to_bytes(values)[:, :, None], 3, axis=2)
    with_alpha = with_alpha and values.shape[2] == 4
    scaled = _to_bytes(values if with_alpha else values[:, :, :3])  # colours and opacity have the same bits
    rgb = scaled[:, :, 2::-1]
    if with_alpha:
        alpha = scaled[:, :, 3:] / 255
        rgb = np.rint(255 - alpha * (255.0 - rgb)).astype(np.uint8)
    return np.ascontiguousarray(rgb)


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale numbers of any range to 0..255.

    Of integers from 0 on, the bits that are used (8, 10, 12, 14 or 16 in the whole image) count; of floating
    point numbers, 0..1, else the same bits. Other numbers are scaled from the least to the greatest one. What
    is not finite becomes 0.
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("none of its values is a finite number")
    low, high = float(values[finite].min()), float(values[finite].max())
    if low >= 0:
        bits = next((n for n in _BITS if high < 1 << n), None)
        if bits and values.dtype.kind in "iu":
            return np.asarray(values >> (bits - 8)).astype(np.uint8)
        low, high = 0.0, 1.0 if high <= 1 else (1 << bits) - 1.0 if bits else high
    share = (np.where(finite, values, low).astype(np.float64) - low) / ((high - low) or 1.0)
    return np.asarray(np.rint(255 * share.clip(0, 1)), np.uint8)


def _strip(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a decoded image, or some rows of one, to RGB; composite it on white if transparent."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
