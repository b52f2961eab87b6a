"""Command line.

A command sets the thread limits and chooses the backend before anything loads an array library, so that the limits
take effect and the backend's import is measured.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mnistbench import __version__
from mnistbench.cli import (
    backends,
    charts,
    compare,
    crossval,
    errors,
    evaluate,
    machine,
    merge,
    predict,
    report,
    train,
    verify,
)
from mnistbench.cli.common import complain
from mnistbench.exceptions import Interrupted, MnistbenchError
from mnistbench.words import write_alike


class _Command(TyperCommand):
    """A command whose help shows flags without a type, since they take no value."""

    def get_params(self, ctx: Any) -> Any:
        return _without_type_of_flags(super().get_params(ctx))


class _Commands(TyperGroup):
    """All commands; what a user caused prints one line to stderr.

    An error exits with 2, Ctrl-C with 130, and a training that keeps checkpoints exits at SIGTERM with 143.
    """

    def get_params(self, ctx: Any) -> Any:
        return _without_type_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MnistbenchError as error:
            complain(str(error))
            raise typer.Exit(2) from error
        except MemoryError as error:
            complain("out of memory; use fewer images (--train-size) or hidden units (--hidden)")
            raise typer.Exit(2) from error
        except Interrupted as error:
            complain(str(error))
            raise typer.Exit(128 + error.signal) from error
        except KeyboardInterrupt as error:
            complain("interrupted")
            raise typer.Exit(130) from error


def _without_type_of_flags(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One small neural network, trained on MNIST by interchangeable backends: the same numbers, honestly timed.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mnistbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _module in (train, predict, evaluate, crossval, verify, compare, errors, backends, machine, charts, report, merge):
    app.command(cls=_Command)(getattr(_module, _module.__name__.rpartition(".")[2]))


def main() -> None:
    """Run the command line; a stream that cannot encode a character gets one that looks alike."""
    write_alike(sys.stdout, sys.stderr)
    app(prog_name="mnistbench")
