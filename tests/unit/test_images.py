"""Images of every format are read as RGB, upright, or refused with the reason; JPEG files are written."""

import io
import os
import pickle
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from heatcrop.cli.errors import explain
from heatcrop.data.images import (
    SUFFIXES,
    ImageError,
    _support_heif,
    encode_jpeg,
    has_signature,
    image_size,
    read_image,
    write_jpeg,
)

# pytest resets the warning filters of heatcrop.data.images.
pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(width=64, height=48):
    """Red, green / blue, white: any rotation or swapped channel shows."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = WHITE
    return image


def corners(image):
    """Return the colours of the four quarters, clockwise from the top left, rounded to 0 or 255."""
    h, w = image.shape[:2]
    points = [(h // 4, w // 4), (h // 4, 3 * w // 4), (3 * h // 4, 3 * w // 4), (3 * h // 4, w // 4)]
    return [tuple(255 if value > 127 else 0 for value in image[point]) for point in points]


UPRIGHT = [RED, GREEN, WHITE, BLUE]


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    """Write an image, or bytes, to a file and read it."""

    def write_and_read(image, name="a.png", at_least_px=None, **options):
        if isinstance(image, bytes):
            (tmp_path / name).write_bytes(image)
        else:
            image.save(tmp_path / name, **options)
        return read_image(tmp_path / name, at_least_px)

    return write_and_read


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif", ".ppm"])
def test_every_format_gives_rgb(read, tmp_path, suffix):
    image = read(Image.fromarray(quarters()), f"image{suffix}")
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert corners(image) == UPRIGHT
    assert image_size(tmp_path / f"image{suffix}") == (64, 48)


def test_the_content_counts_and_not_the_name(read):
    image = read(Image.fromarray(quarters()), "really a png.jpg", format="PNG")
    np.testing.assert_array_equal(image, quarters())


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize(
    "orientation, turn",
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),  # stored rotated to the left; shown rotated to the right
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_the_exif_orientation_is_applied(read, tmp_path, suffix, orientation, turn):
    image = Image.fromarray(quarters())
    stored = image if turn is None else image.transpose(turn)
    image = read(stored, f"turned{suffix}", exif=oriented(orientation))
    assert image.shape == (48, 64, 3)
    assert corners(image) == UPRIGHT
    assert image_size(tmp_path / f"turned{suffix}") == (64, 48)


DAMAGED_EXIF = b"Exif\0\0MM\0\x2a\xff\xff\xff\xff"


@pytest.mark.parametrize("exif", [*map(oriented, (0, 9, 65535)), DAMAGED_EXIF], ids=str)
def test_an_invalid_orientation_is_upright(read, exif):
    assert corners(read(Image.fromarray(quarters()), "a.jpg", exif=exif)) == UPRIGHT


def grey_with_alpha(level, alpha):
    return Image.fromarray(np.full((20, 20, 2), (level, alpha), np.uint8))


def palette_with_a_transparent_colour():
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.info["transparency"] = 1
    return palette


@pytest.mark.parametrize(
    ("name", "image", "colour"),
    [
        ("grey.png", Image.new("L", (20, 10), 77), (77, 77, 77)),
        ("grey.jpg", Image.new("L", (20, 10), 77), (77, 77, 77)),
        ("bilevel.png", Image.new("1", (10, 10), 1), WHITE),
        ("opaque.png", Image.new("RGBA", (20, 20), (*RED, 255)), RED),
        ("transparent.png", Image.new("RGBA", (20, 20), (*RED, 0)), WHITE),
        ("half.png", grey_with_alpha(0, 128), (127, 127, 127)),
        ("palette.png", palette_with_a_transparent_colour(), WHITE),
    ],
)
def test_grey_and_transparent_images_become_rgb_on_white(read, name, image, colour):
    found = read(image, name, at_least_px=2)
    assert found.shape == (image.height, image.width, 3)
    assert np.abs(found.astype(int) - colour).max() <= 1


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("palette.png", Image.fromarray(quarters()).convert("P", palette=Image.Palette.ADAPTIVE)),
        ("print.jpg", Image.fromarray(quarters()).convert("CMYK")),
    ],
)
def test_palette_and_cmyk_images_become_rgb(read, name, image):
    assert corners(read(image, name, at_least_px=10)) == UPRIGHT


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_sixteen_bits_are_scaled_to_eight(read, name):
    values = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    np.testing.assert_array_equal(read(Image.fromarray(values), name), np.stack([values >> 8] * 3, axis=2))


def png(width, height, depth, rows):
    """Make a PNG file of RGB values of some bits from its rows of bytes, each with a filter in front."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND"]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_sixteen_bits_in_colour(read):
    row = b"\0" + struct.pack(">3H", 65535, 256 * 100, 0) * 10
    image = read(png(10, 10, 16, row * 10))
    assert image.shape == (10, 10, 3)
    assert np.abs(image.astype(int) - (255, 100, 0)).max() <= 1


