"""A group of commands whose `--help` names no Python types."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class Group(TyperGroup):
    """A group whose help, and that of its commands, shows the placeholders of options alone.

    Typer adds the type to each argument and flag: `request_id <str>`, `--json <bool>`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if isinstance(command, TyperCommand):
            _without_types(command.get_params(ctx))
        return command


def _without_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        is_flag = isinstance(parameter, TyperOption) and parameter.is_flag
        if is_flag or isinstance(parameter, TyperArgument):
            parameter.display_type_rich = _no_type
    return parameters


def _no_type(ctx: Any) -> None:
    """Replace the method of a parameter that returns the text of its type."""
