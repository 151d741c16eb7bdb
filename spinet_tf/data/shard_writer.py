"""Writing shards: TFRecords of `tf.train.Example`, each with an index of its patches, without TensorFlow.

The two formats are a few lines each, and what is written here says at once at which byte an image begins. tf.data and
`tf.train.Example` read it; the tests hold both to it.

Reference:
    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details,
    https://protobuf.dev/programming-guides/encoding/,
    https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/example/feature.proto
"""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import google_crc32c
import numpy as np

# Numbers of the fields in feature.proto.
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3


class StoredPatch(NamedTuple):
    """One window of a scene as a shard keeps it; `spinet_tf.data.shards` says what the example is made of.

    Attributes:
        images: uint16 (time, height, width, bands).
        clear: int (time,), the number of clear pixels of each frame.
        dates: int64 (time,), seconds since 1970; empty where they are unknown.
        label: uint8 (scale * height, scale * width), 1, 0 or 255.
        weight: float32 of the same shape.
        scene: name of the scene.
        row: first row of the window in the scene's images.
        column: first column.
    """

    images: np.ndarray
    clear: np.ndarray
    dates: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    scene: str
    row: int
    column: int


def write_shard(shard: Path, index: Path, patches: Iterable[StoredPatch]) -> dict[str, int]:
    """Write patches as one TFRecord file and its index.

    Args:
        shard: the TFRecord file.
        index: the .npz file, see `spinet_tf.data.shards.read_index`.
        patches: at least one; taken one at a time.

    Returns:
        How many `patches` and `frames` were written, and how many label pixels are `known` and `cultivated`.

    Raises:
        OSError: if a file cannot be written.

    Example:
        write_shard(Path("a.tfrecord"), Path("a.npz"), patches)
    """
    rows: list[dict[str, int]] = []
    clear: list[np.ndarray] = []
    with shard.open("wb") as file:
        for patch in patches:
            example, offsets = encode_example(_features(patch))
            # Of what TFRecord puts around a record, its length and the length's checksum come before it.
            start = file.tell() + 12
            write_record(file, example)
            rows.append(
                {
                    **{key: start + offsets[key] for key in ("images", "label", "weight")},
                    "frames": len(patch.images),
                    "row": patch.row,
                    "column": patch.column,
                    "known": int(np.sum(patch.label != 255)),
                    "cultivated": int(np.sum(patch.label == 1)),
                }
            )
            clear.append(patch.clear)
    arrays = {key: np.array([row[key] for row in rows], "int64") for key in rows[0]}
    arrays["clear"] = np.zeros((len(clear), max(map(len, clear))), "int32")
    for row, counts in zip(arrays["clear"], clear, strict=True):
        row[: len(counts)] = counts
    with index.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return {"patches": len(rows), **{key: int(arrays[key].sum()) for key in ("frames", "known", "cultivated")}}


def write_record(file: IO[bytes], data: bytes) -> None:
    """Append one record to a TFRecord file."""
    length = struct.pack("<Q", len(data))
    file.writelines((length, _masked_crc(length), data, _masked_crc(data)))


def encode_example(features: Mapping[str, bytes | np.ndarray]) -> tuple[bytes, dict[str, int]]:
    """Serialise a `tf.train.Example`.

    Args:
        features: by name, bytes, or numbers as a flat array of floats or integers.

    Returns:
        The message, and for each feature of bytes where in the message they begin.

    Example:
        message, offsets = encode_example({"images": images.tobytes(), "row": np.array([32])})
        message[offsets["images"] :][: images.nbytes] == images.tobytes()
    """
    entries, ends = [], {}
    length = 0
    for name, value in features.items():
        if isinstance(value, bytes):
            kind, payload = _BYTES, value
        elif value.dtype.kind == "f":
            kind, payload = _FLOATS, value.astype("<f4").tobytes()
        else:
            kind, payload = _INTEGERS, b"".join(_varint(int(number) % 2**64) for number in value)
        # Features.feature is a map, an entry of which has the key as field 1 and the value as field 2.
        entry = _field(1, _field(1, name.encode()) + _field(2, _field(kind, _field(1, payload))))
        entries.append(entry)
        length += len(entry)
        if kind == _BYTES:
            ends[name] = length - len(value)
    message = _field(1, b"".join(entries))
    return message, {name: len(message) - length + end for name, end in ends.items()}


def _features(patch: StoredPatch) -> dict[str, bytes | np.ndarray]:
    return {
        "images": patch.images.astype("<u2", copy=False).tobytes(),
        "shape": np.array(patch.images.shape),
        "clear": patch.clear / np.prod(patch.images.shape[1:3]),
        "date": patch.dates,
        "label": patch.label.astype("uint8", copy=False).tobytes(),
        "weight": patch.weight.astype("<f4", copy=False).tobytes(),
        "scene": patch.scene.encode(),
        "row": np.array([patch.row]),
        "column": np.array([patch.column]),
    }


def _field(number: int, payload: bytes) -> bytes:
    """A field of a protocol buffer that has a length: a message, bytes, or packed numbers."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    """Seven bits to a byte, lowest first; the eighth says that more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)
