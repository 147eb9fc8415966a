"""What classes and arguments were called before, so that older bundles and configs of runs still load."""

from typing import Any

Config = dict[str, Any]

CLASSES = {
    f"lightning_modules.representations.{method}.{name}Decoder": (
        f"karyon.representations.{method}.postprocessing.{name}Postprocessing"
    )
    for method, name in (
        ("foreground", "Foreground"),
        ("foreground", "Watershed"),
        ("border", "Border"),
        ("distance", "Distance"),
        ("star", "Star"),
        ("flow", "Flow"),
    )
} | {
    f"lightning_modules.representations.{method}.{method.title()}": (
        f"karyon.representations.{method}.loss.{method.title()}"
    )
    for method in ("foreground", "border", "distance", "star", "flow")
}
CLASSES |= {
    "lightning_modules.detection_decoders.MaskDecoder": "karyon.detection.postprocessing.MaskPostprocessing",
    "lightning_modules.detection_decoders.BoxDecoder": "karyon.detection.postprocessing.BoxPostprocessing",
    "lightning_modules.blocks.Blockwise": "karyon.inference.blocks.Blocks",
    "datamodules.transforms.ScaleToUnit": "karyon.preprocessing.ScaleToUnit",
    "datamodules.transforms.PercentileNormalize": "karyon.preprocessing.PercentileNormalize",
    "datamodules.dim_objects.DimObjects": "datamodules.augmentation.dim_objects.DimObjects",
    "datamodules.stain_augmentation.StainVariation": "datamodules.augmentation.stain.StainVariation",
    "datamodules.section_noise.MissingSection": "datamodules.augmentation.section_noise.MissingSection",
    "datamodules.section_noise.Misalignment": "datamodules.augmentation.section_noise.Misalignment",
}
# Of these only the place has changed.
MODULES = {
    "lightning_modules.networks.": "karyon.networks.",
    "lightning_modules.losses.": "karyon.losses.",
    "lightning_modules.metrics.": "karyon.metrics.",
    "datamodules.layouts.": "karyon.layouts.",
}
ARGUMENTS = {
    "decoder": "postprocessing",
    "kinds": "image_types",
    "val_kinds": "val_image_types",
    "upscale_to": "rescale_to",
}
INFERENCE = "lightning_modules.inference."


def current_class(name: str) -> str:
    """What a class is called today.

    >>> current_class("lightning_modules.networks.unet.UNet"), current_class("torch.nn.ReLU")
    ('karyon.networks.unet.UNet', 'torch.nn.ReLU')
    """
    for old, new in MODULES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return CLASSES.get(name, name)


def renamed_option(option: str) -> str:
    """What an option of the command line, such as ``--model.init_args.decoder``, is called today."""
    return ".".join(ARGUMENTS.get(part, part) for part in option.split("."))


def upgrade(config: Any) -> Any:
    """A config, or a part of one, in today's names; the same where it has none of before.

    >>> upgrade({"class_path": "lightning_modules.segmenter.DenseSegmenter", "init_args": {"decoder": None}})
    {'class_path': 'lightning_modules.segmenter.DenseSegmenter', 'init_args': {'postprocessing': None}}
    """
    if isinstance(config, str):
        return current_class(config)
    if isinstance(config, list):
        return [upgrade(value) for value in config]
    if not isinstance(config, dict):
        return config
    upgraded: Config = {}
    for key, value in config.items():
        if key == "init_args" and isinstance(value, dict):
            value = _upgrade_arguments(value, str(config.get("class_path", "")))
        upgraded[key] = upgrade(value)
    return upgraded


def _upgrade_arguments(arguments: Config, owner: str) -> Config:
    # A network may have a decoder of its own.
    if owner and not owner.startswith(("lightning_modules.", "datamodules.")):
        return arguments
    if owner.startswith("lightning_modules.networks."):
        return arguments
    renamed = {ARGUMENTS.get(key, key): value for key, value in arguments.items()}
    if "inference" in renamed:
        renamed |= _inference(renamed.pop("inference"))
    return renamed


def _inference(inference: Any) -> Config:
    """The arguments that have taken the place of nested classes: rotations, rescale_to, blocks."""
    if not inference:
        return {}
    if isinstance(inference, str):
        inference = {"class_path": inference}
    name, arguments = inference["class_path"].removeprefix(INFERENCE), inference.get("init_args") or {}
    inner = _inference(arguments.get("inner"))
    match name:
        case "DihedralAverage":
            return {**inner, "rotations": True}
        case "EnlargeSmall":
            return {**inner, "rescale_to": arguments["diameter"]}
        case "Tiled":
            # Windows that were blended have become blocks that are put together object by object.
            return {**inner, "blocks": {"class_path": "karyon.inference.blocks.Blocks"}}
    return inner


def upgrade_card(card: Config) -> Config:
    """A bundle's card of version 1 as one of version 2, which knows nothing of Lightning's modules."""
    if card.get("version") != 1:
        return card
    model = upgrade(card["model"])["init_args"]
    parts = ("network", "representation", "postprocessing", "channels_last")
    upgraded = {key: value for key, value in card.items() if key not in ("model", "preparation")}
    upgraded["model"] = {part: model[part] for part in parts if part in model}
    upgraded["preprocessing"] = upgrade(card["preparation"])
    return {**upgraded, "onnx": None, "version": 2}
