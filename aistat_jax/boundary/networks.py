"""What does a network say about a boundary? Log-odds, an edge along every ray, and presence."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float
from aistat_jax.boundary.charts import StarChart
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.families import EdgeTerm, Term, leaves
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.targets import Target
from aistat_jax.nets.contour_head import Edge, covariance
from aistat_jax.nets.edges import FeatureField, edge_at, feature_field
from aistat_jax.nets.predict import predict
from aistat_jax.nets.weights import Net
from aistat_jax.space.basis import equal_angles
from aistat_jax.space.image import Image, channel_from_array

#: The prior that a contour head wants: flat at the scale of its errors. The head says how the
#: boundary is distributed given the image, which has a prior in it already; a second one would
#: shrink its shape towards a circle.
WIDE_PRIOR = Prior(amplitude=1.0, mean_log_sd=1.0, fixed=("amplitude", "lengthscale"))


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


@record
class Edges:
    """What a network's contour head reads along the rays; see `edges`."""

    field: FeatureField
    temper: float = static(default=1.0)

    def tabulate(self, target: Target, chart: StarChart) -> tuple[Term, ...]:
        edge = edge_at(self.field, chart.plane, chart.centre, target.radius)
        read = np.log(target.radius) + edge.mean
        factor = np.linalg.cholesky(covariance(edge) / self.temper)
        whiten = np.linalg.inv(factor)
        constant = -np.log(np.diag(factor)).sum() - 0.5 * len(read) * np.log(2 * np.pi)
        to_read = _between_rays(chart.angles, equal_angles(len(read)))
        return (EdgeTerm(*leaves(whiten @ read, whiten @ to_read, constant)),)


def edges(net: Net, image: Image | FeatureField, *, temper: float = 1.0) -> Evidence:
    """Evidence of a network's contour head: per ray an edge and its noise, with correlated error.

    The head gives the law of a boundary given the image, so that alone it wants `WIDE_PRIOR`. It is
    the same image that `intensity` reads: with both, what they share counts twice. `temper` in
    (0, 1] widens what the head says. Raises InputError for a network without a contour head.
    """
    if not 0 < temper <= 1:
        raise InputError(f"temper must be in (0, 1], got {temper}")
    _ = net.head_graph
    field = image if isinstance(image, FeatureField) else feature_field(net, image)
    return Evidence((Edges(field, temper),))


def presence(net: Net, image: Image | FeatureField, target: Target) -> float:
    """Probability, by a network's contour head, that there is anything to contour at a target.

    A `FeatureField` of the image saves making it again. Raises InputError for a network without
    a contour head.
    """
    return float(expit(_edge(net, image, target).presence))


def network_prior(net: Net, image: Image | FeatureField, target: Target, rays: int = 128) -> Prior:
    """A prior about the edge that a network's contour head reads, as wide as it says it errs.

    The amplitude (correlated error and noise together), the lengthscale and the spread of the
    mean are held at what it says. `rays` are those of the chart to come. Raises InputError for a
    network without a contour head.
    """
    edge = _edge(net, image, target)
    spread = float(np.sqrt(np.mean(np.square(edge.amplitude) + np.square(edge.noise))))
    shape = _between_rays(equal_angles(len(edge.mean)), equal_angles(rays)) @ edge.mean
    return Prior(
        amplitude=spread, lengthscale=float(edge.lengthscale), mean_log_sd=float(edge.mean_sd),
        shape=shape, fixed=("amplitude", "lengthscale"),
    ).check()  # fmt: skip


def _edge(net: Net, image: Image | FeatureField, target: Target) -> Edge:
    field = image if isinstance(image, FeatureField) else feature_field(net, image)
    return edge_at(field, target.plane, target.centre, target.radius)


def _between_rays(have: np.ndarray, want: np.ndarray) -> Float[np.ndarray, "want have"]:
    """Linear interpolation around the circle, from equally spaced rays to other angles."""
    place = want / (2 * np.pi) * len(have)
    low = np.floor(place).astype(int)
    share = place - low
    matrix = np.zeros((len(want), len(have)))
    rows = np.arange(len(want))
    np.add.at(matrix, (rows, low % len(have)), 1 - share)
    np.add.at(matrix, (rows, (low + 1) % len(have)), share)
    return matrix
