"""What do all peers read of a case? The frozen network's features and log-odds, and one place.

The place is that of the contour head's own benchmark (shipped.py): of nodules, in crops that are
centred on them, the most probable pixel, the middle counting most; of phantoms the most probable
one of those drawn, as if one had pointed at the lesion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.targets import Target
from aistat_jax.nets.edges import FeatureField, feature_field, region_at
from aistat_jax.nets.recipes import Drawn
from aistat_jax.nets.weights import Net
from aistat_jax.space.grid import Grid, Plane
from benchmarks.shipped import likeliest_pixel

CROP = 64  # pixels about the middle that are learned from


class Case(NamedTuple):
    """One slice, what the network says of it, and what was drawn.

    features (i, j, feature) float16, log_odds (i, j) and reached (i, j): the highest level at which
    a pixel still hangs together with the target's place, so that {reached > t} is the component of
    {log_odds > t} that holds it. masks (reader, i, j). Lengths are in the grid's unit.
    """

    patient: str
    features: Float[np.ndarray, "i j feature"]
    log_odds: Float[np.ndarray, "i j"]
    reached: Float[np.ndarray, "i j"]
    masks: Bool[np.ndarray, "reader i j"]
    target: Target
    grid: Grid
    net: Net

    @property
    def field(self) -> FeatureField:
        """What the contour head reads."""
        values = np.concatenate([self.features, self.log_odds[..., None]], axis=-1, dtype=float)
        return FeatureField(values[:, :, None].astype(np.float32), self.grid, self.net)

    @property
    def plane(self) -> Plane:
        return self.grid.plane(0)

    @property
    def probability(self) -> Float[np.ndarray, "i j"]:
        """The network's own, of pixels that hang together with the target."""
        return expit(self.reached.astype(float))

    @property
    def drew(self) -> Bool[np.ndarray, " reader"]:
        return np.asarray(self.masks.any(axis=(1, 2)))


def cases_of(net: Net, drawn: Iterable[Drawn]) -> Iterator[Case]:
    """Cases with what the network says. Raises ValueError for one that is not one slice."""
    for case in drawn:
        field, grid = feature_field(net, case.image), case.image.primary.grid
        masks = np.moveaxis(case.masks[:, :, 0], -1, 0)
        if field.values.shape[:3] != grid.shape or grid.shape[2] != 1:
            raise ValueError(f"a case of grid {grid.shape} is no slice as the network reads it")
        odds = field.values[:, :, 0, -1]
        place = place_in(odds, masks)
        target = Target.from_mask(region_at(expit(odds), place), grid.plane(0))
        yield Case(
            case.patient, field.values[:, :, 0, :-1].astype(np.float16), odds,
            reached_from(odds, place), masks, target, grid, net,
        )  # fmt: skip


def place_in(odds: np.ndarray, masks: np.ndarray) -> tuple[int, ...]:
    """Where the target is looked for."""
    if len(masks) > 1:
        return likeliest_pixel(odds)
    place = np.where(masks.any(axis=0), odds, -np.inf).argmax()
    return tuple(int(n) for n in np.unravel_index(int(place), odds.shape))


def reached_from(odds: Float[np.ndarray, "i j"], place: tuple[int, ...]) -> np.ndarray:
    """Of every pixel the largest t with which {odds >= t} joins it to a place by faces.

    Reconstruction by dilation (Vincent 1993, IEEE Trans Image Process 2, 176-201).
    """
    from scipy.ndimage import generate_binary_structure
    from skimage.morphology import reconstruction

    seed = np.full_like(odds, odds.min())
    seed[place] = odds[place]
    return reconstruction(seed, odds, footprint=generate_binary_structure(2, 1))


def middle_of(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Where the CROP pixels about an image's middle are, or all of it where it is smaller."""
    first = [max(0, (size - CROP) // 2) for size in shape]
    return slice(first[0], first[0] + CROP), slice(first[1], first[1] + CROP)
