"""The commands: parse, call, print.

Nothing here loads an array library before a command has set the thread limits and knows which backend it needs, so
that both the limits and the cost of the import are real.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mnistbench import __version__
from mnistbench.cli.checking import compare, verify
from mnistbench.cli.common import complain
from mnistbench.cli.predicting import predict
from mnistbench.cli.showing import backends, charts, machine
from mnistbench.cli.training import crossval, errors, train
from mnistbench.exceptions import MnistbenchError


class _Commands(TyperGroup):
    """What a user got wrong is one line on standard error and exit status 2; Ctrl-C is one line and 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MnistbenchError as error:
            complain(str(error))
            raise typer.Exit(2) from error
        except MemoryError as error:
            complain("out of memory; use fewer images (--train-size) or hidden units (--hidden)")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            complain("interrupted")
            raise typer.Exit(130) from error


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
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


for _command in (train, predict, crossval, verify, compare, errors, backends, machine, charts):
    app.command()(_command)


def main() -> None:
    """Run the command line."""
    app(prog_name="mnistbench")
