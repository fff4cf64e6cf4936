"""A file of golden values: cases of named tensors, each with its settings, in the safetensors format."""

import json
import math

import numpy as np
import torch
from safetensors import safe_open

NAMES = {torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.uint8: "U8"}


def unit(seed, *shape):
    """Numbers of mean 0 and variance 1 (README: "Inputs by formula"), in float64."""
    with np.errstate(over="ignore"):
        x = (np.uint64(seed) << np.uint64(32)) + np.arange(np.prod(shape, dtype=int), dtype=np.uint64)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    values = np.sqrt(3.0) * (2.0 * (x >> np.uint64(11)) / 2.0**53 - 1.0)
    return torch.from_numpy(values).reshape(shape)


@torch.no_grad()
def fill_weights(net, base):
    """README: "Inputs by formula". In float64, from weights that float32 holds exactly."""
    for i, (name, tensor) in enumerate(sorted(net.state_dict().items())):
        if not tensor.is_floating_point():
            continue
        v = unit(base + i, *tensor.shape)
        if name.endswith("running_var"):
            v = 1 + 0.25 * v**2
        elif tensor.ndim == 1:
            v = 1 + 0.1 * v if name.endswith(("weight", "gamma")) else 0.1 * v
        elif name.endswith(("pos_embed", "token")):
            v = 0.02 * v
        else:
            v = v * math.sqrt(2 / (tensor.numel() / tensor.shape[0]))
        tensor.copy_(v.float())


class File:
    def __init__(self):
        self.tensors, self.settings = {}, {}

    def add(self, case, settings, **tensors):
        """A case; of `in_x` and `out_x` the names become `in.x` and `out.x`. Dictionaries hold several."""
        assert case not in self.settings, case
        self.settings[case] = settings
        for name, value in tensors.items():
            section, _, name = name.partition("_")
            for name, tensor in value.items() if isinstance(value, dict) else [(name, value)]:
                self.tensors[f"{case}.{section}.{name}"] = tensor.detach().contiguous()

    def save(self, path):
        """Writes the file; the same values give the same bytes, which safetensors' own writer does not promise."""
        order = list(NAMES)  # the widest numbers first, so that all are aligned
        names = sorted(self.tensors, key=lambda name: (order.index(self.tensors[name].dtype), name))
        header = {"__metadata__": {case: json.dumps(settings) for case, settings in sorted(self.settings.items())}}
        data = bytearray()
        for name in names:
            tensor, start = self.tensors[name], len(data)
            data += tensor.numpy().tobytes()
            header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, len(data)]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def difference(ours, theirs):
    """How two files differ, in words; None where they agree to 1e-6 of each tensor's largest value (images: to a level)."""
    if ours.suffix == ".json":
        return None if json.loads(ours.read_text()) == json.loads(theirs.read_text()) else "other names or shapes"
    with safe_open(ours, "pt") as a, safe_open(theirs, "pt") as b:
        if a.metadata() != b.metadata() or sorted(a.keys()) != sorted(b.keys()):
            return "other cases, settings or tensors"
        for name in sorted(a.keys()):
            x, y = a.get_tensor(name), b.get_tensor(name)
            if x.shape != y.shape or x.dtype != y.dtype:
                return f"{name}: {x.dtype} {list(x.shape)} instead of {y.dtype} {list(y.shape)}"
            x, y = x.double(), y.double()
            allowed = 1.0 if a.get_tensor(name).dtype == torch.uint8 else 1e-6 * y.abs().max()
            if (x - y).abs().max() > allowed:
                return f"{name} differs by {(x - y).abs().max():.1e}"
    return None
