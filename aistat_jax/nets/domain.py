"""Is a case like those that a network was trained on, and if not, in what respect, and how far?

A network keeps limits of single numbers (the side of its pixels, the image's width, quantiles of
every channel), and a Gaussian of what its own features show about an edge. What lies beyond is a
`Departure`: a sentence with the number and what was trained on. `domain_fitting` makes the limits.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole
from aistat_jax._typing import Float
from aistat_jax.nets._json import broken, read_json, write_json
from aistat_jax.nets.plan import Plan
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image

FILES = ("domain.json", "domain.safetensors")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
MOST_VOXELS = 100_000  # of a channel, whose quantiles need no more
SPACING, WIDTH, INTENSITY, APPEARANCE = "spacing", "field of view", "intensity", "appearance"
Measured = dict[tuple[str, str, float], float]
"""Numbers of an image by what they are: respect, channel, quantile."""
RESPECTS = (SPACING, WIDTH, INTENSITY, APPEARANCE)


class Departure(NamedTuple):
    """In what respect a case is unlike those trained on: its number, the limits, and a sentence."""

    respect: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Limits:
    """One number over the cases trained on, and from where on another is unlike them.

    `least` and `most` are those of the cases; `low` and `high` the limits. `channel` and `quantile`
    are of which it is, where it is one of an image's quantiles.
    """

    respect: str
    least: float
    most: float
    low: float
    high: float
    unit: str
    channel: str = ""
    quantile: float = 0.0

    def __call__(self, value: float) -> Departure | None:
        if self.low <= value <= self.high:
            return None
        unit, trained = f" {self.unit}" if self.unit else "", f"{self.least:.3g}"
        if f"{self.most:.3g}" != trained:
            trained += f" to {self.most:.3g}"
        words = {SPACING: "pixels of", WIDTH: "an image of"}.get(self.respect) or (
            f"{self.quantile:.3g} quantile of {self.channel}"
        )
        limit = f"from {self.low:.3g}" if value < self.low else f"up to {self.high:.3g}"
        return Departure(
            self.respect, value, self.low, self.high,
            f"{words} {value:.3g}{unit}, trained on {trained} (taken {limit})",
        )  # fmt: skip

    def beyond(self, value: float) -> float:
        """By how many widths of the limits a number lies beyond them."""
        return max(self.low - value, value - self.high) / max(self.high - self.low, 1e-12)


@dataclass(frozen=True, eq=False)
class Domain:
    """What a network was trained on, as far as it is kept.

    `limits` are of single numbers. A vector of features x about an edge is at the distance
    |whiten (x - mean)| / sqrt(its length), at most `furthest` of those trained on. `alarm` is how
    many of the cases left out of training each of three looks (geometry, intensity, appearance) was
    made to find fault with.

    Shapes: mean (feature,), whiten (feature, feature); both empty where no features are kept.
    """

    name: str
    patients: int
    alarm: float
    limits: tuple[Limits, ...]
    furthest: float
    mean: Float[np.ndarray, " feature"]
    whiten: Float[np.ndarray, "feature feature"]

    def of_image(self, measured: Measured) -> tuple[Departure, ...]:
        """What is unusual in what was measured of an image: one of each respect, the furthest."""
        found: dict[str, tuple[float, Departure]] = {}
        for each in self.limits:
            value = measured.get((each.respect, each.channel, each.quantile))
            departure = None if value is None else each(value)
            if departure is not None and value is not None:
                far = each.beyond(value)
                if far > found.get(each.respect, (-1.0,))[0]:
                    found[each.respect] = far, departure
        return tuple(found[r][1] for r in RESPECTS if r in found)

    def distance(self, features: Float[np.ndarray, " feature"]) -> float:
        """Mahalanobis distance of features about an edge, in units that are about 1 in training."""
        away = self.whiten @ (features - self.mean)
        return float(np.linalg.norm(away) / np.sqrt(len(away)))

    def of_edge(self, features: Float[np.ndarray, " feature"]) -> tuple[Departure, ...]:
        """Whether what a network's features show about an edge is unusual."""
        if not len(self.mean):
            return ()
        if len(features) != len(self.mean):
            raise InputError(
                f"{len(features)} features about an edge, and the domain of {self.name} is of "
                f"{len(self.mean)}; measure it again"
            )
        distance = self.distance(features)
        if distance <= self.furthest:
            return ()
        text = (
            f"what its features show about this edge is {distance:.1f} standard distances from "
            f"what they showed in training (taken up to {self.furthest:.1f})"
        )
        return (Departure(APPEARANCE, distance, 0.0, self.furthest, text),)

    def said(self, departures: tuple[Departure, ...]) -> tuple[str, ...]:
        """The sentences that make a grade red, one a departure."""
        return tuple(
            f"outside of what the network {self.name} was trained on: {each.text}"
            for each in departures
        )


