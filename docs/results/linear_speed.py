"""Speed of linear layers by MKL, as libtorch multiplies, and by oneDNN, in GFLOP/s on one thread: linear_speed.py"""

import time

import torch

torch.set_num_threads(1)
onednn = torch.ops.mkldnn._linear_pointwise
print("| rows | inputs | outputs | MKL | oneDNN |\n|---|---|---|---|---|")
for rows, inputs, outputs in [(1024, 192, 768), (6272, 128, 512), (4096, 256, 256), (2048, 768, 192)]:
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    speeds = []
    for multiply in (
        lambda: torch.nn.functional.linear(x, weight, bias),
        lambda: onednn(x, weight, bias, "none", [], None),
    ):
        best = float("inf")
        for _ in range(6):
            start = time.perf_counter()
            for _ in range(10):
                multiply()
            best = min(best, (time.perf_counter() - start) / 10)
        speeds.append(2 * rows * inputs * outputs / best / 1e9)
    print(f"| {rows} | {inputs} | {outputs} | {speeds[0]:.0f} | {speeds[1]:.0f} |")