def test_the_used_bits_of_colours_are_scaled(read):
    row = b"\0" + struct.pack(">3H", 4095, 1600, 0) * 10
    assert read(png(10, 10, 16, row * 10))[0, 0].tolist() == [255, 100, 0]


def grey_of(values, dtype):
    """Make 16 x 8 pixels of one channel whose first ones are the given values, and the rest the last one."""
    pixels = np.full(16 * 8, values[-1], dtype)
    pixels[: len(values)] = values
    return pixels.reshape(8, 16)


@pytest.mark.parametrize(
    ("name", "dtype", "values", "expected"),
    [
        ("eight.png", np.uint16, [0, 100, 255], [0, 100, 255]),  # 8 bits in a file of 16
        ("ten.png", np.uint16, [0, 400, 1023], [0, 100, 255]),
        ("twelve.png", np.uint16, [0, 1600, 4095], [0, 100, 255]),  # as many cameras and microscopes
        ("fourteen.tiff", np.uint16, [0, 6400, 16383], [0, 100, 255]),
        ("sixteen.tiff", np.uint16, [0, 25600, 65535], [0, 100, 255]),
        ("signed.tiff", np.int32, [-100, 0, 100], [0, 128, 255]),
        ("deep.tiff", np.int32, [0, 50_000, 200_000], [0, 64, 255]),
        ("unit.tiff", np.float32, [0, 0.4, 0.8], [0, 102, 204]),  # 0..1: 0.8 is not the brightest
        ("bytes.tiff", np.float32, [0, 100.4, 200], [0, 100, 200]),
        ("counts.tiff", np.float32, [0, 2047.5, 4095], [0, 128, 255]),
        ("centred.tiff", np.float32, [-1, 0.5, 1], [0, 191, 255]),
        ("flat.tiff", np.float32, [-3], [0]),
        ("holes.tiff", np.float32, [np.nan, 1, np.inf, 0.2], [0, 255, 0, 51]),
    ],
)
def test_deep_and_floating_point_images_are_scaled_by_their_range(read, name, dtype, values, expected):
    image = read(Image.fromarray(grey_of(values, dtype)), name)
    assert image.shape == (8, 16, 3)
    assert image[0, : len(expected), 0].tolist() == expected
    assert (image == image[:, :, :1]).all()


def test_an_image_without_a_finite_value_is_refused(read):
    with pytest.raises(ImageError, match="none of its values is a finite number"):
        read(Image.fromarray(np.full((10, 10), np.nan, np.float32)), "f.tiff")


TYPES = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 1, np.dtype(np.uint32): 1, np.dtype(np.int16): 2}
TYPES |= dict.fromkeys(map(np.dtype, (np.float16, np.float32, np.float64)), 3)


def tiff(values, colours=2, extra=(), orientation=1, apart=False, big=False):
    """Make a TIFF file of numbers (H, W, C), uncompressed, little endian, one strip."""
    height, width, n = values.shape
    bits = 8 * values.itemsize
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * n), (259, 3, [1]), (262, 3, [colours])]
    tags += [(273, 4, [0]), (274, 3, [orientation]), (277, 3, [n]), (278, 4, [height])]
    tags += [(279, 4, [values.nbytes]), (284, 3, [1 + apart])]
    tags += [(338, 3, list(extra))] * bool(extra) + [(339, 3, [TYPES[values.dtype]] * n)]
    count, entry, offset = ("<Q", "<HHQ", "<Q") if big else ("<H", "<HHI", "<I")
    start = (16 if big else 8) + struct.calcsize(count) + len(tags) * (20 if big else 12)
    start += struct.calcsize(offset)
    data, directory = b"", struct.pack(count, len(tags))
    sizes = [len(items) * (2 if kind == 3 else 4) for _, kind, items in tags]
    end = start + sum(size for size in sizes if size > struct.calcsize(offset))
    for tag, kind, items in tags:
        items = [end] if tag == 273 else items
        packed = struct.pack(f"<{len(items)}{'H' if kind == 3 else 'I'}", *items)
        directory += struct.pack(entry, tag, kind, len(items))
        if len(packed) > struct.calcsize(offset):
            directory += struct.pack(offset, start + len(data))
            data += packed
        else:
            directory += packed.ljust(struct.calcsize(offset), b"\0")
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) if big else b"II*\0" + struct.pack("<I", 8)
    body = directory + struct.pack(offset, 0)
    assert len(head) + len(body) == start
    return head + body + data + values.tobytes()


