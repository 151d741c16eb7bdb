"""Scenes by tiles: the map that spinet_tf makes in process, whatever happens on the way."""

import asyncio
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import grpc
import numpy as np
import pytest
import xarray as xr
from spinet_client import AsyncClient, Client, ServingError
from spinet_client.scene import SceneMap

import spinet_tf
from spinet_tf.tiling import FrameChoice, Mosaic, Series, Tiling, cut_request
from tests.serving.client import fake as fake_module
from tests.serving.client.fake import BANDS, SCALE, FakeServer, MeanEngine, SharingEngine, with_means

SMALL = {"tile": 8, "overlap": 4, "means": "tile"}


@pytest.fixture(scope="module")
def scene():
    """Images and valid of a scene with clouds, a corner without data, and one frame without anything."""
    rng = np.random.default_rng(5)
    images = rng.integers(1, 10000, (6, 19, 23, len(BANDS)), np.uint16)
    valid = rng.random((6, 1, 23)) < np.linspace(0.3, 1, 6)[:, None, None]
    images[4] = 0
    images[:, :12, :12] = 0
    valid = valid.repeat(19, axis=1) & images.any(axis=3)
    return images, valid


def in_process(images, valid, tiling, choice):
    engine, mosaic = MeanEngine(), Mosaic(tiling)
    for tile in tiling.tiles:
        request = cut_request(Series.whole(images, valid), tiling, tile, choice)
        if request is not None:
            answer = engine.predict(request.images[None], np.array([len(request.images)], np.int32))
            mosaic.add(tile, answer[0], request.counts)
    return mosaic.probability()


# === The map ===


@pytest.mark.parametrize(
    ("options", "tiling", "choice"),
    [
        ({}, Tiling.spread(19, 23, SCALE), FrameChoice()),
        (SMALL, Tiling.spread(19, 23, SCALE, 8, 4), FrameChoice()),
        ({**SMALL, "max_cloud": 0.5}, Tiling.spread(19, 23, SCALE, 8, 4), FrameChoice(max_cloud=0.5)),
        (
            {**SMALL, "frames": "clearest", "count": 2},
            Tiling.spread(19, 23, SCALE, 8, 4),
            FrameChoice("clearest", 2),
        ),
        ({"tile": 10, "means": "tile"}, Tiling.spread(19, 23, SCALE, 10, 2), FrameChoice()),
        ({"seam_free": True}, Tiling.anchored(19, 23, SCALE), FrameChoice()),
        ({"seam_free": 8}, Tiling.anchored(19, 23, SCALE, 8), FrameChoice()),
        ({"seam_free": True, "origin": (7, -9)}, Tiling.anchored(19, 23, SCALE, origin=(7, -9)), FrameChoice()),
    ],
)
def test_maps_are_those_made_in_process(fake, ask, scene, options, tiling, choice):
    probability = ask(fake.address, "predict_scene", *scene, **options)
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(probability, in_process(*scene, tiling, choice))
    assert np.isnan(probability[: 12 * SCALE, : 12 * SCALE]).all()
    assert np.isfinite(probability).sum() == probability.size - (12 * SCALE) ** 2


def test_options_change_the_map(fake, scene):
    with Client(fake.address) as client:
        plain = client.predict_scene(*scene, **SMALL)
        for option in ({"max_cloud": 0.6}, {"frames": "clearest", "count": 1}, {"seam_free": True}):
            assert not np.array_equal(client.predict_scene(*scene, **{**SMALL, **option}), plain, equal_nan=True)
        client.predict_scene(*scene, **{**SMALL, "tile": 12})
    sizes = [request.inputs["images"].tensor_shape.dim[2].size for request in (fake.requests[1], fake.requests[-1])]
    assert sizes == [Tiling.spread(19, 23, SCALE, tile, 4).rows.size for tile in (8, 12)]
    assert sizes[0] < sizes[1]


def test_all_that_holds_data_is_valid_unless_said(fake, ask, scene):
    images, _ = scene
    np.testing.assert_array_equal(
        ask(fake.address, "predict_scene", images, **SMALL),
        ask(fake.address, "predict_scene", images, images.any(axis=3), **SMALL),
    )


def test_tiles_without_data_are_not_asked_for(fake, ask):
    progress = []
    images = np.zeros((2, 20, 20, len(BANDS)), np.uint16)
    probability = ask(fake.address, "predict_scene", images, **SMALL, progress=lambda *done: progress.append(done))
    assert np.isnan(probability).all()
    assert [request.model_spec.signature_name for request in fake.requests] == ["describe"]
    assert progress == [(number, len(progress)) for number in range(1, len(progress) + 1)]


