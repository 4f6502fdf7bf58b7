"""What commands measured, as JSON files: one way to write them, and one to read them that tells what is wrong with a file."""

import functools
import json
import types
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from tailmoe.training.errors import BadInputError

VERSION = 1  # of the shape of all records
NOTHING = (None, [], {})


@dataclass(kw_only=True)
class Record:
    """What a command measured, and what with; a subclass adds the numbers.

    In its file stand `kind` and `version` before the fields. A field that may be left out is, where it is None or empty.

    Args:
        command: The command line.
        commit: Of the source tree, with `-dirty` where it had changes; None outside a checkout.
        versions: Of Python and packages.
        hardware: `cpu`, `cores` and `accelerator`.
        date: Of the measurement, as 2026-11-23.
    """

    KIND: ClassVar[str]  # as the file has it
    NOUN: ClassVar[str]
    WRITER: ClassVar[str]  # the command that writes one

    command: str
    commit: str | None
    versions: dict[str, str]
    hardware: dict
    date: str

    def __post_init__(self) -> None:
        check_keys("hardware", self.hardware, ("cpu", "cores", "accelerator"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file.

        Raises:
            BadInputError: If there is none, or it holds no such record, or one of another version.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            reason = error.strerror
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            reason = f"it is not JSON ({error})"
        except ValueError as error:
            reason = str(error)
        raise BadInputError(f"`{path}` cannot be read as {cls.NOUN}: {reason}. `{cls.WRITER}` writes one.")

    @classmethod
    def from_dict(cls, content: object) -> Self:
        """The record of a file's content; raises a `ValueError` that tells what is wrong with it."""
        if not isinstance(content, dict):
            raise ValueError(f"it holds {_named(content)} instead of an object")
        kind, version = content.get("kind", cls.KIND), content.get("version")
        if kind != cls.KIND:
            raise ValueError(f"it is of kind {kind}")
        if version != VERSION:
            wrong = "has no version, as those of earlier tailmoe" if version is None else f"is of version {version}"
            raise ValueError(f"it {wrong}; this tailmoe reads version {VERSION}")
        return _built(cls, {key: value for key, value in content.items() if key not in ("kind", "version")}, "")

    def to_dict(self) -> dict:
        """The content of its file."""
        return {"kind": self.KIND, "version": VERSION, **_plain(self)}

    def save(self, path: str | Path) -> None:
        """Write the file whole, or leave it as it is."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        part.replace(path)


def check_keys(where: str, content: dict, keys: Iterable[str]) -> None:
    """Raise a `ValueError` that names the first key that is missing, for what a record holds as it is."""
    for key in keys:
        if key not in content:
            raise ValueError(f"it lacks `{where}.{key}`")


def _plain(value: object) -> object:
    if is_dataclass(value):
        values = ((each, getattr(value, each.name)) for each in fields(value))
        return {
            each.name: _plain(content) for each, content in values if content not in NOTHING or not _has_default(each)
        }
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _has_default(field: Field) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _built(kind: Any, value: Any, where: str) -> Any:
    """The value as a field of this type wants it; `where` is the field's place in the file."""
    if isinstance(kind, types.UnionType):
        kind, _ = get_args(kind)  # all are `X | None`
        if value is None:
            return None
    origin = get_origin(kind) or kind
    if is_dataclass(origin):
        return origin(**dict(_fields_of(origin, value, where)))
    if not isinstance(value, int | float if origin is float else origin):
        raise ValueError(f"`{where}` must be {origin.__name__}, got {_named(value)}")
    if origin is list and get_args(kind):
        return [_built(get_args(kind)[0], each, f"{where}[{index}]") for index, each in enumerate(value)]
    if origin is dict and get_args(kind):
        return {key: _built(get_args(kind)[1], each, f"{where}.{key}") for key, each in value.items()}
    return value


def _fields_of(kind: type, value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError(f"`{where}` must be an object, got {_named(value)}")
    inside, known = f"{where}." if where else "", {each.name: each for each in fields(kind)}
    for name in value:
        if name not in known:
            raise ValueError(f"`{inside}{name}` is unknown")
    for name, field in known.items():
        if name in value:
            yield name, _built(_hints(kind)[name], value[name], f"{inside}{name}")
        elif not _has_default(field):
            raise ValueError(f"it lacks `{inside}{name}`")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _named(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
