"""How does a posterior go to ArviZ? As its data, with all groups that its model can fill."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.boundary.answers import Observation, Observed, pieces_read
from aistat_jax.boundary.observed import given_boundaries, voxels_of
from aistat_jax.inference.log_density import log_densities, log_density
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.prior import prior_draws
from aistat_jax.inference.store import NOTED, to_dataset

GROUPS = (
    "posterior",
    "prior",
    "sample_stats",
    "log_likelihood",
    "posterior_predictive",
    "observed_data",
)
PRIOR_DRAWS, PREDICTIVE_DRAWS = 500, 200


def to_arviz(posterior: Posterior, groups: Sequence[str] | None = None, seed: int = 0) -> Any:
    """A posterior as ArviZ reads it, with dims chain, draw, ray and basis.

    That is arviz.InferenceData, and xarray.DataTree from ArviZ 1 on.

    * "posterior": radii (chain, draw, ray) in the chart's unit and every site of the model; the
      coordinate ray is the angle in radians. What is not a draw (chart, plane, diagnostics,
      method, seed, log_evidence) is in the group's attributes.
    * "sample_stats": lp, the log density of the unconstrained sites (`log_density`), and what the
      sampler noted; by NUTS also diverging, energy, tree_depth, n_steps and acceptance_rate.
    * "prior": 500 draws of the program without its evidence.
    * "log_likelihood": for each image channel the tempered log-likelihood of its blocks of voxels,
      (chain, draw, NAME_block), given intensities drawn from their conditional given each boundary;
      for "raters" one a rater, for "clicks" one a click. `arviz.loo(data, var_name="PT")` leaves
      out one block at a time.
    * "observed_data", "posterior_predictive": the voxels within the chart's reach (coordinates
      u and v), in the image's units, and what at most 200 of the draws predict of them. Voxels are
      predicted one by one: that noise is alike among neighbours is not in them.

    `groups` names those wanted; by default all that can be made. Without its model (a posterior
    read from a file) there are only the first two. Log-odds and terms of one's own are not data a
    model predicts, and are in none of the last three; a model without any other has not those.

    Raises InputError for a group that is unknown, or asked for and cannot be made.
    """
    makers = _makers(posterior, seed)
    wanted = tuple(makers) if groups is None else tuple(groups)
    made: dict[str, Any] = {}
    for name in wanted:
        if name not in GROUPS:
            raise InputError(f"unknown group {name!r}; use some of {', '.join(GROUPS)}")
        if name not in makers:
            raise InputError(f"group {name!r} needs the model, which is not kept in files")
        dataset = makers[name]()
        if dataset.data_vars:
            made[name] = dataset
        elif groups is not None:
            raise InputError(f"this posterior has nothing for group {name!r}")
    from xarray import DataTree

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
        import arviz

    if issubclass(getattr(arviz, "InferenceData", DataTree), DataTree):
        return DataTree.from_dict({f"/{name}": dataset for name, dataset in made.items()})
    return arviz.InferenceData(**made)


def _makers(posterior: Posterior, seed: int) -> dict[str, Callable[[], Any]]:
    """What makes each group that can be made."""
    makers: dict[str, Callable[[], Any]] = {"posterior": lambda: _draws(posterior)}
    model = posterior.model
    if model is not None:
        makers["prior"] = lambda: _draws(prior_draws(model, PRIOR_DRAWS, seed))
    makers["sample_stats"] = lambda: _notes(posterior)
    if model is not None and model.evidence is not None:
        found: list[dict[str, dict[str, Any]]] = []

        def observed(group: str) -> Any:
            if not found:
                found.append(_observations(posterior, seed))
            return _dataset(posterior, found[0][group])

        for group in GROUPS[3:]:
            makers[group] = lambda group=group: observed(group)
    return makers


def _draws(posterior: Posterior) -> Any:
    dataset = to_dataset(posterior)
    return dataset.drop_vars([name for name in dataset.data_vars if str(name).startswith(NOTED)])


def _notes(posterior: Posterior) -> Any:
    from xarray import Dataset

    notes: dict[str, Any] = dict(posterior.sample_stats)
    if posterior.model is not None:
        density = log_density(posterior.model)
        if set(density.sites) <= set(posterior.samples):
            notes["lp"] = log_densities(density, density.unconstrain(posterior.samples))
    chains, draws = posterior.radii.shape[:2]
    coordinates = {"chain": np.arange(chains), "draw": np.arange(draws)}
    return Dataset({n: (("chain", "draw"), v) for n, v in notes.items()}, coordinates)


def _dataset(posterior: Posterior, variables: dict[str, Any]) -> Any:
    """Variables (dims, values, coordinates) as a Dataset."""
    from xarray import Dataset

    coordinates: dict[str, Any] = {}
    if any("draw" in dims for dims, _, _ in variables.values()):
        chains, draws = posterior.radii.shape[:2]
        coordinates = {"chain": np.arange(chains), "draw": np.arange(draws)}
    for _, _, own in variables.values():
        coordinates |= own
    return Dataset({name: each[:2] for name, each in variables.items()}, coordinates)


def _observations(posterior: Posterior, seed: int) -> dict[str, dict[str, Any]]:
    """For the groups log_likelihood, posterior_predictive and observed_data, their variables."""
    model = posterior.model
    assert model is not None
    rng = np.random.default_rng(seed)
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS[3:]}
    chains, draws = posterior.radii.shape[:2]
    every = -(-draws * chains // PREDICTIVE_DRAWS)
    few = np.arange(0, draws, every)  # of each chain
    chosen = (draws * np.arange(chains)[:, None] + few).ravel()
    radii = posterior.draws

    def add(found: Observation) -> None:
        name = found.name
        while name in groups["log_likelihood"]:
            name += "_"
        logs = found.logs.reshape(chains, draws, -1)
        groups["log_likelihood"][name] = (("chain", "draw", f"{name}_{found.unit}"), logs, {})
        if found.seen is None:
            return
        assert found.predicted is not None
        dims = (f"{name}_{found.part}", "ray")[: found.seen.ndim]
        places = {f"{name}_{axis}": (dims[0], x) for axis, x in found.places.items()}
        values = found.predicted.reshape(chains, len(few), *found.seen.shape)
        drawn = ("chain", "draw", *dims), values, places | {"draw": few}
        groups["posterior_predictive"][name] = drawn
        groups["observed_data"][name] = dims, found.seen, places

    for voxels in voxels_of(model):
        given = given_boundaries(voxels, radii, rng)
        axes = dict(
            zip("uv" if voxels.points.shape[1] == 2 else "xyz", voxels.points.T, strict=True)
        )
        add(
            Observation(
                voxels.name, given.block_log_likelihood, "block", voxels.values,
                given.predicted[chosen], "voxel", axes,
            )
        )  # fmt: skip
    for piece, read in pieces_read(model):
        if isinstance(piece, Observed):
            for found in piece.observations(rng, read, radii, chosen):
                add(found)
    return groups
