"""What is damaged and read, by kind: each writes files into a folder, damages one, and reads it as users do."""

import io
import json
import random
import sys
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

import damage
import numpy as np
from damage import Damage, anyhow

from karyon.errors import DataError

ROOT = Path(__file__).parents[2]
LABELS = np.kron(np.array([[0, 1, 0], [2, 0, 3]], np.uint8), np.ones((6, 8), np.uint8))


class Target(Protocol):
    """A kind of files; made in the process that reads them."""

    def damage(self, rng: random.Random) -> None: ...

    def read(self) -> Any: ...


class Files:
    """Files, one of which is damaged.

    Args:
        folder: where they lie.
        seeds: content by path.
        read: reads the file of a path.
        special: damages of their own.
    """

    def __init__(self, folder: Path, seeds: dict[str, bytes], read: Callable[[Path], Any], *special: Damage) -> None:
        self.seeds = {folder / name: content for name, content in seeds.items()}
        self.reader, self.special, self.path = read, special, next(iter(self.seeds))
        for path, content in self.seeds.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def damage(self, rng: random.Random) -> None:
        self.path.write_bytes(self.seeds[self.path])
        self.path = rng.choice(list(self.seeds))
        self.path.write_bytes(anyhow(rng, self.seeds[self.path], *self.special))

    def read(self) -> Any:
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
        pages = open_image(source, str(path), 1 if path.name.startswith("channels") else None)
        for page in range(min(len(pages), 9)):
            pages.read(page)

    return Files(folder, made, read, damage.tag, damage.tag, damage.chunk)


class Bundles:
    """Bundles of which one file is damaged, and of which the card is right about that."""

    def __init__(self, folder: Path, *names: str) -> None:
        import torch
        from bundles import CARD, write_bundle, write_unet_bundle

        from karyon.bundle import file_entry
        from karyon.checkpoint import checkpoint_weights
        from karyon.model import load_model

        self.names, self.entry, self.load, self.weights = names, file_entry, load_model, checkpoint_weights
        self.home = folder / "bundles"
        write_bundle(self.home / "tiny")
        write_bundle(self.home / "torch", "torch", half=True)
        write_bundle(self.home / "onnx", onnx=True)
        write_unet_bundle(self.home / "unet")
        write_unet_bundle(self.home / "unet-onnx", onnx=True)
        (self.home / "checkpoints").mkdir()
        state = {"network.weight": torch.ones(2, 3), "epoch": torch.tensor(3)}
        torch.save({"state_dict": state, "loops": {"a": [1, None]}}, self.home / "checkpoints" / "best.ckpt")
        # As Karyon wrote it before.
        model = {"class_path": "lightning_modules.segmenter.DenseSegmenter", "init_args": dict(CARD.model)}
        model["init_args"]["decoder"] = model["init_args"].pop("postprocessing")
        old = json.loads((self.home / "torch" / "card.json").read_text()) | {"version": 1, "model": model}
        old["preparation"] = old.pop("preprocessing")
        del old["onnx"]
        (self.home / "torch" / "card.json").write_text(json.dumps(old))
        self.files = sorted(path for name in names for path in self.home.glob(f"*/{name}"))
        self.contents = {path: path.read_bytes() for path in self.home.glob("*/*")}
        self.path = self.files[0]

    def damage(self, rng: random.Random) -> None:
        self.path.write_bytes(self.contents[self.path])
        card = self.path.with_name("card.json")
        if card.exists():
            card.write_bytes(self.contents[card])
        self.path = rng.choice(self.files)
        special = (
            [damage.value] if self.path.suffix == ".json" else [damage.member] if self.path.suffix != ".onnx" else []
        )
        self.path.write_bytes(anyhow(rng, self.contents[self.path], *special))
        card = self.path.with_name("card.json")
        if self.path.suffix not in (".json", ".ckpt"):
            content = json.loads(card.read_text())
            key = "onnx" if self.path.suffix == ".onnx" else "weights"
            card.write_text(json.dumps({**content, key: {**content[key], **self.entry(self.path)}}))

    def read(self) -> Any:
        if self.path.suffix == ".ckpt":
            return self.weights(self.path)
        image = np.random.default_rng(0).integers(0, 255, (40, 33, 3), np.uint8)
        return self.load(self.path.parent, device="cpu").segment(image)


def microscopes(folder: Path) -> Target:
    """Files of Zeiss and Leica."""
    # Importing it takes longer than a file may take.
    import bioio_lif  # noqa: F401
    import test_microscopes as seeds

    from karyon.io.reading import open_image

    folder.mkdir(parents=True, exist_ok=True)
    stack = (seeds.STACK >> 8).astype(np.uint8)
    made = [seeds.write_czi(folder / "a.czi", stack), seeds.write_lif(folder / "a.lif", stack)]

    def read(path: Path) -> None:
        pages = open_image(path, channel=1)
        for page in range(min(len(pages), 9)):
            pages.read(page)

    return Files(folder, {path.name: path.read_bytes() for path in made}, read)


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
                    archive.writestr(f"{image}/masks/{k}.png", png(np.where(k == LABELS, 255, 0).astype(np.uint8)))
        seeds[name] = file.getvalue()

    def read(path: Path) -> None:
        source = Archive(path)
        for entry in scan_layout(source):
            read_entry_labels(source, entry, read_entry_image(source, entry).shape[:2])

    return Files(folder, seeds, read, damage.member)


