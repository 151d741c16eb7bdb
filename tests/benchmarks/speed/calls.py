"""Functions of Keras' operations as the backend runs them at its fastest."""

from collections.abc import Callable

import keras


def compiled(function: Callable, *arguments) -> Callable[[], object]:
    """A call of `function` with `arguments`, in one graph, that returns when its result is complete."""
    if keras.backend.backend() == "jax":
        import jax

        there = jax.device_put(arguments)
        jitted = jax.jit(function)
        return lambda: jax.block_until_ready(jitted(*there))
    import tensorflow as tf

    # jit_compile was slower wherever it was tried on a CPU.
    graph = tf.function(function, jit_compile=False)
    tensors = tf.nest.map_structure(tf.convert_to_tensor, arguments)
    return lambda: graph(*tensors)
