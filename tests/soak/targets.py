"""Targets of the fuzz tests: each reads bytes, and accepts them or raises a HeatCropError."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
from PIL import Image

from heatcrop.cli.config_file import dump_config, read_config
from heatcrop.data.images import image_size, read_image
from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import FASHIONAI, Task, folder_name
from heatcrop.errors import HeatCropError
from heatcrop.files import write_json
from heatcrop.metrics.fusion import Fusion
from heatcrop.metrics.submissions import score_files
from heatcrop.nets.backbones import Backbone
from heatcrop.nets.weights.pth_file import read_torch_weights
from heatcrop.predict.description import (
    Branch,
    Description,
    InputDescription,
    TaskDescription,
    read_description,
)
from heatcrop.runs.swap import is_remnant
from heatcrop.training.inputs import TestViews
from stage2_crop.plan import CropRule
from tests.torch_file import GOOD

SECONDS = 5.0
TASKS = (Task("beak", ("hooked", "straight", "broad")), Task("tail", ("long", "short"), "length"), *FASHIONAI)
_FASHIONAI_FILES = ("base/Annotations/label.csv", "rank/Tests/question.csv", "rank/Tests/answer.csv")

Target = Callable[[Path, bytes], bool]
"""Reads an input in a scratch folder; returns whether it was accepted, or rejected with a HeatCropError."""


class TooSlow(BaseException):
    """A target exceeded its time; not an Exception, so that no handler on the way catches it."""


def _accepted(read: Callable[[], object]) -> bool:
    try:
        read()
    except HeatCropError:
        return False
    return True


def _all_rows(roots: list[Path], tasks: tuple[Task, ...], layout: str = "auto") -> bool:
    try:
        return read_annotations(roots, tasks, layout).rejected.empty
    except HeatCropError:
        return False


def csv_annotations(folder: Path, data: bytes) -> bool:
    """Read a CSV file of annotations of known tasks; accepted where no row is rejected."""
    for name in ("0.jpg", "1.jpg", "a,b.jpg"):
        (folder / name).touch()
    (folder / "a.csv").write_bytes(data)
    return _all_rows([folder / "a.csv"], TASKS)


def csv_tasks(folder: Path, data: bytes) -> bool:
    """Infer the tasks of a CSV file; accepted where a row can be used."""
    for name in ("0.jpg", "1.jpg", "a,b.jpg"):
        (folder / name).touch()
    (folder / "a.csv").write_bytes(data)
    return _accepted(lambda: read_annotations([folder / "a.csv"], None).tasks)


def packed(folder: Path, data: bytes) -> bool:
    """Read a compressed CSV file; accepted where no row is rejected."""
    for name in ("0.jpg", "1.jpg"):
        (folder / name).touch()
    (folder / "a.csv.gz").write_bytes(data)  # the content says how it is compressed, not the name
    return _all_rows([folder / "a.csv.gz"], TASKS)


def _fashionai(folder: Path, data: bytes) -> Path:
    """Write FashionAI's three files, separated by the byte 1E, and two images."""
    root = folder / "fashionai"
    parts = [*data.split(b"\x1e"), b"", b""]
    for name, part in zip(_FASHIONAI_FILES, parts, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(part)
    for name in ("base/Images/neck_design_labels/0.jpg", "rank/Images/neck_design_labels/1.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def fashionai_annotations(folder: Path, data: bytes) -> bool:
    """Read FashionAI's annotations; accepted where no row is rejected."""
    return _all_rows([_fashionai(folder, data)], FASHIONAI, "fashionai")


def fashionai_tasks(folder: Path, data: bytes) -> bool:
    """Infer the tasks of FashionAI's annotations; accepted where a row can be used."""
    root = _fashionai(folder, data)
    return _accepted(lambda: read_annotations([root], None, "fashionai").tasks)


def _document(name: str) -> Target:
    """Make a target that infers the tasks of a file and reads it; accepted where no row is rejected."""

    def read(folder: Path, data: bytes) -> bool:
        for image in ("0.jpg", "1.jpg"):
            (folder / image).touch()
        path = folder / name
        path.write_bytes(data)
        with contextlib.suppress(HeatCropError):
            read_annotations([path], None)
        return _all_rows([path], TASKS)

    return read


def names(folder: Path, data: bytes) -> bool:
    """Convert a name to a folder name; it can be created and lies within its parent."""
    text = data.decode("utf-8", "replace")
    path = folder / folder_name(text)
    assert os.path.normpath(path).startswith(f"{folder}{os.sep}"), repr(text)
    assert path.parent == folder, repr(text)
    path.mkdir(exist_ok=True)
    path.rmdir()
    return True


def configuration(folder: Path, data: bytes) -> bool:
    """Read a configuration file; written and read again it is the same."""
    path = folder / "c.yaml"
    path.write_bytes(data)
    try:
        config = read_config(path)
    except HeatCropError:
        return False
    path.write_text(dump_config(config), encoding="utf-8")
    assert read_config(path) == config
    return True


def setting(folder: Path, data: bytes) -> bool:
    """Read a setting of the command line."""
    path = folder / "empty.yaml"
    path.write_text("")
    return _accepted(lambda: read_config(path, [data.decode("utf-8", "replace")]))


def image(folder: Path, data: bytes) -> bool:
    """Read the size of an image, the image, and the image at a reduced scale."""
    path = folder / "p"
    path.write_bytes(data)
    accepted = True
    for read in (lambda: image_size(path), lambda: read_image(path), lambda: read_image(path, 16)):
        try:
            found = read()
        except HeatCropError as error:
            assert "no memory" not in str(error), "needs more memory than the limit of these tests"
            accepted = False
        else:
            assert isinstance(found, tuple) or (found.dtype == np.uint8 and found.shape[2] == 3)
    return accepted


def predictions(folder: Path, data: bytes) -> bool:
    """Score a file of predictions with one of answers, separated by the byte 1E."""
    predicted, answers, *_ = [*data.split(b"\x1e"), b""]
    (folder / "predicted.csv").write_bytes(predicted)
    (folder / "answers.csv").write_bytes(answers)
    try:
        metrics = score_files(folder / "predicted.csv", folder / "answers.csv", TASKS)
    except HeatCropError:
        return False
    assert 0 <= metrics["map"] <= 1
    return True


def weights(folder: Path, data: bytes) -> bool:
    """Read a weight file of PyTorch."""
    (folder / "w.pth").write_bytes(data)
    return _accepted(lambda: read_torch_weights(folder / "w.pth"))


def description(folder: Path, data: bytes) -> bool:
    """Read the JSON of an exported folder; written and read again it is the same."""
    path = folder / "heatcrop.json"
    path.write_bytes(data)
    (folder / "net.onnx").touch()
    try:
        described = read_description(path)
    except HeatCropError:
        return False
    assert all(network.parent == folder for network in described.networks())
    write_json(path, described.as_json(folder))
    assert read_description(path) == described
    return True


TARGETS: dict[str, Target] = {
    f.__name__: f
    for f in (
        csv_annotations,
        csv_tasks,
        packed,
        fashionai_annotations,
        fashionai_tasks,
        names,
        configuration,
        setting,
        image,
        predictions,
        weights,
        description,
    )
} | {
    "coco": _document("annotations.json"),
    "label_studio": _document("export.json"),
    "cvat": _document("annotations.xml"),
    "metadata": _document("metadata.jsonl"),
}

_CSV_WITH_NAMES = (
    b"image,task,label,split,group\n0.jpg,beak,hooked,train,g\n1.jpg,beak,broad,,\n"
    b"0.jpg,tail,long,val,g\n1.jpg,tail,short,test,\n"
)
_FASHIONAI = (
    b"Images/neck_design_labels/0.jpg,neck_design_labels,nynnn\n\x1e"
    b"Images/neck_design_labels/1.jpg,neck_design_labels,?\n\x1e"
    b"Images/neck_design_labels/1.jpg,neck_design_labels,ynnnn\n"
)


def seeds(target: str) -> list[bytes]:
    """Return inputs that a target accepts; mutation starts from them."""
    if target == "image":
        return _images()
    if target == "configuration":
        files = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
        return [*(path.read_bytes() for path in files), b"name: x\nseed: 3\n"]
    if target == "description":
        return [_description()]
    return {
        "csv_annotations": [
            _CSV_WITH_NAMES,
            b'\xef\xbb\xbfimage,task,label\r\n"a,b.jpg",BEAK,nyn\r\n1.jpg,tail,yn\r\n',
        ],
        "csv_tasks": [_CSV_WITH_NAMES],
        "packed": [*(module.compress(_CSV_WITH_NAMES) for module in (gzip, bz2, lzma)), _zipped()],
        "fashionai_annotations": [_FASHIONAI],
        "fashionai_tasks": [_FASHIONAI],
        "names": [
            b"3/4 Length",
            b"../../etc/passwd",
            b"C:\\x",
            "\u202egpj.exe\u0301".encode(),
            b"NUL.txt",
        ],
        "setting": [
            b"network.input_px=192",
            b"tasks.neck.crop.rule.threshold=0.5",
            b"data.tasks=infer",
            b"data.tasks=[{name: a, classes: [b, c]}]",
            b"cam.training.steps=[7, 12]",
        ],
        "predictions": [
            b"a.jpg,beak,0.5;0.25;0.25\nb.jpg,tail,1;0\n\x1ea.jpg,beak,nyn\nb.jpg,tail,yn\n",
            b"image,task,probabilities\na.jpg,beak,1;2;3\n\x1eimage,task,label\na.jpg,beak,ynm\n",
        ],
        "weights": [GOOD],
        "coco": [
            b'{"images": [{"id": 1, "file_name": "0.jpg", "width": 9, "height": 9}], "annotations": '
            b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3.5, 4], "attributes": {"tail": "long"}}, '
            b'{"image_id": 1, "category_id": 1, "maybe": ["broad"]}], "categories": [{"id": 1, "name": '
            b'"hooked", "supercategory": "beak"}, {"id": 2, "name": "broad", "supercategory": "beak"}], '
            b'"info": {"supercategory": "task"}}'
        ],
        "label_studio": [
            b'[{"data": {"image": "/data/upload/1/0.jpg"}, "annotations": [{"was_cancelled": false, '
            b'"result": [{"id": "a", "from_name": "beak", "type": "choices", '
            b'"value": {"choices": ["hooked"]}}, '
            b'{"id": "b", "from_name": "r", "type": "rectanglelabels", "original_width": 90, '
            b'"original_height": 50, "value": {"x": 1, "y": 2, "width": 30, "height": 40, "rotation": 20, '
            b'"rectanglelabels": ["beak"]}}]}]}]'
        ],
        "cvat": [
            b'<?xml version="1.0" encoding="utf-8"?><annotations><image id="0" name="0.jpg" width="9" '
            b'height="9" subset="train"><tag label="bird"><attribute name="beak">hooked</attribute></tag>'
            b'<box label="x" xtl="1" ytl="2" xbr="3" ybr="4" rotation="30"><attribute name="tail">short'
            b"</attribute></box></image></annotations>"
        ],
        "metadata": [
            b'{"file_name": "0.jpg", "beak": "hooked", "tail": "long"}\n'
            b'{"file_name": "1.jpg", "beak": "broad"}\n'
        ],
    }[target]