def tables(folder: Path) -> Target:
    """Tables and outlines of objects, as other programs write them and as Karyon does."""
    from cli.records import read_images, read_objects, read_record
    from datamodules.content import read_content_manifest
    from datamodules.groups import by_table
    from datamodules.isbi2012 import read_section_manifest
    from datamodules.splits import Member, read_manifest
    from karyon.instances import Instances, Prediction
    from karyon.io.encoding import coco, geojson, png
    from karyon.io.result_tables import complete_images, read_rows
    from karyon.labels import encode_objects
    from karyon.layouts.all_layouts import LAYOUTS
    from karyon.layouts.dsb2018_annotation import SolutionTable
    from lightning_modules.callbacks.score_tables import IMAGE_COLUMNS

    found = Prediction("a.png", LABELS.shape, None, Instances.from_labels(LABELS))
    codes = "".join(f"a,{code},{LABELS.shape[0]},{LABELS.shape[1]},Public\n" for code in encode_objects(LABELS))
    outlines = io.BytesIO()
    np.save(outlines, np.array({"masks": LABELS, "filename": "a.png"}, dtype=object), allow_pickle=True)
    manifests = ROOT / "datamodules" / "manifests"
    seeds = {
        "solution.csv": f"ImageId,EncodedPixels,Height,Width,Usage\n{codes}".encode(),
        "coco/coco.json": coco(found),
        "qupath/a.geojson": geojson(found),
        "cellpose/a_seg.npy": outlines.getvalue(),
        "aperio/Annotations/a.xml": LAYOUTS["aperio"].writer.encode(None, LABELS),
        "groups.csv": b"image,patient\na.png,1\nb.png,2\n",
        "counts.csv": b"image,objects\na.png,3\nb.png,0\n",
        "content.csv": b"\n".join((manifests / "dsb2018.csv").read_bytes().split(b"\n")[:4]),
        "sections.csv": b"\n".join((manifests / "isbi2012.csv").read_bytes().split(b"\n")[:4]),
        "split.json": json.dumps({"parts": {"train": {"a": "1"}, "val": {"b": "2"}, "test": {}}}).encode(),
        "image_scores.csv": f"{','.join(IMAGE_COLUMNS)}\na,x,12,24,3,3,1.0{',3' * 10}\n".encode(),
        "object_scores.csv": b"image,id,score,iou\na,1,0.5,0.9\nb,2,1.0,0.0\n",
        "record.json": (ROOT / "results" / "records" / "default-model.json").read_bytes(),
    }
    members = [Member("a", "1", "", ""), Member("b", "2", "", "")]
    readers: dict[str, Callable[[Path], Any]] = {
        "solution.csv": lambda path: SolutionTable(path).read_labels("a", LABELS.shape),
        "counts.csv": lambda path: (list(read_rows(path)), complete_images(path.parent)),
        "content.csv": read_content_manifest,
        "groups.csv": lambda path: by_table(["a", "b"], path, "patient"),
        "sections.csv": read_section_manifest,
        "split.json": lambda path: read_manifest(path, members),
        "image_scores.csv": read_images,
        "object_scores.csv": read_objects,
        "record.json": read_record,
    }

    def read(path: Path) -> None:
        layout, *below = path.relative_to(folder).parts
        if below:
            for image in LAYOUTS[layout].images(folder / layout):
                image.read()
        else:
            readers[path.name](path)

    made = Files(folder, seeds, read, damage.value, damage.line)
    for images in ("coco", "qupath", "cellpose", "aperio/Tissue Images"):
        (folder / images).mkdir(exist_ok=True)
        (folder / images / "a.png").write_bytes(png(LABELS * 50))
    return made


def configs(folder: Path) -> Target:
    """Configs of trainings and sweeps, and the config that a run leaves."""
    from cli.commands import ALL
    from cli.sweep_study import read_sweep
    from cli.train import KaryonCLI
    from karyon.checkpoint import run_config
    from karyon.commands.main import run

    quickstart = (ROOT / "configs" / "quickstart.yaml").read_bytes()
    seeds = {
        "fit.yaml": quickstart,
        "again.yaml": quickstart,
        "sweep.yaml": (ROOT / "configs" / "sweeps" / "unet.yaml").read_bytes(),
        "version_0/config.yaml": quickstart,
    }

    def read(path: Path) -> None:
        if path.name == "sweep.yaml":
            read_sweep(path)
        elif path.name == "config.yaml":
            run_config(path.parent / "checkpoints" / "best.ckpt")
        else:
            sys.argv[1:] = ["fit", "--config", str(path), "--print_config"]
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
                try:
                    code: Any = run(sys.argv[1:], ALL, "python -m cli", "", lambda: KaryonCLI() and 0)
                except SystemExit as stop:
                    code = stop.code
            if code not in (0, None):
                raise DataError(*[line for line in said.getvalue().splitlines() if line.startswith("error: ")][-1:])

    return Files(folder, seeds, read, damage.line, damage.line)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "images": images,
    "microscopes": microscopes,
    "weights": lambda folder: Bundles(folder, "weights.*", "*.ckpt", "model.onnx"),
    "zips": zips,
    "tables": tables,
    "cards": lambda folder: Bundles(folder, "card.json"),
    "configs": configs,
}
