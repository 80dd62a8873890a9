"""What is a trained network on disk? Its plan and card as JSON, its weights as safetensors.

A folder holds plan.json, card.json (data, licence, training command, scores) and one file
member-N.safetensors for each member of the ensemble. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._files import files_in, move_in, staged_folder, write_whole
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.contour_head import ContourHead
from aistat_jax.nets.domain import FILES, Domain, load_domain, save_domain
from aistat_jax.nets.network import build, random_net
from aistat_jax.nets.plan import Plan, load_plan, save_plan

SHIPPED = Path(__file__).parent / "shipped"
Weights = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Net:
    """A network ready to predict: a plan, the weights of its members, and its model card.

    members: one dictionary an ensemble member, from a parameter's path ("encoder.0.first.conv.
    kernel") to its float32 array. head: those of the contour head, which reads the features of
    all members; None without one. domain: what it was trained on, as far as that is known.
    """

    plan: Plan
    members: tuple[Weights, ...]
    card: dict[str, Any] = field(default_factory=dict)
    head: Weights | None = None
    domain: Domain | None = None

    @cached_property
    def graph(self) -> Any:
        """The network without its weights, for `nnx.merge`."""
        return _skeleton(self.plan.architecture)[0]

    def state(self, member: int = 0) -> Any:
        """The weights of one member as an nnx state that goes with `graph`."""
        return filled(_skeleton(self.plan.architecture)[1], self.members[member])

    @property
    def head_inputs(self) -> int:
        """How many numbers a voxel a contour head reads: every member's features, one log-odds."""
        return len(self.members) * self.plan.architecture.features + 1

    @property
    def head_graph(self) -> Any:
        """The contour head without its weights. Raises InputError for a network without one."""
        if self.head is None:
            raise InputError(
                f"the network {self.plan.name} has no contour head; use one of those shipped, or "
                "train a head for it"
            )
        return head_skeleton(self.head_inputs)[0]

    def head_state(self) -> Any:
        """The weights of the contour head as an nnx state that goes with `head_graph`."""
        return filled(head_skeleton(self.head_inputs)[1], self.head or {})

    @property
    def parameters(self) -> int:
        """How many numbers one member has learned."""
        return sum(array.size for array in self.members[0].values())


def untrained(plan: Plan, seed: int = 0) -> Net:
    """A network of a plan with random weights."""
    return Net(plan, (weights_of(nnx.state(random_net(plan.architecture, seed))),))


def weights_of(state: Any) -> Weights:
    """An nnx state as a dictionary of float32 arrays by path."""
    return {
        _name(path): np.asarray(variable.get_value(), dtype=np.float32)
        for path, variable in nnx.to_flat_state(state)
    }


def save_net(net: Net, folder: str | os.PathLike[str]) -> Path:
    """Write a network to a folder, which appears whole or not at all.

    Raises InputError when something is there already that is not a network.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "plan.json").is_file():
        raise InputError(f"{folder} exists and holds no network; choose another folder")
    with staged_folder(folder) as staged:
        save_plan(net.plan, staged / "plan.json")
        write_whole(staged / "card.json", json.dumps(net.card, indent=1) + "\n")
        parts = {f"member-{n}": weights for n, weights in enumerate(net.members)}
        for name, weights in (parts | ({"head": net.head} if net.head else {})).items():
            write_weights(weights, staged / f"{name}.safetensors")
        if net.domain is not None:
            save_domain(net.domain, staged)
        ours = ("plan.json", "card.json", FILES[0])
        old = [f for f in files_in(folder) if f in ours or f.endswith(".safetensors")]
        move_in(staged, folder, old, ours)
    return folder


def net_folder(name: str | os.PathLike[str]) -> Path:
    """Where a network is that predicts images: a shipped one by its name, or a folder.

    Raises InputError where there is none, and says which there are.
    """
    folder = SHIPPED / name if Path(name).name == str(name) else Path(name)
    if not (folder / "plan.json").is_file():
        folder = Path(name)
    if not (folder / "plan.json").is_file():
        surfaces = {path.parent.name: path.parent for path in SHIPPED.glob("*/surface.json")}
        if str(name) in surfaces or (Path(name) / "surface.json").is_file():
            raise InputError(
                f"the network {name} reads whole surfaces, each around a point, and predicts no "
                "image; pass it to contour, with `point_mm`"
            )
        known = ", ".join(sorted([*shipped_nets(), *surfaces])) or "none"
        raise InputError(
            f"there is no network {str(name)!r}: shipped are {known}; or pass the folder that "
            "training wrote"
        )
    return folder


def load_net(name: str | os.PathLike[str]) -> Net:
    """A shipped network by its name, or one of your own by its folder.

    Raises InputError for an unknown name, damaged weights, or weights of another plan.
    """
    folder = net_folder(name)
    plan = load_plan(folder / "plan.json")
    files = sorted(folder.glob("member-*.safetensors"), key=lambda f: int(f.stem.split("-")[1]))
    if not files:
        raise InputError(f"{folder}: there are no weights member-0.safetensors; train it again")
    card = folder / "card.json"
    content = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    _, shapes = _skeleton(plan.architecture)
    members = tuple(read_weights(file, shapes) for file in files)
    head = folder / "head.safetensors"
    bare = Net(plan, members, content, domain=load_domain(folder))
    if not head.is_file():
        return bare
    # Of a head from before margins or scales were found.
    as_learned = {"margin": np.zeros(4, np.float32), "log_scale": np.zeros(3, np.float32)}
    return replace(bare, head=read_weights(head, head_skeleton(bare.head_inputs)[1], as_learned))


def shipped_nets() -> tuple[str, ...]:
    """Names of the networks that come with the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob("*/plan.json")))


def write_weights(weights: Weights, file: Path) -> Path:
    """Weights as safetensors, whole or not at all."""
    from safetensors.numpy import save

    return write_whole(file, save(weights))


def read_weights(file: Path, shapes: Any, missing: Weights | None = None) -> Weights:
    """Weights of a state of those shapes; `missing` are those an older file may lack.

    Raises InputError for damaged weights, and for those of other shapes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = (missing or {}) | load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{file}: the weights are damaged ({error}); copy them again, or train again"
        ) from error
    wanted = {_name(path): v.get_value().shape for path, v in nnx.to_flat_state(shapes)}
    if {name: array.shape for name, array in found.items()} != wanted:
        raise InputError(
            f"{file}: these weights are of another plan than the files beside them; keep a "
            "network's files together"
        )
    if not all(np.isfinite(array).all() for array in found.values()):
        raise InputError(f"{file}: some weights are not finite numbers; train it again")
    return {name: np.asarray(array, dtype=np.float32) for name, array in found.items()}


@lru_cache(maxsize=32)
def _skeleton(architecture: Architecture) -> tuple[Any, Any]:
    """The graph and the shapes of a network's state; nothing is computed."""
    return nnx.split(nnx.eval_shape(lambda: build(architecture)))


@lru_cache(maxsize=32)
def head_skeleton(inputs: int) -> tuple[Any, Any]:
    """The same of the contour head."""
    return nnx.split(nnx.eval_shape(lambda: ContourHead(inputs)))


def filled(shapes: Any, weights: Weights) -> Any:
    """A state of those shapes with the weights in it."""
    flat = [
        (path, variable.replace(jnp.asarray(weights[_name(path)])))
        for path, variable in nnx.to_flat_state(shapes)
    ]
    return nnx.from_flat_state(flat)


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