def measured_for(plan: Plan, image: Image) -> Measured:
    """What is measured of an image for a network: geometry of its slices, values as it sees them.

    Values of a channel are those of its quantity, or, where a network is shown multiples of an
    image's standard deviation from its mean, those.
    """
    found = geometry(image.primary.grid)
    for name, how in zip(plan.channels, plan.normalisations, strict=True):
        found |= tones(image[name].values, name, relative=how.kind.startswith("zscore"))
    return found


def geometry(grid: Grid) -> Measured:
    """The side of a pixel of an image's slices (none without spacing), and their largest width."""
    side = float(np.sqrt(np.prod(grid.spacing[:2])))
    width = float((np.array(grid.shape[:2]) * grid.spacing[:2]).max())
    found = {(WIDTH, "", 0.0): width}
    return found if grid.unit == "px" else found | {(SPACING, "", 0.0): side}


def tones(values: Float[np.ndarray, "i j k"], name: str, relative: bool = False) -> Measured:
    """QUANTILES of a channel."""
    some = values.ravel()
    some = np.asarray(some[:: 1 + len(some) // MOST_VOXELS], dtype=float)
    if relative:
        sd = float(some.std())
        some = (some - some.mean()) / (sd if sd > 0 else 1.0)
    cuts = np.quantile(some, QUANTILES)
    return {(INTENSITY, name, q): float(c) for q, c in zip(QUANTILES, cuts, strict=True)}


# ------------------------------------------------------------------------------------------ files


def save_domain(domain: Domain, folder: Path) -> None:
    """Write a network's domain beside its plan."""
    from safetensors.numpy import save

    said = {
        "name": domain.name, "patients": domain.patients, "alarm": domain.alarm,
        "limits": [asdict(each) for each in domain.limits], "furthest": domain.furthest,
    }  # fmt: skip
    write_json("domain", said, folder / FILES[0])
    arrays = {"mean": domain.mean, "whiten": domain.whiten}
    kept = {name: np.ascontiguousarray(a, dtype=np.float32) for name, a in arrays.items()}
    write_whole(folder / FILES[1], save(kept))


def load_domain(folder: str | os.PathLike[str]) -> Domain | None:
    """The domain of the network in a folder, None where none is kept.

    Raises InputError for damaged files.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    said, arrays = (Path(folder) / name for name in FILES)
    if not said.is_file():
        return None
    content: dict[str, Any] = read_json("domain", said)
    try:
        limits = tuple(Limits(**each) for each in content.pop("limits"))
        found = load_file(arrays)
        mean, whiten = (np.asarray(found[name], dtype=float) for name in ("mean", "whiten"))
        domain = Domain(limits=limits, mean=mean, whiten=whiten, **content)
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise broken("domain", said) from error
    if whiten.shape != 2 * mean.shape or not (np.isfinite(whiten).all() & np.isfinite(mean).all()):
        raise broken("domain", arrays)
    return domain
