"""Bundles that want to run code, reach the network, read other files or take all memory, each in a way of its own."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from bundles import CARD, DETECTOR, SEGMENTER, STAGES, write_bundle, write_two_stage_bundle

from karyon.bundle import file_entry

UNET, SMP = "karyon.networks.unet.UNet", "segmentation_models_pytorch.Unet"
STAGED = "karyon.detection.two_stage.TwoStageNetwork"
RELU = "torch.nn.ReLU"
CONV = {"in_channels": 1, "out_channels": 1, "kernel_size": 1}
CODE = "__import__('pathlib').Path('executed').touch()"
HUGE = 10**9

Spoil = Callable[[Path], None]


class Call:
    """What a pickle of runs."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def card(**changes: Any) -> Spoil:
    """A card with other entries."""
    return lambda folder: write_card(folder, {**read(folder), **changes})


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "card.json").read_text())


def write_card(folder: Path, content: Any) -> None:
    (folder / "card.json").write_text(json.dumps(content))


def model(**parts: Any) -> Spoil:
    return card(model={**CARD.model, **parts})


def network(path: Any, **init_args: Any) -> Spoil:
    return model(network={"class_path": path, "init_args": init_args})


def unet(**init_args: Any) -> Spoil:
    return network(UNET, **init_args)


def stages(**init_args: Any) -> Spoil:
    """Two stages that would be right, but for one thing."""
    return lambda folder: write_two_stage_bundle(folder, **init_args) and None


def normalization(path: Any, **init_args: Any) -> Spoil:
    return card(preprocessing={**CARD.preprocessing, "normalization": {"class_path": path, "init_args": init_args}})


def text(content: str | bytes) -> Spoil:
    """Anything in place of a card."""
    content = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / "card.json").write_bytes(content) and None