def pixels_of(colours, dtype):
    """Make 16 x 8 pixels whose first ones have the given channels, and the rest those of the last one."""
    pixels = np.empty((8, 16, len(colours[0])), dtype)
    pixels[:] = colours[-1]
    pixels[0, : len(colours)] = colours
    return pixels


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("dtype", "colours", "expected"),
    [
        (np.float32, [(0, 0.2, 0.4), (0.6, 0.8, 1)], [[0, 51, 102], [153, 204, 255]]),
        (np.float64, [(0, 0.2, 0.4), (0.6, 0.8, 0.4)], [[0, 51, 102], [153, 204, 102]]),  # of 0..1
        (np.float32, [(0, 51, 102), (153, 204, 255)], [[0, 51, 102], [153, 204, 255]]),
        (np.float32, [(-1, 0, 1), (0.5, 0.5, 0.5)], [[0, 128, 255], [191, 191, 191]]),  # one range for all
        (np.float32, [(np.nan, 0.2, np.inf), (0, 0, 1)], [[0, 51, 0], [0, 0, 255]]),
        (np.int16, [(-500, 0, 500), (0, 0, 0)], [[0, 128, 255], [128, 128, 128]]),
        (np.uint32, [(0, 60_000, 300_000), (0, 0, 0)], [[0, 51, 255], [0, 0, 0]]),
        (np.float64, [(0.2,), (1,)], [[51] * 3, [255] * 3]),
    ],
)
def test_colours_of_any_numbers_are_scaled_by_their_range(read, dtype, colours, expected, big):
    image = read(tiff(pixels_of(colours, dtype), 2 if len(colours[0]) == 3 else 1, big=big), "a.tif")
    assert image.shape == (8, 16, 3)
    assert image[0, :2].tolist() == expected
    assert image[0, -1].tolist() == expected[-1]


def test_unsigned_numbers_of_32_bits_are_not_signed(read):
    image = read(tiff(pixels_of([(0,), (2**31,), (2**32 - 1,)], np.uint32), 1), "a.tif")
    assert image[0, :3, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_transparent_colours_of_many_bits_are_composited_on_white(read, dtype):
    unit = 1 if dtype == np.float32 else 4095
    colours = [(unit, 0, 0, unit), (0, 0, 0, 0), (0, 0, 0, unit)]
    image = read(tiff(pixels_of(colours, dtype), extra=(2,)), "a.tif")
    assert image[0, :3].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 0]]


def test_the_used_bits_of_transparent_colours_in_png_are_scaled(read):
    wide = pixels_of([(0, 1600, 4095, 4095), (0, 0, 0, 0)], np.uint16)
    data = cv2.imencode(".png", wide)[1].tobytes()  # blue comes first
    assert read(data)[0, :2].tolist() == [[255, 100, 0], [255, 255, 255]]


def test_a_faint_opacity_of_16_bits_stays_faint(read):
    wide = np.full((16, 16, 4), (0, 0, 65535, 128), np.uint16)
    data = cv2.imencode(".png", wide)[1].tobytes()
    assert read(data)[0, 0].tolist() == [255, 255, 255]


