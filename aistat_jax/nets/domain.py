"""Is a case like those that a network was trained on, and if not, in what respect, and how far?

A network keeps limits of single numbers (the side of its pixels, the image's width, quantiles of
every channel), and a Gaussian of what its own features show about an edge. What lies beyond is a
`Departure`: a sentence with the number and what was trained on. `domain_fitting` makes the limits.
"""

from __future__ import annotations

import itertools
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
MOST_SLICES, SCALES = 4, (0.7, 1.5, 3.0, 6.0)  # of textures; pixels
HALF = (0.15, 0.8)
SPACING, WIDTH, INTENSITY = "spacing", "field of view", "intensity"
ANATOMY, INVERTED = "anatomy", "inverted intensity"
RESPECTS = (SPACING, WIDTH, INVERTED, INTENSITY, ANATOMY)
# Names of numbers of a channel, before its own.
QUANTILE, HALF_TONES, TEXTURE, TONES = "quantile ", "half-tones ", "texture ", "tones "
Measured = dict[str, float]
"""Numbers of an image by their names: SPACING, WIDTH, and those of channels."""


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

    `name` is which of those that were measured, `words` what is said of it; `least` and `most` are
    those of the cases; `low` and `high` the limits.
    """

    name: str
    respect: str
    words: str
    unit: str
    least: float
    most: float
    low: float
    high: float

    def __call__(self, value: float) -> Departure | None:
        if self.low <= value <= self.high:
            return None
        unit, trained = f" {self.unit}" if self.unit else "", f"{self.least:.3g}"
        if f"{self.most:.3g}" != trained:
            trained += f" to {self.most:.3g}"
        limit = f"from {self.low:.3g}" if value < self.low else f"up to {self.high:.3g}"
        return Departure(
            self.respect, value, self.low, self.high,
            f"{self.words} {value:.3g}{unit}, trained on {trained} (taken {limit})",
        )  # fmt: skip

    def beyond(self, value: float) -> float:
        """By how many widths of what was trained on a number lies beyond its limits."""
        return max(self.low - value, value - self.high) / max(self.most - self.least, 1e-12)


@dataclass(frozen=True, eq=False)
class Domain:
    """What a network was trained on, as far as it is kept.

    `limits` are of single numbers. `upright` are weights of a channel's texture, whose sum is the
    number TONES + channel. A vector of features x about an edge is at the distance
    |whiten (x - mean)| / sqrt(its length), at most `furthest` of those trained on. `alarm` is how
    many of the patients left out of training each look was made to find fault with.

    Shapes: upright[channel] (texture,); mean (feature,), whiten (feature, feature), both empty
    where no features are kept.
    """

    name: str
    patients: int
    alarm: float
    limits: tuple[Limits, ...]
    furthest: float
    upright: dict[str, Float[np.ndarray, " texture"]]
    mean: Float[np.ndarray, " feature"]
    whiten: Float[np.ndarray, "feature feature"]

    def of_image(self, measured: Measured) -> tuple[Departure, ...]:
        """What is unusual in what was measured of an image: one of each respect, the furthest."""
        found: dict[str, tuple[float, Departure]] = {}
        for channel, weights in self.upright.items():
            keys = [f"{TEXTURE}{channel} {n}" for n in range(len(weights))]
            score = float(weights @ np.array([measured[key] for key in keys]))
            measured = measured | {f"{TONES}{channel}": score}
        for each in self.limits:
            value = measured.get(each.name)
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
        return (Departure(ANATOMY, distance, 0.0, self.furthest, text),)

    def said(self, departures: tuple[Departure, ...]) -> tuple[str, ...]:
        """The sentences that make a grade red, one a departure."""
        return tuple(
            f"outside of what the network {self.name} was trained on: {each.text}"
            for each in departures
        )


def measured_for(plan: Plan, image: Image, inverted: bool = False) -> Measured:
    """What is measured of an image for a network: geometry of its slices, values as it sees them.

    Of a channel its values in its quantity; of one that a network is shown in multiples of the
    image's own standard deviation, of which that says little, half-tones and texture. `inverted`:
    as if what is bright were dark.
    """
    found = geometry(image.primary.grid)
    for name, how in zip(plan.channels, plan.normalisations, strict=True):
        values = -image[name].values if inverted else image[name].values
        if how.kind.startswith("zscore"):
            sd = float(values.std())
            values = (values - values.mean()) / (sd if sd > 0 else 1.0)
            found |= half_tones(values, name) | texture(values, name)
        else:
            found |= tones(values, name)
    return found


def geometry(grid: Grid) -> Measured:
    """The side of a pixel of an image's slices (none without spacing), and their largest width."""
    side = float(np.sqrt(np.prod(grid.spacing[:2])))
    width = float((np.array(grid.shape[:2]) * grid.spacing[:2]).max())
    return {WIDTH: width} if grid.unit == "px" else {WIDTH: width, SPACING: side}


