"""The devices that a run is spread over."""

import contextlib
from collections.abc import Iterator

import keras

STRATEGIES = ("single", "mirrored")


@contextlib.contextmanager
def prepare_devices(strategy: str, deterministic: bool) -> Iterator[None]:
    """Set devices up before a model is built; within the context variables are made on all of them.

    On TensorFlow, "mirrored" is `tf.distribute.MirroredStrategy`; on JAX, `keras.distribution.DataParallel`. Memory of
    GPUs grows as it is needed.

    Args:
        strategy: one of `STRATEGIES`.
        deterministic: whether TensorFlow's operations give the same bits each time.
    """
    if keras.backend.backend() != "tensorflow":
        if strategy == "mirrored":
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        yield
        return
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        # Too late once a GPU is in use, as in a notebook: then it keeps the memory it has.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(device, True)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    with tf.distribute.MirroredStrategy().scope() if strategy == "mirrored" else contextlib.nullcontext():
        yield


def replicas() -> int:
    """How many devices share a batch."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return distribution.device_mesh.shape[0] if distribution else 1
