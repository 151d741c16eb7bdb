"""The devices that a run is spread over."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import keras

from spinet_tf.errors import SpinetError

STRATEGIES = ("single", "mirrored", "multi_worker")

_EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'


@contextlib.contextmanager
def prepare_devices(strategy: str, deterministic: bool) -> Iterator[None]:
    """Set devices up before a model is built; within the context variables are made on all of them.

    On TensorFlow, "mirrored" is `tf.distribute.MirroredStrategy`; on JAX, `keras.distribution.DataParallel`. Memory of
    GPUs grows as it is needed.

    "multi_worker" is `tf.distribute.MultiWorkerMirroredStrategy`, for TensorFlow only. The same command runs on every
    machine, each with a TF_CONFIG of its own, which lists the addresses of all and says which of them it is. On the
    second of two machines:

        export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                           "task": {"type": "worker", "index": 1}}'

    TensorFlow connects the workers here and waits until all have come; nothing else may have used TensorFlow in the
    process before.

    With Keras 3.15 and TensorFlow 2.21 `model.fit` fails under both strategies: it averages the masks of the first
    batch over the replicas, and a last batch that leaves a replica without a patch ends the evaluation. So
    `training.multi_worker` has a loop of its own for them.

    Args:
        strategy: one of `STRATEGIES`.
        deterministic: whether TensorFlow's operations give the same bits each time.

    Raises:
        SpinetError: if "multi_worker" is asked for without a usable TF_CONFIG, too late, or not on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        if strategy == "multi_worker":
            raise SpinetError(
                f"Expected Keras' TensorFlow backend for several workers. Received: {keras.backend.backend()}. "
                "Set KERAS_BACKEND=tensorflow."
            )
        if strategy == "mirrored":
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        yield
        return
    import tensorflow as tf

    if strategy == "multi_worker":
        require_cluster(os.environ.get("TF_CONFIG"))
    for device in tf.config.list_physical_devices("GPU"):
        # Too late once a GPU is in use, as in a notebook: then it keeps the memory it has.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(device, True)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    with contextlib.ExitStack() as stack:
        if strategy == "mirrored":
            stack.enter_context(tf.distribute.MirroredStrategy().scope())
        elif strategy == "multi_worker":
            stack.enter_context(_connect().scope())
            stack.enter_context(tf.variable_creator_scope(_readable_alone))
        yield


def is_chief(strategy: str) -> bool:
    """Whether this process is the one that writes: the only one, or worker 0. Within `prepare_devices`."""
    return strategy != "multi_worker" or json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0


def replicas() -> int:
    """How many devices share a batch."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return distribution.device_mesh.shape[0] if distribution else 1


def adapt_to_replicas(model: keras.Model) -> None:
    """Make a model that was built and compiled for several replicas of TensorFlow train as on one device.

    Keras 3.15 clips, and accumulates, the gradients of each replica before it sums them; here the sums are clipped. On
    one device nothing changes.

    Args:
        model: built and compiled within `prepare_devices`, its optimizer built too.

    Example:
        with prepare_devices("mirrored", deterministic=False):
            model = build_model(config, data, score)
            adapt_to_replicas(model)
    """
    if keras.backend.backend() != "tensorflow" or model.distribute_strategy.num_replicas_in_sync == 1:
        return
    import tensorflow as tf

    optimizer = model.optimizer
    apply = optimizer.apply

    def apply_sums(gradients, trainable_variables=None):
        return apply(tf.distribute.get_replica_context().all_reduce("SUM", list(gradients)), trainable_variables)

    optimizer.apply = apply_sums
    optimizer._all_reduce_sum_gradients = lambda sums_and_variables: sums_and_variables


def require_cluster(text: str | None) -> None:
    """Raise a SpinetError unless a TF_CONFIG names workers, and this one among them."""

    def refuse(received: str) -> SpinetError:
        return SpinetError(
            f"Expected the environment variable TF_CONFIG to name all workers and which of them this is, such as "
            f"{_EXAMPLE}. Received: {received}. Set it on every machine, with an index of its own."
        )

    if not text:
        raise refuse("nothing")
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse(f"{text!r}, which is not JSON ({error})") from error
    workers, task = _get(settings, "cluster", "worker"), _get(settings, "task")
    if not isinstance(workers, list) or not workers or not all(isinstance(address, str) for address in workers):
        raise refuse(f"{text}, without a list cluster.worker of addresses")
    if set(settings["cluster"]) != {"worker"} or _get(task, "type") != "worker":
        raise refuse(f"{text}, with tasks of another type than worker")
    index = _get(task, "index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(workers):
        raise refuse(f"{text}, without a task.index from 0 to {len(workers) - 1}")


def _get(settings: Any, *keys: str) -> Any:
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _connect():
    import tensorflow as tf

    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise SpinetError(
            f"Cannot connect the workers: {error}. Start training in a process that has not used TensorFlow yet."
        ) from error


def _readable_alone(create, **kwargs):
    """Make a variable that one worker can read without the others.

    Keras lets metrics be summed over workers whenever they are read, for which all would have to read them at once.
    """
    import tensorflow as tf

    if kwargs.get("synchronization") == tf.VariableSynchronization.ON_READ:
        kwargs["synchronization"] = tf.VariableSynchronization.AUTO
    return create(**kwargs)
