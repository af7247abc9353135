import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heatcrop.data.images import ImageError, encode_jpeg, image_size, read_image, write_jpeg

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


def near(colour, other, by=4):
    return np.abs(np.asarray(colour, int) - np.asarray(other, int)).max() <= by


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif", ".ppm"])
def test_every_format_gives_rgb(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(quarters()).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert corners(image) == UPRIGHT
    assert image_size(path) == (64, 48)


def test_the_content_counts_and_not_the_name(tmp_path):
    path = tmp_path / "really a png.jpg"
    Image.fromarray(quarters()).save(path, "PNG")
    np.testing.assert_array_equal(read_image(path), quarters())


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
def test_the_exif_orientation_is_applied(tmp_path, suffix, orientation, turn):
    image = Image.fromarray(quarters())
    stored = image if turn is None else image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    stored.save(path, exif=exif)
    image = read_image(path)
    assert image.shape == (48, 64, 3)
    assert corners(image) == UPRIGHT
    assert image_size(path) == (64, 48)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=exif)
    assert corners(read_image(tmp_path / "a.jpg")) == UPRIGHT


def test_an_image_with_damaged_exif_data_is_read(tmp_path):
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert corners(read_image(tmp_path / "a.jpg")) == UPRIGHT


@pytest.mark.parametrize("name", ["grey.png", "grey.jpg"])
def test_grey_becomes_rgb_at_full_scale(tmp_path, name):
    Image.new("L", (20, 10), 77).save(tmp_path / name)
    image = read_image(tmp_path / name, at_least_px=2)
    assert image.shape == (10, 20, 3)
    assert near(image[5, 5], (77, 77, 77), by=1)


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    values = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), np.stack([values >> 8] * 3, axis=2))


def png_chunk(name, payload):
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def test_sixteen_bits_in_colour(tmp_path):
    row = b"\0" + struct.pack(">3H", 65535, 256 * 100, 0) * 10  # a PNG row: no filter, ten pixels
    header = struct.pack(">IIBBBBB", 10, 10, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(row * 10)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)
    (tmp_path / "deep.png").write_bytes(data)
    image = read_image(tmp_path / "deep.png")
    assert image.shape == (10, 10, 3)
    assert near(image[3, 3], (255, 100, 0), by=1)


def test_palette_images(tmp_path):
    Image.fromarray(quarters()).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert corners(read_image(tmp_path / "palette.png")) == UPRIGHT


def test_bilevel_images(tmp_path):
    Image.new("1", (10, 10), 1).save(tmp_path / "bilevel.png")
    assert (read_image(tmp_path / "bilevel.png") == 255).all()


def test_cmyk_images(tmp_path):
    Image.fromarray(quarters()).convert("CMYK").save(tmp_path / "print.jpg")
    assert corners(read_image(tmp_path / "print.jpg", at_least_px=10)) == UPRIGHT


