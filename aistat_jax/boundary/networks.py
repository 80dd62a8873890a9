"""What does a network say about a boundary? Log-odds, a law of its edge, and presence."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import expit

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.prior import LearnedPrior
from aistat_jax.boundary.targets import Target, Targets
from aistat_jax.nets.contour_head import FARTHEST
from aistat_jax.nets.edge_law import FINEST, FOURIER, HARMONICS, RAYS, SCALE, Edge, spread
from aistat_jax.nets.edges import FeatureField, edge_at, feature_field, output_field, region_at
from aistat_jax.nets.output_head import OutputHead
from aistat_jax.nets.predict import predict
from aistat_jax.nets.weights import Net
from aistat_jax.space.image import Image, channel_from_array

LEAST_ODDS = 1e-3  # above 0, of what belongs to a region all the same


def network_logits(net: Net, image: Image) -> Image:
    """A network's log-odds of its labels, one channel each, on the image's own primary grid."""
    said = predict(net, image)
    affine = said.grid.affine
    return Image.of(
        *(
            channel_from_array(said.log_odds[..., n], affine, name=name, in_px=image.unit == "px")
            for n, name in enumerate(said.labels)
        )
    )


class Seen(NamedTuple):
    """What a network says of an image: where targets are, and the field its head reads them in."""

    targets: Targets
    net: Net | OutputHead
    field: FeatureField

    def by_network(self, target: Target) -> BoundaryModel:
        """The boundary, and whether there is one, by the network alone."""
        prior = network_prior(self.net, self.field, target)
        return boundary_model(target, prior=prior, presence=presence(self.net, self.field, target))

    def by_image(self, target: Target, evidence: Evidence) -> BoundaryModel:
        """The boundary by the image, and whether there is one by the network."""
        there = presence(self.net, self.field, target)
        return boundary_model(target, evidence, presence=there)


def seen_by(net: Net, image: Image, **where: Any) -> Seen:
    """Targets in a mask, or else where a network's log-odds are above 0; see `find_targets`."""
    field = feature_field(net, image)
    if where.get("mask") is None:
        image, where = network_logits(net, image), where | {"threshold": 0.0}
    return Seen(find_targets(image, **where), net, field)


def seen_in_output(
    head: OutputHead, image: Image, log_odds: Float[np.ndarray, "i j k"], **where: Any
) -> Seen:
    """The same of a network that is known by its log-odds on the image's primary grid alone.

    Raises InputError for an image that the head has not learned to read.
    """
    field = output_field(head, image, log_odds)
    if where.get("mask") is None:
        if not (log_odds > 0).any():
            raise InputError(
                f"{head.name} finds nothing: its probability is nowhere above one half; pass a "
                "mask of what to contour"
            )
        affine, in_px = image.primary.grid.affine, image.unit == "px"
        odds = channel_from_array(_as_learned(log_odds), affine, name=head.name, in_px=in_px)
        image, where = Image.of(odds), where | {"threshold": 0.0}
    return Seen(find_targets(image, **where), head, field)


def _as_learned(log_odds: Float[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
    """Log-odds that are above 0 in all of the regions that a head has learned to start from.

    These are around what is likelier than not, slice by slice, as far as half of its largest
    probability (`region_at`).
    """
    found = np.asarray(log_odds, dtype=float).copy()
    for k in np.flatnonzero((log_odds > 0).any(axis=(0, 1))):
        odds, probability = log_odds[:, :, k], expit(log_odds[:, :, k])
        left = odds > 0
        while left.any():
            place = np.unravel_index(int(np.where(left, odds, -np.inf).argmax()), odds.shape)
            region = region_at(probability, tuple(int(n) for n in place))
            found[:, :, k] = np.where(region & (odds <= 0), LEAST_ODDS, found[:, :, k])
            left &= ~region
    return found


def presence(net: Net | OutputHead, image: Image | FeatureField, target: Target) -> float:
    """Probability, by a network's contour head, that there is anything to contour at a target.

    A `FeatureField` of the image saves making it again. Raises InputError for a network without
    a contour head.
    """
    return float(expit(_edge(net, image, target).presence))


def network_prior(
    net: Net | OutputHead, image: Image | FeatureField, target: Target
) -> LearnedPrior:
    """What a network's contour head says of the boundary of one target, having seen the image.

    It is the law of a boundary given the image, so that alone it needs no evidence. `intensity`
    reads the same voxels: with it, what they share counts twice. Harmonics above the head's own
    are left out, noise from ray to ray with them. A `FeatureField` of the image saves making it
    again. Raises InputError for a network without a contour head.

    Source: `nets.edge_law`; Shah, Wilson & Ghahramani 2014, Student-t processes as
    alternatives to Gaussian processes, AISTATS.
    """
    edge = _edge(net, image, target)
    count = 2 * HARMONICS + 1
    with jax.enable_x64(True):
        factor = np.asarray(spread(edge))[:count, :count] / np.sqrt(RAYS)
    mean = (edge.mean @ FOURIER)[:count] / np.sqrt(RAYS)
    groups = tuple(zip(FINEST, np.bincount(SCALE[:count]).tolist(), strict=True))
    return LearnedPrior(mean, factor, np.asarray(edge.degrees), groups, FARTHEST, edge.margin)


def _edge(net: Net | OutputHead, image: Image | FeatureField, target: Target) -> Edge:
    if not isinstance(image, FeatureField):
        if isinstance(net, OutputHead):
            raise InputError(f"the output of {net.name} is read from a field; see output_field")
        image = feature_field(net, image)
    return edge_at(image, target.plane, target.centre, target.radius)
