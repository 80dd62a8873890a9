"""`python -m aistat_jax.cli`, where the command `aistat` is not on the path."""

from aistat_jax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