def test_an_image_that_is_longer_than_a_jpeg_file_can_be_is_refused(tmp_path):
    Image.new("L", (65_501, 8)).save(tmp_path / "long.png", compress_level=1)
    with pytest.raises(ImageError, match="each side may have at most 65,500"):
        read_image(tmp_path / "long.png")


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_colours_of_many_bits_is_applied(tmp_path, dtype, orientation):
    stored = quarters(16, 16)
    values = (stored / 255).astype(dtype) if dtype == np.float32 else stored.astype(dtype) * 4
    (tmp_path / "a.tif").write_bytes(tiff(values, orientation=orientation))
    (tmp_path / "b.png").write_bytes(encode(Image.fromarray(stored), "PNG", exif=exif_of(orientation)))
    assert corners(read_image(tmp_path / "a.tif")) == corners(read_image(tmp_path / "b.png"))


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("dtype", "n_channels", "options", "kind"),
    [
        (np.float32, 2, {"colours": 1}, "2 channels of 32-bit floating point numbers, "),
        (np.float32, 4, {"colours": 5}, "4 channels of 32-bit floating point numbers (CMYK), "),
        (np.float32, 5, {"colours": 1}, "5 channels of 32-bit floating point numbers, "),
        (np.float16, 3, {}, "3 channels of 16-bit floating point numbers, "),
        (np.float16, 1, {"colours": 1}, "1 channel of 16-bit floating point numbers, "),
        (np.uint16, 2, {"colours": 1, "extra": (2,)}, "2 channels of 16-bit integers, "),
        (np.uint8, 5, {"colours": 1, "extra": (0,) * 4}, "5 channels of 8-bit integers, "),
        (np.float32, 3, {"apart": True}, "3 channels of 32-bit floating point numbers in separate planes, "),
        (np.uint8, 2, {"colours": 1, "extra": (0,)}, "a channel beside grey that is not transparency"),
    ],
)
def test_a_tiff_of_other_numbers_or_channels_is_refused_by_its_kind(read, dtype, n_channels, options, kind):
    data = tiff(np.ones((9, 9, n_channels), dtype), **options)
    with pytest.raises(ImageError) as error:
        read(data, "a.tif")
    assert f"a.tif: is a TIFF image with {kind}" in str(error.value)
    assert str(error.value).endswith("; save it as grey or RGB, with 8 or 16 bits a channel")


def test_a_tiff_of_numbers_that_is_cut_or_of_none_is_refused(read, capfd):
    data = tiff(np.ones((9, 9, 3), np.float32))
    with pytest.raises(ImageError, match="a.tif: the TIFF file is damaged"):
        read(data[:-400], "a.tif")
    with pytest.raises(ImageError, match="none of its values is a finite number"):
        read(tiff(np.full((9, 9, 3), np.nan, np.float32)), "a.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("width", "height", "reason"), [(4, 20, "at least 8"), (20_000, 20_000, "at most")])
def test_the_size_of_a_tiff_of_numbers_is_checked_before_it_is_decoded(read, width, height, reason):
    data = bytearray(tiff(np.ones((9, 9, 3), np.float32)))
    for place, side in ((0, width), (1, height)):
        data[10 + 12 * place + 8 : 10 + 12 * place + 12] = struct.pack("<I", side)
    with pytest.raises(ImageError, match=reason):
        read(bytes(data), "a.tif")


@pytest.mark.parametrize("unit", [1, 257])
def test_a_tiff_palette_of_8_or_16_bits_a_colour(read, tmp_path, unit):
    colours = [[200, 10], [100, 20], [50, 30]]  # red, green and blue of two colours
    palette = Image.fromarray(np.tile(np.uint8([0, 1]), (8, 8)), "P")
    palette.putpalette(bytes(np.transpose(colours).ravel().tolist()))
    palette.save(tmp_path / "p.tiff")
    data = bytearray((tmp_path / "p.tiff").read_bytes())
    with Image.open(tmp_path / "p.tiff") as image:
        stored = struct.pack("<768H", *image.tag_v2[320])
    place = data.index(stored)
    full = np.zeros((3, 256), int)
    full[:, :2] = colours
    data[place : place + len(stored)] = struct.pack("<768H", *(full * unit).ravel().tolist())
    assert read(bytes(data), "q.tiff")[0, :2].tolist() == [[200, 100, 50], [10, 20, 30]]


# --- other sources of the orientation

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{}</rdf:RDF></x:xmpmeta>'
)
ATTRIBUTE, ELEMENT = (
    XMP.format(' tiff:Orientation="6"/>'),
    XMP.format("><tiff:Orientation>6</tiff:Orientation></rdf:Description>"),
)
TURNED = Image.fromarray(quarters()).transpose(Image.Transpose.ROTATE_90)  # shown rotated to the right


