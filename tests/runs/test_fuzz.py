"""Fuzz every reader briefly; `make soak` does it at length. Decompression bombs and large images."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from heatcrop.data.images import MAX_PIXELS, ImageError, image_size, read_image
from tests.soak.fuzzing import fuzz
from tests.soak.targets import TARGETS, TooSlow, attempt, seeds, time_limit
from tests.tiny_run import ROOT


@pytest.mark.parametrize(
    ("target", "data"), [pytest.param(t, s, id=f"{t} {i}") for t in TARGETS for i, s in enumerate(seeds(t))]
)
def test_every_seed_is_accepted_before_mutation(tmp_path, target, data):
    assert attempt(target, tmp_path, data)


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_inputs_are_accepted_or_rejected_with_an_error(tmp_path, target):
    seen = fuzz(target, tmp_path, 100)
    assert seen["inputs"] >= 100
    assert seen["accepted"] > 0


def test_fuzzing_finds_an_unexpected_exception(tmp_path, monkeypatch):
    def fails_at_a_comma(_folder, data):
        if b"," in data:
            raise ZeroDivisionError
        return True

    monkeypatch.setitem(TARGETS, "csv_annotations", fails_at_a_comma)
    with pytest.raises(ZeroDivisionError):
        fuzz("csv_annotations", tmp_path, 100)


def test_fuzzing_finds_an_endless_loop():
    with pytest.raises(TooSlow), time_limit(0.1):
        time.sleep(30)


# --- decompression bombs: rejected by their header, before a pixel is decoded


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
    """A small image whose header claims other sides."""
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
def test_a_decompression_bomb_is_rejected_before_it_is_decoded(tmp_path, kind, monkeypatch):
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[kind])
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=f"pixels|at most {MAX_PIXELS:,}"):
        read_image(path)


@pytest.mark.parametrize("kind", BOMBS)
def test_reading_the_size_of_a_bomb_decodes_nothing(tmp_path, kind, monkeypatch):
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


def test_the_largest_image_takes_less_than_a_gibibyte(tmp_path):
    """A transparent image of nearly 100 million pixels, whose background takes further copies."""
    path = tmp_path / "large.png"
    Image.new("LA", (10_000, MAX_PIXELS // 10_000 - 1)).save(path, compress_level=1)
    done = subprocess.run([sys.executable, "-c", MEASURE, path], cwd=ROOT, capture_output=True, text=True)
    shape, kibibytes = done.stdout.rsplit(None, 1)
    assert shape == "(9999, 10000, 3)", done
    assert int(kibibytes) < 2**20, done


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "L", "1"])
def test_an_image_read_in_strips_has_the_same_pixels(tmp_path, mode, monkeypatch):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (37, 23, 4), np.uint8), "RGBA")
    image = image.convert("RGB").convert(mode) if mode in ("P", "CMYK") else image.convert(mode)
    options = {"transparency": 3} if mode == "P" else {}
    image.save(tmp_path / "p", "TIFF" if mode == "CMYK" else "PNG", **options)
    at_once = read_image(tmp_path / "p")
    monkeypatch.setattr("heatcrop.data.images._STRIP_PIXELS", 100)
    strips = read_image(tmp_path / "p")
    np.testing.assert_array_equal(strips, at_once)
    assert strips.flags.writeable
    assert strips.flags.c_contiguous
