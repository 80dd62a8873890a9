"""What do all tests share? Shape checks at run time, a CPU backend, and the real data."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# What runs in the background of a shell does not hear Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook  # noqa: E402

import tests.typecheck  # noqa: E402

# Annotations such as Float[np.ndarray, "ray"] are checked on every call inside the tests.
install_import_hook("aistat_jax", f"{tests.typecheck.__name__}.typechecked")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real imaging data: $AISTAT_DATA, else ../shared/data; skips when absent."""
    named = os.environ.get("AISTAT_DATA")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"real imaging data not found at {root}; set AISTAT_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers with a seed fixed by the test's name."""
    return np.random.default_rng(list(request.node.name.encode()))
