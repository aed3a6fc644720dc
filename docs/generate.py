"""Generates parts of docs/settings.md, docs/metrics.md and docs/api.md from the code: `make docs`.

Only the text between `<!-- generated -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel

from streamer_store import SystemClock
from streamer_worker.monitoring.metric_families import PREFIX
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.settings import Settings, value_text, variable_of

DOCS = Path(__file__).parent
PAGES: Final = ("settings.md", "metrics.md", "api.md")
_GENERATED = re.compile(r"(?<=<!-- generated -->\n).*?(?=<!-- end -->)", re.DOTALL)
_PACKAGES: Final = ("streamer_worker", "streamer_store")
_WIDTH: Final = 100

# The parts of a class that the reference shows.
_Field = ast.AnnAssign | ast.Assign
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def generate_page(name: str) -> str:
    """Return the text of a page, with its generated part up to date."""
    generators = {"settings.md": settings_tables, "metrics.md": metrics_table, "api.md": reference}
    text, count = _GENERATED.subn(lambda _: generators[name](), (DOCS / name).read_text())
    assert count == 1, name  # noqa: S101
    return text


def settings_tables() -> str:
    """Return a table of the settings without a component, and one for each component."""
    plain = {n: f for n, f in Settings.model_fields.items() if not _is_component(f.annotation)}
    parts = ["\n".join(_table(plain))]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and _is_component(field.annotation):
            model: type[BaseModel] = field.annotation
            about = " ".join((model.__doc__ or "").split())
            rows = "\n".join(_table(model.model_fields, name))
            parts.append(f"### `[{name}]`\n\n{about}\n\n{rows}")
    return "\n" + "\n\n".join(parts) + "\n\n"


def metrics_table() -> str:
    """Return a table with a row for each metric that the worker defines."""
    metrics = Metrics({}, clock=SystemClock())
    rows = ["\n| metric | type | labels | |", "|---|---|---|---|"]
    families = {family.name: family for family in metrics.registry.collect()}
    for name, labels in _labels(metrics).items():
        family = families[name]
        full = f"{name}_total" if family.type == "counter" else name
        listed = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{full}` | {family.type} | {listed} | {family.documentation} |")
    return "\n".join(rows) + "\n\n"


def reference() -> str:
    """Return the signature and the docstring of each public name of both packages."""
    sections = [_package(importlib.import_module(name)) for name in _PACKAGES]
    return "\n" + "\n\n".join(sections) + "\n\n"


def _is_component(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(fields: dict[str, Any], component: str = "") -> Iterator[str]:
    yield "| variable | in the file | default | |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        full = f"{component}.{name}" if component else name
        default = value_text(field.get_default(call_default_factory=True))
        if full == "handler.processes":
            assert default == str(len(os.sched_getaffinity(0)))  # noqa: S101
            default = "CPUs"
        shown = ", ".join(f"`{value}`" for value in default.split(", ")) if default else ""
        yield f"| `{variable_of(full)}` | `{name}` | {shown} | {field.description} |"


def _labels(metrics: Metrics) -> dict[str, tuple[str, ...]]:
    """Return the names of the labels of each metric, in the order of their definition."""
    labels = {}
    for collector in metrics.registry._collector_to_names:  # noqa: SLF001  there is no other way
        name = getattr(collector, "_name", "")
        if name.startswith(PREFIX):
            labels[name] = tuple(collector._labelnames)  # type: ignore[attr-defined]  # noqa: SLF001
    return labels


def _package(package: ModuleType) -> str:
    """Return the section of a package, with an entry for each name in its `__all__`."""
    parts = [f"## {package.__name__}", _docstring(package), _links(package.__all__)]
    parts += [_entry(package, name) for name in package.__all__]
    return "\n\n".join(part for part in parts if part)


def _links(names: list[str]) -> str:
    """Return links to the headings. As on GitHub, an anchor that is taken gets a number."""
    taken: Counter[str] = Counter()
    links = []
    for name in names:
        anchor = name.lower()
        links.append(f"[`{name}`](#{anchor}{f'-{taken[anchor]}' if taken[anchor] else ''})")
        taken[anchor] += 1
    return textwrap.fill(" · ".join(links), _WIDTH, break_on_hyphens=False)


def _entry(package: ModuleType, name: str) -> str:
    node, module = _definition(package, name)
    title = f"### {name}\n\n"
    match node:
        case ast.ClassDef():
            return title + _class(node, module, package)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return title + _function(node)
        case _:
            value = f"{name} = {ast.unparse(node.value)}" if node.value else name
            text = _following_docstring(module.body, node)
            return title + f"```python\n{value}\n```" + (f"\n\n{text}" if text else "")


def _definition(
    package: ModuleType, name: str
) -> tuple[ast.ClassDef | _Function | _Field, ast.Module]:
    """Return the syntax tree of a name's definition, and that of the module in which it is."""
    module = ast.parse(inspect.getsource(package))
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            assert node.module is not None  # noqa: S101
            return _definition(importlib.import_module(node.module), name)
        if isinstance(node, ast.ClassDef | _Function) and node.name == name:
            return node, module
        if isinstance(node, _Field) and _field_name(node) == name:
            return node, module
    raise LookupError(f"{name} is not defined in {package.__name__}")


