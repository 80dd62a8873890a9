"""What can be done from a terminal? `aistat COMMAND`; each command lives in a room of this floor.

Heavy libraries are imported by the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from aistat_jax._caching import cache_settings
from aistat_jax._errors import FolderError, InputError
from aistat_jax._files import why
from aistat_jax.cli.calibrating import calibrate
from aistat_jax.cli.cohorts import cohort, dataset
from aistat_jax.cli.contours import contour, demo, doctor
from aistat_jax.cli.imports import import_net
from aistat_jax.cli.learning import train
from aistat_jax.cli.options import ARGUMENTS
from aistat_jax.cli.predictions import evaluate, predict
from aistat_jax.cli.signing import sign
from aistat_jax.cli.terminal import (
    DONE,
    FAILED,
    KEPT,
    REFUSED,
    SIGNALLED,
    WRITTEN,
    Stopped,
    complain,
    say,
    terminal,
    unsaid,
)

_UsageError: Any = typer.BadParameter.__base__  # lives in click or in typer, by typer's version
_FULL = (errno.ENOSPC, errno.EDQUOT)

app = typer.Typer(
    name="aistat",
    help="Posterior contours with honest error bars for PET/CT and other medical images.",
    epilog="Exit status: 0 done, 2 bad input (one sentence says what and what to do) and nothing "
    "written, 130 or 143 stopped by Ctrl-C or SIGTERM, 1 anything else.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (demo, contour, calibrate, sign, cohort, dataset, train, predict, evaluate, doctor):
    app.command()(_command)
app.command("import")(import_net)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 done; 2 bad input, with one sentence, and nothing written; 128 and the number of a signal that
    asked to stop (130 for Ctrl-C, 143 for SIGTERM); 1 anything else. What JAX compiles is kept in
    the user's cache folder, so that the next command starts sooner.
    """
    ARGUMENTS.set(tuple(sys.argv[1:] if arguments is None else arguments))
    os.environ.update(cache_settings())
    with terminal() as stopped:
        try:
            status = _run(ARGUMENTS.get())
        except (Exception, KeyboardInterrupt) as error:
            number = stopped[0] if stopped else Stopped().number
            if stopped or isinstance(error, KeyboardInterrupt):
                # raised inside a callback, it may come back as an error of a library
                complain(f"stopped; {KEPT.get()}")
                return SIGNALLED + number
            return _failed(error)
        if status == DONE and (unread := unsaid()) is not None:
            complain(f"standard output cannot be written ({why(unread)}); {KEPT.get()}")
            return FAILED
        return status


def _failed(error: Exception) -> int:
    """Say in a sentence why a command ended; what is no sentence is a fault and is raised."""
    if isinstance(error, FolderError):
        return _refused(error, f"{error} with --out")
    if isinstance(error, InputError):
        return _refused(error, str(error))
    if isinstance(error, _UsageError):
        return _refused(error, _one_sentence(error))
    if isinstance(error, BrokenPipeError):  # the help, cut short by its reader
        return DONE
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        complain(f"{place}{why(error)}; {KEPT.get()}")
        return FAILED
    raise error


def _run(arguments: Sequence[str]) -> int:
    """What `app(arguments)` does, less its own ideas of a closed pipe and of Ctrl-C."""
    command: Any = typer.main.get_command(app)
    try:
        with command.make_context("aistat", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # how Rich answers when the reader of the help has gone
        if not isinstance(end.__context__, BrokenPipeError):
            raise
    return DONE


def _refused(error: Exception, sentence: str) -> int:
    """Status 2 where nothing was written, 1 where something was or the disk is full."""
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in _FULL
    if not WRITTEN.get() and not full:
        if sentence:  # the help has said it all
            complain(sentence)
        return REFUSED
    complain(f"{sentence}; {KEPT.get()}")
    return FAILED


def _show_version(wanted: bool) -> bool:
    if wanted:
        from aistat_jax import __version__

        say(f"aistat {__version__}")
        raise typer.Exit(0)
    return wanted


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version),
    ] = False,
) -> None:
    """Posterior contours with honest error bars for PET/CT and other medical images."""


def _one_sentence(error: Any) -> str:
    text = " ".join(error.format_message().split())
    return text if not text else f"{text[0].lower()}{text[1:].rstrip('.')}; see aistat --help"
