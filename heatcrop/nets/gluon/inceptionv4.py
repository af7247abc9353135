"""Inception-v4 as a Gluon block, written from the paper.

Source: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning", AAAI 2017 (arXiv:1602.07261), figures 3 to 9. Every convolution is followed by
batch norm and ReLU; those that the figures mark V do not pad, all others keep the map's size.
"""

from __future__ import annotations

from typing import Any

from heatcrop.nets.gluon.engine import chain, mxnet

_EPSILON = 1e-3


def _conv(out: int, kernel: int | tuple[int, int] = 1, stride: int = 1, valid: bool = False) -> Any:
    """Build convolution, batch norm and ReLU; `kernel` is a side or (height, width)."""
    nn = mxnet().gluon.nn
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    pad = (0, 0) if valid else (height // 2, width // 2)
    return chain(
        nn.Conv2D(out, (height, width), stride, pad, use_bias=False),
        nn.BatchNorm(epsilon=_EPSILON),
        nn.Activation("relu"),
    )


def _concat(*branches: Any) -> Any:
    """Concatenate the channels of branches."""
    block = mxnet().gluon.contrib.nn.HybridConcurrent(axis=1)
    block.add(*branches)
    return block


def _halve() -> Any:
    return mxnet().gluon.nn.MaxPool2D(3, 2)


def _mean() -> Any:
    return mxnet().gluon.nn.AvgPool2D(3, 1, 1, count_include_pad=False)


def _inception_a() -> Any:
    """Figure 4: 384 channels, 35 x 35."""
    return _concat(
        chain(_mean(), _conv(96)),
        _conv(96),
        chain(_conv(64), _conv(96, 3)),
        chain(_conv(64), _conv(96, 3), _conv(96, 3)),
    )


def _inception_b() -> Any:
    """Figure 5: 1024 channels, 17 x 17."""
    return _concat(
        chain(_mean(), _conv(128)),
        _conv(384),
        chain(_conv(192), _conv(224, (1, 7)), _conv(256, (7, 1))),
        chain(_conv(192), _conv(192, (1, 7)), _conv(224, (7, 1)), _conv(224, (1, 7)), _conv(256, (7, 1))),
    )


def _inception_c() -> Any:
    """Figure 6: 1536 channels, 8 x 8."""
    return _concat(
        chain(_mean(), _conv(256)),
        _conv(256),
        chain(_conv(384), _concat(_conv(256, (1, 3)), _conv(256, (3, 1)))),
        chain(
            _conv(384),
            _conv(448, (1, 3)),
            _conv(512, (3, 1)),
            _concat(_conv(256, (3, 1)), _conv(256, (1, 3))),
        ),
    )


def inception_v4() -> Any:
    """Build the complete classifier of figure 9, uninitialised, with `features` and `output`.

    (N, 3, S, S) with S at least 75 gives logits (N, 1000); the last map is (N, 1536, 8, 8) for S = 299.
    """
    nn = mxnet().gluon.nn

    class InceptionV4(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__(prefix="inceptionv4_")
            with self.name_scope():
                self.features = chain(
                    # Figure 3: (N, 3, 299, 299) to (N, 384, 35, 35).
                    _conv(32, 3, 2, valid=True),
                    _conv(32, 3, valid=True),
                    _conv(64, 3),
                    _concat(_halve(), _conv(96, 3, 2, valid=True)),
                    _concat(
                        chain(_conv(64), _conv(96, 3, valid=True)),
                        chain(_conv(64), _conv(64, (7, 1)), _conv(64, (1, 7)), _conv(96, 3, valid=True)),
                    ),
                    _concat(_conv(192, 3, 2, valid=True), _halve()),
                    *(_inception_a() for _ in range(4)),
                    # Figure 7 with table 1's k, l, m, n = 192, 224, 256, 384: 35 x 35 to 17 x 17.
                    _concat(
                        _halve(),
                        _conv(384, 3, 2, valid=True),
                        chain(_conv(192), _conv(224, 3), _conv(256, 3, 2, valid=True)),
                    ),
                    *(_inception_b() for _ in range(7)),
                    # Figure 8: 17 x 17 to 8 x 8.
                    _concat(
                        _halve(),
                        chain(_conv(192), _conv(192, 3, 2, valid=True)),
                        chain(
                            _conv(256), _conv(256, (1, 7)), _conv(320, (7, 1)), _conv(320, 3, 2, valid=True)
                        ),
                    ),
                    *(_inception_c() for _ in range(3)),
                    nn.GlobalAvgPool2D(),
                    nn.Dropout(0.2),
                )
                self.output = nn.Dense(1000)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.output(self.features(x))

    return InceptionV4()