def test_transparent_pixels_become_white(tmp_path):
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:, :10] = (255, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    image = read_image(tmp_path / "rgba.png")
    assert tuple(image[5, 5]) == RED
    assert tuple(image[5, 15]) == WHITE


def test_half_transparent_pixels_are_blended_with_white(tmp_path):
    half = np.full((20, 20, 2), (0, 128), np.uint8)  # black
    Image.fromarray(half).save(tmp_path / "la.png")
    assert near(read_image(tmp_path / "la.png")[0, 0], (127, 127, 127), by=1)


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    assert tuple(read_image(tmp_path / "p.png")[0, 0]) == WHITE


def test_floating_point_images_are_refused(tmp_path):
    Image.fromarray(np.ones((10, 10), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(ImageError, match="floating point"):
        read_image(tmp_path / "f.tiff")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_cut_file_is_refused(tmp_path, suffix, share, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[suffix])
    data = buffer.getvalue()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="cut off|damaged|not an image"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_without_its_end_marker_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(quarters())[:-2])
    with pytest.raises(ImageError, match="cut off: its end marker is missing"):
        read_image(tmp_path / "a.jpg")


def test_the_end_marker_of_a_thumbnail_does_not_count(tmp_path):
    complete = encode_jpeg(quarters())
    thumbnail = b"Exif\0\0" + encode_jpeg(quarters(16, 16))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = complete[:2] + segment + complete[2:]
    (tmp_path / "complete.jpg").write_bytes(data)
    assert corners(read_image(tmp_path / "complete.jpg")) == UPRIGHT
    (tmp_path / "cut.jpg").write_bytes(data[:-2])
    with pytest.raises(ImageError, match="cut off"):
        read_image(tmp_path / "cut.jpg")


def test_bytes_after_the_end_of_a_jpeg_are_ignored(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(quarters()) + b"\0" * 500)
    assert corners(read_image(tmp_path / "a.jpg")) == UPRIGHT


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (b"\xff\xd8\xff\xe0abc", "not an image|damaged"),
        (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
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


def test_an_image_that_is_too_small_is_refused(tmp_path):
    Image.new("RGB", (100, 7)).save(tmp_path / "strip.png")
    with pytest.raises(ImageError, match="100 x 7 px; each side must have at least 8"):
        read_image(tmp_path / "strip.png")


def bomb(width, height):
    """Make a PNG whose header claims more pixels than its few bytes hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])  # the last two are beyond Pillow's own bounds
def test_too_many_pixels_in_the_header_are_refused(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    with pytest.raises(ImageError, match="pixels"):
        read_image(tmp_path / "bomb.png")


def test_a_wide_image_with_few_pixels_is_read(tmp_path):
    Image.new("RGB", (20_000, 10), "red").save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png").shape == (10, 20_000, 3)


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
def test_reduced_scale(tmp_path, at_least_px, shape):
    write_jpeg(tmp_path / "a.jpg", quarters(640, 480))
    image = read_image(tmp_path / "a.jpg", at_least_px)
    assert image.shape == (*shape, 3)
    assert corners(image) == UPRIGHT


def test_reduced_scale_of_a_rotated_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(quarters(640, 480)).transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "a.jpg", exif=exif
    )
    image = read_image(tmp_path / "a.jpg", at_least_px=240)
    assert image.shape == (240, 320, 3)
    assert corners(image) == UPRIGHT


def test_a_written_image_is_read_again(tmp_path):
    write_jpeg(tmp_path / "a.jpg", quarters(), quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert near(image[5, 5], RED)
    assert near(image[40, 5], BLUE)


def test_a_written_image_replaces_an_older_one(tmp_path):
    write_jpeg(tmp_path / "a.jpg", quarters())
    write_jpeg(tmp_path / "a.jpg", quarters()[::-1])
    assert corners(read_image(tmp_path / "a.jpg"))[0] == BLUE
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jpg"]


def test_a_lower_quality_needs_fewer_bytes():
    assert len(encode_jpeg(quarters(), 10)) < len(encode_jpeg(quarters(), 95))


def test_a_failed_write_leaves_the_old_image_alone(tmp_path, monkeypatch):
    write_jpeg(tmp_path / "a.jpg", quarters())
    before = (tmp_path / "a.jpg").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_jpeg(tmp_path / "a.jpg", quarters()[::-1])
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("shape, dtype", [((4, 4), np.uint8), ((4, 4, 3), float), ((0, 4, 3), np.uint8)])
def test_only_rgb_bytes_are_written(shape, dtype):
    with pytest.raises(ValueError, match=r"Buffer|Invalid"):
        encode_jpeg(np.zeros(shape, dtype))


def test_an_image_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.jpg", "is empty", "a.jpg: is empty")


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=12), st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_a_damaged_file_gives_an_image_or_an_image_error(tmp_path_factory, place, bytes_, form):
    buffer = io.BytesIO()
    Image.fromarray(quarters()).save(buffer, form)
    data = bytearray(buffer.getvalue())
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