def _class(node: ast.ClassDef, module: ast.Module, package: ModuleType) -> str:
    """Return bases, docstring, fields and methods. Those of private bases are included."""
    private = list(_private_bases(node, module, package))
    public = [base for tree in (*private, node) for base in map(ast.unparse, tree.bases)]
    bases = ", ".join(dict.fromkeys(base for base in public if base not in _names(private)))
    header = f"class {node.name}({bases})" if bases else f"class {node.name}"
    trees = [*private, node]
    constructors = [method for tree in trees for method in _methods(tree, "__init__")]
    if constructors:
        header += f"\n\n{_signature(constructors[-1], node.name)}"
    parts = [f"```python\n{header}\n```", _docstring(getattr(package, node.name))]
    parts.append("\n".join(line for tree in trees for line in _fields(tree)))
    parts += [
        f"#### {node.name}.{method.name}\n\n{_function(method)}"
        for tree in trees
        for method in _methods(tree)
        if not _is_property(method)
    ]
    return "\n\n".join(part for part in parts if part)


def _private_bases(
    node: ast.ClassDef, module: ast.Module, package: ModuleType
) -> Iterator[ast.ClassDef]:
    """Yield the bases of a class that are defined in its module and are not public."""
    names = {ast.unparse(base) for base in node.bases}.difference(package.__all__)
    for base in module.body:
        if isinstance(base, ast.ClassDef) and base.name in names:
            yield from _private_bases(base, module, package)
            yield base


def _names(classes: list[ast.ClassDef]) -> set[str]:
    return {node.name for node in classes}


def _methods(node: ast.ClassDef, *names: str) -> list[_Function]:
    """Return the methods and properties with these names. Without a name: all public ones."""
    methods = [member for member in node.body if isinstance(member, _Function)]
    if names:
        return [method for method in methods if method.name in names]
    return [method for method in methods if not method.name.startswith("_")]


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield a list item for each public field, enum member and property of a class."""
    for statement in node.body:
        if isinstance(statement, _Field) and not _field_name(statement).startswith("_"):
            yield _item(_field_text(statement), _following_docstring(node.body, statement))
    for method in _methods(node):
        if _is_property(method):
            kind = f": {ast.unparse(method.returns)}" if method.returns else ""
            yield _item(f"{method.name}{kind}", ast.get_docstring(method) or "")


def _item(code: str, text: str) -> str:
    return f"- `{code}`" + (f": {' '.join(text.split())}" if text else "")


def _field_text(field: _Field) -> str:
    """Return a field with its type and its default, as a caller sees it."""
    if isinstance(field, ast.Assign):
        return f"{_field_name(field)} = {ast.unparse(field.value)}"
    text = ast.unparse(ast.AnnAssign(field.target, field.annotation, None, field.simple))
    default = field.value
    if isinstance(default, ast.Call) and ast.unparse(default.func) in {
        "field",
        "dataclasses.field",
    }:
        options = {option.arg: option.value for option in default.keywords}
        default = options.get("default")
        factory = options.get("default_factory")
        if factory is not None:
            name = ast.unparse(factory)
            return f"{text} = {({'dict': '{}', 'list': '[]'}).get(name, f'{name}()')}"
    return f"{text} = {ast.unparse(default)}" if default is not None else text


def _field_name(field: _Field) -> str:
    return ast.unparse(field.target if isinstance(field, ast.AnnAssign) else field.targets[0])


def _following_docstring(body: list[ast.stmt], statement: ast.stmt) -> str:
    """Return the string that stands alone after a statement, or nothing."""
    position = body.index(statement) + 1
    match body[position : position + 1]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return _markdown(inspect.cleandoc(text))
    return ""


def _is_property(method: _Function) -> bool:
    names = {ast.unparse(decorator) for decorator in method.decorator_list}
    return not names.isdisjoint({"property", "cached_property"})


def _function(node: _Function) -> str:
    text = ast.get_docstring(node)
    code = f"```python\n{_signature(node, node.name)}\n```"
    return f"{code}\n\n{_markdown(text)}" if text else code


def _signature(node: _Function, name: str) -> str:
    """Return the first lines of a definition without `self`, or the call of a constructor."""
    arguments = list(_arguments(node.args))
    prefix, suffix = "", ""
    if name == node.name:
        prefix = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
        suffix = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = "".join(f"@{ast.unparse(decorator)}\n" for decorator in node.decorator_list)
    text = f"{prefix}{name}({', '.join(arguments)}){suffix}"
    if len(text) > _WIDTH:
        lines = "".join(f"    {argument},\n" for argument in arguments)
        text = f"{prefix}{name}(\n{lines}){suffix}"
    return decorators + text


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    """Yield each argument as the source has it, `/` and `*` included, `self` and `cls` not."""
    positional = [*arguments.posonlyargs, *arguments.args]
    without_default = len(positional) - len(arguments.defaults)
    defaults = [*[None] * without_default, *arguments.defaults]
    for number, (argument, default) in enumerate(zip(positional, defaults, strict=True), start=1):
        if number > 1 or argument.arg not in {"self", "cls"}:
            yield _argument(argument, default)
        if number == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg is not None:
        yield f"*{_argument(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(argument, default)
    if arguments.kwarg is not None:
        yield f"**{_argument(arguments.kwarg, None)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if argument.annotation is None:
        return argument.arg if default is None else f"{argument.arg}={ast.unparse(default)}"
    text = f"{argument.arg}: {ast.unparse(argument.annotation)}"
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _docstring(documented: object) -> str:
    text = inspect.getdoc(documented) or ""
    name = getattr(documented, "__name__", "")
    # A dataclass without a docstring gets its own signature as one.
    inherited = not vars(documented).get("__doc__") if isinstance(documented, type) else False
    return "" if inherited or text.startswith(f"{name}(") else _markdown(text)


def _markdown(text: str) -> str:
    """Return a docstring as Markdown, with its examples as blocks of code."""
    paragraphs = text.split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if paragraph.lstrip().startswith(">>>"):
            paragraphs[number] = f"```pycon\n{inspect.cleandoc(paragraph)}\n```"
    return "\n\n".join(paragraphs)


if __name__ == "__main__":
    for page in PAGES:
        (DOCS / page).write_text(generate_page(page))
