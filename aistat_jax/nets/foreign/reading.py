"""What is in a checkpoint of PyTorch? Arrays by name, and plain words and numbers; nothing is run.

PyTorch alone can read its own files. Its weights-only reader makes tensors, numbers, words, lists
and dictionaries and calls nothing else, so that a checkpoint cannot run code; numbers of NumPy are
let in, since nnU-Net keeps its training curve as such.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.nets.weights import Weights

NETWORKS = ("network_weights", "state_dict", "model_state_dict", "model", "net")
WRAPPERS = ("module.", "_orig_mod.")  # of data parallelism and of torch.compile


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint: its weights as float32 by their names, and what else is written beside them."""

    file: Path
    digest: str
    weights: Weights
    beside: Mapping[str, Any]


def read_checkpoint(file: Path) -> Checkpoint:
    """Weights and words of a checkpoint.

    Raises InputError where PyTorch is not installed, for a file that is none of its checkpoints,
    one with anything but weights in it, one without weights, or weights that are not finite.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; pass a checkpoint of PyTorch")
    try:
        torch: Any = import_module("torch")
    except ModuleNotFoundError as error:
        raise InputError(
            "PyTorch is needed to read its checkpoints, and only for that; install torch"
        ) from error
    multiarray = np._core.multiarray  # pyright: ignore[reportAttributeAccessIssue]
    numbers: list[Any] = [
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        (multiarray.scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    ]
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL ([\w.]+)", str(error))
        if what is None and "Can only" not in str(error):
            raise _not_whole(file) from error
        named = f" ({what.group(1)})" if what else ""
        raise InputError(
            f"{file}: there is more than weights in this checkpoint{named}, and it is not run; "
            "save its state_dict alone"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise _not_whole(file) from error
    content = content if isinstance(content, Mapping) else {}
    name = next((n for n in NETWORKS if isinstance(content.get(n), Mapping)), None)
    found = content if name is None else content[name]
    beside = {} if name is None else {k: v for k, v in content.items() if k != name}
    tensors = {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}
    if not tensors or len(tensors) != len(found):
        raise InputError(
            f"{file}: there are no weights by name in this checkpoint; save the state_dict of the "
            "network, alone or as 'state_dict'"
        )
    weights = {_bare(str(k)): v.float().numpy() for k, v in tensors.items()}
    broken = [k for k, v in weights.items() if not np.isfinite(v).all()]
    if broken:
        raise InputError(f"{file}: some weights are not finite numbers ({broken[0]})")
    return Checkpoint(file, hashlib.sha256(file.read_bytes()).hexdigest(), weights, beside)


def _not_whole(file: Path) -> InputError:
    return InputError(f"{file}: this is not a whole checkpoint of PyTorch; copy it again")


def _bare(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name
