"""One branch of the method (full image or crop): its inputs, its training, its predictions.

Stage 1 and stage 3 differ in what they show the network and where its weights start; all else
that they do with a network is here, once.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.errors import REMAKE, DivergedError, WeightsError
from heatcrop.metrics.score import accuracy, average_precision
from heatcrop.nets.cards import ON_CPU, DeviceName, Devices
from heatcrop.nets.classifier import NetworkPlan, build_classifier, build_trunk, split_blocks
from heatcrop.nets.devices import find_devices
from heatcrop.nets.engine import mxnet
from heatcrop.nets.gradients import MapPlan, gradient_runner
from heatcrop.nets.inference import Runner, block_runner, exported_runner, softmax
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import InputForm, Pictures
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.inputs import Inputs, LiveInputs, TestViews, cache_features
from heatcrop.training.loop import TrainingPlan, soft_cross_entropy, train

OUTPUTS = ("logits", "maps")
_INFERENCE_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Workshop:
    """What all tasks and stages of a run share: the network, its input, the machine.

    Attributes
    ----------
    network : NetworkPlan
    form : InputForm
    trunk_folder : Path
        Where the frozen part is written, once a run.
    engine : {'auto', 'onnx', 'mxnet'}
    seed : int
    device : {'auto', 'cpu', 'gpu'}
    amp : bool
        Mixed precision.
    maps : MapPlan
        How the full image's class maps are made.
    """

    network: NetworkPlan
    form: InputForm
    trunk_folder: Path
    engine: str = "auto"
    seed: int = 0
    device: DeviceName = "auto"
    amp: bool = False
    maps: MapPlan = MapPlan()

    @property
    def devices(self) -> Devices:
        """Where to compute; EngineError where it is asked for what is not there."""
        return find_devices(self.device, self.amp)

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(3, S, S)."""
        return 3, self.form.side_px, self.form.side_px

    def trunk(self) -> Runner | None:
        """Open the frozen part, exporting it at first use; None when nothing is frozen."""
        file = self.trunk_folder / "trunk.onnx"
        if self.network.frozen_blocks == 0:
            return None
        blocks, _ = split_blocks(self.network, self.seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        return block_runner(
            build_trunk(blocks), self.picture_shape, file, ("features",), self.engine, self.devices
        )


def backbone_runner(shop: Workshop, folder: Path) -> Runner:
    """Open the whole backbone with its published weights: (B, 3, S, S) to its last feature map."""
    blocks, _ = split_blocks(dataclasses.replace(shop.network, frozen_blocks=-1), shop.seed)
    folder.mkdir(parents=True, exist_ok=True)
    return block_runner(
        build_trunk(blocks),
        shop.picture_shape,
        folder / "backbone.onnx",
        ("features",),
        shop.engine,
        shop.devices,
    )


def make_inputs(
    shop: Workshop,
    trunk: Runner | None,
    pictures: Pictures,
    train_rows: np.ndarray,
    how: Augmentation,
    test: TestViews,
    views: int,
    cache: Path | None,
    done: Callable[[int], None] = lambda _: None,
    val_rows: np.ndarray | None = None,
) -> Inputs:
    """Make a branch's inputs: cached features behind a frozen trunk, live ones without one or a cache.

    What is looked at every epoch, `train_rows` and `val_rows`, is cached; all else is looked at once.
    """
    if trunk is None or cache is None:
        return LiveInputs(pictures, shop.form, how, test, shop.seed, trunk)
    return cache_features(
        pictures,
        train_rows,
        shop.form,
        how,
        test,
        views,
        trunk,
        cache,
        shop.seed,
        done,
        train_rows if val_rows is None else np.union1d(train_rows, val_rows),
    )


def new_classifier(shop: Workshop, input_shape: tuple[int, int, int], n_classes: int, seed: int) -> Any:
    """Build the trained part with the backbone's published weights and a fresh classifier."""
    _, rest = split_blocks(shop.network, shop.seed)
    return build_classifier(rest, input_shape, n_classes, shop.network.dropout, seed)


def load_classifier(net: Any, path: Path) -> Any:
    """Load weights that :func:`fit` has left.

    Raises
    ------
    WeightsError
        When the file is missing, damaged or of another network.
    """
    mx = mxnet()
    try:
        net.load_parameters(str(path))
    except (mx.MXNetError, AssertionError, ValueError, OSError) as error:
        # MXNet's text begins with a traceback of its own and ends with what is wrong.
        cause = str(error).strip().splitlines()[-1].removeprefix("MXNetError: ")[:200]
        raise WeightsError(f"{path}: weights do not fit this network ({cause}); {REMAKE}") from error
    return net


def fit(
    net: Any,
    inputs: Inputs,
    soft: np.ndarray,
    letters: np.ndarray,
    train_rows: np.ndarray,
    val_rows: np.ndarray,
    plan: TrainingPlan,
    seed: int,
    name: str,
    done: Callable[[int], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
    devices: Devices = ON_CPU,
) -> list[dict[str, Any]]:
    """Train a classifier on some rows, validating each epoch on others.

    Parameters
    ----------
    soft : ndarray of float32, shape (N, C)
        Below 0 at classes that a row is not asked about.
    letters : ndarray of int8, shape (N, C)
    train_rows, val_rows : ndarray of int
        `val_rows` may be empty; the last epoch is then kept.
    name : str
        The network's, for the history.
    done : callable
        Told how many epochs are done since.
    checkpoint : Checkpoint, optional
        Where an interrupted training goes on; its mark stands for all but the weights it starts from.
    devices : Devices
        A batch is split among those that train.

    Returns
    -------
    list of dict
        Rows of ``history.csv``.
    """

    n_batches = -(-len(train_rows) // plan.batch_size)

    def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order, size = np.random.default_rng((seed, epoch)).permutation(train_rows), plan.batch_size
        for x, index in inputs.training(epoch, order, size):
            yield x, soft[index]

    def validate(logits_of: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float, float]:
        if not len(val_rows):
            return float("nan"), float("nan"), float("nan")
        parts = [
            logits_of(x.reshape(-1, *x.shape[2:])).reshape(len(index), x.shape[1], -1).mean(axis=1)
            for x, index in inputs.testing(val_rows, _INFERENCE_BATCH, plain=True)
        ]
        return validation_figures(np.concatenate(parts), soft[val_rows], letters[val_rows])

    if checkpoint is not None:
        checkpoint = dataclasses.replace(checkpoint, mark=f"{checkpoint.mark} {_weights_digest(net)}")
    history = train(
        net,
        batches,
        n_batches,
        validate,
        plan,
        seed,
        lambda _: done(1),
        checkpoint,
        [mxnet().gpu(card.number) for card in devices.training],
        devices.amp,
    )
    return [{"network": name, **dataclasses.asdict(epoch)} for epoch in history]


def validation_figures(
    logits: np.ndarray, soft: np.ndarray, letters: np.ndarray
) -> tuple[float, float, float]:
    """Loss, mAP and accuracy; where tasks are joined, the means over the tasks.

    Parameters
    ----------
    logits : ndarray of float, shape (N, C)
    soft : ndarray of float32, shape (N, C)
        Below 0 at classes that a row is not asked about. Rows that are asked the same are one task's.
    letters : ndarray of int8, shape (N, C)

    Raises
    ------
    DivergedError
        Where a logit is no finite number.
    """
    if not np.isfinite(logits).all():
        raise DivergedError("the logits are not finite")
    asked = soft >= 0
    if not asked.all():
        figures = []
        for task in np.unique(asked, axis=0):
            rows = (asked == task).all(axis=1)
            figures.append(validation_figures(*(a[rows][:, task] for a in (logits, soft, letters))))
        loss, mean_ap, right = np.mean(figures, axis=0).tolist()
        return loss, mean_ap, right
    probabilities = softmax(logits)
    return (
        soft_cross_entropy(logits, soft),
        average_precision(probabilities, letters),
        accuracy(probabilities, letters),
    )


def _weights_digest(net: Any) -> str:
    """Tell a network's weights apart from others."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in net.collect_params().values():
        digest.update(parameter.data(parameter.list_ctx()[0]).asnumpy().tobytes())
    return digest.hexdigest()


def save_classifier(net: Any, path: Path) -> None:
    """Write the weights that :func:`load_classifier` reads, and make sure that they are there.

    Raises
    ------
    OSError
        Where the disk took only a part of them: MXNet does not tell.
    """
    mx = mxnet()
    try:
        net.save_parameters(str(path))
        written = mx.nd.load(str(path))
        whole = all(
            (written[n] == p.data(p.list_ctx()[0]).as_in_context(mx.cpu())).min().asscalar()
            for n, p in net._collect_params_with_prefix().items()
        )
    except (mx.MXNetError, KeyError) as error:
        raise OSError(errno.ENOSPC, "the weights could not be written whole", str(path)) from error
    if not whole:
        raise OSError(errno.ENOSPC, "the weights could not be written whole", str(path))


def open_classifier(shop: Workshop, net: Any, input_shape: tuple[int, int, int], onnx_path: Path) -> Runner:
    """Make a trained classifier ready to give logits and class maps."""
    onnx_path.parent.mkdir(parents=True, exist_ok=True)  # a cache's folder, where nothing is cached
    return block_runner(_ready(net), input_shape, onnx_path, OUTPUTS, shop.engine, shop.devices)


def open_mapped(shop: Workshop, net: Any, input_shape: tuple[int, int, int], onnx_path: Path) -> Runner:
    """Make a trained classifier ready to give logits and the class maps that heatmaps are made of."""
    runner = open_classifier(shop, net, input_shape, onnx_path)
    return map_runner(shop, net) if shop.maps.by_gradient else runner


def map_runner(shop: Workshop, net: Any) -> Runner:
    """The same where the maps need a backward pass; leaves no file."""
    training = shop.devices.training
    return gradient_runner(net, shop.maps, training[0].number if training else None)


def export_classifier(net: Any, input_shape: tuple[int, int, int], onnx_path: Path) -> None:
    """Write a trained classifier that gives logits and class maps, as ONNX."""
    from heatcrop.nets.onnx_export import export_onnx  # where networks only run there is no `onnx`

    onnx_path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(_ready(net), input_shape, onnx_path, OUTPUTS)


def open_trained(
    shop: Workshop, build: Callable[[], Any], weights: Path, onnx_path: Path, mapped: bool = False
) -> Runner:
    """Open what :func:`save_classifier` and :func:`export_classifier` have left.

    Parameters
    ----------
    build : callable
        Makes a classifier of that kind, for the engine that needs one.
    mapped : bool
        With the class maps that heatmaps are made of, see :func:`open_mapped`.
    """

    def trained() -> Any:
        return _ready(load_classifier(build(), weights))

    if mapped and shop.maps.by_gradient:
        return map_runner(shop, trained())
    return exported_runner(trained, onnx_path, shop.engine, shop.devices)


def _ready(net: Any) -> Any:
    """A classifier that is done with training."""
    net.with_maps = True
    net.hybridize(False)
    return net


def predict(
    runner: Runner, inputs: Inputs, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield logits (B, C) averaged over test views, class maps (B, T, C, h, w), and the (B,) rows.

    Class maps come in the same forward pass as the logits.
    """

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, maps = runner(x.reshape(-1, *x.shape[2:]))
        shape = x.shape[:2]
        return logits.reshape(*shape, -1).mean(axis=1), maps.reshape(*shape, *maps.shape[1:])

    size = max(1, _INFERENCE_BATCH // inputs.n_views)
    for (logits, maps), index in inputs.testing(rows, size, work=run):
        yield logits, maps, index
