"""Find the ImageNet weights that GluonCV has published, or download them: the same files for both engines.

A file has the network's name and the first digits of its checksum, ``resnet152_v2-f2695542.params``, and is
kept where GluonCV keeps it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from pathlib import Path

from filelock import FileLock

from heatcrop.errors import WeightsError
from heatcrop.files import atomic_path
from heatcrop.runs.progress import log

MIRROR = "MXNET_GLUON_REPO"
"""The environment variable, which GluonCV reads too, with the address that replaces GluonCV's host."""
_HOST = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"
_SECONDS = 30
"""Without an answer, or without any more bytes."""

RESNETS = {
    "resnet18_v2": "a81db45fd7b7a2d12ab97cd88ef0a5ac48b8f657",
    "resnet34_v2": "9d6b80bbc35169de6b6edecffdd6047c56fdd322",
    "resnet50_v2": "ecdde35339c1aadbec4f547857078e734a76fb49",
    "resnet101_v2": "18e93e4f48947e002547f50eabbcc9c83e516aa6",
    "resnet152_v2": "f2695542de38cf7e71ed58f02893d82bb409415e",
}
"""SHA-1 of the networks that both engines have, as in GluonCV's own table, which only MXNet can import."""


def published_file(name: str, sha1: str) -> Path:
    """Return the file of a network's published weights, which is downloaded where it is missing or damaged.

    Parameters
    ----------
    name : str
        In GluonCV's model zoo.
    sha1 : str
        Checksum of the file, 40 hexadecimal digits.

    Raises
    ------
    WeightsError
        Names what failed, and the ways to provide the weights.
    """
    folder = Path(os.environ.get("MXNET_HOME") or Path.home() / ".mxnet") / "models"
    path = folder / f"{name}-{sha1[:8]}.params"
    if _sha1(path) == sha1:
        return path
    url = f"{(os.environ.get(MIRROR) or _HOST).rstrip('/')}/gluon/models/{path.stem}.zip"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.stem}.lock"):
            if _sha1(path) != sha1:  # no other process has downloaded it meanwhile
                log(f"downloading the ImageNet weights of {name}: {url}")
                _download(url, path, sha1)
    except (OSError, ValueError, http.client.HTTPException, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(
            f"the ImageNet weights of {name} could not be fetched from {url} ({error}). Three ways: "
            f"set {MIRROR} to the address of a mirror of GluonCV's host; or put {path.name} "
            f"(SHA-1 {sha1}) into {folder}; or give a file, --set network.weights=FILE (.params, "
            ".safetensors or .pth with the model zoo's names; for resnet18_v2 to resnet152_v2 also the .onnx "
            "file of the ONNX model zoo). To begin with random weights: --set network.weights=none"
        ) from error
    return path


def _download(url: str, path: Path, sha1: str) -> None:
    """Download a zip and unpack the one file in it; ValueError where it is incomplete or another file."""
    with tempfile.TemporaryFile(dir=path.parent) as packed:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            shutil.copyfileobj(answer, packed)
            announced = answer.headers.get("Content-Length")
        if announced is not None and packed.tell() != int(announced):
            raise ValueError(f"only {packed.tell()} of {announced} bytes arrived")
        with zipfile.ZipFile(packed) as files, atomic_path(path) as partial:
            if path.name not in files.namelist():
                raise ValueError(f"the file there does not contain {path.name}")
            with files.open(path.name) as unpacked, partial.open("wb") as file:
                shutil.copyfileobj(unpacked, file)
            if (found := _sha1(partial)) != sha1:
                raise ValueError(f"the file there has the SHA-1 {found}, expected {sha1}")


def _sha1(path: Path) -> str:
    """Compute a file's SHA-1; '' where there is no file."""
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()