def _zipped() -> bytes:
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.csv", _CSV_WITH_NAMES)
        return buffer.getvalue()


def _description() -> bytes:
    branch = Branch(network=Path("net.onnx"), views=TestViews())
    rule = CropRule(usual=(0.5, 0.5, 0.25))
    tasks = {
        task.name: TaskDescription(
            classes=task.classes,
            kind=task.kind,
            full=branch,
            heatmap="plain",
            crop_rule=rule,
            crop=branch,
            fusion=Fusion(0.5),
        )
        for task in TASKS[:2]
    }
    backbone = Backbone("any")
    given = InputDescription(
        side_px=96, fit="pad", mean=backbone.mean, std=backbone.std, backbone=backbone.name
    )
    description = Description(input=given, trunk=Path("net.onnx"), tasks=tasks)
    return json.dumps(description.as_json(Path())).encode()


def _images() -> list[bytes]:
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (17, 23, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    kinds: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("JPEG", rgb, {"exif": exif}),
        ("JPEG", rgb.convert("CMYK"), {}),
        ("JPEG", rgb, {"progressive": True}),
        *(("PNG", rgb.convert(mode), {}) for mode in ("RGBA", "P", "I;16", "LA")),
        ("WEBP", rgb, {}),
        ("BMP", rgb, {}),
        ("TIFF", rgb, {"compression": "tiff_lzw"}),
        ("TIFF", rgb.convert("L"), {}),
        ("GIF", rgb.convert("P"), {}),
        ("PPM", rgb, {}),
    ]
    for form, image, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        made.append(buffer.getvalue())
    return made


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow when the block takes longer."""

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(target: str, folder: Path, data: bytes) -> bool:
    """Run a target on one input within its time, and check that no unfinished file is left."""
    with time_limit(SECONDS):
        accepted = TARGETS[target](folder, data)
    assert not [path for path in folder.rglob(".*") if is_remnant(path)]
    return accepted
