"""Which voxels of an image does an RTSTRUCT or a DICOM SEG mark?"""

from __future__ import annotations

import os

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool
from aistat_jax.dicom.files import holds_dicom, opened
from aistat_jax.dicom.library import quietly, reading
from aistat_jax.dicom.segmentations import read_segmentation
from aistat_jax.dicom.series import series_in
from aistat_jax.dicom.structures import curves_of, lies_on, mask_of, read_structures
from aistat_jax.space.curve import Curve, region_of
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel


def read_region(
    path: str | os.PathLike[str], like: Channel | Grid, roi: str | None = None
) -> Bool[np.ndarray, "i j k"]:
    """A region, by its name, as a mask on the grid of `like`: voxels at least half inside.

    Without a name, the only one there is. Raises InputError as `mask_of` and `read_segmentation`.
    """
    kind = kind_in(path)
    if kind == "RTSTRUCT":
        return mask_of(read_structures(path).roi(roi), like)
    return read_segmentation(path, like, roi) >= 0.5


def read_outlines(
    path: str | os.PathLike[str], like: Channel, roi: str | None = None
) -> list[list[Curve]] | None:
    """The outer contours of a region in each slice of a channel, as they were drawn.

    None where there are none: a mask, or contours that were drawn on other slices.
    """
    if not holds_dicom(path) or kind_in(path) != "RTSTRUCT":
        return None
    found = read_structures(path).roi(roi)
    if not lies_on(found, like.grid):
        return None
    with quietly():
        drawn = curves_of(found, like)
    return [
        [
            Curve(np.asarray(polygon.exterior.coords, dtype=float)[:-1], like.unit)
            for polygon in region_of(drawn.get(k, ())).geoms
        ]
        for k in range(like.grid.shape[2])
    ]


def kind_in(path: str | os.PathLike[str]) -> str:
    """RTSTRUCT or SEG. Raises InputError where a path holds neither, or both."""
    with opened(path) as members, reading(path):
        found = {series.modality for series in series_in(members)}
    wanted = found & {"RTSTRUCT", "SEG"}
    if len(wanted) != 1:
        there = ", ".join(sorted(found)) or "no DICOM file"
        raise InputError(
            f"{path}: a region is an RTSTRUCT or a SEG, and there is {there}; pass the one that is "
            "meant"
        )
    return wanted.pop()
