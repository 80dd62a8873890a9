"""Where is what JAX compiles kept, so that the next process need not compile it again?"""

from __future__ import annotations

import os


def cache_settings() -> dict[str, str]:
    """Environment variables that keep compiled programs in the user's cache folder.

    Those that are set already, whatever they say, are left out. JAX reads them when it is imported.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    wanted = {
        "JAX_COMPILATION_CACHE_DIR": os.path.join(caches, "aistat_jax"),
        # JAX keeps what took a second to compile; the parts of a fit are smaller.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "TF_CPP_MIN_LOG_LEVEL": "3",  # XLA's own lines on standard error
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}
