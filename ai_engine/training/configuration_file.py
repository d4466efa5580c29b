"""A training configuration as a TOML file, and as the JSON that a run folder keeps."""

import dataclasses
import json
import tomllib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ai_engine.errors import ConfigurationRefused
from ai_engine.training.configuration import Configuration

_ADAPTER: TypeAdapter[Configuration] = TypeAdapter(Configuration)
_HINT = "See docs/reference/training-configuration.md."


def read_configuration(path: Path) -> Configuration:
    """Read and check a file.

    Raises
    ------
    ConfigurationRefused
        If it cannot be read, a key is unknown or missing, or a value is of a wrong type or
        impossible. The message names each such key and what is expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read ({error})."
        raise ConfigurationRefused(msg) from error
    return parse_configuration(text, str(path))


def parse_configuration(text: str, where: str = "configuration") -> Configuration:
    """Check the text of a configuration.

    Parameters
    ----------
    text
        TOML.
    where
        It comes from, for messages.

    Raises
    ------
    ConfigurationRefused
        As ``read_configuration``.
    """
    try:
        return _ADAPTER.validate_json(json.dumps(tomllib.loads(text)), strict=True)
    except (tomllib.TOMLDecodeError, TypeError) as error:
        msg = f"{where} is no TOML of texts, numbers, lists and tables ({error})."
        raise ConfigurationRefused(msg) from error
    except ValidationError as error:
        found = error.errors()
        told = "\n".join(
            f"  {_told(each['loc'], each['type'], each['msg'])}"
            for each in found
            if not _only_follows(each["loc"], found)
        )
        msg = f"{where} cannot be used:\n{told}\n{_HINT}"
        raise ConfigurationRefused(msg) from error


def as_json(configuration: Configuration) -> dict[str, Any]:
    """Give every key with its value, defaults filled in."""
    dumped: dict[str, Any] = _ADAPTER.dump_python(configuration, mode="json")
    return dumped


def from_json(content: str) -> Configuration:
    """Read what ``as_json`` gave.

    Raises
    ------
    ConfigurationRefused
        If it is something else.
    """
    try:
        return _ADAPTER.validate_json(content, strict=True)
    except ValidationError as error:
        msg = f"the configuration of the run is damaged or of another release ({error})"
        raise ConfigurationRefused(msg) from error


def described_keys(table: type) -> dict[str, str]:
    """Give the meaning of each key of a table."""
    return {name: _description(hint) for name, hint in _hints(table).items()}


def _only_follows(location: tuple[int | str, ...], found: Sequence[ErrorDetails]) -> bool:
    """Whether a list is only wrong because something in it is."""
    return any(
        len(each["loc"]) > len(location) and each["loc"][: len(location)] == location
        for each in found
    )


def _told(location: Sequence[int | str], kind: str, message: str) -> str:
    """Say what is wrong with one key and what may stand there."""
    name, owner, hint = _found(location)
    if kind == "unexpected_keyword_argument":
        keys = ", ".join(sorted(_hints(owner)))
        return f"{name}: there is no such key. The keys of this table are: {keys}."
    if kind in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return f"{name}: is missing. {_description(hint)}."
    meaning = _description(hint)
    said = message.removeprefix("Value error, ").removeprefix("Input ")
    return f"{name}: {said}." + (f" {meaning}." if meaning else "")


def _found(location: Sequence[int | str]) -> tuple[str, type, object]:
    """Follow a location to its key: its name, the table that it is in, and its type."""
    name = ""
    owner: type = Configuration
    hint: object = object
    current: object = Configuration
    for step in location:
        if isinstance(step, int):
            name += f"[{step}]"
            current = next(iter(get_args(_bare(current))), object)
            continue
        if get_origin(_bare(current)) is dict:
            name += f".{step}"
            current = get_args(_bare(current))[1]
            continue
        tables = [each for each in _tables(current) if step in _hints(each)]
        if not tables and step in _tags(current):
            current = _tags(current)[step]
            continue
        name += f".{step}" if name else step
        owner = tables[0] if tables else next(_tables(current), owner)
        hint = _hints(owner).get(step, object) if tables else object
        current = hint
    return name or "the file", owner, hint


def _tables(hint: object) -> Iterator[type]:
    """Give the tables among what a hint allows."""
    bare = _bare(hint)
    if isinstance(bare, type) and dataclasses.is_dataclass(bare):
        yield bare
    elif get_origin(bare) in {Union, types.UnionType}:
        for each in get_args(bare):
            yield from _tables(each)


def _tags(hint: object) -> dict[str, type]:
    """Give the table of each value of ``layout``."""
    return {
        value: table
        for table in _tables(hint)
        if "layout" in _hints(table)
        for value in get_args(_bare(_hints(table)["layout"]))
    }


def _bare(hint: object) -> object:
    return _bare(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def _hints(table: type) -> dict[str, object]:
    hints = get_type_hints(table, include_extras=True)
    return {each.name: hints[each.name] for each in dataclasses.fields(table)}


def _description(hint: object) -> str:
    infos = [each for each in get_args(hint)[1:] if isinstance(each, FieldInfo)]
    return next((each.description for each in infos if each.description), "")