@pytest.mark.parametrize("xmp", [ATTRIBUTE, ELEMENT])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", lambda xmp: {"xmp": xmp.encode()}),
        ("a.webp", lambda xmp: {"xmp": xmp.encode(), "lossless": True}),
        ("a.avif", lambda xmp: {"xmp": xmp.encode()}),
        ("a.tiff", lambda xmp: {"tiffinfo": {700: xmp.encode()}}),
        ("a.png", lambda xmp: {"pnginfo": png_text("XML:com.adobe.xmp", xmp)}),
    ],
)
def test_the_orientation_in_xmp_is_applied(read, tmp_path, name, options, xmp):
    image = read(TURNED, name, **options(xmp))
    assert image.shape == (48, 64, 3)
    assert corners(image) == UPRIGHT
    assert image_size(tmp_path / name) == (64, 48)


def png_text(key, text):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, text, zip=True)
    return info


def test_exif_comes_before_xmp(read, tmp_path):
    image = read(TURNED, "a.jpg", exif=oriented(6), xmp=ATTRIBUTE.replace("6", "3").encode())
    assert corners(image) == UPRIGHT
    assert image_size(tmp_path / "a.jpg") == (64, 48)


def test_the_orientation_behind_the_pixels_of_a_png_is_applied(read, tmp_path):
    data = encode(TURNED, "PNG", exif=oriented(6))
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    image = read(data[:start] + data[end:last] + data[start:end] + data[last:], "late.png")
    assert corners(image) == UPRIGHT
    assert image_size(tmp_path / "late.png") == (64, 48)


def test_an_orientation_as_imagemagick_writes_it_is_applied(read, tmp_path):
    exif = oriented(6).tobytes().hex()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif) // 2:8}\n{exif}\n")
    assert corners(read(TURNED, "raw.png", pnginfo=info)) == UPRIGHT
    assert image_size(tmp_path / "raw.png") == (64, 48)


# --- formats of phones and of the web


@pytest.mark.parametrize("name", ["a.avif", "a.jfif", "a.jpe", "a.mpo", "a.pgm", "a.dib", "a.apng"])
def test_formats_under_other_names(read, name):
    form = {"jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "dib": "BMP", "pgm": "PPM"}
    image = Image.fromarray(quarters())
    suffix = name.partition(".")[2]
    assert f".{suffix}" in SUFFIXES
    assert corners(read(image, name, format=form.get(suffix))) == UPRIGHT


# A HEIC file up to its brands; enough to be recognised.
HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"heic")


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heic_without_its_package_names_the_fix(read, monkeypatch, name):
    _support_heif.cache_clear()
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        read(HEIC, name)
    assert "package 'pi_heif' is missing; install all of them" in explain(caught.value)


@pytest.mark.parametrize("name", ["quarters.heic", "turned.heic"])
def test_heic_is_read_upright(name):
    path = Path(__file__).with_name(name)
    image = read_image(path)
    assert image.shape == (48, 64, 3)
    assert corners(image) == UPRIGHT
    assert image_size(path) == (64, 48)


def test_a_cut_heic_file_is_refused(read):
    with pytest.raises(ImageError, match="damaged|not an image"):
        read(HEIC)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encode_jpeg(quarters()), True),
        (encode(Image.fromarray(quarters()), "PNG"), True),
        (encode(Image.fromarray(quarters()), "WEBP"), True),
        (encode(Image.fromarray(quarters()), "GIF"), True),
        (encode(Image.fromarray(quarters()), "BMP"), True),
        (encode(Image.fromarray(quarters()), "TIFF"), True),
        (encode(Image.fromarray(quarters()), "AVIF"), True),
        (HEIC, True),
        (b"BMI,age\n1,2\n", False),
        (b"", False),
        (b"\x93NUMPY", False),
        (struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"mp41"), False),  # a film
    ],
)
def test_the_signature_of_an_image(tmp_path, content, expected):
    (tmp_path / "file").write_bytes(content)
    assert has_signature(tmp_path / "file") == expected


# --- damage

JPEG = encode_jpeg(quarters())


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_refused(read, form, share, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), form)
    with pytest.raises(ImageError, match="cut off|damaged|not an image"):
        read(data[: int(len(data) * share)])
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_without_its_end_marker_is_refused(read):
    with pytest.raises(ImageError, match="cut off: its end marker is missing"):
        read(JPEG[:-2])


