"""The pictures that TensorBoard shows hold what their name says."""

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from spinet_tf.data.batches import Batch
from tests.training.conftest import PixelModel
from training.tensorboard import ValidationMaps


def pictures(folder):
    """(step, uint8 image) of every picture in the event files of a folder."""
    files = [str(path) for path in sorted(folder.glob("events.*"))]
    for record in tf.data.TFRecordDataset(files):
        event = Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.tag.startswith("image, probability, label")
            # The first two strings are width and height.
            for png in value.tensor.string_val[2:]:
                yield event.step, tf.io.decode_png(png).numpy()


def test_image_probability_and_label_lie_side_by_side(tmp_path):
    images = np.zeros((5, 2, 2, 3, 3), np.uint16)
    images[:, 0] = [300, 1500, 6000]  # B02, B03, B04; the second frame was not seen
    images[1, 1] = [900, 1500, 0]  # or only in part
    label = np.zeros((5, 8, 12, 1), np.uint8)
    label[0, :4] = 1
    batch = Batch(images, np.array([1, 2, 2, 2, 2], np.int32), label, np.ones(label.shape, np.float32))
    model = PixelModel(bands=3)
    model({"images": images / np.float32(10000), "frame_mask": np.ones((5, 2), bool)})
    model.set_weights([np.zeros((3, 1), np.float32), np.array([np.log(3)], np.float32)])
    maps = ValidationMaps(tmp_path, [batch], ("B02", "B03", "B04"), scale=4)
    maps.set_model(model)
    maps.on_epoch_end(6)
    shown = list(pictures(tmp_path))
    # Four patches of the five.
    assert [step for step, _ in shown] == [6] * 4
    first, second = shown[0][1], shown[1][1]
    assert first.shape == (8, 36, 3)
    colour, probability, truth = np.split(first, 3, axis=1)
    np.testing.assert_allclose(colour.reshape(-1, 3), [[255, 128, 26]] * 96, atol=1)  # red, green, blue; 0.3 is white
    np.testing.assert_allclose(probability, 0.75 * 255, atol=1)
    np.testing.assert_array_equal(truth[..., 0] == 255, label[0, ..., 0] == 1)
    # Means of the frames in which a band was seen.
    np.testing.assert_allclose(second[0, 0], [255, 128, 51], atol=1)