def test_progress_is_told_tile_by_tile(fake, ask, scene):
    progress = []
    ask(fake.address, "predict_scene", *scene, **SMALL, progress=lambda *done: progress.append(done))
    tiles = len(Tiling.spread(19, 23, SCALE, 8, 4).tiles)
    assert progress == [(number, tiles) for number in range(1, tiles + 1)]


def test_a_map_of_two_versions_is_warned_of(fake, ask, scene):
    fake.versions = [7, 7, 7, 8]
    with pytest.warns(UserWarning, match="made by the versions 7, 8 of the model"):
        ask(fake.address, "predict_scene", *scene, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(fake.address, "predict_scene", *scene, **SMALL)


@pytest.mark.parametrize("version", [{"label": "stable"}, {"version": 3}])
def test_every_tile_is_asked_of_the_same_model_with_the_token(fake, ask, scene, version):
    ask(fake.address, "predict_scene", *scene, **SMALL, client={"model": "fields", "token": "secret", **version})
    for request in fake.requests:
        assert request.model_spec.name == "fields"
        assert request.model_spec.version_label == version.get("label", "")
        assert request.model_spec.version.value == version.get("version", 0)
    assert {metadata.get("authorization") for metadata in fake.metadata} == {"Bearer secret"}


def test_tiles_share_the_means_of_the_scene_if_the_model_can(fake, ask, scene):
    """As in process; the sample is asked for first, and no tile before it."""
    fake.signatures = with_means(fake.signatures)
    images, valid = scene
    cube = xr.Dataset(
        {
            "bands": (("time", "y", "x", "band"), images),
            "valid": (("time", "y", "x"), valid),
        },
        coords={"band": list(BANDS)},
    )
    expected = spinet_tf.predict_scene(SharingEngine(), cube, tile=8, overlap=4)
    assert expected.attrs["means"] == "scene"
    probability = ask(fake.address, "predict_scene", *scene, tile=8, overlap=4)
    np.testing.assert_array_equal(probability, expected["probability"])
    asked = [request.model_spec.signature_name for request in fake.requests if hasattr(request, "inputs")]
    sample = asked.count("means")
    assert 2 <= sample <= len(Tiling.spread(19, 23, SCALE, 8, 4).for_means().tiles)
    assert asked == ["describe", *["means"] * sample, *["with_means"] * (len(asked) - sample - 1)]
    own = ask(fake.address, "predict_scene", *scene, **SMALL)
    assert np.nanmax(np.abs(own - probability)) > 0.05


def test_means_can_be_asked_for(fake, ask, scene):
    images = scene[0][None, :, 12:]
    means = ask(fake.address, "find_means", images)
    np.testing.assert_array_equal(means.frames[0, :, 0], images.mean(axis=(0, 2, 3, 4)).astype(np.float32))
    answer = ask(fake.address, "predict_with_means", images, None, means)
    num_frames = np.array([images.shape[1]], np.int32)
    np.testing.assert_array_equal(answer, SharingEngine().predict_with_means(images, num_frames, means))


# === Bounded work ===


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_requests_are_under_way_and_no_more(fake, ask, scene, concurrency):
    with Client(fake.address) as client:
        # Answered first: the scale, which the asynchronous client asks for each scene.
        expected = client.predict_scene(*scene, **SMALL)
    fake.requests.clear()
    fake.most = 0

    def release():
        # All may go on once the greatest number is there; a larger one would be seen at any later time.
        fake.wait_for(1 + concurrency)
        fake.hold.set()

    fake.hold.clear()
    releasing = threading.Thread(target=release)
    releasing.start()
    probability = ask(fake.address, "predict_scene", *scene, **SMALL, concurrency=concurrency)
    releasing.join()
    assert fake.most == concurrency
    np.testing.assert_array_equal(probability, expected)


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_work_is_started_ahead_and_yielded_in_order(concurrency):
    started, unfinished = [], []
    scene = SceneMap(np.ones((1, 4, 28, 3), np.uint16), None, SCALE, concurrency, None, tile=4, overlap=0)
    for number, tile in enumerate(scene.ahead(lambda tile: started.append(tile) or tile)):
        unfinished.append(len(started) - number)
        assert tile == scene.tiles[number]
    assert started == scene.tiles
    assert len(started) == 7
    assert max(unfinished) == concurrency


# === Failures ===


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_that_is_gone_or_full_for_a_while_costs_nothing(fake, ask, hasty, scene, code):
    expected = ask(fake.address, "predict_scene", *scene, **SMALL)
    with Client(fake.address) as client:
        assert client.scale == SCALE
    fake.failures = [None, *[(code, "for a while")] * 40]
    np.testing.assert_array_equal(ask(fake.address, "predict_scene", *scene, **SMALL, client={"retries": 0}), expected)
    assert not fake.failures


def test_a_refused_tile_ends_the_scene(fake, ask, scene):
    fake.failures = [None, None, None, (grpc.StatusCode.INVALID_ARGUMENT, "too small")]
    before = threading.active_count()
    with pytest.raises(ServingError, match=r"refused the request \(INVALID_ARGUMENT\): too small$"):
        ask(fake.address, "predict_scene", *scene, **SMALL, concurrency=2)
    assert len(fake.requests) <= 6
    assert threading.active_count() <= before + 2  # gRPC's own, of the asynchronous client


def test_the_end_of_a_scene_ends_what_is_under_way(fake, ask, scene):
    """A refusal is told at once, though another request is held and a third one waits to be repeated."""
    answer = fake.outputs
    count = iter(range(1000))

    def outputs(signature, inputs):
        if next(count) == 2:
            fake.hold.clear()
        return answer(signature, inputs)

    def stop(done, total):
        raise KeyboardInterrupt

    fake.outputs = outputs
    with pytest.raises(KeyboardInterrupt):
        ask(fake.address, "predict_scene", *scene, **SMALL, progress=stop, client={"timeout": 600})


def test_an_asynchronous_scene_can_be_cancelled(fake, scene):
    async def run():
        async with AsyncClient(fake.address) as client:
            task = asyncio.create_task(client.predict_scene(*scene, **SMALL))
            await asyncio.to_thread(fake.wait_for, 1)
            fake.hold.clear()
            await asyncio.to_thread(fake.wait_for, 3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (np.zeros((2, 3, 4, 3), np.int32),),
            {},
            r"uint16 digital numbers of shape \(time, h.*int32 of shape \(2, 3, 4",
        ),
        ((np.zeros((3, 4, 3), np.uint16),), {}, r"uint16 of shape \(3, 4, 3\)"),
        ((np.zeros((0, 3, 4, 3), np.uint16),), {}, r"uint16 of shape \(0, 3, 4, 3\)"),
        ((np.zeros((2, 3, 4, 3), np.uint16), np.ones((2, 3, 4), np.uint8)), {}, "valid as bool.*Received: uint8"),
        ((np.zeros((2, 3, 4, 3), np.uint16), np.ones((2, 3), bool)), {}, r"shape \(2, 3, 4\), as images have"),
        ((np.ones((2, 3, 4, 3), np.uint16),), {"concurrency": 0}, r"concurrency of 1 or more\. Received: 0"),
        ((np.ones((2, 3, 4, 3), np.uint16),), {"tile": 4, "overlap": 4}, "tile size above the overlap"),
        ((np.ones((2, 3, 4, 3), np.uint16),), {"frames": "random"}, "Expected a method out of all, clearest"),
    ],
)
def test_what_cannot_be_used_is_refused(fake, ask, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        ask(fake.address, "predict_scene", *arguments, **options)


# === A server that dies ===


def test_a_server_stopped_and_started_mid_scene(ask, scene):
    servers = [FakeServer()]

    def restart(done, total):
        if done in (3, 5, 8, 9):
            servers[-1].stop()
            servers.append(FakeServer(servers[0].port))

    probability = ask(servers[0].address, "predict_scene", *scene, **SMALL, progress=restart)
    servers[-1].stop()
    assert len(servers) == 5
    np.testing.assert_array_equal(probability, in_process(*scene, Tiling.spread(19, 23, SCALE, 8, 4), FrameChoice()))


@pytest.mark.slow
def test_a_server_killed_and_started_mid_scene(ask, scene):
    def start(port):
        command = [sys.executable, Path(fake_module.__file__), str(port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return process, int(process.stdout.readline())

    processes = []

    def kill(done, total):
        if done in (2, 5):
            processes[-1].kill()
            processes[-1].wait()
            processes.append(start(port)[0])

    process, port = start(0)
    processes.append(process)
    try:
        probability = ask(f"127.0.0.1:{port}", "predict_scene", *scene, **SMALL, progress=kill)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert len(processes) == 3
    np.testing.assert_array_equal(probability, in_process(*scene, Tiling.spread(19, 23, SCALE, 8, 4), FrameChoice()))
