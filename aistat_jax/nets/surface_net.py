"""What is a surface head on disk? surface.json (what it reads, how sure it is), card and weights.

A folder holds surface.json, card.json and head.safetensors. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._files import files_in, move_in, staged_folder, write_whole
from aistat_jax._typing import ArrayLike, Float
from aistat_jax.nets.domain import FILES as DOMAIN_FILES
from aistat_jax.nets.domain import Domain, load_domain, save_domain
from aistat_jax.nets.edges import about_edge
from aistat_jax.nets.surface_head import (
    LOOKS,
    POSITIONS,
    SurfaceField,
    SurfaceHead,
    middle_of,
    unroll_in_space,
)
from aistat_jax.nets.surface_law import SurfaceEdge
from aistat_jax.nets.weights import SHIPPED, Weights, filled, read_weights

SCHEMA = 1
FILES = ("surface.json", "card.json", "head.safetensors")


@dataclass(frozen=True, eq=False)
class SurfaceNet:
    """A surface head ready to be read: its weights, and what they were learned for.

    quantity is that of the channel it reads, features the names of the fields; factors (2,) are
    how many times as large as it says its errors of size, and of form and detail, are on patients
    left out; domain what it was trained on, as far as that is known.
    """

    name: str
    quantity: str
    features: tuple[str, ...]
    head: Weights
    factors: tuple[float, float] = (1.0, 1.0)
    card: dict[str, Any] = field(default_factory=dict)
    domain: Domain | None = None

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """The head as nnx graph and state, for `nnx.merge`."""
        graph, shapes = skeleton(len(self.features))
        return graph, filled(shapes, self.head)

    @property
    def parameters(self) -> int:
        return sum(array.size for array in self.head.values())


def surface_at(
    net: SurfaceNet, read: SurfaceField, centre: ArrayLike, radius: float
) -> tuple[SurfaceEdge, np.ndarray, float]:
    """What a head says of one target, and the middle and rough radius that this is about.

    The target is looked at LOOKS times: each time about the middle, and with the size, of what was
    found before. Shapes: of the edge (ray,); centre (3,) and radius in mm.
    """
    middle, size = np.asarray(centre, dtype=float), float(radius)
    graph, state = net.parts
    for look in range(LOOKS):
        features, log_radius = unroll_in_space(read, middle, size)
        found = read_surfaces(graph, state, features[None], np.float32([log_radius]))
        one = SurfaceEdge(
            *(np.asarray(part, np.float64)[0] for part in found[:3]),
            *(np.asarray(part, np.float64) for part in found[3:]),
        )
        if look < LOOKS - 1:
            middle, size = middle_of(np.asarray(one.mean), middle, size)
    scaled = jax.tree.map(partial(np.asarray, dtype=np.float64), one.scaled(np.array(net.factors)))
    return scaled, middle, size


def look_at_surface(
    read: SurfaceField, law: SurfaceEdge, centre: ArrayLike, radius: float
) -> Float[np.ndarray, " feature"]:
    """What the fields show about the surface that a head has said (`edges.about_edge`)."""
    features, _ = unroll_in_space(read, centre, radius)
    return about_edge(features, np.asarray(law.mean), POSITIONS)


@partial(jax.jit, static_argnums=0)
def read_surfaces(
    graph: Any, state: Any, features: ArrayLike, log_radius: ArrayLike
) -> SurfaceEdge:
    """What a head of these weights says of targets. Shapes as `SurfaceHead.__call__`."""
    return nnx.merge(graph, state)(jnp.asarray(features), jnp.asarray(log_radius))


def save_surface_net(net: SurfaceNet, folder: str | os.PathLike[str]) -> Path:
    """Write a surface head to a folder, which appears whole or not at all.

    Raises InputError when something is there already that is no surface head.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    if folder.exists() and not is_surface_net(folder):
        raise InputError(f"{folder} exists and holds no surface head; choose another folder")
    said = {
        "schema": SCHEMA, "name": net.name, "quantity": net.quantity,
        "features": list(net.features), "factors": [round(float(f), 4) for f in net.factors],
    }  # fmt: skip
    with staged_folder(folder) as staged:
        write_whole(staged / "surface.json", json.dumps(said, indent=1) + "\n")
        write_whole(staged / "card.json", json.dumps(net.card, indent=1) + "\n")
        write_whole(staged / "head.safetensors", save(net.head))
        if net.domain is not None:
            save_domain(net.domain, staged)
        ours = (*FILES, *DOMAIN_FILES)
        first = (*FILES[:2], DOMAIN_FILES[0])
        move_in(staged, folder, [f for f in files_in(folder) if f in ours], first)
    return folder


def is_surface_net(name: str | os.PathLike[str]) -> bool:
    """Whether a shipped name, or a folder, is one of a surface head."""
    return (_folder(name) / "surface.json").is_file()


def load_surface_net(name: str | os.PathLike[str]) -> SurfaceNet:
    """A shipped surface head by its name, or one of your own by its folder.

    Raises InputError for what is none, another schema, or damaged weights.
    """
    folder = _folder(name)
    file = folder / "surface.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        schema = said["schema"]
        features = tuple(map(str, said["features"]))
        size, rest = map(float, said["factors"])
        known = str(said["name"]), str(said["quantity"])
        card = folder / "card.json"
        content = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: this is not a whole file of a surface head") from error
    if schema != SCHEMA:
        raise InputError(f"{file}: schema {schema} is of another version; train it again")
    head = read_weights(folder / "head.safetensors", skeleton(len(features))[1])
    return SurfaceNet(*known, features, head, (size, rest), content, load_domain(folder))


def _folder(name: str | os.PathLike[str]) -> Path:
    shipped = SHIPPED / name if Path(name).name == str(name) else Path(name)
    return shipped if (shipped / "surface.json").is_file() else Path(name)


@lru_cache(maxsize=8)
def skeleton(features: int) -> tuple[Any, Any]:
    """The graph and the shapes of a head's state; nothing is computed."""
    return nnx.split(nnx.eval_shape(lambda: SurfaceHead(features)))
