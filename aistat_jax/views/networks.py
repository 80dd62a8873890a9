"""What does a network see? The image, its log-odds, and features that its contour head reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax.space.directions import direction_letter
from aistat_jax.space.image import Image
from aistat_jax.views.paper import columns_for, page, settle, small_title
from aistat_jax.views.style import ESTIMATE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aistat_jax.nets.edges import FeatureField
else:
    Figure = FeatureField = Any


def plot_network(
    image: Image,
    odds: Image,
    field: FeatureField | None = None,
    *,
    index: int | None = None,
    columns: int | None = None,
    width_mm: float | None = None,
) -> Figure:
    """What a network sees in one slice: the image, its log-odds, and some of its features.

    `odds` are those of `network_logits`, on the grid of the image's primary channel; `field` is
    what the contour head reads (`feature_field`); the line is where the log-odds change sign.
    `index` is the slice, by default the one with the largest log-odds; as many features are shown
    as fill two rows, the field's last, its log-odds, not among them. `columns` are five, or as many
    as have room.
    """
    columns = columns or columns_for(width_mm, 5)
    with page(width_mm, inches=1.9 * columns + 0.3) as made:
        said = odds.primary
        k = int(said.values.max(axis=(0, 1)).argmax()) if index is None else index
        plane = said.grid.plane(k)
        maps = [(image.primary.name, image.primary.values[:, :, k], "gray_r", plane)]
        maps += [(f"log-odds of {said.name}, −8 to 8", said.values[:, :, k], "RdBu_r", plane)]
        if field is not None:
            depth = field.grid.to_index(plane.to_world(plane.origin))[2]
            own = int(np.clip(np.rint(depth), 0, field.grid.shape[2] - 1))
            read = np.moveaxis(field.values[:, :, own, :-1], -1, 0)[: 2 * columns - len(maps)]
            at = field.grid.plane(own)
            maps += [(f"feature {n}", values, "viridis", at) for n, values in enumerate(read)]
        columns = min(columns, len(maps))
        rows = -(-len(maps) // columns)
        grid = made.figure.add_gridspec(rows, columns, height_ratios=[1.9] * rows)
        u, v = np.moveaxis(plane.points(), -1, 0)
        for n, (title, values, colours, at) in enumerate(maps):
            axes = made.figure.add_subplot(grid[divmod(n, columns)])
            reach = 8.0 if colours == "RdBu_r" else None
            axes.imshow(
                values.T, origin="lower", extent=at.extent, cmap=colours,
                interpolation="nearest", vmin=None if reach is None else -reach, vmax=reach,
            )  # fmt: skip
            axes.contour(
                u[:, 0], v[0], said.values[:, :, k].T, levels=[0.0], colors=ESTIMATE, linewidths=1
            )
            made.title(axes, title, **small_title())
            axes.set_xticks([])
            axes.set_yticks([])
            if plane.unit != "mm":
                continue
            axes.set_xlim(plane.extent[1], plane.extent[0])
            for place, towards in ((0.03, 1.0), (0.93, -1.0)) if n == 0 else ():
                letter = direction_letter(plane, (towards, 0.0))
                axes.text(place, 0.5, letter, transform=axes.transAxes, fontweight="bold")
        return settle(made)