def test_the_end_marker_of_a_thumbnail_does_not_count(read):
    thumbnail = b"Exif\0\0" + encode_jpeg(quarters(16, 16))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = JPEG[:2] + segment + JPEG[2:]
    assert corners(read(data)) == UPRIGHT
    with pytest.raises(ImageError, match="cut off"):
        read(data[:-2])


def test_bytes_after_the_end_of_a_jpeg_are_ignored(read):
    assert corners(read(JPEG + b"\0" * 500)) == UPRIGHT


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (b"\xff\xd8\xff\xe0abc", "not an image|damaged"),
        (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "a TIFF image that is damaged, or of a kind that is not read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an image"),
    ],
)
@pytest.mark.parametrize("read", [read_image, image_size])
def test_bytes_that_are_no_image_are_refused(tmp_path, content, reason, read, capfd):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read(tmp_path / "x.jpg")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
@pytest.mark.parametrize(
    "name, reason",
    [("absent.jpg", "no such file"), (".", "folder"), ("pipe", "regular file"), ("\0", "cannot be read")],
)
@pytest.mark.parametrize("read", [read_image, image_size])
def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path, name, reason, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match=reason):
        read(tmp_path / name)


def test_an_image_that_is_too_small_is_refused(read):
    with pytest.raises(ImageError, match="100 x 7 px; each side must have at least 8"):
        read(Image.new("RGB", (100, 7)))


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])  # the last two are beyond Pillow's own bounds
def test_too_many_pixels_in_the_header_are_refused(read, side):
    with pytest.raises(ImageError, match="pixels"):
        read(png(side, side, 8, b"\0" * 1000))


def test_a_wide_image_with_few_pixels_is_read(read):
    assert read(Image.new("RGB", (20_000, 10), "red")).shape == (10, 20_000, 3)


FILES = {form: encode(Image.fromarray(quarters()), form) for form in ("JPEG", "PNG", "WEBP")}


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=12), st.sampled_from([*FILES]))
def test_a_damaged_file_gives_an_image_or_an_image_error(tmp_path_factory, place, bytes_, form):
    data = bytearray(FILES[form])
    place %= len(data)
    data[place : place + len(bytes_)] = bytes_
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(data))
    try:
        image = read_image(path)
    except ImageError as error:
        assert error.reason
    else:
        assert (image.ndim, image.dtype) == (3, np.uint8)


def test_an_image_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is empty")))
    assert (error.reason, str(error)) == ("is empty", "a.jpg: is empty")


# --- reduced scale


@pytest.mark.parametrize(
    "at_least_px, shape",
    [
        (None, (480, 640)),
        (241, (480, 640)),
        (240, (240, 320)),
        (121, (240, 320)),
        (120, (120, 160)),
        (60, (60, 80)),
        (1, (60, 80)),
        (1000, (480, 640)),
    ],
)
def test_reduced_scale(read, at_least_px, shape):
    image = read(encode_jpeg(quarters(640, 480)), at_least_px=at_least_px)
    assert image.shape == (*shape, 3)
    assert corners(image) == UPRIGHT


def test_reduced_scale_of_a_rotated_image(read):
    stored = Image.fromarray(quarters(640, 480)).transpose(Image.Transpose.ROTATE_90)
    image = read(stored, "a.jpg", at_least_px=240, exif=oriented(6))
    assert image.shape == (240, 320, 3)
    assert corners(image) == UPRIGHT


# --- writing


def test_a_written_image_is_read_again(tmp_path):
    write_jpeg(tmp_path / "a.jpg", quarters(), quality=100)
    image = read_image(tmp_path / "a.jpg").astype(int)
    assert np.abs(image[[5, 40], [5, 5]] - (RED, BLUE)).max() <= 4


def test_a_lower_quality_needs_fewer_bytes():
    assert len(encode_jpeg(quarters(), 10)) < len(encode_jpeg(quarters(), 95))


@pytest.mark.parametrize("shape, dtype", [((4, 4), np.uint8), ((4, 4, 3), float), ((0, 4, 3), np.uint8)])
def test_only_rgb_bytes_are_written(shape, dtype):
    with pytest.raises(ValueError, match=r"Buffer|Invalid"):
        encode_jpeg(np.zeros(shape, dtype))
