"""Training on several devices or machines at once: a loop of our own, for `model.fit` of Keras 3 fails there.

Every worker runs the same command, takes its rows of each batch, and ends each step with the same weights as all
others. What is logged, scored and decided comes from sums over all workers, so that it is the same everywhere; only the
chief, worker 0, writes. Nothing that all have to do together may hang on a clock or on one worker's own numbers.
"""

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spinet_tf.data.batches import Batches
from spinet_tf.data.pipeline import batch_dataset
from spinet_tf.errors import SpinetError
from training.callbacks import Forecast, Keeper


class Workers:
    """The workers of a run, as one of them sees them.

    Args:
        model: built, compiled and adapted to replicas under a `tf.distribute.MultiWorkerMirroredStrategy` or a
            `tf.distribute.MirroredStrategy`, its optimizer built too; see `training.devices`.
        score: the metric to report beside the loss, whose variables are sums.

    Attributes:
        worker: the number of this one; 0 is the chief.
        workers: how many there are.
        chief: whether this one writes.

    Example:
        with prepare_devices("multi_worker", deterministic=False):
            model = build_model(config, data, score)
            adapt_to_replicas(model)
        workers = Workers(model, score)
        keeper = Keeper(..., validate=lambda: workers.evaluate(data.validation, keeper), chief=workers.chief)
        workers.fit(data.training, config.epochs, keeper, [])
    """

    def __init__(self, model: keras.Model, score: keras.metrics.Metric):
        self.model, self.score = model, score
        self.strategy = model.distribute_strategy
        self.worker, self.workers = 0, 1
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = self.strategy.cluster_resolver
            self.worker, self.workers = resolver.task_id, resolver.cluster_spec().num_tasks("worker")
        self.chief = self.worker == 0
        self._sizes = [int(np.prod(variable.shape)) for variable in score.variables]
        self._local = self.strategy.num_replicas_in_sync // self.workers
        self._train: Any = None
        self._evaluate: Any = None

    def fit(self, batches: Batches, epochs: int, keeper: Keeper, callbacks: list[keras.callbacks.Callback]) -> None:
        """Train from where the keeper's progress stands to the end, with the hooks of `model.fit`.

        A request to stop on any worker stops all of them after the same step. One that ends otherwise makes the others
        fail once TensorFlow notices.

        Args:
            batches: the global batches, which all replicas share evenly.
            epochs: how many epochs the run has.
            keeper: of this worker.
            callbacks: further ones, for the chief only.

        Raises:
            SpinetError: if the workers begin at different steps, training diverges, or another worker is gone.
            KeyboardInterrupt: if this or another worker was asked to stop.
        """
        try:
            self._fit(batches, epochs, keeper, callbacks if self.chief else [])
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            raise SpinetError(
                f"Worker {self.worker} lost another worker, which has ended or cannot be reached "
                f"({error.message.splitlines()[0]}). Run the same command on all of them again."
            ) from error

    def evaluate(self, batches: Batches, keeper: Keeper) -> dict[str, float]:
        """Loss and score over all batches, each worker on its share, on one device; the same on all workers.

        The loss is the mean over patches, which for `SoftMCC` is that of the workers' shares of the batches.

        Args:
            batches: the global batches, an end to them.
            keeper: told of a request to stop on any worker.
        """
        share = batch_dataset(batches.shard(self.worker, self.workers))
        if self._evaluate is None:
            # Made once: a graph takes long to trace.
            self._evaluate = tf.function(self._evaluate_batch, input_signature=share.element_spec)
        # Of different lengths on different workers, so nothing in it may wait for the others.
        sums = np.zeros(2 + sum(self._sizes))
        for images, label, weight in share:
            # The last batch may leave nothing to this worker.
            if len(label):
                sums += self._evaluate(images, label, weight).numpy()
        everywhere = self._sum(np.append(sums, float(keeper.interrupted)))
        keeper.interrupted = keeper.interrupted or everywhere[-1] > 0
        return self._logs(everywhere[:-1])

    def _fit(self, batches, epochs, keeper, callbacks):
        model, progress, steps = self.model, keeper.progress, keeper.steps
        self._require_one_start(keeper)
        if progress.step == steps:
            keeper.finish_epoch()
        if progress.epoch >= epochs or keeper.finished:
            return
        start = progress.epoch * steps + progress.step
        elements = self._distributed(batches, start)
        if self._train is None:
            # Traced once, on all workers alike: TensorFlow numbers what they do together in the order of tracing.
            signature = [elements.element_spec, tf.TensorSpec((), tf.float64)]
            self._train = tf.function(self._train_batch, input_signature=signature)
        # Every worker would print the same.
        own = [keeper, Forecast(epochs * steps - start)] if self.chief else [keeper]
        hooks = keras.callbacks.CallbackList(
            [*own, *callbacks],
            add_history=True,
            add_progbar=self.chief,
            verbose=1 if sys.stdout.isatty() else 2,
            epochs=epochs,
            steps=steps,
            model=model,
        )
        iterator = iter(elements)
        mean = next(metric for metric in model.metrics if metric.name == "loss")
        model.stop_training = False
        hooks.on_train_begin()
        logs = {}
        while progress.epoch < epochs and not model.stop_training:
            model.reset_metrics()
            self.score.reset_state()
            hooks.on_epoch_begin(progress.epoch)
            for batch in range(steps - progress.step):
                hooks.on_train_batch_begin(batch)
                sums = self._train(next(iterator), tf.constant(keeper.interrupted, tf.float64)).numpy()
                keeper.interrupted = keeper.interrupted or sums[-1] > 0
                mean.update_state(sums[0] / sums[1], sample_weight=sums[1])
                for variable, added in zip(self.score.variables, self._states(sums[2:-1]), strict=True):
                    variable.assign_add(added)
                logs = {"loss": float(mean.result()), self.score.name: float(self.score.result())}
                hooks.on_train_batch_end(batch, logs)
            hooks.on_epoch_end(progress.epoch, logs)
        model.optimizer.finalize_variable_values(model.trainable_variables)
        hooks.on_train_end(logs)

    def _require_one_start(self, keeper):
        start = keeper.progress.epoch * keeper.steps + keeper.progress.step
        total, squares = self._sum([start, start**2])
        # Equal only where no start differs from the mean.
        if total**2 != self.workers * squares:
            raise SpinetError(
                f"Expected all {self.workers} workers to begin at the same step. Received: step {start} on worker "
                f"{self.worker}, another elsewhere. Give all of them one output folder that each of them can read."
            )

    def _distributed(self, batches, start):
        """Batches from a number on, a share for each replica."""
        replicas = self.strategy.num_replicas_in_sync
        first = self.worker * self._local
        shares = [batch_dataset(batches.shard(first + number, replicas), start) for number in range(self._local)]
        # TensorFlow deals one dataset out to the replicas of a worker in turn.
        turns = tf.data.Dataset.range(self._local).repeat()
        return self.strategy.distribute_datasets_from_function(
            lambda context: tf.data.Dataset.choose_from_datasets(shares, turns, stop_on_empty_dataset=True)
        )

    @tf.autograph.experimental.do_not_convert
    def _train_batch(self, elements, interrupted):
        sums = self.strategy.run(self._train_share, args=(elements, interrupted))
        # The same on all replicas.
        return self.strategy.experimental_local_results(sums)[0]

    def _train_share(self, element, interrupted):
        model, (inputs, label, weight) = self.model, element
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            # Keras divides a loss by the number of replicas, so that their sum is that of the global batch.
            loss = model.compute_loss(inputs, label, logits, weight, training=True)
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        replicas = self.strategy.num_replicas_in_sync
        sums = tf.concat([self._sums(loss * replicas, label, logits, weight), [interrupted]], 0)
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)

    @tf.autograph.experimental.do_not_convert
    def _evaluate_batch(self, inputs, label, weight):
        logits = self.model(inputs, training=False)
        return self._sums(self.model.compute_loss(inputs, label, logits, weight, training=False), label, logits, weight)

    def _sums(self, loss, label, logits, weight):
        """What can be added up over steps and workers: loss times patches, patches, and what the score sums."""
        patches = tf.cast(tf.shape(label)[0], tf.float64)
        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self.score.variables]
        states = self.score.stateless_update_state(zeros, label, logits, sample_weight=weight)
        flat = [tf.reshape(tf.cast(state, tf.float64), [-1]) for state in states]
        return tf.concat([[tf.cast(loss, tf.float64) * patches, patches], *flat], 0)

    def _states(self, sums):
        parts = np.split(sums, np.cumsum(self._sizes)[:-1])
        return [part.reshape(variable.shape) for part, variable in zip(parts, self.score.variables, strict=True)]

    def _logs(self, sums):
        score = self.score.stateless_result([tf.constant(state) for state in self._states(sums[2:])])
        return {"loss": float(sums[0] / sums[1]), self.score.name: float(score)}

    def _sum(self, values):
        """Sum of what each worker has, on all of them."""

        def total(values):
            # A tensor from outside has no device, without which TensorFlow does not know where the sum goes.
            values = tf.identity(values)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

        summed = tf.function(lambda values: self.strategy.run(total, args=(values,)), autograph=False)
        result = self.strategy.experimental_local_results(summed(tf.constant(values, tf.float64)))[0]
        # Each replica of a worker brought the same.
        return result.numpy() / self._local
