"""A folder that `portolan export RUN --out FOLDER` wrote, as an ONNX file, for any number of images.

python interop/to_onnx.py FOLDER encoder.onnx       wants torch, torchvision or timm, safetensors, onnx and onnxscript
"""

import inspect
import json
import sys
from pathlib import Path

import torch
from hub import encoder


def main(folder, out):
    net = encoder(folder).eval()
    size = json.loads((Path(folder) / "config.json").read_text())["pretrained_cfg"]["input_size"]
    first = list(inspect.signature(net.forward).parameters)[0]
    batch = {first: {0: torch.export.Dim("batch")}}
    images = torch.randn(2, *size)
    torch.onnx.export(
        net, (images,), out, input_names=["images"], output_names=["features"],
        dynamic_shapes=batch, dynamo=True, external_data=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
