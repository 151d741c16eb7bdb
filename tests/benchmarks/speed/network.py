"""SPInet as one would write it in PyTorch: the peer that ours is compared with.

Its modules bear the names of our layers, so that weights are copied by name. It has no padding frames: all are real.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

STRIDES = (1, 2, 4, 8)
SLOPE = 0.01


class Unit(nn.Module):
    """`spinet_tf.layers.EquivariantUnit`."""

    def __init__(self, inputs: int, filters: int):
        super().__init__()
        self.convolution = nn.Conv3d(inputs, filters, (1, 3, 3), padding=(0, 1, 1))
        self.norm_in = nn.BatchNorm3d(filters)
        self.attention = nn.MultiheadAttention(filters, 1, batch_first=True)
        self.norm_out = nn.BatchNorm3d(filters)

    def forward(self, x):
        x = F.leaky_relu(self.norm_in(self.convolution(x)), SLOPE)
        batch, features, time, height, width = x.shape
        frames = x.permute(0, 3, 4, 2, 1).reshape(-1, time, features)
        attended, _ = self.attention(frames, frames, frames, need_weights=False)
        attended = attended.reshape(batch, height, width, time, features).permute(0, 4, 3, 1, 2)
        return self.norm_out(x + attended)


class TEFA(nn.Module):
    """`spinet_tf.layers.TEFA`."""

    def __init__(self, filters: int, bottleneck: int):
        super().__init__()
        self.unit_1 = Unit(filters, filters)
        self.unit_2 = Unit(filters, filters)
        self.squeeze = nn.Linear(filters, bottleneck)
        self.excite = nn.Linear(bottleneck, filters)

    def forward(self, x):
        y = self.unit_2(F.leaky_relu(self.unit_1(x), SLOPE))
        gate = self.excite(F.leaky_relu(self.squeeze(y.mean((2, 3, 4))), SLOPE)).sigmoid()
        return x + y * gate[:, :, None, None, None]


class TERN(nn.Module):
    """`spinet_tf.layers.TERN`, its filters applied by a grouped convolution."""

    def __init__(self, filters: int, kernel_size: int = 5):
        super().__init__()
        self.unit = Unit(filters, filters)
        self.proposal = nn.Linear(filters, kernel_size**2)
        self.kernel_size = kernel_size

    def forward(self, x):
        batch, features, time, height, width = x.shape
        means = F.leaky_relu(self.unit(x), SLOPE).mean((3, 4)).transpose(1, 2)
        kernels = self.proposal(means).reshape(-1, 1, self.kernel_size, self.kernel_size)
        frames = x.transpose(0, 1).reshape(features, batch * time, height, width)
        frames = F.conv2d(frames, kernels.to(frames.dtype), padding=self.kernel_size // 2, groups=batch * time)
        return frames.reshape(features, batch, time, height, width).transpose(0, 1)


class Fusion(nn.Module):
    """`spinet_tf.layers.MultiResolutionFusion`."""

    def __init__(self, filters: int):
        super().__init__()
        joint = len(STRIDES) * filters
        for s in STRIDES:
            # At stride 2 the row and column that are missing come last: see `forward`.
            padding = 1 if s == 1 else 0
            self.add_module(f"branch_{s}", nn.Conv2d(filters, filters, max(3, s), stride=s, padding=padding))
            self.add_module(f"branch_norm_{s}", nn.BatchNorm2d(filters))
            self.add_module(f"exchange_{s}", nn.Conv2d(joint, filters, 3, padding=1))
            self.add_module(f"exchange_norm_{s}", nn.BatchNorm2d(filters))
        self.projection = nn.Conv2d(joint, 1, 1)

    def forward(self, x):
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]), mode="replicate")
        branches = []
        for s in STRIDES:
            branch = getattr(self, f"branch_{s}")(F.pad(x, (0, 1, 0, 1)) if s == 2 else x)
            branches.append(F.leaky_relu(getattr(self, f"branch_norm_{s}")(branch), SLOPE))
        fused = []
        for to in STRIDES:
            met = [_resample(branch, at, to) for branch, at in zip(branches, STRIDES, strict=True)]
            joint = getattr(self, f"exchange_{to}")(torch.cat(met, 1))
            fused.append(F.leaky_relu(getattr(self, f"exchange_norm_{to}")(joint), SLOPE))
        full = [_resample(features, at, 1) for features, at in zip(fused, STRIDES, strict=True)]
        return self.projection(torch.cat(full, 1))[..., :height, :width]


def _resample(x, at: int, to: int):
    if at == to:
        return x
    if at > to:
        return F.interpolate(x, scale_factor=at // to, mode="bilinear", align_corners=False)
    return F.avg_pool2d(x, to // at)


class Peer(nn.Module):
    """`spinet_tf.SPInet`: (batch, bands, time, height, width) to logits (batch, 1, scale * height, scale * width)."""

    def __init__(self, bands: int, scale: int, filters: int, tefa_blocks: int, bottleneck: int):
        super().__init__()
        self.normalization = nn.Module()
        self.normalization.register_buffer("mean", torch.zeros(bands))
        self.normalization.register_buffer("std", torch.ones(bands))
        self.head = Unit(bands, filters)
        self.blocks = [f"tefa_{n}" for n in range(1, tefa_blocks + 1)]
        for name in self.blocks:
            self.add_module(name, TEFA(filters, bottleneck))
        self.mid = Unit(filters, filters)
        self.tern = TERN(filters)
        self.upsampling = nn.Conv2d(filters, filters * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.fusion = Fusion(filters)

    def forward(self, images):
        mean, std = (statistic[:, None, None, None] for statistic in self.normalization.buffers())
        head = x = self.head((images - mean) / std)
        for name in self.blocks:
            x = getattr(self, name)(x)
        x = F.leaky_relu(self.mid(x), SLOPE) + head
        x = self.tern(x).mean(2)
        return self.fusion(self.shuffle(self.upsampling(x)))


def copy_weights(peer: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Fill `peer` with our model's weights, by the paths of their variables.

    Raises:
        ValueError: unless every weight of either has its counterpart.
    """
    state = {name: tensor for name, tensor in peer.state_dict().items() if not name.endswith("num_batches_tracked")}
    paths = {name: _path(name) for name in state}
    if set(paths.values()) != set(weights):
        raise ValueError(f"These weights have no counterpart: {sorted(set(paths.values()) ^ set(weights))}")
    for name, tensor in state.items():
        array = weights[paths[name]]
        if array.ndim > 1:  # Keras has (..., in, out), PyTorch (out, in, ...).
            array = np.moveaxis(array, (-1, -2), (0, 1))
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(tensor.shape))


def _path(name: str) -> str:
    """The path of the Keras variable behind a name in PyTorch."""
    layer, _, leaf = name.replace("out_proj", "projection").rpartition(".")
    if leaf.startswith("in_proj_"):
        layer, leaf = f"{layer}.query_key_value", leaf.removeprefix("in_proj_")
    norm = "norm_" in layer.rpartition(".")[2]
    names = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    names |= {"weight": "gamma", "bias": "beta"} if norm else {"weight": "kernel"}
    return f"{layer}.{names.get(leaf, leaf)}".replace(".", "/")
