"""Commands that may run as jobs of a cluster: their common options, and the same command spelt out for the job."""

from __future__ import annotations

from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster: its Jobs API, e.g. http://127.0.0.1:8265; default this machine.", show_default=False
    ),
]
Follow = Annotated[bool, typer.Option(help="With --address: show the job's output until it ends.")]
Gpus = Annotated[int, typer.Option(min=0, help="Processes with a GPU each; 0: CPU cores.")]
OF_SUBMITTING = ("address", "follow", "home", "tracking_uri")
"""Options that say how a job is submitted; what of them the job needs, `submit_job` hands on."""


def same_command(context: typer.Context, group: str | None) -> tuple[str, ...]:
    """The verb of this context with all its values, as typed or by default, without the options of submitting.

    Args:
        group: the noun that the verb belongs to, None for one that stands alone.
    """
    options, arguments = [], []
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name in OF_SUBMITTING or value is None or value is False:
            continue
        if parameter.param_type_name == "argument":
            arguments.append(str(value))
        elif isinstance(value, list | tuple):
            options += [f"{parameter.opts[0]}={each}" for each in value]
        else:
            options.append(parameter.opts[0] if value is True else f"{parameter.opts[0]}={value}")
    verb = str(context.info_name)
    return *((group, verb) if group else (verb,)), *options, "--", *arguments
