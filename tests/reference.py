"""The network once more in float64 NumPy, written from the papers, to check the layers against.

A batch is a list of samples, each (time, height, width, features) with its real frames only, so nothing here knows of
padding or masks. `batch_statistics=True` is training mode. Weights are read from a Keras layer's variables.
"""

import numpy as np


def weights_of(layer):
    """{path below the layer: float64 array}."""
    return {w.path.split(layer.name + "/", 1)[1]: np.asarray(w.value, "float64") for w in layer.weights}


def below(weights, name):
    return {path[len(name) + 1 :]: value for path, value in weights.items() if path.startswith(name + "/")}


def leaky_relu(x):
    return np.where(x > 0, x, 0.01 * x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolution(x, w, stride=1):
    """(frames, height, width, features), zero padding as TensorFlow's SAME."""
    kernel, bias = w["kernel"], w["bias"]
    pads, sizes = [], []
    for size, side in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        out = -(-size // stride)
        total = max((out - 1) * stride + side - size, 0)
        pads.append((total // 2, total - total // 2))
        sizes.append(out)
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    y = np.zeros((len(x), *sizes, kernel.shape[-1])) + bias
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            window = x[:, i : i + stride * sizes[0] : stride, j : j + stride * sizes[1] : stride]
            y += window[:, : sizes[0], : sizes[1]] @ kernel[i, j]
    return y


def norm(batch, w, batch_statistics):
    """`batch`: list of arrays with features last."""
    mean, variance = w["moving_mean"], w["moving_variance"]
    if batch_statistics:
        pixels = np.concatenate([x.reshape(-1, x.shape[-1]) for x in batch])
        mean, variance = pixels.mean(0), pixels.var(0)
    return [(x - mean) / np.sqrt(variance + 1e-5) * w["gamma"] + w["beta"] for x in batch]


def attention(x, w, heads=1):
    _, height, width, features = x.shape
    query, key, value = np.split(x @ w["query_key_value/kernel"] + w["query_key_value/bias"], 3, axis=-1)
    y, size = np.empty_like(x), features // heads
    for row in range(height):
        for column in range(width):
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                q, k, v = (a[:, row, column, part] for a in (query, key, value))
                scores = np.exp(q @ k.T / np.sqrt(size))
                y[:, row, column, part] = (scores / scores.sum(1, keepdims=True)) @ v
    return y @ w["projection/kernel"] + w["projection/bias"]


def unit(batch, w, batch_statistics, heads=1):
    batch = [convolution(x, below(w, "convolution")) for x in batch]
    batch = [leaky_relu(x) for x in norm(batch, below(w, "norm_in"), batch_statistics)]
    batch = [x + attention(x, below(w, "attention"), heads) for x in batch]
    return norm(batch, below(w, "norm_out"), batch_statistics)


def tefa(batch, w, batch_statistics, heads=1):
    y = [leaky_relu(x) for x in unit(batch, below(w, "unit_1"), batch_statistics, heads)]
    y = unit(y, below(w, "unit_2"), batch_statistics, heads)
    out = []
    for x, features in zip(batch, y, strict=True):
        pooled = features.mean((0, 1, 2))
        hidden = leaky_relu(pooled @ w["squeeze/kernel"] + w["squeeze/bias"])
        out.append(x + features * sigmoid(hidden @ w["excite/kernel"] + w["excite/bias"]))
    return out


def tern(batch, w, batch_statistics, heads=1):
    y = [leaky_relu(x) for x in unit(batch, below(w, "unit"), batch_statistics, heads)]
    out = []
    for x, features in zip(batch, y, strict=True):
        kernels = features.mean((1, 2)) @ w["proposal/kernel"] + w["proposal/bias"]
        side = round(kernels.shape[1] ** 0.5)
        padded = np.pad(x, [(0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)])
        registered = np.zeros_like(x)
        for i in range(side):
            for j in range(side):
                shifted = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
                registered += kernels[:, i * side + j, None, None, None] * shifted
        out.append(registered)
    return out


def pixel_shuffle(x, scale):
    height, width, features = x.shape
    y = np.empty((height * scale, width * scale, features // scale**2))
    for i in range(scale):
        for j in range(scale):
            y[i::scale, j::scale] = x[..., i * scale + j :: scale**2]
    return y


def bilinear(x, scale):
    for axis in (0, 1):
        size = x.shape[axis]
        centres = np.clip((np.arange(size * scale) + 0.5) / scale - 0.5, 0, size - 1)
        low = np.minimum(np.floor(centres).astype(int), size - 1)
        high = np.minimum(low + 1, size - 1)
        share = (centres - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def average(x, ratio):
    height, width, features = x.shape
    return x.reshape(height // ratio, ratio, width // ratio, ratio, features).mean((1, 3))


def multi_resolution_fusion(batch, w, batch_statistics):
    """`batch`: list of (height, width, features)."""
    strides = (1, 2, 4, 8)
    sizes = [x.shape[:2] for x in batch]
    batch = [np.pad(x, [(0, -x.shape[0] % 8), (0, -x.shape[1] % 8), (0, 0)], mode="edge") for x in batch]

    def resample(x, at, to):
        return bilinear(x, at // to) if at >= to else average(x, to // at)

    branches = {}
    for s in strides:
        y = [convolution(x[None], below(w, f"branch_{s}"), s)[0] for x in batch]
        branches[s] = [leaky_relu(x) for x in norm(y, below(w, f"branch_norm_{s}"), batch_statistics)]
    fused = {}
    for to in strides:
        met = [
            np.concatenate([resample(branches[at][n], at, to) for at in strides], axis=-1) for n in range(len(batch))
        ]
        y = [convolution(x[None], below(w, f"exchange_{to}"))[0] for x in met]
        fused[to] = [leaky_relu(x) for x in norm(y, below(w, f"exchange_norm_{to}"), batch_statistics)]
    out = []
    for n, (height, width) in enumerate(sizes):
        joint = np.concatenate([resample(fused[s][n], s, 1) for s in strides], axis=-1)
        out.append(convolution(joint[None], below(w, "projection"))[0][:height, :width])
    return out


def plain_fusion(batch, w, batch_statistics):
    for n in (1, 2):
        y = [convolution(x[None], below(w, f"convolution_{n}"))[0] for x in batch]
        batch = [np.maximum(x, 0) for x in norm(y, below(w, f"norm_{n}"), batch_statistics)]
    return [convolution(x[None], below(w, "projection"))[0] for x in batch]


def backbone(model, batch, batch_statistics):
    """Up to the temporal mean: a list of (height, width, features)."""

    def at(name):
        return weights_of(model.get_layer(name))

    w = at("normalization")
    batch = [(x - w["mean"]) / w["std"] for x in batch]
    head = batch = unit(batch, at("head"), batch_statistics, model.heads)
    for block in range(1, model.tefa_blocks + 1):
        batch = tefa(batch, at(f"tefa_{block}"), batch_statistics, model.heads)
    batch = [leaky_relu(x) for x in unit(batch, at("mid"), batch_statistics, model.heads)]
    batch = [x + skip for x, skip in zip(batch, head, strict=True)]
    batch = tern(batch, at("tern"), batch_statistics, model.heads)
    return [x.mean(0) for x in batch]


def spinet(model, batch, batch_statistics=False):
    """Logits of a SPInet for a list of (time, height, width, bands), frames all real."""
    fusion = {"multi_resolution": multi_resolution_fusion, "plain": plain_fusion}[model.fusion]
    batch = backbone(model, [np.asarray(x, "float64") for x in batch], batch_statistics)
    batch = [convolution(x[None], weights_of(model.get_layer("upsampling")))[0] for x in batch]
    batch = [pixel_shuffle(x, model.scale) for x in batch]
    answers = np.stack(fusion(batch, weights_of(model.get_layer("fusion")), batch_statistics))
    return logit_normal(answers) if model.uncertainty else answers


def logit_normal(x):
    """Mean and log variance of a logit to the marginal logit and the standard deviation."""
    variance = np.exp(5 * np.tanh(x[..., 1] / 5))
    return np.stack([x[..., 0] / np.sqrt(1 + np.pi * variance / 8), np.sqrt(variance)], axis=-1)
