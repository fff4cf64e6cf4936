"""How fast PyTorch embeds a folder of photographs on a CPU: what `portolan embed` is compared with in docs/results/speed.md.

usage: embed_speed.py ENCODER FOLDER [BATCH]      resnet50 (torchvision) or a model of timm, such as vit_small_patch16_224

Decoding and resizing in a DataLoader (WORKERS=2), channels last, torch.inference_mode, THREADS=2. REPEAT=3 passes over the
folder, of which the first is not timed; the weights are random, which changes no time. Prints images/s of each pass, and
the processor's seconds and page faults of all.
"""
import os, resource, sys, time
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torchvision import transforms as T

encoder, folder = sys.argv[1], Path(sys.argv[2])
batch = int(sys.argv[3]) if len(sys.argv) > 3 else 32
workers, threads, repeat = (int(os.environ.get(name, n)) for name, n in [("WORKERS", 2), ("THREADS", 2), ("REPEAT", 3)])
torch.set_num_threads(threads)
torch.manual_seed(0)

if encoder == "resnet50":
    model = torchvision.models.resnet50()
    model.fc = torch.nn.Identity()
else:
    import timm
    model = timm.create_model(encoder, num_classes=0)
model = model.eval().to(memory_format=torch.channels_last)

view = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])


class Photos(torch.utils.data.Dataset):
    def __init__(self):
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return view(Image.open(self.paths[i]).convert("RGB"))


loader = torch.utils.data.DataLoader(Photos(), batch, num_workers=workers, persistent_workers=workers > 0)
speeds = []
for _ in range(repeat):
    start, n = time.time(), 0
    with torch.inference_mode():
        for images in loader:
            n += len(model(images.contiguous(memory_format=torch.channels_last)))
    speeds.append(n / (time.time() - start))
own = resource.getrusage(resource.RUSAGE_SELF)
print(
    f"PyTorch {torch.__version__} {encoder}, batches of {batch}: {', '.join(f'{s:.1f}' for s in speeds[1:])} images/s; "
    f"main process {own.ru_utime:.0f} s user, {own.ru_stime:.0f} s system, {own.ru_minflt} page faults, {own.ru_maxrss >> 10} MB",
    flush=True,
)
