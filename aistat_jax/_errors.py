"""How is bad input refused? With one sentence that names what came and what to do."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from the user; the command line prints the sentence and exits with status 2."""
