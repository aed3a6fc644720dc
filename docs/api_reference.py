"""Builds the API reference from the source of the public names: their signatures and docstrings.

docs/generate.py writes the result into docs/api.md.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Final

PACKAGES: Final = (
    "streamer_worker",
    "streamer_worker.testing",
    "streamer_worker.testing.fixtures",
    "streamer_store",
)
_WIDTH: Final = 100
# An item of a list in a docstring, "- `name`: text", with the lines that continue it.
_FIELD_ITEM: Final = re.compile(r"^[-*] ((?:`\w+`(?:, )?)+): (.*(?:\n  .*)*)\n?", re.MULTILINE)

# The parts of a class that the reference shows.
_Field = ast.AnnAssign | ast.Assign
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def reference() -> str:
    """Return the signature and the docstring of each public name of the packages."""
    sections = [package_reference(importlib.import_module(name)) for name in PACKAGES]
    return "\n" + "\n\n".join(sections) + "\n\n"


def package_reference(package: ModuleType) -> str:
    """Return the section of a package, with an entry for each name in its `__all__`."""
    parts = [
        f"## {package.__name__}",
        _markdown(inspect.getdoc(package) or ""),
        _links(package.__all__),
    ]
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
            value = f"{name} = {_value_text(node.value)}" if node.value else name
            text = _following_docstring(module.body, node)
            return title + f"```python\n{value}\n```" + (f"\n\n{text}" if text else "")


def _value_text(value: ast.expr) -> str:
    """Return a value as the source has it. The text of a type in quotes has no quotes."""
    match value:
        case ast.Constant(value=str(text)):
            return text
    return ast.unparse(value).replace("'", '"')  # as `ruff format` writes it


def _definition(
    package: ModuleType, name: str
) -> tuple[ast.ClassDef | _Function | _Field, ast.Module]:
    """Return the syntax tree of a name's definition, and that of the module in which it is."""
    module = ast.parse(inspect.getsource(package))
    for node in _statements(module):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            assert node.module is not None  # noqa: S101
            return _definition(importlib.import_module(node.module), name)
        if isinstance(node, ast.ClassDef | _Function) and node.name == name:
            return node, module
        if isinstance(node, _Field) and _field_name(node) == name:
            return node, module
    raise LookupError(f"{name} is not defined in {package.__name__}")


def _statements(module: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of a module, and those that only type checkers execute."""
    for node in module.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body
        else:
            yield node


def _class(node: ast.ClassDef, module: ast.Module, package: ModuleType) -> str:
    """Return bases, docstring, fields and methods. Those of private bases are included."""
    private = list(_private_bases(node, module, package))
    public = [base for tree in (*private, node) for base in map(ast.unparse, tree.bases)]
    hidden = {base.name for base in private}
    bases = ", ".join(dict.fromkeys(base for base in public if base not in hidden))
    header = f"class {node.name}({bases})" if bases else f"class {node.name}"
    trees = [*private, node]
    constructors = [method for tree in trees for method in _methods(tree, "__init__")]
    if constructors:
        header += f"\n\n{_signature(constructors[-1], node.name)}"
    explained: dict[str, str] = {}
    for tree in trees:
        text = _take_field_items(tree, explained)
    parts = [f"```python\n{header}\n```", _markdown(text)]
    parts.append("\n".join(line for tree in trees for line in _fields(tree, explained)))
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


def _methods(node: ast.ClassDef, *names: str) -> list[_Function]:
    """Return the methods and properties with these names. Without a name: all public ones."""
    methods = [member for member in node.body if isinstance(member, _Function)]
    if names:
        return [method for method in methods if method.name in names]
    return [method for method in methods if not method.name.startswith("_")]


def _take_field_items(node: ast.ClassDef, explained: dict[str, str]) -> str:
    """Return the docstring without the list items that explain fields. Add those to `explained`."""
    fields = {_field_name(statement) for statement in node.body if isinstance(statement, _Field)}

    def take(item: re.Match[str]) -> str:
        names = re.findall(r"\w+", item[1])
        if not fields.issuperset(names):
            return item[0]
        explained.update(dict.fromkeys(names, item[2]))
        return ""

    text = _FIELD_ITEM.sub(take, ast.get_docstring(node) or "")
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _fields(node: ast.ClassDef, explained: dict[str, str]) -> Iterator[str]:
    """Yield a list item for each public field, enum member and property of a class.

    The text is the string that follows the field, or the one in `explained`.
    """
    for statement in node.body:
        if isinstance(statement, _Field) and not _field_name(statement).startswith("_"):
            text = _following_docstring(node.body, statement)
            yield _item(_field_text(statement), text or explained.get(_field_name(statement), ""))
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
    """Return the text of the string literal after a statement, or nothing."""
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


def _markdown(text: str) -> str:
    """Return a docstring as Markdown, with its examples as blocks of code."""
    paragraphs = text.split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if paragraph.lstrip().startswith(">>>"):
            paragraphs[number] = f"```pycon\n{inspect.cleandoc(paragraph)}\n```"
    return "\n\n".join(paragraphs)
