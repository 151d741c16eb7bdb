"""A small run on some devices, as a process of its own: `python -m tests.training.workers STRATEGY FOLDER FILE`."""

import contextlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from spinet_tf import SPInet
from spinet_tf.data.batches import Batch, Batches, PatchShape
from spinet_tf.errors import SpinetError
from spinet_tf.metrics import MatthewsCorrelation
from training.callbacks import Keeper
from training.checkpoint import Progress, load_checkpoint
from training.devices import adapt_to_replicas, prepare_devices

EPOCHS, STEPS = 2, 3


class RandomBatches(Batches):
    """Batches of random patches of 2 to 4 frames; `count` makes the last of them smaller."""

    def __init__(self, batch, seed, patches=None):
        self.batch, self.seed, self.patches = batch, seed, patches
        self.count = None if patches is None else -(-patches // batch)
        self.shape = PatchShape((4, 4, 2), (8, 8, 1))

    def __getitem__(self, step):
        rows = self.batch if self.patches is None else min(self.batch, self.patches - step * self.batch)
        rng = np.random.default_rng([self.seed, step])
        images = rng.integers(0, 9000, (rows, 4, *self.shape.images)).astype("uint16")
        lengths = rng.integers(2, 5, rows).astype("int32")
        label = rng.integers(0, 2, (rows, *self.shape.label)).astype("uint8")
        weight = rng.uniform(0, 2, label.shape).astype("float32")
        images, lengths, label, weight = (array[self._rows] for array in (images, lengths, label, weight))
        images = images[:, : lengths.max(initial=1)] * (np.arange(lengths.max(initial=1)) < lengths[:, None])[
            ..., None, None, None
        ].astype("uint16")
        return Batch(images, lengths, label, weight)

    def names(self, step):
        return [f"patch {row}" for row in range(self.batch)][self._rows]


class RecordingKeeper(Keeper):
    """Keeps what each step logged, and is asked to stop after some step."""

    stop_after = None

    def on_train_batch_end(self, batch, logs=None):
        self.steps_logged.append([logs["loss"], logs["mcc"]])
        super().on_train_batch_end(batch, logs)
        self.interrupted = self.interrupted or self.progress.step == self.stop_after


def make_keeper(folder, score, progress, metrics, validate, chief):
    """A keeper that validates after each epoch and never stops early."""
    keeper = RecordingKeeper(folder, progress, score, metrics, STEPS, validate, lambda step: [], 60, None, False, chief)
    keeper.steps_logged = []
    return keeper


def train(strategy, folder):
    """Train on some devices; the steps' losses and scores, the epochs' logs, and all weights."""
    keras.utils.set_random_seed(3)
    with prepare_devices(strategy, deterministic=False):
        score = MatthewsCorrelation(from_logits=True)
        model = SPInet(bands=2, scale=2, filters=8, tefa_blocks=1, bottleneck=2, fusion="plain")
        # Clipped always. The large epsilon keeps Adam from making much of what rounding does to small gradients.
        optimizer = keras.optimizers.Adam(0.01, global_clipnorm=0.05, epsilon=1e-2)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(optimizer, loss, weighted_metrics=[score], jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        adapt_to_replicas(model)
    training, validation = RandomBatches(4, seed=1), RandomBatches(4, seed=2, patches=5)
    if strategy == "single":
        from training.train import evaluate_batches, fit

        keeper = make_keeper(
            folder, score, Progress(), [], lambda: evaluate_batches(model, validation, [keeper]), chief=True
        )
        keeper.set_model(model)
        fit(model, training, EPOCHS, keeper, [])
    else:
        keeper = _train_with_workers(model, score, folder, training, validation)
    logs = [[row[name] for name in ("loss", "mcc", "val_loss", "val_mcc")] for row in keeper.progress.history]
    weights = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
    return {"steps": np.array(keeper.steps_logged), "logs": np.array(logs), "weights": weights}


def _train_with_workers(model, score, folder, training, validation):
    """Train until the second worker is asked to stop, then go on from the chief's checkpoint."""
    from training.multi_worker import Workers

    workers = Workers(model, score)
    keeper = make_keeper(folder, score, Progress(), [], lambda: workers.evaluate(validation, keeper), workers.chief)
    keeper.set_model(model)
    # A request to stop made to the last worker stops all of them after the next step.
    keeper.stop_after = 1 if workers.worker == workers.workers - 1 else None
    with contextlib.suppress(KeyboardInterrupt):
        workers.fit(training, EPOCHS, keeper, [])
    assert keeper.progress.step == 2
    # When all have come here, the chief has written.
    workers.evaluate(validation, keeper)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    logged = keeper.steps_logged
    if workers.workers > 1:
        # One that cannot see the chief's checkpoint begins anew, and is not left to train with the others.
        lost = make_keeper(folder, score, keeper.progress if workers.chief else Progress(), [], None, workers.chief)
        with pytest.raises(SpinetError, match="begin at the same step"):
            workers.fit(training, EPOCHS, lost, [])
    keeper = make_keeper(
        folder,
        score,
        *load_checkpoint(folder, model),
        lambda: workers.evaluate(validation, keeper),
        workers.chief,
    )
    keeper.set_model(model)
    keeper.steps_logged = logged
    workers.fit(training, EPOCHS, keeper, [])
    return keeper


if __name__ == "__main__":
    strategy, folder, name = sys.argv[1:]
    if strategy == "mirrored":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], 2 * [tf.config.LogicalDeviceConfiguration()]
        )
    np.savez(Path(folder) / name, **train(strategy, Path(folder)))
