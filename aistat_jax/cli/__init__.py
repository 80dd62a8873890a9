"""What can be done from a terminal? `aistat COMMAND`; each command lives in a room of this floor.

Heavy libraries are imported by the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.contours import contour, demo, doctor
from aistat_jax.cli.learning import train
from aistat_jax.cli.options import ARGUMENTS
from aistat_jax.cli.predictions import evaluate, predict

_UsageError: Any = typer.BadParameter.__base__  # lives in click or in typer, by typer's version

app = typer.Typer(
    name="aistat",
    help="Posterior contours with honest error bars for PET/CT and other medical images.",
    epilog="Exit status: 0 done, 2 bad input (one sentence says what and what to do), "
    "1 anything else.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (demo, contour, train, predict, evaluate, doctor):
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status 0, 1 or 2.

    What JAX compiles is kept in the user's cache folder, so that the next command starts sooner.
    """
    ARGUMENTS.set(tuple(sys.argv[1:] if arguments is None else arguments))
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(caches, "aistat_jax"))
    # JAX keeps what took a second to compile; the parts of a fit are smaller.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
    try:
        status = app(args=ARGUMENTS.get(), standalone_mode=False)
    except InputError as error:
        return _refused(str(error))
    except _UsageError as error:
        return _refused(_one_sentence(error))
    except (KeyboardInterrupt, typer.Abort):
        print("aistat: stopped; nothing was written", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"aistat: {error}; nothing was written", file=sys.stderr)
        return 1
    return status if isinstance(status, int) else 0


def _show_version(wanted: bool) -> bool:
    if wanted:
        from aistat_jax import __version__

        print(f"aistat {__version__}")
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


def _refused(sentence: str) -> int:
    print(f"aistat: {sentence}", file=sys.stderr)
    return 2


def _one_sentence(error: Any) -> str:
    text = " ".join(error.format_message().split())
    return text if not text else f"{text[0].lower()}{text[1:].rstrip('.')}; see aistat --help"
