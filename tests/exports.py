"""Exports that were changed, cut off, or are not exports."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from streamer_store.values import MAX_ITEM_BYTES

Edit = Callable[[Path], object]


def rewritten(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest, and give it the right checksum again, as somebody who means it."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    manifest.pop("sha256", None)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def part(folder: Path) -> Path:
    """Return the first part with requests."""
    return min(folder.glob("requests/*.json.gz"))


def lines_of(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines(keepends=True)


def replaced(folder: Path, data: bytes, items: int | None = None) -> None:
    """Replace the first part with requests, and change the manifest so that it fits."""
    path = part(folder)
    path.write_bytes(data)

    def edit(manifest: dict[str, Any]) -> None:
        table = manifest["tables"]["requests"]
        for entry in table["parts"]:
            if entry["name"] == f"requests/{path.name}":
                before = entry["items"]
                entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                entry["items"] = before if items is None else items
                table["items"] += entry["items"] - before

    rewritten(folder, edit)


def with_line(line: bytes | str) -> Edit:
    """Return an edit that replaces the second line of a part by another."""
    data = line.encode() if isinstance(line, str) else line

    def edit(folder: Path) -> None:
        lines = lines_of(part(folder))
        lines[1] = data + b"\n"
        replaced(folder, gzip.compress(b"".join(lines)))

    return edit


def with_item(**attributes: Any) -> Edit:
    item = {"RequestID": {"S": "x"}} | attributes
    return with_line(json.dumps({"Item": item}))


def with_manifest(**fields: Any) -> Edit:
    return lambda folder: rewritten(folder, lambda manifest: manifest.update(fields))


def _repeat_id(folder: Path) -> None:
    lines = lines_of(part(folder))
    replaced(folder, gzip.compress(b"".join([*lines, lines[0]])), len(lines) + 1)


def _flip_a_byte(folder: Path) -> None:
    data = bytearray(part(folder).read_bytes())
    data[len(data) // 2] ^= 1
    part(folder).write_bytes(data)


def _cut(folder: Path) -> None:
    part(folder).write_bytes(part(folder).read_bytes()[:-5])


def _cut_knowingly(folder: Path) -> None:
    replaced(folder, part(folder).read_bytes()[:-12])


def _without_parts(folder: Path) -> None:
    for name in ("connections", "requests", "subscriptions", "workers"):
        shutil.rmtree(folder / name)


def _edit_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"prefix": "streamer_"', '"prefix": "other_"'))


def _cut_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-20])


def _without_line_break(folder: Path) -> None:
    replaced(folder, gzip.compress(b"".join(lines_of(part(folder)))[:-1]))


def _with_rest(folder: Path) -> None:
    replaced(folder, part(folder).read_bytes() + gzip.compress(b"{}\n"))


def _part_elsewhere(folder: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["tables"]["requests"]["parts"][0]["name"] = "requests/../../etc/passwd"

    rewritten(folder, edit)


def _other_count(folder: Path) -> None:
    replaced(folder, part(folder).read_bytes(), len(lines_of(part(folder))) + 1)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


_PART: Final = r"requests/00-0000-[0-9a-f]{8}\.json\.gz"
_LINE_2: Final = rf"{_PART}, line 2: "
_MANIFEST: Final = r"/manifest\.json: "

EDITS: Final[dict[str, tuple[str, Edit]]] = {
    "byte": (rf"{_PART}: its checksum does not match", _flip_a_byte),
    "cut off": (rf"{_PART}: it has [\d,]+ bytes, and manifest\.json says", _cut),
    "cut knowingly": (rf"{_PART}.*: (the file is cut off|the last line|it has)", _cut_knowingly),
    "no line break": (rf"{_PART}, line \d+: the last line has no end", _without_line_break),
    "rest": (rf"{_PART}, line \d+: something follows", _with_rest),
    "not gzip": (rf"{_PART}: not a gzip file", lambda folder: replaced(folder, b"PK\3\4" * 9)),
    "empty part": (rf"{_PART}: the file is cut off", lambda folder: replaced(folder, b"")),
    "count": (rf"{_PART}: it has \d+ items, and manifest\.json says", _other_count),
    "part missing": (rf"{_PART}: the file is missing", lambda folder: part(folder).unlink()),
    "parts missing": (r"connections/.*: the file is missing", _without_parts),
    "file not listed": (
        r"requests/07-0001-00000000\.json\.gz: the file is not in manifest\.json",
        lambda folder: (folder / "requests/07-0001-00000000.json.gz").write_bytes(b""),
    ),
    "manifest missing": (
        r": not an export: it has no manifest\.json",
        lambda folder: (folder / "manifest.json").unlink(),
    ),
    "not finished": (
        r": the export is not finished: run the export again",
        lambda folder: (folder / "manifest.json").rename(folder / "progress.json"),
    ),
    "empty": (r": there is no export: it is empty or does not exist", _empty),
    "absent": (r": there is no export: it is empty", shutil.rmtree),
    "manifest edited": (rf"{_MANIFEST}its checksum does not match", _edit_manifest),
    "manifest cut off": (rf"{_MANIFEST}not JSON, or cut off", _cut_manifest),
    "manifest empty": (
        rf"{_MANIFEST}the file is empty",
        lambda folder: (folder / "manifest.json").write_bytes(b""),
    ),
    "manifest of another": (rf"{_MANIFEST}not a file of", with_manifest(format="AWS")),
    "manifest a list": (
        rf"{_MANIFEST}not a file of",
        lambda folder: (folder / "manifest.json").write_text("[]"),
    ),
    "newer version": (rf"{_MANIFEST}version 2 is newer than", with_manifest(version=2)),
    "newer schema": (rf"{_MANIFEST}schema 2 is newer than", with_manifest(schema=2)),
    "no tables": (rf"{_MANIFEST}tables is missing", with_manifest(tables=None)),
    "other tables": (rf"{_MANIFEST}unknown tables", with_manifest(tables={"users": {}})),
    "part elsewhere": (rf"{_MANIFEST}a part of requests has a wrong name", _part_elsewhere),
    "id twice": (rf"{_PART}, line \d+: the id r?.* is also in {_PART}, line 1", _repeat_id),
    "not JSON": (rf"{_LINE_2}not JSON", with_line("{")),
    "not UTF-8": (rf"{_LINE_2}not UTF-8", with_line(b'{"Item": "\xff"}')),
    "nested": (rf"{_LINE_2}(JSON that is nested|not JSON)", with_line("[" * 100_000)),
    "plain JSON": (rf"{_LINE_2}not of the form", with_line('{"RequestID": "x"}')),
    "more than an item": (rf"{_LINE_2}not of the form", with_line('{"Item": {}, "x": 1}')),
    "item a list": (rf"{_LINE_2}the Item is not an object", with_line('{"Item": []}')),
    "no id": (rf"{_LINE_2}the item has no RequestID", with_line('{"Item": {}}')),
    "id a number": (rf"{_LINE_2}RequestID is a key", with_item(RequestID={"N": "1"})),
    "id empty": (rf"{_LINE_2}RequestID is a key", with_item(RequestID={"S": ""})),
    "index key": (rf"{_LINE_2}Status is a key, and not text", with_item(Status={"N": "1"})),
    "value plain": (rf"{_LINE_2}'A' is no attribute value", with_item(A="x")),
    "value of two types": (rf"{_LINE_2}'A' is no attr", with_item(A={"S": "", "N": "1"})),
    "unknown type": (rf"{_LINE_2}'A' has an unknown type: 'X'", with_item(A={"X": "1"})),
    "text": (rf"{_LINE_2}'A' is no S", with_item(A={"S": 1})),
    "surrogate": (rf"{_LINE_2}'A' is no S", with_item(A={"S": "\ud800"})),
    "number": (rf"{_LINE_2}'A' is no N", with_item(A={"N": "one"})),
    "number with underscores": (rf"{_LINE_2}'A' is no N", with_item(A={"N": "1_000"})),
    "number with blanks": (rf"{_LINE_2}'A' is no N", with_item(A={"N": " 1 "})),
    "number with a line break": (rf"{_LINE_2}'A' is no N", with_item(A={"N": "5\n"})),
    "wide digits": (rf"{_LINE_2}'A' is no N", with_item(A={"N": "\uff11"})),
    "long number": (rf"{_LINE_2}'A' is no N", with_item(A={"N": "1" * 39})),
    "not a number": (rf"{_LINE_2}'A' is no N", with_item(A={"N": "NaN"})),
    "number plain": (rf"{_LINE_2}'A' is no N", with_item(A={"N": 1})),
    "base64": (rf"{_LINE_2}'A' is no B", with_item(A={"B": "_"})),
    "blob": (rf"{_LINE_2}'A' is no B", with_item(A={"B": 1})),
    "flag": (rf"{_LINE_2}'A' is no BOOL", with_item(A={"BOOL": "true"})),
    "null": (rf"{_LINE_2}'A' is no NULL", with_item(A={"NULL": False})),
    "map": (rf"{_LINE_2}'A' is no M", with_item(A={"M": []})),
    "in a map": (rf"{_LINE_2}'A.b' is no L", with_item(A={"M": {"b": {"L": {}}}})),
    "empty set": (rf"{_LINE_2}'A' is no SS", with_item(A={"SS": []})),
    "set with equal numbers": (rf"{_LINE_2}'A' is no NS", with_item(A={"NS": ["1", "1.0"]})),
    "no name": (rf"{_LINE_2}the name '' has not 1 to", with_item(**{"": {"S": "x"}})),
    "long name": (rf"{_LINE_2}the name 'A+.*has not 1 to", with_item(**{"A" * 70_000: {"S": "x"}})),
    "set with repeats": (rf"{_LINE_2}'A' is no NS", with_item(A={"NS": ["1", "1"]})),
    "too large": (
        rf"{_LINE_2}the item has 409,6\d\d bytes, and DynamoDB takes 409,600",
        with_item(A={"S": "x" * MAX_ITEM_BYTES}),
    ),
    "line too long": (rf"{_PART}, line 1: a line is longer", with_line(b" " * 5_000_000)),
}
"""What was done to an export, with the problem that its import must report."""
