"""Says in one sentence what is wrong with a config: the key, where it stands, what is allowed there."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from karyon.errors import DataError, first_line

MOST_NAMES = 15  # in a sentence
# Where classes lie that a config names without the path of their module.
NAMED = ("karyon", "lightning_modules", "datamodules", "lightning.pytorch", "torch.optim", "albumentations")

KEY = re.compile(r'^(\s*).*Parser key "([^"]+)"')
CLASS = re.compile(r"Problem with given class_path '([^']+)'")
OPTION = re.compile(r"Option '([^']+)' is not accepted(.*)")
MADE = re.compile(r"class_path='([^']+)'")
UNKNOWN = re.compile(r"unrecognized arguments: (\S+)|does not accept option '([^']+)'")
NO_VALUE = re.compile(r"argument (\S+): expected one argument")
NO_CLASS = re.compile(r"module '([^']+)' has no attribute '(\w+)'|Expected a dot import path string: (\S+)")
NO_MODULE = re.compile(r"No module named '([^']+)'")
REQUIRED = re.compile(r"the following arguments are required: (.+?)(?:\. Got value|$)", re.MULTILINE)
EXPECTED = re.compile(r"Expected an? (<class '\w+'>|typing\.Literal\[.*?\])")
GIVEN = re.compile(r"(?:Given|Got) value: (.+?)(?:\. Got value|$)|Unable to load config '(.*)'", re.MULTILINE)
# Of PyTorch, where the first layer is a convolution, or a batch norm.
CHANNELS = re.compile(
    r"to have (\d+) channels, but got (\d+) channels|running_mean should contain (\d+) elements not (\d+)"
)


class ConfigParser(LightningArgumentParser):
    """Parses a command line and its config files, and says in one sentence what it does not understand.

    Attributes:
        of_commands: the parsers of all commands.
    """

    of_commands: Sequence[ArgumentParser] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            # Of a class within the config: whoever has begun says it.
            super().error(message, ex)
        options = {key for parser in self.of_commands for key in vars(parser.get_defaults().as_flat())}
        raise DataError(sentence(message, options)) from ex


def sentence(message: str, options: Iterable[str]) -> str:
    """What jsonargparse says in up to a hundred lines.

    Args:
        message: its own.
        options: that there are, such as ``trainer.max_epochs``.
    """
    if re.search("Problems parsing config|Unexpected config|File does not exist", message) and (said := _unreadable()):
        return said
    place = _place(message)
    if found := OPTION.search(message):
        # Of an optimizer or a scheduler the class comes behind.
        made = MADE.search(found[2])
        path = made[1] if made else CLASS.findall(message[: found.start()])[-1]
        return _unknown(found[1], place, f" ({_short(path)})", _arguments(path))
    if found := UNKNOWN.search(message):
        return _unknown_option(found[1] or found[2], options)
    if found := NO_VALUE.search(message):
        return f"{found[1]} has no value: write one after it."
    wanted, value = _wanted(message)
    if (found := NO_CLASS.search(message)) and not (set(wanted) - {"null"} and value.islower()):
        return _no_class(place, found[2] or found[3], found[1])
    if found := NO_MODULE.search(message):
        return f"{_where(place)}{place}: there is no module {found[1]}: check the path of the class."
    if found := REQUIRED.search(message):
        missing = re.sub(r"\b\w+\.(data|model)\b", r"\1", found[1])
        return f"{place or 'The config'} lacks {missing}: give it there, or on the command line."
    return _wrong_value(place, message)


def _wrong_value(place: str, message: str) -> str:
    wanted, value = _wanted(message)
    # A class with all that it is made of.
    if place and re.match(r"[{\[]|Namespace|NestedArg", value):
        return f"{_where(place)}{place} cannot be used: expected a class_path, and init_args as the class has."
    if place and value:
        expected = " or ".join(wanted) or "options below it"
        return f"{_where(place, value)}{place} is {value}: expected {expected}."
    return f"{' '.join(message.split()).removesuffix('.')}: see --help."


def _wanted(message: str) -> tuple[list[str], str]:
    """The types that are allowed, and what was given."""
    if not (given := GIVEN.search(message)):
        return [], ""
    # Not what could stand in place of all that it is part of.
    kinds = EXPECTED.findall(message[message.rfind("Parser key", 0, given.start()) : given.start()])
    return list(dict.fromkeys(map(_in_words, kinds))), given[1] or given[2]


def _place(message: str) -> str:
    """The keys that lead to what is wrong, as deep as they go."""
    keys: list[str] = []
    depth = -1
    for line in message.splitlines():
        if (found := KEY.search(line)) and len(found[1]) > depth and keys[-1:] != [found[2]]:
            depth = len(found[1])
            keys.append(found[2])
    return ".".join(keys)


def _unknown_option(name: str, options: Iterable[str]) -> str:
    if not name.startswith("-") and "." not in name and name not in options:
        return f"{name} is not an option: write options as --KEY VALUE, or in a file for --config."
    parts = name.lstrip("-").partition("=")[0].split(".")
    for depth, part in enumerate(parts):
        above = "".join(f"{parent}." for parent in parts[:depth])
        here = {key.removeprefix(above).split(".")[0] for key in options if key.startswith(above)}
        if part not in here:
            return _unknown(part, above.removesuffix("."), "", here)
    return f"{name} is not an option: see --help."


def _unknown(name: str, place: str, kind: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = get_close_matches(name, known, 1)
    hint = f"the nearest is {near[0]}" if near else "there is none like it"
    listed = f"; expected {', '.join(known)}" if len(known) <= MOST_NAMES else ""
    where = _where(f"{place}.{name}".lstrip("."))
    return f"{where}{name} is not an option of {place or 'a config'}{kind}: {hint}{listed}."


def _no_class(place: str, name: str, module: str | None) -> str:
    known = {
        each
        for path, loaded in list(sys.modules.items())
        if path == module or (module is None and path.startswith(NAMED))
        for each, value in vars(loaded).items()
        if inspect.isclass(value)
    }
    near = get_close_matches(_short(name), sorted(known), 3)
    hint = f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}" if near else "give its whole path"
    full = f"{module}.{name}" if module else name
    return f"{_where(place, full)}{place}: there is no class {full}: {hint}."


def _arguments(path: str) -> set[str]:
    """The options of a class, those of its bases too."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(resolve_name(path), "of", fail_untyped=False)
    return {key.split(".")[1] for key in vars(parser.get_defaults().as_flat())}


