"""Configs of runs that were written with the class paths and arguments of before."""

import json
from pathlib import Path
from typing import Any

import yaml

from karyon.aliases import current_class, renamed_option, upgrade
from karyon.errors import DataError


def with_current_names(args: list[str]) -> list[str]:
    """A command line in today's names: of its options, their values, and what its config files hold.

    A config that has names of before is replaced by its upgraded content; all others stay files.

    Raises:
        DataError: a config is no text.

    >>> with_current_names(["test", "--model.init_args.decoder.init_args.threshold", "0.4"])
    ['test', '--model.init_args.postprocessing.init_args.threshold', '0.4']
    """
    current: list[str] = []
    for arg in args:
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            arg = renamed_option(name) + equals + (_value(name, value) if equals else "")
        elif current and current[-1].startswith("--") and "=" not in current[-1]:
            arg = _value(current[-1], arg)
        current.append(arg)
    return current


def _value(option: str, value: str) -> str:
    if option not in ("--config", "-c"):
        return current_class(value)
    path = Path(value)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8") if path.is_file() else value)
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8: name a YAML file, and save it so.") from None
    except (OSError, ValueError, yaml.YAMLError):
        # Whoever reads it next says what is wrong.
        return value
    upgraded = upgrade(content)
    return value if upgraded == content else json.dumps(upgraded)
