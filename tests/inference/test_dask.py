"""On a dask cluster, the map is the one of a single process."""

import os
import signal
from types import SimpleNamespace

import pytest
import xarray as xr
from distributed import Client, KilledWorker, LocalCluster

from spinet_tf.errors import SpinetError
from spinet_tf.inference import cluster as cluster_module
from spinet_tf.inference import groups, predict_scene
from tests.inference.scenes import MeanEngine, TileMeanEngine
from tests.inference.test_blocks import broken_scene, patchy_scene
from tests.inference.test_restart import contents

OPTIONS = {"tile": 16, "overlap": 4, "valid_frames": True, "threshold": 0.5}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(groups, "SIDE", 20)


@pytest.fixture(scope="module")
def threads():
    """Two workers in this process."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster


class OpenedEngine(TileMeanEngine):
    """Notes in a folder each time it comes out of a pickle."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def __reduce__(self):
        return _opened, (self.folder,)


def _opened(folder):
    with open(folder / "opened", "a", encoding="utf-8") as file:
        print(os.getpid(), file=file)
    return OpenedEngine(folder)


class MortalEngine(OpenedEngine):
    """The first worker that uses it dies."""

    def predict(self, images, num_frames):
        try:
            (self.folder / "died").touch(exist_ok=False)
        except FileExistsError:
            return super().predict(images, num_frames)
        os.kill(os.getpid(), signal.SIGKILL)

    def __reduce__(self):
        return MortalEngine, (self.folder,)


def test_the_map_and_its_files_are_those_of_one_process(threads, tmp_path):
    scene = patchy_scene()
    (tmp_path / "here").mkdir()
    alone = predict_scene(OpenedEngine(tmp_path), scene, tmp_path / "here" / "map.tif", **OPTIONS)
    engine = OpenedEngine(tmp_path)
    together = predict_scene(
        engine, scene.chunk(time=1, x=15), tmp_path / "there" / "map.tif", dask=threads.scheduler_address, **OPTIONS
    )
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert {**together.attrs, "files": []} == {**alone.attrs, "files": []}
    # Both workers are in this process.
    assert (tmp_path / "opened").read_text() == f"{os.getpid()}\n"
    assert len(engine.asked) == 1  # by the plan


def test_a_client_stays_open_and_few_blocks_are_under_way(threads, monkeypatch):
    scene = patchy_scene()
    submitted, under_way = set(), []
    with Client(threads.scheduler_address, set_as_default=False) as client:

        def counted(*args, **kwargs):
            future = Client.submit(client, *args, **kwargs)
            submitted.add(future.key)
            under_way.append(len(submitted & set(client.futures)))
            return future

        monkeypatch.setattr(client, "submit", counted)
        result = predict_scene(TileMeanEngine(), scene, dask=client, **OPTIONS)
        assert client.status == "running"
    xr.testing.assert_identical(result, predict_scene(TileMeanEngine(), scene, **OPTIONS))
    assert len(submitted) == result.attrs["blocks"] > 20
    # Two for each worker, and one that is just being let go of.
    assert max(under_way) in (4, 5)


def test_blocks_that_cannot_be_read_stop_no_others(threads, tmp_path):
    with pytest.raises(SpinetError, match=r"hand-made, rows.*the file is truncated. 10 of 25.*other 15 are kept"):
        predict_scene(
            MeanEngine(), broken_scene({30}), tmp_path / "map.tif", dask=threads.scheduler_address, tile=16, overlap=2
        )


def test_an_engine_that_fails_ends_it(threads):
    class Gone(MeanEngine):
        def predict(self, images, num_frames):
            raise ValueError("No server answers.")

    with pytest.raises(SpinetError, match=r"^No server answers\.$"):
        predict_scene(Gone(), patchy_scene(), dask=threads.scheduler_address, tile=16)


def test_blocks_that_every_worker_dies_of_stop_no_others(threads):
    class Deadly(MeanEngine):
        def predict(self, images, num_frames):
            if images[0, 0, 0, 0, 0] % 4 == 0:
                raise KilledWorker("predict", SimpleNamespace(address="inproc://worker"), 3)
            return super().predict(images, num_frames)

    with pytest.raises(SpinetError, match=r"hand-made, rows .*: all workers that tried it died.* 15 of 36 blocks"):
        predict_scene(Deadly(), patchy_scene(), dask=threads.scheduler_address, tile=16, max_cloud=0.7)


def test_a_cluster_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(cluster_module, "PATIENCE", 0.2)
    for address in ("tcp://127.0.0.1:9", "nonsense://127.0.0.1:9"):
        with pytest.raises(SpinetError, match=f"address of a dask scheduler.*None answers at {address}"):
            predict_scene(MeanEngine(), patchy_scene(), dask=address)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(SpinetError, match=r"has no worker\. Start some"),
    ):
        predict_scene(MeanEngine(), patchy_scene(), dask=empty.scheduler_address)


@pytest.mark.slow
def test_what_a_worker_dies_of_is_tried_on_another(tmp_path):
    scene = patchy_scene()
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "env": {"KERAS_BACKEND": "jax"}}
    with LocalCluster(**options) as cluster:
        result = predict_scene(MortalEngine(tmp_path), scene, dask=cluster.scheduler_address, **OPTIONS)
    assert (tmp_path / "died").exists()
    xr.testing.assert_identical(
        result.assign_attrs(engine=""), predict_scene(TileMeanEngine(), scene, **OPTIONS).assign_attrs(engine="")
    )
