"""What is saved is whole, and the best is the best."""

import keras
import numpy as np
import pytest

from training.callbacks import Forecast, SaveBestAndLast


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    return model


def test_best_and_last_are_saved(model, tmp_path):
    saver = SaveBestAndLast(tmp_path)
    saver.set_model(model)
    for epoch, score in enumerate([0.0, 0.4, 0.2, 0.4]):
        model.set_weights([np.full((1, 1), float(epoch))])
        saver.on_epoch_end(epoch, {"val_mcc": score})
    weights = [
        float(keras.models.load_model(tmp_path / f"{name}.keras").get_weights()[0][0, 0]) for name in ("best", "last")
    ]
    # Of equal scores the earlier is kept.
    assert weights == [1, 3]
    assert (saver.best, saver.best_epoch) == (0.4, 2)


def test_a_save_that_fails_leaves_the_earlier_file(model, tmp_path, monkeypatch):
    saver = SaveBestAndLast(tmp_path)
    saver.set_model(model)
    saver.save("last.keras")
    before = (tmp_path / "last.keras").read_bytes()

    def broken(path):
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(model, "save", broken)
    with pytest.raises(OSError, match="disk is full"):
        saver.save("last.keras")
    assert (tmp_path / "last.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.keras"]


def test_the_forecast_follows_the_clock(monkeypatch, capsys):
    clock = iter([100.0, 105.0])
    monkeypatch.setattr("training.callbacks.time.perf_counter", lambda: next(clock))
    forecast = Forecast(steps=133)
    for batch in range(20):
        forecast.on_train_batch_end(batch)
    # 10 steps took 5 seconds, 120 are left.
    assert capsys.readouterr().out == "\n0.50 s a step: about 1.0 minutes to go, and the validation after each epoch\n"
