"""Scenes in, patches out: readers, the simulator and the tf.data pipeline.

Names that need TensorFlow are imported when first used, so reading scenes does not wait for it.
"""

import importlib

from spinet_tf.data import ai4eo
from spinet_tf.data.scene import clear_fraction, find_scenes, open_scene, require_valid_frames, select_bands
from spinet_tf.tiling.frames import choose_frames

_LAZY = {
    "BatchSequence": "spinet_tf.data.sequence",
    "GridBatches": "spinet_tf.data.shard_batches",
    "Sampling": "spinet_tf.data.sampling",
    "SceneBatches": "spinet_tf.data.scene_batches",
    "SceneGrid": "spinet_tf.data.scene_batches",
    "ShardBatches": "spinet_tf.data.shard_batches",
    "Shards": "spinet_tf.data.shards",
    "batch_dataset": "spinet_tf.data.pipeline",
    "simulate_eopatch": "spinet_tf.data.simulate",
    "synthesize": "spinet_tf.data.simulate",
    "ragged_batch": "spinet_tf.data.pipeline",
    "ragged_to_inputs": "spinet_tf.data.pipeline",
    "spinet_errors": "spinet_tf.data.pipeline",
    "training_dataset": "spinet_tf.data.pipeline",
    "validation_dataset": "spinet_tf.data.pipeline",
}

__all__ = [
    "ai4eo",
    "choose_frames",
    "clear_fraction",
    "find_scenes",
    "open_scene",
    "require_valid_frames",
    "select_bands",
    *_LAZY,
]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
