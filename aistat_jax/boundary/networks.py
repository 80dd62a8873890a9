"""What does a network say about a boundary? Log-odds, a law of its edge, and presence."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import expit

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.prior import LearnedPrior
from aistat_jax.boundary.targets import Target, Targets
from aistat_jax.nets.contour_head import FARTHEST
from aistat_jax.nets.domain import Departure, measured_for
from aistat_jax.nets.edge_law import FINEST, FOURIER, HARMONICS, RAYS, SCALE, Edge, spread
from aistat_jax.nets.edges import (
    FeatureField,
    edge_and_look,
    edge_at,
    feature_field,
    output_field,
    region_at,
)
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
    """What a network says of an image: where targets are, and the field its head reads them in.

    `unlike` is in what respects the image is unlike those that the network was trained on.
    """

    targets: Targets
    net: Net | OutputHead
    field: FeatureField
    unlike: tuple[Departure, ...] = ()

    def by_network(self, target: Target) -> BoundaryModel:
        """The boundary, and whether there is one, by the network alone."""
        edge, doubted = self.look(target)
        there = float(expit(edge.presence))
        return boundary_model(doubted, prior=prior_of(edge), presence=there)

    def by_image(self, target: Target, evidence: Evidence) -> BoundaryModel:
        """The boundary by the image, and whether there is one by the network."""
        edge, doubted = self.look(target)
        return boundary_model(doubted, evidence, presence=float(expit(edge.presence)))

    def departures(self, target: Target) -> tuple[Departure, ...]:
        """In what respects the image, and what is seen about a target, are unlike training."""
        return self._looked_at(target)[1]

    def look(self, target: Target) -> tuple[Edge, Target]:
        """The edge of a target, and the target with what speaks against asking this network."""
        edge, found = self._looked_at(target)
        if self.net.domain is None or not found:
            return edge, target
        return edge, replace(target, doubts=(*target.doubts, *self.net.domain.said(found)))

    def _looked_at(self, target: Target) -> tuple[Edge, tuple[Departure, ...]]:
        edge, seen = edge_and_look(self.field, target.plane, target.centre, target.radius)
        domain = self.net.domain
        return edge, self.unlike + (domain.of_edge(seen) if domain is not None else ())


def seen_by(net: Net, image: Image, **where: Any) -> Seen:
    """Targets in a mask, or else where a network's log-odds are above 0; see `find_targets`."""
    field, unlike = feature_field(net, image), unlike_training(net, image)
    if where.get("mask") is None:
        image, where = network_logits(net, image), where | {"threshold": 0.0}
    return Seen(find_targets(image, **where), net, field, unlike)


def unlike_training(net: Net, image: Image) -> tuple[Departure, ...]:
    """In what respects an image is unlike those that a network was trained on; none if unknown."""
    if net.domain is None:
        return ()
    return net.domain.of_image(measured_for(net.plan, image))


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
                f"{head.name} finds nothing: its probability is nowhere above one half, so that "
                "there is nothing to contour"
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
    return prior_of(_edge(net, image, target))


def prior_of(edge: Edge) -> LearnedPrior:
    """The law of an edge as the prior of a boundary; see `network_prior`."""
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
