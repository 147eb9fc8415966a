"""Is the network the limit, or the loader? ``python tests/benchmarks/bench_crops.py --cache_dir data/cache``.

Crops a second that one loading process cuts out and augments, and crops a second that R1's SegNet is trained on, on
this machine's GPU or on all of its cores.
"""

import argparse
import resource
import time
from pathlib import Path

import albumentations
import torch

from datamodules.crops import CropDataModule
from datamodules.dsb2018 import DSB2018DataModule
from karyon.batch import Batch
from karyon.losses import BinaryCrossEntropy
from karyon.networks.segnet import SegNet
from lightning_modules.crop_segmenter import CropSegmenter


def cut_crops(data: CropDataModule, batches: int) -> tuple[float, Batch]:
    """Crops a second, and one of the batches."""
    stream = iter(data.train_dataloader())
    batch = next(stream)
    start = time.perf_counter()
    count = sum(len(next(stream)) for _ in range(batches))
    return count / (time.perf_counter() - start), batch


def train_crops(batch: Batch, steps: int) -> float:
    """Crops a second of forward, backward and update in bf16."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = CropSegmenter(SegNet(), BinaryCrossEntropy(), channels_last=True).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    image, labels = batch.image.to(device), batch.labels
    assert labels is not None
    labels = labels.to(device)

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model.representation.loss(model(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Waits for the GPU.
        return loss.item()

    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * len(batch) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/dsb2018"))
    parser.add_argument("--cache_dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    augmentations = [albumentations.D4(), albumentations.RandomBrightnessContrast(p=0.5)]
    images = DSB2018DataModule(root=args.root, cache_dir=args.cache_dir)
    data = CropDataModule(images, augmentations=augmentations, batch_size=64, num_workers=0)
    start = time.perf_counter()
    data.setup("fit")
    count = len(data.items["train"]) + len(data.items["val"])
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{count} crops ready in {time.perf_counter() - start:.1f} s, {memory:.0f} MB")
    loader, batch = cut_crops(data, batches=30)
    print(f"one loading process: {loader:8.0f} crops/s")
    network = train_crops(batch, args.steps)
    print(f"training SegNet:     {network:8.0f} crops/s; a loading process is {loader / network:.1f} times as fast")


if __name__ == "__main__":
    main()
