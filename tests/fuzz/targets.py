"""What is damaged and read, by kind: each writes files into a folder, damages one of them, and reads them as users do."""

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import damage
import numpy as np
from damage import Damage, anyhow

ROOT = Path(__file__).parents[2]
LABELS = np.kron(np.array([[0, 1, 0], [2, 0, 3]], np.uint8), np.ones((6, 8), np.uint8))


class Target(Protocol):
    """A kind of files; made in the process that reads them."""

    def damage(self, folder: Path, rng: random.Random) -> None: ...

    def read(self, folder: Path) -> Any: ...


class Files:
    """Whole files, one of which is damaged.

    Args:
        seeds: content by name.
        read: reads the file of a path.
        special: damages of their own.
    """

    def __init__(self, seeds: dict[str, bytes], read: Callable[[Path], Any], *special: Damage) -> None:
        self.seeds, self.reader, self.special, self.path = seeds, read, special, Path()

    def damage(self, folder: Path, rng: random.Random) -> None:
        name = rng.choice(list(self.seeds))
        self.path = folder / f"damaged-{name}"
        for earlier in folder.glob("damaged-*"):
            earlier.unlink()
        self.path.write_bytes(anyhow(rng, self.seeds[name], *self.special))

    def read(self, folder: Path) -> Any:
        return self.reader(self.path)


def images(folder: Path) -> Target:
    """Every format that is read, as files and as content, as images and as label images."""
    import test_reading as seeds

    from karyon.io.reading import open_image, read_labels

    made = {name: data for name, (data, _) in seeds.SINGLE.items()}
    made |= {f"viewed {name}": data for name, (data, _) in seeds.VIEWED.items()}
    made |= {f"pages {name}": entry[0] for name, entry in (seeds.SEVERAL | seeds.MIXED).items()}
    made |= {f"channels {name}": data for name, data in seeds.CHANNELS.items()}
    made["series"] = seeds.appended(seeds.GREY8, seeds.GREY16[:9])

    def read(path: Path) -> None:
        data = path.read_bytes()
        if len(data) % 4 == 0:
            read_labels(path)
        source = path if len(data) % 2 else data
        pages = open_image(source, str(path), 1 if path.name.startswith("damaged-channels") else None)
        for page in range(min(len(pages), 9)):
            pages.read(page)

    return Files(made, read, damage.tag, damage.tag, damage.chunk)


class Bundles:
    """Bundles of which one file is damaged, and of which the card is right about that."""

    def __init__(self, folder: Path, *names: str) -> None:
        import torch
        from bundles import write_bundle, write_unet_bundle

        from karyon.bundle import file_entry
        from karyon.model import load_model
        from lightning_modules.trained_runs import checkpoint_weights

        self.names, self.entry, self.load, self.weights = names, file_entry, load_model, checkpoint_weights
        self.home = folder / "bundles"
        write_bundle(self.home / "tiny")
        write_bundle(self.home / "torch", "torch", half=True)
        write_bundle(self.home / "onnx", onnx=True)
        write_unet_bundle(self.home / "unet")
        write_unet_bundle(self.home / "unet-onnx", onnx=True)
        first = json.loads((self.home / "torch" / "card.json").read_text())
        model = {"class_path": "lightning_modules.segmenter.DenseSegmenter", "init_args": first.pop("model")}
        (self.home / "torch" / "card.json").write_text(
            json.dumps({**first, "model": model, "preparation": first.pop("preprocessing"), "version": 1})
            .replace('"postprocessing": {', '"decoder": {')
        ) if "card.json" in names else None
        state = torch.load(self.home / "tiny.pt") if (self.home / "tiny.pt").exists() else {"a": torch.ones(9)}
        self.home.joinpath("checkpoints").mkdir()
        torch.save({"state_dict": state, "epoch": 3, "loops": {"a": [1, None]}}, self.home / "checkpoints" / "best.ckpt")
        self.files = sorted(path for name in names for path in self.home.glob(f"*/{name}"))
        self.contents = {path: path.read_bytes() for path in self.home.glob("*/*")}
        self.path = self.files[0]

    def damage(self, folder: Path, rng: random.Random) -> None:
        self.path.write_bytes(self.contents[self.path])
        card = self.path.with_name("card.json")
        if card.exists():
            card.write_bytes(self.contents[card])
        self.path = rng.choice(self.files)
        special = [damage.value] if self.path.suffix == ".json" else [damage.member] if self.path.suffix != ".onnx" else []
        self.path.write_bytes(anyhow(rng, self.contents[self.path], *special))
        card = self.path.with_name("card.json")
        if self.path.suffix not in (".json", ".ckpt"):
            content = json.loads(card.read_text())
            key = "onnx" if self.path.suffix == ".onnx" else "weights"
            card.write_text(json.dumps({**content, key: {**content[key], **self.entry(self.path)}}))

    def read(self, folder: Path) -> Any:
        if self.path.suffix == ".ckpt":
            return self.weights(self.path)
        image = np.random.default_rng(0).integers(0, 255, (40, 33, 3), np.uint8)
        return self.load(self.path.parent, device="cpu").segment(image)


def zips(folder: Path) -> Target:
    """DSB2018's archives."""
    from karyon.io.encoding import png
    from karyon.layouts.dsb2018_files import Archive, read_entry_image, read_entry_labels, scan_layout

    seeds = {}
    for name, method in (("a.zip", zipfile.ZIP_DEFLATED), ("b.zip", zipfile.ZIP_STORED), ("c.zip", zipfile.ZIP_LZMA)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for image in "ab":
                archive.writestr(f"{image}/images/{image}.png", png(LABELS * 50))
                for k in (1, 2, 3):
                    archive.writestr(f"{image}/masks/{k}.png", png(np.where(LABELS == k, 255, 0).astype(np.uint8)))
        seeds[name] = file.getvalue()

    def read(path: Path) -> None:
        source = Archive(path)
        for entry in scan_layout(source):
            read_entry_labels(source, entry, read_entry_image(source, entry).shape[:2])

    return Files(seeds, read, damage.member)


def tables(folder: Path) -> Target:
    """Tables and outlines of objects, as other programs write them and as Karyon does."""
    import tifffile

    from cli.records import read_images, read_objects, read_record
    from datamodules.content import read_content_manifest
    from datamodules.isbi2012 import read_section_manifest
    from karyon.io.encoding import coco, geojson
    from karyon.io.result_tables import read_rows
    from karyon.layouts.all_layouts import ALL
    from karyon.layouts.dsb2018_annotation import SolutionTable
    from karyon.layouts.writing import prediction

    raise NotImplementedError


TARGETS: dict[str, Callable[[Path], Target]] = {
    "images": images,
    "weights": lambda folder: Bundles(folder, "weights.*", "*.ckpt", "model.onnx"),
    "zips": zips,
    "tables": tables,
    "cards": lambda folder: Bundles(folder, "card.json"),
}
