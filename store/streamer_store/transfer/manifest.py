"""The two documents of an export, as JSON with a checksum (pure).

`manifest.json` is written last and says that the export is whole. `progress.json` says how far an
export is, so that it can be continued.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

from streamer_store.schema import TABLES, Table
from streamer_store.table_names import TableNames
from streamer_store.values import Item, short_repr

MANIFEST: Final = "manifest.json"
PROGRESS: Final = "progress.json"
FORMAT: Final = "streamer-worker export"
VERSION: Final = 1
"""Of the format of the files. A release reads its own version and earlier ones."""
SCHEMA: Final = 1
"""Of the tables. It changes with a change that an earlier release cannot work with."""
MAX_SEGMENTS: Final = 64
MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
PART_NAME: Final = re.compile(
    rf"(?:{'|'.join(table.name for table in TABLES)})/\d{{2}}-\d{{4,9}}-[0-9a-f]{{8}}\.json\.gz",
    re.ASCII,
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file with items. `bytes` and `sha256` are those of the file."""

    name: str
    items: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole export. `parts`: for each table, by its name in the schema."""

    id: str
    release: str
    names: TableNames
    started_at: str
    ended_at: str
    segments: int
    parts: Mapping[str, Sequence[Part]]

    @property
    def items(self) -> dict[str, int]:
        """The number of items of each table."""
        return {table: sum(part.items for part in parts) for table, parts in self.parts.items()}

    def to_json(self) -> bytes:
        """Return the text of `manifest.json`."""
        tables = {
            table: {
                "items": self.items[table],
                "bytes": sum(part.bytes for part in parts),
                "parts": [asdict(part) for part in parts],
            }
            for table, parts in self.parts.items()
        }
        return _document(
            {
                "id": self.id,
                "release": self.release,
                **_names_json(self.names),
                "started_at": self.started_at,
                "ended_at": self.ended_at,
                "segments": self.segments,
                "tables": tables,
            }
        )


@dataclass(slots=True, kw_only=True)
class Segment:
    """How far the export of a segment is.

    `next_key`: the key after which it goes on. None: it begins, or it is done.
    """

    parts: list[Part] = field(default_factory=list)
    next_key: Item | None = None
    is_done: bool = False


@dataclass(slots=True, kw_only=True)
class Progress:
    """An export that is not whole. `segments`: those of each table, by its name."""

    id: str
    run: str
    """The run that writes it: eight hexadecimal digits. The names of the parts have it."""
    names: TableNames
    started_at: str
    segments: dict[str, list[Segment]]

    @property
    def part_names(self) -> set[str]:
        return {
            part.name
            for segments in self.segments.values()
            for segment in segments
            for part in segment.parts
        }

    def to_json(self) -> bytes:
        """Return the text of `progress.json`."""
        return _document(
            {
                "id": self.id,
                "run": self.run,
                **_names_json(self.names),
                "started_at": self.started_at,
                "tables": {
                    table: [asdict(segment) for segment in segments]
                    for table, segments in self.segments.items()
                },
            }
        )


def read_manifest(data: bytes) -> Manifest:
    """Return the manifest of its text. Raises ValueError with the reason."""
    document = _read_document(data)
    tables = _get(document, "tables", dict)
    parts = {
        table.name: _read_parts(_get(tables, table.name, dict), table)
        for table in TABLES
        if table.name in tables
    }
    if unknown := sorted(tables.keys() - parts.keys()):
        raise ValueError(f"unknown tables: {short_repr(unknown)}")
    names = [part.name for of_table in parts.values() for part in of_table]
    if len(set(names)) < len(names):
        raise ValueError("it names a part twice")
    return Manifest(
        id=_get(document, "id", str),
        release=_get(document, "release", str),
        names=_read_names(document),
        started_at=_get(document, "started_at", str),
        ended_at=_get(document, "ended_at", str),
        segments=_count(document, "segments"),
        parts=parts,
    )


def read_progress(data: bytes) -> Progress:
    """Return the progress of its text. Raises ValueError with the reason."""
    document = _read_document(data)
    tables = _get(document, "tables", dict)
    if tables.keys() != {table.name for table in TABLES}:
        raise ValueError(f"it is of other tables: {short_repr(sorted(tables))}")
    return Progress(
        id=_get(document, "id", str),
        run=_get(document, "run", str),
        names=_read_names(document),
        started_at=_get(document, "started_at", str),
        segments={
            table.name: [_read_segment(entry, table) for entry in _get(tables, table.name, list)]
            for table in TABLES
        },
    )


def sha256(data: bytes) -> str:
    """Return the checksum of a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _document(content: Mapping[str, Any]) -> bytes:
    document = {"format": FORMAT, "version": VERSION, "schema": SCHEMA, **content}
    document["sha256"] = _checksum(document)
    return json.dumps(document, indent=1).encode() + b"\n"


