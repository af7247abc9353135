"""What is fed with rubbish: each target takes bytes, and ends well or in a told error."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
from PIL import Image

from heatcrop.cli.config_file import dump_config, read_config
from heatcrop.data.images import image_size, read_image
from heatcrop.data.readers import infer_tasks, read_annotations
from heatcrop.data.tasks import FASHIONAI, Task, folder_name
from heatcrop.errors import HeatCropError
from heatcrop.files import write_json
from heatcrop.metrics.fusion import Fusion
from heatcrop.metrics.submissions import score_files
from heatcrop.nets.backbones import Backbone
from heatcrop.nets.torch_weights import read_torch_weights
from heatcrop.predict.description import (
    Branch,
    Description,
    InputDescription,
    TaskDescription,
    read_description,
)
from heatcrop.runs.leftovers import is_ours
from heatcrop.training.inputs import TestViews
from stage2_crop.rule import CropRule

SECONDS = 5.0
TASKS = (Task("beak", ("hooked", "straight", "broad")), Task("tail", ("long", "short"), "length"), *FASHIONAI)


class TooSlow(BaseException):
    """A target took longer than it may; not an Exception, so that nothing on the way catches it."""


def csv_annotations(folder: Path, data: bytes) -> None:
    """A CSV file of annotations, with tasks given and inferred."""
    path = folder / "a.csv"
    path.write_bytes(data)
    for read in (lambda: read_annotations([path], TASKS), lambda: infer_tasks(path)):
        with contextlib.suppress(HeatCropError):
            read()


def fashionai_annotations(folder: Path, data: bytes) -> None:
    """FashionAI's three files, one text cut in three."""
    root = folder / "fashionai"
    names = ("base/Annotations/label.csv", "rank/Tests/question.csv", "rank/Tests/answer.csv")
    for name, part in itertools.zip_longest(names, data.split(b"\x1e")[:3], fillvalue=b""):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(part)
    for read in (
        lambda: read_annotations([root], FASHIONAI, "fashionai"),
        lambda: infer_tasks(root, "fashionai"),
    ):
        with contextlib.suppress(HeatCropError):
            read()


def names(folder: Path, data: bytes) -> None:
    """A name becomes a folder that lies within its parent and can be made."""
    text = data.decode("utf-8", "replace")
    name = folder_name(text)
    assert os.path.normpath(folder / name).startswith(f"{folder}{os.sep}") and "/" not in name, repr(text)
    with contextlib.suppress(FileExistsError):
        (folder / name).mkdir()
    (folder / name).rmdir()


def configuration(folder: Path, data: bytes) -> None:
    """A configuration file; what is read can be written and read again."""
    path = folder / "c.yaml"
    path.write_bytes(data)
    with contextlib.suppress(HeatCropError):
        config = read_config(path)
        path.write_text(dump_config(config), encoding="utf-8")
        assert read_config(path) == config


def setting(folder: Path, data: bytes) -> None:
    """A setting of the command line."""
    path = folder / "empty.yaml"
    path.write_text("")
    with contextlib.suppress(HeatCropError):
        read_config(path, [data.decode("utf-8", "replace")])


def picture(folder: Path, data: bytes) -> None:
    """A picture file, read whole and at a reduced scale."""
    path = folder / "p"
    path.write_bytes(data)
    for read in (lambda: image_size(path), lambda: read_image(path), lambda: read_image(path, 16)):
        try:
            found = read()
        except HeatCropError as error:
            assert "no memory" not in str(error), "it asks for more than a process of the soak may have"
        else:
            assert isinstance(found, tuple) or (found.dtype == np.uint8 and found.shape[2] == 3)


def predictions(folder: Path, data: bytes) -> None:
    """A file of predictions and one of answers, one text cut in two."""
    said, asked, *_ = [*data.split(b"\x1e"), b""]
    (folder / "said.csv").write_bytes(said)
    (folder / "asked.csv").write_bytes(asked)
    with contextlib.suppress(HeatCropError):
        figures = score_files(folder / "said.csv", folder / "asked.csv", TASKS)
        assert 0 <= figures["map"] <= 1


