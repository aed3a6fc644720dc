"""Groups of commands: commands that are imported when they run, and help without Python types."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

# Of the help texts of all commands.
MARKUP: Final = "markdown"
# What pydantic, by which Typer checks values, writes before the text of a fault.
_PYDANTICS: Final = "Value error, "


class LazyCommand(TyperCommand):
    """A command of which only the name and the first line of its help are known.

    location: `module:name` of a function, or of the typer.Typer of a group, in this package.
    """

    def __init__(self, name: str, location: str, help: str) -> None:  # noqa: A002  typer's name
        super().__init__(name, help=help, rich_markup_mode=MARKUP)
        self._location = location

    def load(self) -> TyperCommand | TyperGroup:
        """Import the module, and return the command with its parameters and its whole help."""
        module, _, name = self._location.partition(":")
        found = getattr(import_module(f"{__package__}.{module}"), name)
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(rich_markup_mode=MARKUP, add_completion=False)
            found.command(self.name)(function)
        command = get_command(found)
        command.name = self.name
        return command  # type: ignore[return-value]


class Group(TyperGroup):
    """A group that loads a LazyCommand when it is invoked.

    Its help, and that of its commands, shows the placeholders of options alone. Typer adds the
    type to each argument and flag: `request_id <str>`, `--json <bool>`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if isinstance(command, TyperCommand):
            _without_types(command.get_params(ctx))
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(_PYDANTICS)
            raise

    def load_commands(self) -> dict[str, TyperCommand | TyperGroup]:
        """Import all commands, and return them by name."""
        return {
            name: command.load() if isinstance(command, LazyCommand) else command  # type: ignore[misc]
            for name, command in self.commands.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, LazyCommand) and name is not None:
            self.add_command(command.load(), name)
            command = self.get_command(ctx, name)
        return name, command, rest


def _without_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        is_flag = isinstance(parameter, TyperOption) and parameter.is_flag
        if is_flag or isinstance(parameter, TyperArgument):
            parameter.display_type_rich = _no_type
    return parameters


def _no_type(ctx: Any) -> None:
    """Replace the method of a parameter that returns the text of its type."""