def _checksum(document: Mapping[str, Any]) -> str:
    """Return the checksum of everything else in a document, in a form without layout."""
    content = {name: value for name, value in document.items() if name != "sha256"}
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _read_document(data: bytes) -> Mapping[str, Any]:
    if not data.strip():
        raise ValueError("the file is empty")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON, or cut off: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"not a file of {FORMAT!r}")
    for name, known in (("version", VERSION), ("schema", SCHEMA)):
        found = _count(document, name)
        if found > known:
            raise ValueError(
                f"{name} {found} is newer than this release reads ({known}): upgrade"
                " streamer-worker"
            )
    if document.get("sha256") != _checksum(document):
        raise ValueError("its checksum does not match: the file was changed")
    return document


def _names_json(names: TableNames) -> dict[str, Any]:
    """Return the fields with the names. Earlier releases read `prefix` alone, and need it."""
    return {"prefix": names.prefix or "", "names": names.as_dict()}


def _read_names(document: Mapping[str, Any]) -> TableNames:
    prefix = _get(document, "prefix", str)
    if "names" not in document:  # an earlier release has written it
        return TableNames(**{table.name: prefix + table.name for table in TABLES})
    names = _get(document, "names", dict)
    return TableNames(**{table.name: _get(names, table.name, str) for table in TABLES})


def _read_parts(entry: Mapping[str, Any], table: Table) -> list[Part]:
    parts = [_read_part(part, table) for part in _get(entry, "parts", list)]
    items = _count(entry, "items")
    if items != sum(part.items for part in parts):
        raise ValueError(f"{table.name} has {items} items, and its parts have others")
    return parts


def _read_part(entry: Any, table: Table) -> Part:
    if not isinstance(entry, dict):
        raise ValueError(f"a part of {table.name} is no object")
    name, checksum = _get(entry, "name", str), _get(entry, "sha256", str)
    if not PART_NAME.fullmatch(name) or not name.startswith(f"{table.name}/"):
        raise ValueError(f"a part of {table.name} has a wrong name: {short_repr(name)}")
    if not _SHA256.fullmatch(checksum):
        raise ValueError(f"the checksum of {name} is wrong")
    return Part(
        name=name, items=_count(entry, "items"), bytes=_count(entry, "bytes"), sha256=checksum
    )


def _read_segment(entry: Any, table: Table) -> Segment:
    if not isinstance(entry, dict):
        raise ValueError(f"a segment of {table.name} is no object")
    next_key = entry.get("next_key")
    key = next_key.get(table.hash_key) if isinstance(next_key, dict) else None
    if next_key is not None and not (isinstance(key, dict) and isinstance(key.get("S"), str)):
        raise ValueError(f"the key of a segment of {table.name} is wrong")
    return Segment(
        parts=[_read_part(part, table) for part in _get(entry, "parts", list)],
        next_key=next_key,
        is_done=_get(entry, "is_done", bool),
    )


def _get(entry: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value:
    value = entry.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is missing, or no {kind.__name__}")
    return value


def _count(entry: Mapping[str, Any], name: str) -> int:
    value = _get(entry, name, int)
    if isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is no count: {short_repr(value)}")
    return value