def file(name: str, content: bytes | Callable[[Path], Any]) -> Spoil:
    """Another file of weights, for which the card is right."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
        key = "onnx" if name.endswith(".onnx") else "weights"
        write_card(folder, {**read(folder), key: {**read(folder)[key], **file_entry(path)}})

    return spoil


def saved(content: Any, **kwargs: Any) -> Spoil:
    return file("weights.pt", lambda path: torch.save(content, path, **kwargs))


def safetensors(header: Any, data: bytes = b"") -> Spoil:
    coded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return file("weights.safetensors", len(coded).to_bytes(8, "little") + coded + data)


def bomb(path: Path) -> None:
    """Weights whose 160 MB are packed into less than one."""
    file = io.BytesIO()
    torch.save({"network.weight": torch.zeros(4 * 10**7)}, file)
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))


def external(where: str) -> Spoil:
    """An ONNX model whose weights lie in another file."""

    def write(path: Path) -> None:
        whole = onnx.load(path)
        for tensor in whole.graph.initializer:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=where)
        path.write_bytes(whole.SerializeToString())

    return file("model.onnx", write)


def nodes(operator: str, domain: str = "", inputs: tuple[str, ...] = ("image",), **attributes: Any) -> Spoil:
    """An ONNX model of one node."""
    shapes = [onnx.helper.make_tensor_value_info(name, 1, [1, None, None, None]) for name in ("image", "maps")]
    node = onnx.helper.make_node(operator, inputs, ["maps"], domain=domain, **attributes)
    opsets = [onnx.helper.make_opsetid("", 17), *([onnx.helper.make_opsetid(domain, 1)] if domain else [])]
    made = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", shapes[:1], shapes[1:]), opset_imports=opsets, ir_version=8
    )
    return file("model.onnx", made.SerializeToString())


def linked(name: str, target: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return spoil


def pipe(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")


def nested(depth: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"class_path": "torch.nn.Conv2d", "init_args": CONV}
    for _ in range(depth):
        entry = {"class_path": "karyon.networks.padding.Padded", "init_args": {"network": entry}}
    return entry


def as_texts(of: Any) -> list[str]:
    return [json.dumps(of), f"class_path: {of['class_path']}\ninit_args: {json.dumps(of['init_args'])}", "evil.json"]


SHELL = {"class_path": "os.system", "init_args": {"command": "touch executed"}}
EXEC = {"class_path": "builtins.exec", "init_args": {"source": CODE}}
WEIGHT, BIAS = torch.zeros(1, 1, 1, 1), torch.zeros(1)
STATE = {"network.weight": WEIGHT, "network.bias": BIAS}
F32 = {"dtype": "F32", "shape": [1, 1, 1, 1], "data_offsets": [0, 4]}

HOSTILE: dict[str, Spoil] = {
    # Classes by name.
    **{f"network is {path}": network(path) for path in ("os.system", "evil.Net", "subprocess.Popen", "torch.hub.load")},
    "network is code": model(network=EXEC),
    "network is a text of code": model(network=CODE),
    "network is a private name": network("karyon.building.importlib.import_module", name="evil"),
    "network is a layer": network(RELU),
    "network is a loss": network("karyon.losses.SoftDice"),
    "network is none": model(network=None),
    "network is a list": model(network=[SHELL]),
    "class is a list": network([UNET]),
    "class is a dict": network({"class_path": UNET}),
    "class has line breaks": network("evil\n\033[31m.Net"),
    "class goes up": network("karyon.networks.unet..UNet"),
    "representation is a network": model(representation={"class_path": UNET}),
    "postprocessing is a normalization": model(postprocessing={"class_path": "karyon.preprocessing.ScaleToUnit"}),
    "normalization is a shell": normalization("os.system", command="touch executed"),
    "normalization is a wide network": normalization(UNET, widths=[HUGE]),
    "normalization beyond percents": normalization("karyon.preprocessing.PercentileNormalize", low=500.0),
    # Two stages.
    "detector is a shell": stages(detector=SHELL),
    "detector is a text of code": stages(detector=CODE),
    "detector is another network": stages(detector=SEGMENTER),
    "detector has foreign parts": stages(detector={**DETECTOR, "init_args": {"backbone": SHELL}}),
    "segmenter is code": stages(segmenter=EXEC),
    "segmenter is a list": stages(segmenter=[SHELL]),
    "segmenter is none": stages(segmenter=None),
    "stages within stages": stages(segmenter={"class_path": STAGED, "init_args": STAGES}),
    **{f"crops of {side!r} px": stages(crop_size=side) for side in (2**14, HUGE, 0, -1, True, "16", 16.5)},
    **{f"a margin of {margin!r}": stages(margin=margin) for margin in (float("nan"), 1e5, -0.1, "0", None)},
    # Texts where objects are expected.
    **{f"network as text {k}": model(network=text) for k, text in enumerate(as_texts(SHELL))},
    **{f"activation as text {k}": unet(activation=text) for k, text in enumerate(as_texts(SHELL))},
    **{f"activation as text {k + 3}": unet(activation=text) for k, text in enumerate(as_texts(EXEC))},
    **{
        f"loss as text {k}": model(
            representation={"class_path": CARD.model["representation"]["class_path"], "init_args": {"loss": text}}
        )
        for k, text in enumerate(as_texts(SHELL))
    },
    # Arguments.
    "activation is a shell": unet(activation=SHELL),
    "activation is a function of torch": unet(activation="torch.load"),
    "activation has foreign arguments": unet(activation={"class_path": RELU, "init_args": {"inplace": SHELL}}),
    "activation has dict_kwargs": unet(activation={"class_path": RELU, "dict_kwargs": SHELL}),
    "network has dict_kwargs": model(network={"class_path": UNET, "dict_kwargs": {"activation": SHELL}}),
    "network has an optimizer": unet(optimizer=SHELL),
    "normalization layer is code": unet(normalization=EXEC),
    "argument with a strange name": unet(**{"widths\n": [1]}),
    "argument named kwargs": network(SMP, kwargs={"encoder_weights": "imagenet"}),
    "padded shell": network("karyon.networks.padding.Padded", network=SHELL),
    "loss is a shell": model(
        representation={"class_path": CARD.model["representation"]["class_path"], "init_args": {"loss": SHELL}}
    ),
    "padding is code": network("torch.nn.Conv2d", **CONV, padding_mode=CODE),
    # Encoders and weights from elsewhere.
    **{
        f"encoder {name}": network(SMP, encoder_name=name)
        for name in ("tu-hf-hub:evil/net", "hf-hub:evil/net", "tu-resnet18", "tu-local-dir:/tmp", "../evil", "", "none")
    },
    "encoder by default, with its weights": network(SMP),
    "encoder's weights from an address": network(SMP, encoder_name="resnet18", encoder_weights="https://localhost/w"),
    "pretrained by default": network("karyon.networks.segnet.SegNet", pretrained="imagenet"),
    # Numbers.
    "widths of a billion": unet(widths=[HUGE, HUGE], dropout=[0.0, 0.0]),
    "widths of a million": unet(widths=[2**20] * 5),
    "widths without end": unet(widths=[1] * 30_000, dropout=[0.0] * 30_000),
    "layers without end": network("karyon.networks.fc_densenet.FCDenseNet", layers=[2**20, 4]),
    "a kernel of a million": network("torch.nn.Conv2d", **{**CONV, "kernel_size": 2**20}),
    "channels below zero": network("torch.nn.Conv2d", **{**CONV, "out_channels": -1}),
    "image size of a billion": card(preprocessing={**CARD.preprocessing, "image_size": [HUGE, HUGE]}),
    "image size below zero": card(preprocessing={**CARD.preprocessing, "image_size": [-8, 8]}),
    "channels as a truth value": card(preprocessing={**CARD.preprocessing, "channels": True}),
    "normalization is not a number": normalization("karyon.preprocessing.PercentileNormalize", low=float("nan")),
    "diameter is not a number": card(object_diameter=float("nan")),
    "diameter without end": card(object_diameter=float("inf")),
    "diameter below zero": card(object_diameter=-1.0),
    # Cards that are none.
    "nested 10,000 deep": text('{"a":' * 10_000 + "1" + "}" * 10_000),
    "lists 100,000 deep": text("[" * 100_000),
    **{f"networks {depth} deep": model(network=nested(depth)) for depth in (120, 300)},
    "of 3 MB": text('{"version": 2, "name": "' + "a" * 3 * 2**20 + '"}'),
    "not UTF-8": text(b'\xff\xfe{"version": 2}'),
    "a pickle": text(pickle.dumps(Call(os.system, "touch executed"))),
    "YAML that runs": text("!!python/object/apply:os.system ['touch executed']"),
    "a number of 5,000 digits": text('{"version": ' + "9" * 5000 + "}"),
    "version 1 that runs": card(version=1, model={"class_path": "os.system", "init_args": {"network": SHELL}}),
    **{f"version {value!r}": card(version=value) for value in (0, 1.5, "2", None, [2], True)},
    **{
        f"{entry} of another type": card(**{entry: 3})
        for entry in ("name", "licence", "model", "preprocessing", "data")
    },
    **{
        f"{entry} is a text": card(**{entry: "evil"}) for entry in ("metrics", "training", "weights", "onnx", "version")
    },
    "entries unknown": card(evil=SHELL),
    "a path for a card": linked("card.json", "/dev/zero"),
    # Files of weights.
    "weights run a shell": saved(Call(os.system, "touch executed")),
    "weights run code": saved({"network.weight": Call(exec, CODE)}),
    "weights run a shell, in the old format": saved(
        Call(os.system, "touch executed"), _use_new_zipfile_serialization=False
    ),
    "weights are a plain pickle": file("weights.pt", pickle.dumps(Call(os.system, "touch executed"))),
    "weights are a script": file("weights.pt", lambda path: torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)),
    "weights are a module": saved(torch.nn.Conv2d(1, 1, 1)),
    "weights are a list": saved([WEIGHT]),
    "weights are numbers": saved({"network.weight": 3}),
    "weights are sparse": saved({**STATE, "network.weight": WEIGHT.to_sparse()}),
    "weights are nowhere": saved({**STATE, "network.weight": WEIGHT.to("meta")}),
    "weights are one number": saved({"network.weight": WEIGHT.expand(2**15, 2**15, 1, 1), "network.bias": BIAS}),
    "weights are not finite": saved({**STATE, "network.bias": BIAS / 0}),
    "weights are a bomb": file("weights.pt", bomb),
    "weights with a header that lies": safetensors({"network.weight": {**F32, "data_offsets": [0, HUGE]}}, b"1234"),
    "weights with a header without end": file("weights.safetensors", (2**62).to_bytes(8, "little") + b"{}"),
    "weights that overlap": safetensors({"network.weight": F32, "network.bias": F32}, b"1234"),
    "weights of no type": safetensors({"network.weight": {**F32, "dtype": "os.system"}}, b"1234"),
    "weights of a nested header": safetensors(b"[" * 100_000),
    "weights of another name": card(weights={"file": "../../evil", "sha256": "0"}),
    "weights of an empty name": card(weights={"file": "", "sha256": "0"}),
    "weights of a strange name": card(weights={"file": "a\0\033[31m\n", "sha256": "0"}),
    "weights of no name": card(weights={}),
    "weights are a device": linked("weights.safetensors", "/dev/zero"),
    "weights are a pipe": pipe,
    "weights are a loop": linked("weights.safetensors", "weights.safetensors"),
    "weights are the password file": linked("weights.safetensors", "/etc/passwd"),
    # ONNX.
    **{f"onnx points to {where}": external(where) for where in ("../secret.bin", "/etc/passwd", "executed")},
    "onnx of foreign code": nodes("Shell", "evil"),
    "onnx of another size": nodes("Transpose", perm=[0, 1, 3, 2]),
    "onnx of another shape": nodes("Flatten"),
    "onnx without an image": nodes("RandomNormal", inputs=(), shape=[1, 1, 8, 8]),
    "onnx is none": file("model.onnx", b"onnx"),
    "onnx is empty": file("model.onnx", b""),
}


def write_hostile(folder: Path, name: str) -> None:
    """A bundle that would be right, but for one thing."""
    write_bundle(folder, onnx=name.startswith("onnx"))
    HOSTILE[name](folder)
    (folder / "evil.json").write_text(json.dumps(SHELL))
    (folder / "evil.py").write_text(CODE)