def weights(folder: Path, data: bytes) -> None:
    """A weight file in PyTorch's old format."""
    (folder / "w.pth").write_bytes(data)
    with contextlib.suppress(HeatCropError):
        read_torch_weights(folder / "w.pth")


def description(folder: Path, data: bytes) -> None:
    """What an exported folder says of its networks; what is read can be written and read again."""
    path = folder / "heatcrop.json"
    path.write_bytes(data)
    (folder / "net.onnx").touch()
    with contextlib.suppress(HeatCropError):
        described = read_description(path)
        assert all(network.parent == folder for network in described.networks())
        write_json(path, described.as_json(folder))
        assert read_description(path) == described


TARGETS: dict[str, Callable[[Path, bytes], None]] = {
    f.__name__: f
    for f in (
        csv_annotations,
        fashionai_annotations,
        names,
        configuration,
        setting,
        picture,
        predictions,
        weights,
        description,
    )
}


def seeds(target: str) -> list[bytes]:
    """Good inputs of a target, for mutation to start from."""
    if target == "picture":
        return _pictures()
    if target == "configuration":
        home = Path(__file__).parents[2] / "configs"
        return [path.read_bytes() for path in sorted(home.glob("*.yaml"))] + [b"name: x\nseed: 3\n"]
    if target == "setting":
        return [
            b"network.input_px=192",
            b"tasks.neck.crop.rule.threshold=0.5",
            b"data.tasks=infer",
            b"data.tasks=[{name: a, classes: [b, c]}]",
            b"cam.training.steps=[7, 12]",
        ]
    return {
        "csv_annotations": [
            b"image,task,label,split,group\n0.jpg,beak,hooked,train,g\n1.jpg,tail,yn,,\n",
            b'\xef\xbb\xbfimage,task,label\r\n"a,b.jpg",BEAK,nyn\r\n../x.jpg,beak,y\r\n',
        ],
        "fashionai_annotations": [
            b"Images/neck_design_labels/0.jpg,neck_design_labels,nynnn\n\x1e"
            b"Images/neck_design_labels/1.jpg,neck_design_labels,?\n\x1e"
            b"Images/neck_design_labels/1.jpg,neck_design_labels,ynnnn\n"
        ],
        "predictions": [
            b"a.jpg,beak,0.5;0.25;0.25\nb.jpg,tail,1;0\n\x1ea.jpg,beak,nyn\nb.jpg,tail,yn\n",
            b"image,task,probabilities\na.jpg,beak,1;2;3\n\x1eimage,task,label\na.jpg,beak,ynm\n",
        ],
        "names": [
            b"3/4 Length",
            b"../../etc/passwd",
            b"C:\\x",
            "\u202egpj.exe\u0301".encode(),
            b"NUL.txt",
        ],
        "description": [_description()],
        "weights": [
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.\x80\x02]q\x00.",
        ],
    }[target]


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
            fusion=Fusion(),
        )
        for task in TASKS[:2]
    }
    backbone = Backbone("any")
    given = InputDescription(
        side_px=96, fit="pad", mean=backbone.mean, std=backbone.std, backbone=backbone.name
    )
    description = Description(input=given, trunk=Path("net.onnx"), tasks=tasks)
    return json.dumps(description.as_json(Path())).encode()


def _pictures() -> list[bytes]:
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
def within(seconds: float) -> Iterator[None]:
    """Raise TooSlow when the block takes longer."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(target: str, folder: Path, data: bytes) -> None:
    """Feed one input; anything that is not told as it should be comes out as an exception."""
    with within(SECONDS):
        TARGETS[target](folder, data)
    assert not [path for path in folder.rglob(".*") if is_ours(path)]
