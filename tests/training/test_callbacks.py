"""How long a run will take."""

from training.callbacks import Forecast


def test_the_forecast_follows_the_clock(monkeypatch, capsys):
    clock = iter([100.0, 105.0])
    monkeypatch.setattr("training.callbacks.time.perf_counter", lambda: next(clock))
    forecast = Forecast(steps=133)
    for batch in range(20):
        forecast.on_train_batch_end(batch)
    # 10 steps took 5 seconds, 120 are left.
    assert capsys.readouterr().out == "\n0.50 s a step: about 1.0 minutes to go, and the validation after each epoch\n"
