"""Where does a network see the edge of a target? Its maps of features, read along a target's rays.

A field is made once an image (`feature_field`); every target then costs one look at it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.special import log_expit

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import ArrayLike, Bool, Float
from aistat_jax.nets.contour_head import POSITIONS
from aistat_jax.nets.edge_law import RAYS, Edge
from aistat_jax.nets.output_head import OutputHead, check_fits
from aistat_jax.nets.predict import LARGEST_ODDS, maps
from aistat_jax.nets.prepare import field_of_view, normalise, resample
from aistat_jax.nets.weights import Net
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Image
from aistat_jax.space.star import star_chart

# Where, in radii of an edge, features about it are read.
ABOUT = (0.5, 1.0, 1.6)


@record
class FeatureField:
    """A network's last features and, after them, its log-odds, on the working grid.

    Of a network that is known by its output alone the features are the image. `net` is whose head
    reads them. Shapes: values (i, j, k, feature) float32.
    """

    values: Float[np.ndarray, "i j k feature"]
    grid: Grid
    net: Net | OutputHead = static()


def feature_field(net: Net, image: Image, label: int = 1) -> FeatureField:
    """Features of all members side by side and log-odds of one label, without mirroring.

    The log-odds are those of the members' mean probability.
    Raises InputError as `predict` does, and for a network in three dimensions, whose features a
    star in a plane cannot use.
    """
    if net.plan.architecture.dims != 2:
        raise InputError(f"the network {net.plan.name} is 3D; a contour head needs a 2D network")
    from scipy.ndimage import correlate1d

    said = [maps(net, image, member=n) for n in range(len(net.members))]
    features = np.concatenate([found for _, found, _ in said], axis=-1)
    for axis in (0, 1):  # the last up-sampling leaves a chequered pattern, which this takes out
        features = correlate1d(features, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    each = np.stack([odds[..., label - 1 : label] for _, _, odds in said])
    odds = np.logaddexp.reduce(log_expit(each)) - np.logaddexp.reduce(log_expit(-each))
    prepared, values = said[0][0], np.concatenate([features, odds], axis=-1, dtype=np.float32)
    return FeatureField(values, prepared.grid, net)


def output_field(
    head: OutputHead, image: Image, log_odds: Float[np.ndarray, "i j k"]
) -> FeatureField:
    """The image, normalised, and the log-odds of a network of any make, on the primary grid.

    Raises InputError for an image that the head has not learned to read.
    """
    check_fits(head, image)
    grid = image.primary.grid
    if log_odds.shape != grid.shape:
        raise InputError(
            f"the network's output has the grid {log_odds.shape}, and channel "
            f"{image.primary.name} {grid.shape}; pass what it says of this very image"
        )
    values = np.empty((*grid.shape, head.head_inputs), np.float32)
    for n, (name, normalisation) in enumerate(zip(head.channels, head.normalisations, strict=True)):
        channel = image[name]
        if channel.grid.matches(grid):
            there = channel.values
        else:
            there = resample(channel.values, channel.grid, grid, smooth=True)
            there[~field_of_view(channel.grid, grid)] = channel.values.min()
        values[..., n] = normalise(normalisation, there, channel.values)
    values[..., -1] = np.clip(log_odds, -LARGEST_ODDS, LARGEST_ODDS)
    return FeatureField(values, grid, head)


def region_at(
    probability: Float[np.ndarray, "i j"], voxel: tuple[int, ...]
) -> Bool[np.ndarray, "i j"]:
    """What a network takes for one with a voxel: all that hangs together with it and has at least
    half of its probability."""
    from scipy.ndimage import label

    labels = np.asarray(label(probability >= 0.5 * probability[voxel])[0])  # pyright: ignore[reportIndexIssue]
    return labels == labels[voxel]


def unroll(
    field: FeatureField, plane: Plane, centre: ArrayLike, radius: float
) -> tuple[Float[np.ndarray, "ray position feature"], float]:
    """Features along the rays of a star in a plane, and the log of its rough radius in voxels.

    Linear between voxels, zero beyond the field. Shapes: centre (2,) in-plane, and radius, in
    the unit of the plane.
    """
    from scipy.ndimage import map_coordinates

    places = radius * np.exp(POSITIONS)
    chart = star_chart(centre, float(places.max()), plane, RAYS)
    points = np.stack([chart.line(ray, places) for ray in range(RAYS)])
    index = field.grid.to_index(plane.to_world(points))
    k = int(np.clip(np.rint(index[0, 0, 2]), 0, field.grid.shape[2] - 1))
    at = np.moveaxis(index[..., :2], -1, 0)
    values = field.values[:, :, k]
    read = [
        map_coordinates(values[..., f], at, order=1, mode="constant")
        for f in range(values.shape[-1])
    ]
    voxel = float(np.sqrt(np.prod(field.grid.spacing[:2])))
    return np.stack(read, axis=-1).astype(np.float32), float(np.log(radius / voxel))


def edge_at(field: FeatureField, plane: Plane, centre: ArrayLike, radius: float) -> Edge:
    """What the contour head says of one target, (ray,) and scalars, as float64 numbers.

    Raises InputError for a network without a contour head.
    """
    return edge_and_look(field, plane, centre, radius)[0]


def edge_and_look(
    field: FeatureField, plane: Plane, centre: ArrayLike, radius: float
) -> tuple[Edge, Float[np.ndarray, " feature"]]:
    """The same, and what the features show about that edge (`about_edge`)."""
    graph, state = field.net.head_graph, field.net.head_state()
    features, log_radius = unroll(field, plane, centre, radius)
    found = read_edges(graph, state, jnp.asarray(features[None]), jnp.float32([log_radius]))
    edge = jax.tree.map(partial(np.asarray, dtype=np.float64), found).at(0)
    return edge, about_edge(features, edge.mean, POSITIONS)


def about_edge(
    features: Float[np.ndarray, "ray position feature"],
    edge: Float[np.ndarray, " ray"],
    positions: Float[np.ndarray, " position"],
) -> Float[np.ndarray, " number"]:
    """Features inside, at and outside of an edge, means over rays: one vector of a target.

    Read at ABOUT times the edge's radius, linear between positions, which are log radii evenly
    spread as the edge's.
    """
    found = []
    for share in ABOUT:
        at = (edge + np.log(share) - positions[0]) / (positions[1] - positions[0])
        at = np.clip(at, 0, len(positions) - 1 - 1e-6)
        below = at.astype(int)
        part, rays = (at - below)[:, None], np.arange(len(edge))
        read = (1 - part) * features[rays, below] + part * features[rays, below + 1]
        found.append(read.mean(axis=0))
    return np.concatenate(found).astype(float)


@partial(jax.jit, static_argnums=0)
def read_edges(graph: Any, state: Any, features: ArrayLike, log_radius: ArrayLike) -> Edge:
    """What a head of these weights says of targets. Shapes as `ContourHead.__call__`."""
    return nnx.merge(graph, state)(jnp.asarray(features), jnp.asarray(log_radius))
