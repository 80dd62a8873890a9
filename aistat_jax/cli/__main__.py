"""The command `aistat`, also as `python -m aistat_jax.cli` where it is not on the path."""

import sys

from aistat_jax._pages import start_again
from aistat_jax.cli import main


def start() -> int:
    """`main` in a process of its own, which a training has in large pages."""
    if sys.argv[1:2] == ["train"]:
        start_again()
    return main()


if __name__ == "__main__":
    raise SystemExit(start())
