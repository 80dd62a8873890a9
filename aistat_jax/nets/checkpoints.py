"""What survives when training is cut short? One safetensors file, whose header is JSON.

It holds the state and the curve, says which run it is of, and carries a checksum. It is written
to a temporary name, forced to the disk and moved into place, so that there is always a whole one.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import replaced_file
from aistat_jax._record import record
from aistat_jax._typing import Array, Int

SCHEMA = 1
CHECKPOINT = "checkpoint.safetensors"


class Point(NamedTuple):
    """One step of a training curve.

    step: how many are done, from 1. loss: of its batch, in training. On steps that were judged,
    validation_loss at full resolution and validation_dice, one number a foreground label over the
    voxels of all patches, NaN for a label that is nowhere; both with the averaged weights.
    """

    step: int
    loss: float
    learning_rate: float
    validation_loss: float | None = None
    validation_dice: tuple[float, ...] | None = None


@record
class State:
    """What training carries from step to step; `weights` and `average` are nnx states."""

    weights: Any
    average: Any
    optimiser: Any
    step: Int[Array, ""]


def checkpoint_in(folder: Path) -> Path:
    """Where the checkpoint of a folder is; the folder is made now, and not after hours.

    What a run killed while it wrote has left there is removed: no one else would.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: this folder cannot be made ({error.strerror}); choose another"
        ) from error
    for left in folder.glob(f".*-{CHECKPOINT}"):
        left.unlink(missing_ok=True)
    return folder / CHECKPOINT


def save_checkpoint(path: Path, state: State, curve: Sequence[Point], run: dict[str, Any]) -> None:
    """Write a checkpoint to a temporary name, force it to the disk, and move it into place."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(value) for name, value in _named(jax.device_get(state)).items()}
    arrays["curve"] = _rows(curve)
    header = {"schema": SCHEMA, "step": len(curve), "run": run, "crc": _crc(run, arrays)}
    with replaced_file(path) as temporary, open(temporary, "wb") as file:
        file.write(save(arrays, metadata={"aistat": json.dumps(header)}))
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path, like: State, run: dict[str, Any]) -> tuple[State, list[Point]]:
    """State and curve of a checkpoint of this very run."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            header = json.loads(file.metadata()["aistat"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        schema, made_by, crc = header["schema"], header["run"], header["crc"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if schema != SCHEMA:
        raise InputError(
            f"{path}: this checkpoint has schema {schema} and this version reads {SCHEMA}; go on "
            "with the version that wrote it, or choose another folder"
        )
    if crc != _crc(made_by, arrays):
        raise _damaged(path, "its checksum is wrong")
    if made_by != run:
        raise InputError(
            f"{path}: this checkpoint is of another run ({_difference(made_by, run)}); choose "
            "another folder, or go back to what it was made with"
        )
    names = list(_named(like))
    if {*names, "curve"} != set(arrays):
        raise _damaged(path, "its arrays have other names, as another version may give them")
    values = [jnp.array(arrays[name]) for name in names]  # copies, to be given away
    return jax.tree.unflatten(jax.tree.structure(like), values), _points(arrays["curve"])


def _named(state: State) -> dict[str, Any]:
    """Every array by its path, in the order of the tree."""
    return {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _rows(curve: Sequence[Point]) -> np.ndarray:
    """A curve as float64 (step, 4 + foreground), NaN where nothing was judged."""
    width = max(len(point.validation_dice or ()) for point in curve)
    rows = np.full((len(curve), 4 + width), math.nan)
    for row, point in zip(rows, curve, strict=True):
        row[:3] = point[:3]
        if point.validation_dice is not None:
            row[3:] = point.validation_loss, *point.validation_dice
    return rows


def _points(rows: np.ndarray) -> list[Point]:
    return [
        Point(int(step), loss, rate)
        if math.isnan(judged)
        else Point(int(step), loss, rate, judged, tuple(dice))
        for step, loss, rate, judged, *dice in rows.tolist()
    ]


def _crc(run: dict[str, Any], arrays: dict[str, np.ndarray]) -> int:
    total = zlib.crc32(json.dumps(run).encode())
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), total))
    return total


def _difference(made_by: dict[str, Any], run: dict[str, Any]) -> str:
    """Which part of two runs differs, in words."""
    for part in ("plan", "cases", "validation cases"):
        if made_by.get(part) != run[part]:
            return f"the {part} differ{'s' if part == 'plan' else ''}"
    old, new = made_by.get("settings", {}), run["settings"]
    changed = [name for name in new if old.get(name) != new[name]]
    return ", ".join(f"{name} was {old.get(name)} and is {new[name]}" for name in changed)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{path}: this checkpoint is damaged ({why}); copy it again, or move it away to start over"
    )
