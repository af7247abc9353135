"""Update a classifier's weights with MXNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heatcrop.nets.gluon.engine import loss_scaler, mixed_block, mxnet
from heatcrop.nets.updater import MASKED, Optimiser, Updater


class MxnetUpdater(Updater):
    """A Gluon classifier in training, see :func:`heatcrop.nets.gluon.classifier.build_classifier`.

    Each batch is split among the `contexts`, MXNet's devices; none for the CPU. Each normalises its share by
    the share's own statistics; batch norm's running statistics are averaged over the devices after each
    epoch, as Gluon does when it saves. `amp` is mixed precision, on GPUs only: float16 where that is safe,
    float32 weights and updates.
    """

    def __init__(
        self, net: Any, optimiser: Optimiser, contexts: Sequence[Any] = (), amp: bool = False
    ) -> None:
        mx = mxnet()
        self._contexts = list(contexts) or [mx.cpu()]
        self._params = net.collect_params()
        self._params.reset_ctx(self._contexts)
        self._forward = mixed_block(net) if amp else net  # (N, c, h, w) -> (N, C)
        self._forward.hybridize(static_alloc=True, static_shape=len(self._contexts) == 1)
        net.weight.lr_mult = net.bias.lr_mult = optimiser.head_rate
        name, momentum = ("nag", {"momentum": 0.9}) if optimiser.optimizer == "sgd" else ("adam", {})
        options = {"wd": optimiser.weight_decay, **momentum}
        # The trainer, not a key-value store, keeps the optimiser's state, so that a checkpoint can read it.
        self._trainer = mx.gluon.Trainer(self._params, name, options, update_on_kvstore=False)
        self._scaler = self._trainer._amp_loss_scaler = loss_scaler() if amp else None
        self.skips_overflow = amp
        self._loss_of = mx.gluon.loss.SoftmaxCELoss(sparse_label=False)  # (N, C), (N, C) -> (N,)
        self._accumulate = optimiser.accumulate
        self._trained = [p for p in self._params.values() if p.grad_req != "null"]
        for p in self._trained:
            p.grad_req = "write" if self._accumulate == 1 else "add"
        if len(self._contexts) > 1:
            # The first use copies the first device's values to all. They are equal now; after a forward pass
            # batch norm's statistics would be overwritten by the first device's.
            self._trainer.allreduce_grads()

    def begin_epoch(self, seed: int) -> None:
        mxnet().random.seed(seed)

    def update(self, x: np.ndarray, y: np.ndarray, rate: float) -> float:
        mx, scaler, contexts = mxnet(), self._scaler, self._contexts
        self._trainer.set_learning_rate(rate)
        scale, losses = scaler.loss_scale if scaler else 1.0, []
        masked = bool((y < 0).any())
        n_parts = max(1, min(self._accumulate, len(x) // len(contexts)))
        for part_x, part_y in zip(np.array_split(x, n_parts), np.array_split(y, n_parts), strict=True):
            part_losses = []
            with mx.autograd.record():
                for some_x, some_y in zip(self._scatter(part_x), self._scatter(part_y), strict=True):
                    logits = self._forward(some_x)  # (b, C)
                    if masked:
                        own = some_y >= 0
                        logits, some_y = logits + (own - 1) * MASKED, some_y * own
                    part_losses.append(self._loss_of(logits, some_y))  # (b,)
                heads = [loss * scale for loss in part_losses] if scaler else part_losses
            mx.autograd.backward(heads)
            losses += part_losses
        for p in self._trained:
            for context in contexts[len(x) :]:  # no row was left for these devices: they add nothing
                p.grad(context)[:] = 0
                p.data(context)._fresh_grad = True
        self._trainer.step(len(x) * scale)
        if self._accumulate > 1:
            for p in self._trained:
                p.zero_grad()
        return sum(float(loss.sum().asscalar()) for loss in losses)

    def end_epoch(self) -> None:
        if len(self._contexts) > 1:
            self.set_weights(self.weights())  # each device has gathered its own statistics

    def logits(self, x: np.ndarray) -> np.ndarray:
        return self._forward(mxnet().nd.array(x, ctx=self._contexts[0], dtype="float32")).asnumpy()

    def weights(self) -> list[Any]:
        """Copy the weights; of what each device gathers for itself (batch norm's statistics), the mean."""
        copies = []
        for p in self._params.values():
            values = p.list_data()
            if len(values) == 1 or p.grad_req != "null":
                copies.append(values[0].copy())
            else:
                first = values[0].context
                copies.append(sum(value.as_in_context(first) for value in values) / len(values))
        return copies

    def set_weights(self, weights: list[Any]) -> None:
        for p, value in zip(self._params.values(), weights, strict=True):
            p.set_data(value)

    def to_numpy(self, weights: list[Any]) -> list[np.ndarray]:
        return [value.asnumpy() for value in weights]

    def from_numpy(self, arrays: list[np.ndarray]) -> list[Any]:
        return [mxnet().nd.array(a, ctx=self._contexts[0], dtype=a.dtype) for a in arrays]

    def optimiser_state(self) -> list[np.ndarray]:
        """Read the updates of each parameter, (P,) int64, -1 for untrained; then the states.

        The order is the network's: names and the trainer's order depend on how many networks the process made
        before.
        """
        trainer = self._trainer
        states, counts = trainer._updaters[0].states, trainer._optimizer._index_update_count
        places = [trainer._param2idx[p.name] for p in self._params.values()]
        arrays = [np.array([counts.get(place, -1) for place in places], np.int64)]
        for place in places:
            arrays += [one.asnumpy() for one in _parts(states.get(place))]
        return arrays

    def set_optimiser_state(self, arrays: list[np.ndarray]) -> None:
        mx, trainer = mxnet(), self._trainer
        optimizer, rest = trainer._optimizer, iter(arrays[1:])
        for p, count in zip(self._params.values(), arrays[0].tolist(), strict=True):
            if count < 0:
                continue
            place = trainer._param2idx[p.name]
            optimizer.num_update = max(optimizer.num_update, count)
            fresh = _parts(optimizer.create_state_multi_precision(place, p.data(p.list_ctx()[0])))
            values = [next(rest) for _ in fresh]
            if any(a.shape != b.shape for a, b in zip(fresh, values, strict=True)):
                raise ValueError("the optimiser's state belongs to other parameters")
            for updater, context in zip(trainer._updaters, trainer._contexts, strict=True):
                optimizer._set_current_context(context.device_id)
                optimizer._index_update_count[place] = count
                state = tuple(mx.nd.array(v, ctx=context, dtype=v.dtype) for v in values)
                updater.states[place] = state if len(state) != 1 else state[0]
                updater.states_synced[place] = True

    def close(self) -> None:
        self._params.reset_ctx(mxnet().cpu())
        for p in self._trained:
            p.grad_req = "write"

    def _scatter(self, array: np.ndarray) -> list[Any]:
        """Split rows among the devices."""
        return mxnet().gluon.utils.split_and_load(array, self._contexts[: len(array)], even_split=False)


def _parts(state: Any) -> list[Any]:
    """List one parameter's state: Adam keeps two arrays, momentum one, untrained parameters none."""
    if state is None:
        return []
    return list(state) if isinstance(state, (list, tuple)) else [state]
