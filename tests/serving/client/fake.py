"""A server that answers in NumPy and fails on request; a program too, so that it can be killed.

It is made of the client's own messages, which other tests compare with the official ones, and starts at once.
"""

import sys
import threading
from concurrent import futures

import grpc
import numpy as np
from spinet_client.messages import GET_MODEL_METADATA, GET_MODEL_STATUS, PREDICT, message_class
from spinet_client.tensors import fill_tensor, read_tensor
from spinet_client.tiling import Means

BANDS = ("B02", "B04", "B08")
SCALE = 2
VERSION = 7
AVAILABLE = {"version": VERSION, "state": "AVAILABLE"}


class MeanEngine:
    """Answers with the mean reflectance of the real frames and all bands, each pixel repeated."""

    band_names = BANDS
    scale = SCALE

    def predict(self, images, num_frames):
        real = np.arange(images.shape[1]) < np.asarray(num_frames)[:, None]
        total = (images.sum(axis=4, dtype=np.int64) * real[:, :, None, None]).sum(axis=1)
        count = (num_frames * np.int64(images.shape[4] * 10000))[:, None, None]
        means = (total / count).astype(np.float32)
        return means.repeat(SCALE, axis=1).repeat(SCALE, axis=2)[..., None]


class SharingEngine(MeanEngine):
    """The same divided by means over the whole of each input, which may come from elsewhere."""

    takes_means = True

    def find_means(self, images, num_frames):
        frames = images.mean(axis=(2, 3, 4), dtype=np.float64)[..., None]
        blocks = [sample[:count].mean(axis=0)[None] for sample, count in zip(frames, num_frames, strict=True)]
        return Means(np.array(blocks, np.float32), frames.astype(np.float32))

    def predict_with_means(self, images, num_frames, means):
        frames = np.stack([sample[:count].mean() for sample, count in zip(means.frames, num_frames, strict=True)])
        return self.predict(images, num_frames) * (frames / (frames + means.blocks[:, 0, 0]))[:, None, None, None]


class FakeServer:
    """Offers one model, "spinet".

    Args:
        port: 0 for any that is free.
        credentials: of an encrypted connection.
        options: of gRPC.

    Attributes:
        address: "host:port".
        failures: (code, details) with which the next requests fail, one each; None for one that does not.
        requests: all that came, those that failed too.
        metadata: what came with them.
        arrived: notified of each.
        hold: requests for probabilities wait for it before they are answered.
        most: the greatest number of requests that were there at once.
        states: of each version; a list for each time that is asked, of which the last one stays.
        signatures: the bytes of a SignatureDefMap, without means.
        versions: that say they answer, one for each request; the last one stays.
    """

    def __init__(self, port=0, credentials=None, options=()):
        self.failures, self.requests, self.metadata = [], [], []
        self.arrived = threading.Condition()
        self.hold = threading.Event()
        self.hold.set()
        self.overdue = False
        self.most = self._present = 0
        self.states = [[AVAILABLE]]
        self.versions = [VERSION]
        self.signatures = _signatures()
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(
            futures.ThreadPoolExecutor(8), options=[*(options or unlimited), ("grpc.so_reuseport", 0)]
        )
        handlers = {PREDICT: self._predict, GET_MODEL_METADATA: self._get_metadata, GET_MODEL_STATUS: self._get_status}
        for method, answer in handlers.items():
            _, service, name = method.path.split("/")
            handler = grpc.unary_unary_rpc_method_handler(
                self._admitting(answer), method.request.FromString, method.response.SerializeToString
            )
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {name: handler})])
        if credentials is None:
            self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def wait_for(self, count):
        """Wait until that many requests came."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, 30)

    def stop(self):
        self.hold.set()
        self._server.stop(None).wait()
        assert not self.overdue, "a client waited for requests that nobody wanted any more"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()

    def _admitting(self, answer):
        def admit(request, context):
            with self.arrived:
                self.requests.append(request)
                self.metadata.append(dict(context.invocation_metadata()))
                self._present += 1
                self.most = max(self.most, self._present)
                failure = self.failures.pop(0) if self.failures else None
                self.arrived.notify_all()
            try:
                if failure:
                    context.abort(*failure)
                if answer == self._predict and "request" not in request.inputs:
                    self.overdue |= not self.hold.wait(20)
                return answer(request)
            finally:
                with self.arrived:
                    self._present -= 1

        return admit

    def _predict(self, request):
        response = PREDICT.response()
        response.model_spec.version.value = _next(self.versions)
        inputs = {name: read_tensor(proto) for name, proto in request.inputs.items()}
        for name, value in self.outputs(request.model_spec.signature_name, inputs).items():
            fill_tensor(response.outputs[name], value)
        return response

    def outputs(self, signature, inputs):
        if signature == "describe":
            names = np.array([[name.encode() for name in BANDS]], object)
            return {"bands": names, "scale": np.full(1, SCALE, np.int32)}
        if signature == "means":
            blocks, frames = SharingEngine().find_means(**inputs)
            return {"block_means": blocks, "frame_means": frames}
        if signature == "with_means":
            means = Means(inputs.pop("block_means"), inputs.pop("frame_means"))
            return {"probabilities": SharingEngine().predict_with_means(**inputs, means=means)}
        probabilities = MeanEngine().predict(**inputs)
        if signature == "uint8":
            probabilities = np.rint(254 * probabilities).astype(np.uint8)
        return {"probabilities": probabilities}

    def _get_metadata(self, request):
        response = GET_MODEL_METADATA.response()
        response.metadata["signature_def"].value = self.signatures
        return response

    def _get_status(self, request):
        return GET_MODEL_STATUS.response(model_version_status=_next(self.states))


def with_means(signatures):
    """The same signatures, and those with means."""
    changed = message_class("tensorflow.serving.SignatureDefMap").FromString(signatures)
    for name in ("means", "with_means"):
        changed.signature_def[name].CopyFrom(changed.signature_def["serving_default"])
    return changed.SerializeToString()


def _signatures():
    signatures = message_class("tensorflow.serving.SignatureDefMap")()
    signature = signatures.signature_def["serving_default"]
    signature.inputs["images"].dtype = 17
    for size in (-1, -1, -1, -1, 3):
        signature.inputs["images"].tensor_shape.dim.add(size=size)
    signature.outputs["probabilities"].dtype = 1
    signature.outputs["probabilities"].tensor_shape.unknown_rank = True
    return signatures.SerializeToString()


def _next(values):
    return values.pop(0) if len(values) > 1 else values[0]


if __name__ == "__main__":
    server = FakeServer(int(sys.argv[1]))
    print(server.port, flush=True)
    sys.stdin.read()
