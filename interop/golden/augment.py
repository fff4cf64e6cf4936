"""Operations of torchvision on two images of Pillow, and quantiles of its random crops.

On Pillow's images, as in training from files. They are also computed in whole numbers, the same on every machine; hue on
tensors differs from them by up to ten levels.
"""

import numpy as np
import torch
from file import unit
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

QUANTILES = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
DRAWS = 20000


def picture(seed, height, width):
    """Like a photograph, [3, height, width]: smooth noise of several scales, objects with edges, and some grain."""
    seeds = iter(range(seed, seed + 100))
    image = torch.zeros(3, height, width, dtype=torch.float64)
    for cells, strength in [(3, 55.0), (6, 30.0), (16, 18.0), (40, 8.0)]:
        noise = unit(next(seeds), 1, 1, cells, cells) + 0.4 * unit(next(seeds), 1, 3, cells, cells)
        image += strength * torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")[0]
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    for _ in range(4):
        middle_y, middle_x, radius, light, *color = unit(next(seeds), 7).tolist()
        inside = (y - 0.5 - 0.25 * middle_y) ** 2 + (x - 0.5 - 0.25 * middle_x) ** 2 < (0.16 + 0.05 * radius) ** 2
        color = 50.0 * light + 35.0 * torch.tensor(color, dtype=torch.float64)
        image += inside * color[:, None, None]
    image += 3.0 * unit(next(seeds), 3, height, width) + 128.0
    return image.round().clamp(0, 255).to(torch.uint8)


def fill(file):
    images = [picture(100, 68, 100), picture(200, 84, 84)]
    for i, image in enumerate(images):
        file.add(f"image_{i}", {"note": "height, width, RGB"}, in_rgb=image.permute(1, 2, 0))

    def add(case, image, operation, **settings):
        result = F.pil_to_tensor(operation(F.to_pil_image(images[image])))
        file.add(case, {"image": image, **settings}, out_rgb=result.permute(1, 2, 0))

    factors = {
        "brightness": (F.adjust_brightness, [1.35, 0.55]),
        "contrast": (F.adjust_contrast, [1.6, 0.4]),
        "saturation": (F.adjust_saturation, [1.75, 0.3]),
        "hue": (F.adjust_hue, [0.15, -0.4]),
    }
    for name, (operation, values) in factors.items():
        for i, factor in enumerate(values):
            add(f"{name}_{i}", i, lambda x: operation(x, factor), factor=factor)
    add("grayscale", 1, lambda x: F.rgb_to_grayscale(x, num_output_channels=3))
    add("hflip", 0, F.horizontal_flip)
    for i, threshold in enumerate([128, 90]):
        add(f"solarize_{i}", i, lambda x: F.solarize(x, threshold), threshold=threshold)
    for i, (sigma, kernel) in enumerate([(1.8, 23), (0.4, 9)]):
        settings = {"sigma": sigma, "kernel": kernel, "padding": "reflect", "note": "true Gaussian, torchvision"}
        add(f"gaussian_blur_{i}", i, lambda x: F.gaussian_blur(x, [kernel] * 2, [sigma] * 2), **settings)
    for turns in range(4):
        add(f"rotate90_{turns}", 0, lambda x: F.rotate(x, 90 * turns, expand=True), quarter_turns_ccw=turns)
    regions = [
        (0, (7, 31, 43, 52), 96, "bilinear"),
        (1, (3, 5, 78, 71), 24, "bilinear"),
        (0, (20, 11, 30, 66), 96, "bicubic"),
        (1, (2, 0, 80, 84), 32, "bicubic"),
    ]
    for i, (image, region, size, interpolation) in enumerate(regions):
        cut = lambda x: F.resized_crop(x, *region, [size, size], F.InterpolationMode(interpolation))  # noqa: E731
        settings = dict(zip(("top", "left", "height", "width"), region))
        add(f"resized_crop_{i}", image, cut, **settings, size=size, interpolation=interpolation, antialias=True)
    left, top, width, height = crop = [10, 6, 30, 20]
    settings = {"image": 0, "crop": crop, "mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}
    part = F.to_dtype(F.crop(images[0], top, left, height, width), torch.float64, scale=True)
    part = F.normalize(part, settings["mean"], settings["std"]).float()
    settings["note"] = "crop: left, top, width, height"
    file.add("normalize", settings, out_chw=part)
    for i, (scale, ratio) in enumerate([((0.1, 1.0), (3 / 4, 4 / 3)), ((0.3, 1.0), (0.6, 1.5)), ((0.05, 0.3), (3 / 4, 4 / 3))]):
        add_draws(file, i, scale, ratio, height=333, width=500)


def add_draws(file, i, scale, ratio, height, width):
    torch.manual_seed(i)
    canvas = torch.empty(3, height, width)
    draws = np.array([RandomResizedCrop.get_params(canvas, scale, ratio) for _ in range(DRAWS)], dtype=np.float64)
    top, left, h, w = draws.T
    drawn = {"area": h * w / (height * width), "aspect": w / h, "top": top, "left": left}
    quantiles = {name: torch.from_numpy(np.quantile(values, QUANTILES)) for name, values in drawn.items()}
    settings = {"scale": scale, "ratio": ratio, "height": height, "width": width, "draws": DRAWS, "quantiles": QUANTILES}
    settings["note"] = "quantiles over the draws of area fraction, aspect (w/h), top, left"
    file.add(f"random_resized_crop_{i}", settings, out_=quantiles)
