"""A little of what `make soak` does at length; what it finds becomes a small test here."""

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heatcrop.data.images import MAX_PIXELS, ImageError, image_size, read_image
from tests.soak.fuzzing import fuzz
from tests.soak.targets import TARGETS, TooSlow, attempt, seeds, within


@pytest.mark.parametrize("target", TARGETS)
def test_a_hundred_rubbish_inputs_are_told(tmp_path, target):
    assert fuzz(target, tmp_path, 100)["inputs"] >= 100


@pytest.mark.parametrize("target", TARGETS)
def test_good_inputs_are_taken(tmp_path, target):
    for data in seeds(target):
        attempt(target, tmp_path, data)


def test_the_fuzzer_finds_what_is_not_told(tmp_path, monkeypatch):
    def careless(_folder, data):
        if b"," in data:
            raise ZeroDivisionError

    monkeypatch.setitem(TARGETS, "csv_annotations", careless)
    with pytest.raises(ZeroDivisionError):
        fuzz("csv_annotations", tmp_path, 100)


def test_the_fuzzer_finds_what_hangs():
    with pytest.raises(TooSlow), within(0.1):
        time.sleep(30)


ROOT = Path(__file__).parents[2]

# --- decompression bombs: refused by what the header says, before a pixel is decoded


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows=b""):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def patched(form, place, fields):
    """A small picture whose header claims other sides."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, form)
    data = buffer.getvalue()
    return data[:place] + fields + data[place + len(fields) :]


BOMBS = {
    "png": png(50_000, 50_000, bytes(1_000_000)),
    "png, widest": png(2**31 - 1, 1),
    "gif": patched("GIF", 6, struct.pack("<HH", 65_535, 65_535)),
    "bmp": patched("BMP", 18, struct.pack("<ii", 40_000, 40_000)),
    "ppm": b"P6 99999 99999 255\n" + bytes(100),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, kind, monkeypatch):
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[kind])
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=f"pixels|at most {MAX_PIXELS:,}"):
        read_image(path)


@pytest.mark.parametrize("kind", BOMBS)
def test_asking_a_bomb_for_its_size_decodes_nothing(tmp_path, kind, monkeypatch):
    (tmp_path / "bomb").write_bytes(BOMBS[kind])
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    try:
        assert min(image_size(tmp_path / "bomb")) >= 1
    except ImageError as error:
        assert "too many pixels" in error.reason


MEASURE = """
import resource, sys
from heatcrop.data.images import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shape = read_image(sys.argv[1]).shape
print(shape, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_largest_picture_takes_less_than_a_gibibyte(tmp_path):
    """A transparent one of next to 100 million pixels, which was laid on white through several copies."""
    path = tmp_path / "large.png"
    Image.new("LA", (10_000, MAX_PIXELS // 10_000 - 1)).save(path, compress_level=1)
    done = subprocess.run([sys.executable, "-c", MEASURE, path], cwd=ROOT, capture_output=True, text=True)
    shape, kibibytes = done.stdout.rsplit(None, 1)
    assert shape == "(9999, 10000, 3)" and int(kibibytes) < 2**20, done


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "L", "1"])
def test_a_picture_read_in_strips_has_the_same_pixels(tmp_path, mode, monkeypatch):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (37, 23, 4), np.uint8), "RGBA")
    picture = picture.convert("RGB").convert(mode) if mode in ("P", "CMYK") else picture.convert(mode)
    options = {"transparency": 3} if mode == "P" else {}
    picture.save(tmp_path / "p", "TIFF" if mode == "CMYK" else "PNG", **options)
    whole = read_image(tmp_path / "p")
    monkeypatch.setattr("heatcrop.data.images._STRIP_PIXELS", 100)
    strips = read_image(tmp_path / "p")
    np.testing.assert_array_equal(strips, whole)
    assert strips.flags.writeable and strips.flags.c_contiguous