def _short(path: str) -> str:
    return path.rpartition(".")[2]


def _in_words(kind: str) -> str:
    """``int`` of ``<class 'int'>``, values of a Literal."""
    name = re.sub(r"<class '(\w+)'>|typing\.Literal\[(.*)\]", lambda found: found[1] or found[2], kind)
    return {"NoneType": "null", "bool": "true or false"}.get(name, name.replace("'", ""))


def _config_files() -> list[Path]:
    args = [part for arg in sys.argv for part in arg.split("=", 1)]
    return [Path(value) for option, value in pairwise(args) if option in ("-c", "--config") and value[:1] != "{"]


def _unreadable() -> str:
    """Of a config file that is none; "" where all are."""
    for file in _config_files():
        try:
            content = yaml.compose(file.read_bytes())
        except OSError as error:
            return f"{file} cannot be read ({error.strerror}): check the path of the config."
        except (ValueError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            reason = getattr(error, "problem", None) or first_line(error)
            return f"{file}{line}: not valid YAML ({reason}): mend it there."
        if not isinstance(content, yaml.MappingNode):
            return f"{file} holds no options: expected keys such as model, data, trainer."
    return ""


def _where(place: str, value: str = "") -> str:
    """The config file and its line where something stands, with a value if it is given; "" where it is in no file."""
    for file in reversed(_config_files()):
        try:
            content = yaml.compose(file.read_bytes())
        except (OSError, ValueError, yaml.YAMLError):
            continue
        for name, node in _entries("", content):
            if name == place and value in ("", node.value):
                return f"{file}, line {node.start_mark.line + 1}: "
    return ""


def _entries(name: str, node: Any) -> Iterator[tuple[str, yaml.Node]]:
    """Every node below a node with the keys that lead to it, without those that every class has."""
    yield name, node
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            inner = key.value not in ("init_args", "class_path")
            yield from _entries(f"{name}.{key.value}".lstrip(".") if inner else name, child)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _entries(name, child)


@contextmanager
def in_one_sentence(config: Namespace) -> Iterator[None]:
    """Lets a class refuse its arguments in its own words: jsonargparse wraps its sentence into several others.

    Args:
        config: of which the classes are made.

    Raises:
        DataError: it does.
    """
    try:
        yield
    except (ValueError, MisconfigurationException) as error:
        cause: BaseException = error
        while isinstance(cause.__cause__, ValueError | DataError):
            cause = cause.__cause__
        said = " ".join(str(cause).split())
        # Of many classes none says where its argument stands.
        keys = [key for key, value in config.items() if value and f"'{value}'" in said]
        raise DataError(f"{keys[0]}: {said}" if len(keys) == 1 else said) from cause


def check_settings(config: Namespace) -> None:
    """Refuses what Lightning would refuse in words that do not name the option, or in the middle of the work.

    Raises:
        DataError: a mode is neither, or a callback cannot work with our models.
    """
    for name in ("checkpoint", "last_checkpoint"):
        if (mode := config[name].mode) not in ("min", "max"):
            raise DataError(f"{name}.mode is '{mode}': expected min or max.")
    callbacks = config.trainer.callbacks or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if _short(callback.class_path) == "LearningRateFinder":
            raise DataError(
                "trainer.callbacks: LearningRateFinder cannot set a rate that stands in the config, below "
                "model.optimizer: leave it out, and try rates by python -m cli sweep."
            )


@contextmanager
def fitting_parts() -> Iterator[None]:
    """Says in one sentence that Lightning refuses a setting, or that data and network do not fit together.

    Raises:
        DataError: it is so.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise DataError(f"Lightning refuses a setting: {' '.join(str(error).split())}") from error
    except RuntimeError as error:
        if not (found := CHANNELS.search(str(error))):
            raise
        network, data = (found[1], found[2]) if found[1] else (found[4], found[3])
        raise DataError(
            f"The network takes images of {network} channels, the data module gives {data}: change "
            "data.init_args.channels, or the channels of the network."
        ) from error