def tones(values: Float[np.ndarray, "i j k"], channel: str) -> Measured:
    """QUANTILES of a channel."""
    cuts = np.quantile(_some(values), QUANTILES)
    return {f"{QUANTILE}{channel} {q}": float(c) for q, c in zip(QUANTILES, cuts, strict=True)}


def half_tones(values: Float[np.ndarray, "i j k"], channel: str) -> Measured:
    """The share of voxels neither dark nor bright: between HALF of the way from the lowest value to
    the 90% quantile."""
    some = _some(values)
    low, high = float(some.min()), float(np.quantile(some, 0.9))
    place = (some - low) / max(high - low, 1e-9)
    return {f"{HALF_TONES}{channel}": float(np.mean((place >= HALF[0]) & (place < HALF[1])))}


def texture(values: Float[np.ndarray, "i j k"], channel: str) -> Measured:
    """What dark, middling and bright parts of slices look like at three scales; for `upright`.

    QUANTILES; and of differences of Gaussians, in each third of the values, log sd, mean over sd
    and skewness. Means over at most MOST_SLICES slices; and last a constant.
    """
    from scipy.ndimage import gaussian_filter

    found = []
    for k in range(0, values.shape[2], 1 + values.shape[2] // MOST_SLICES):
        z = np.asarray(values[:, :, k], dtype=float)
        low, high = np.quantile(z, (1 / 3, 2 / 3))
        parts = (z <= low, (z > low) & (z < high), z >= high)
        smooth = [gaussian_filter(z, sd, mode="nearest") for sd in SCALES]
        one = list(np.quantile(z, QUANTILES))
        for fine, coarse in itertools.pairwise(smooth):
            for part in parts:
                some = (fine - coarse)[part] if part.sum() >= 10 else (fine - coarse).ravel()
                sd, mean = float(some.std()) + 1e-3, float(some.mean())
                skewness = float(np.clip(((some - mean) ** 3).mean() / sd**3, -3, 3))
                one += [float(np.log(sd)), mean / sd, skewness]
        found.append(one)
    whole = [*np.mean(found, axis=0), 1.0]
    return {f"{TEXTURE}{channel} {n}": float(number) for n, number in enumerate(whole)}


def _some(values: np.ndarray) -> np.ndarray:
    """At most MOST_VOXELS of them."""
    return np.asarray(values.ravel()[:: 1 + values.size // MOST_VOXELS], dtype=float)


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
    arrays |= {f"{TONES}{channel}": weights for channel, weights in domain.upright.items()}
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
        found = {name: np.asarray(array, dtype=float) for name, array in found.items()}
        mean, whiten = found.pop("mean"), found.pop("whiten")
        upright = {name.removeprefix(TONES): array for name, array in found.items()}
        domain = Domain(limits=limits, mean=mean, whiten=whiten, upright=upright, **content)
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise broken("domain", said) from error
    if whiten.shape != 2 * mean.shape or not (np.isfinite(whiten).all() & np.isfinite(mean).all()):
        raise broken("domain", arrays)
    return domain
