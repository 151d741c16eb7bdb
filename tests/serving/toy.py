"""Small SavedModels whose answers tell which of them has answered."""

import tensorflow as tf


class Toy(tf.Module):
    """Adds a number to what it gets; `types` gives back what it gets."""

    def __init__(self, offset):
        super().__init__()
        self.offset = tf.Variable(float(offset))

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    def add(self, x):
        return {"y": x + self.offset}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x"), tf.TensorSpec([None], tf.int32, "n")])
    def sums(self, x, n):
        tf.debugging.assert_positive(n, "Expected positive n.")
        return {"sum": tf.reduce_sum(x, 1), "n": n + 1}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], dtype, dtype.name)
            for dtype in (tf.float32, tf.float64, tf.int8, tf.uint8, tf.int32, tf.int64, tf.uint64, tf.bool, tf.string)
        ]
    )
    def types(self, float32, float64, int8, uint8, int32, int64, uint64, bool, string):
        given = {"float32": float32, "float64": float64, "int8": int8, "uint8": uint8, "int32": int32, "int64": int64}
        return {**given, "uint64": uint64, "bool": bool, "string": string, "string_bytes": string}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.uint16, "x")])
    def uint16(self, x):
        return {"y": x}


def write_toy(base_path, version, offset=None):
    """Write a version that adds `offset`, by default its number, as a watching server sees it: all at once."""
    toy = Toy(version if offset is None else offset)
    temporary = base_path / f".{version}"
    signatures = {"serving_default": toy.add, "sums": toy.sums, "types": toy.types, "uint16": toy.uint16}
    tf.saved_model.save(toy, str(temporary), signatures=signatures)
    temporary.rename(base_path / str(version))
    return base_path / str(version)
