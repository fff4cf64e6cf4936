"""Makes tests/images: small JPEGs of each kind, each beside a PNG as Pillow decodes it. Needs Pillow and numpy.

440.jpg stays as it is, since Pillow writes no such sampling: jpeg-encoder made it (SamplingFactor::F_1_2, quality 92).
"""
import io
import pathlib

import numpy as np
from PIL import Image

folder = pathlib.Path(__file__).parent / "images"
rng = np.random.default_rng(0)


def image(width, height):
    """Smooth colors, edges and noise."""
    y, x = np.mgrid[:height, :width]
    planes = [120 + 110 * np.sin(x / 7 + y / 11), 255 * ((x // 5 + y // 6) % 2), 128 + 90 * np.cos(y / 5)]
    noisy = np.stack(planes, -1) + rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def save(name, image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    (folder / f"{name}.jpg").write_bytes(file.getvalue())
    Image.open(file).convert("RGB").save(folder / f"{name}.png")


for sampling in ["4:4:4", "4:2:2", "4:2:0"]:
    name = sampling.replace(":", "")
    save(f"{name}-fine", image(61, 43), quality=97, subsampling=sampling)
    save(f"{name}-coarse", image(48, 40), quality=35, subsampling=sampling, optimize=True)
save("restarts", image(70, 50), quality=80, subsampling="4:2:0", restart_marker_blocks=3)
save("grey", image(37, 29).convert("L"), quality=85)
save("grey-coarse", image(40, 9).convert("L"), quality=20)
for side in [1, 3, 4, 5]:
    save(f"{side}-pixels", image(side, side), quality=90, subsampling="4:2:0")
save("extremes", Image.fromarray(rng.choice([0, 255], (33, 35, 3)).astype(np.uint8)), quality=100, subsampling="4:4:4")
Image.open(folder / "440.jpg").convert("RGB").save(folder / "440.png")
# Of other kinds.
save("progressive", image(20, 20), progressive=True)
save("inks", image(20, 20).convert("CMYK"))
save("as-it-is", image(20, 20), keep_rgb=True)
