"""How does a session of edits leave memory? As one file, and back, with what can be undone.

A file (.npz: arrays and one text) holds every posterior that was given or edited, bit for bit, and
every click in its order. It holds neither image nor models: what is edited after it was read is
edited through the draws (`model_from_draws`), or through models that are passed again.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._errors import InputError
from aistat_jax._files import replaced_file
from aistat_jax._record import replace as replaced
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.editing import Placed, Session, session_of
from aistat_jax.edits import Click, Edit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.store import from_dataset, to_dataset
from aistat_jax.io.nifti import DAMAGED_ARRAYS
from aistat_jax.uncertainty.grading import grade

# Schema 2 has clicks in space; a session of slices is written as schema 1, as ever.
FORMAT, SCHEMA = "aistat_jax session", 2


def save_session(path: str | os.PathLike[str], session: Session) -> Path:
    """Write a session of edits (an explorer's `session`) to one .npz file; returns its path.

    The file appears under its name only when it is whole. Raises InputError when it cannot be
    written.
    """
    path = Path(path).expanduser()
    arrays: dict[str, np.ndarray] = {}
    seen: dict[int, int] = {}
    stored: list[dict[str, Any]] = []

    def number_of(posterior: Posterior) -> int:
        if id(posterior) not in seen:
            seen[id(posterior)] = len(stored)
            stored.append(_put(posterior, len(stored), arrays))
        return seen[id(posterior)]

    def words_of(edit: Edit) -> dict[str, Any]:
        clicks = [[*click.point, click.kind] for click in edit.clicks]
        return {
            "target": edit.target, "clicks": clicks, "posterior": number_of(edit.posterior),
            "sampled": edit.sampled, "said": edit.said,
        }  # fmt: skip

    first = session.given[0].grade
    told = {
        "format": FORMAT,
        "schema": max(edit.posterior.chart.dims for edit in session.given) - 1,
        "version": aistat_jax.__version__,
        "sd": session.sd,
        "tolerance": first.tolerance,
        "unit": first.unit,
        "given": [number_of(edit.posterior) for edit in session.given],
        "done": [words_of(edit) for edit in session.done],
        "undone": [words_of(edit) for edit in session.undone],
        "placed": [[*one.point, one.radius, one.channel] for one in session.placed],
        "posteriors": stored,
    }
    buffer = io.BytesIO()
    np.savez(buffer, session=np.array(json.dumps(told)), **arrays)  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{path}: the file cannot be written ({why}); choose another") from error
    return path


def load_session(
    path: str | os.PathLike[str], models: Sequence[BoundaryModel | None] | None = None
) -> Session:
    """The session of a file written by `save_session`, with all that can be undone and redone.

    `models` are those that were fitted, in the order of the posteriors given; without them, or for
    a target whose model is None, the next edits go by the draws. Raises InputError for a file that
    is missing, damaged or not a session, and for models that are not one a target, or of other
    targets.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            told = json.loads(str(archive["session"]))
            if told["format"] != FORMAT:
                raise InputError(f"{path}: not a session; save one with save_session")
            if told["schema"] > SCHEMA:
                raise InputError(
                    f"{path}: written by a newer version (schema {told['schema']}); update"
                )
            posteriors = [_get(words, archive) for words in told["posteriors"]]
        return _session(told, posteriors, path, models)
    except InputError:
        raise
    except DAMAGED_ARRAYS as e:
        raise InputError(
            f"{path}: not a whole session ({type(e).__name__}); save it again with save_session"
        ) from e


def _session(
    told: dict[str, Any],
    posteriors: list[Posterior],
    path: Path,
    models: Sequence[BoundaryModel | None] | None,
) -> Session:
    given = [posteriors[n] for n in told["given"]]
    if models is not None:
        names = [posterior.target_id for posterior in given]
        if len(models) != len(names) or any(
            model is not None and model.target.id != name
            for model, name in zip(models, names, strict=True)
        ):
            raise InputError(f"{path}: its models must be those of {', '.join(names)}, in order")
        given = [
            posterior if model is None else replaced(posterior, model=model)
            for posterior, model in zip(given, models, strict=True)
        ]
    unit = {f"tolerance_{told['unit']}": told["tolerance"]}
    session = session_of(given, click_sd=told["sd"], **unit)

    def edit_of(words: dict[str, Any]) -> Edit:
        clicks = tuple(Click(tuple(map(float, at)), kind) for *at, kind in words["clicks"])
        posterior = posteriors[words["posterior"]] if clicks else given[words["target"]]
        return Edit(
            words["target"], clicks, posterior, grade(posterior, **unit), words["sampled"],
            words["said"],
        )  # fmt: skip

    done, undone = (tuple(map(edit_of, told[name])) for name in ("done", "undone"))
    placed = tuple(
        Placed((float(x), float(y), float(z)), float(radius), channel)
        for x, y, z, radius, channel in told.get("placed", ())
    )
    return replace(session, done=done, undone=undone, placed=placed)


def _put(posterior: Posterior, number: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A posterior as words, its arrays put among the others."""
    said = to_dataset(posterior).to_dict(data="array")
    for kind in ("coords", "data_vars"):
        for name, variable in said[kind].items():
            arrays[f"{number}/{name}"] = variable.pop("data")
    said["number"] = number
    said["attrs"] = {name: _plain(value) for name, value in said["attrs"].items()}
    return said


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _get(words: dict[str, Any], archive: Any) -> Posterior:
    from xarray import Dataset

    number = words["number"]
    for kind in ("coords", "data_vars"):
        for name, variable in words[kind].items():
            variable["data"] = archive[f"{number}/{name}"]
    return from_dataset(Dataset.from_dict(words))
