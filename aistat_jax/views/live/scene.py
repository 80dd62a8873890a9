"""What does the explorer's picture show? Its stage and panels, framed and filled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.image import Channel, ChannelSlice, Image
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.layers import Limits, limits_around_all, window_of
from aistat_jax.views.live.panels import ProfilePanel, RingPanel, SlicePanel, legend_of
from aistat_jax.views.live.stage import DPI, Stage
from aistat_jax.views.style import style

WIDTH, HEIGHT = 920, 480  # pixels, until the page has told how much room there is
LEAST, MOST = (600, 330), (1900, 900)  # pixels
LARGEST = 1.35  # of words in a large picture, where those at WIDTH and HEIGHT are 1
HEADROOM = 1.2  # of the half-width's axis above the band at its widest level
# Inches: what axes leave at the left and below for their names, and one row of the legend.
LEFT, BELOW, TOP, GAP, RIGHT, ROW = 0.6, 0.44, 0.08, 0.8, 0.12, 0.2
ENTRY = 1.75  # inches across of one entry of the legend
CLOSEST = 2.0  # pixels of the image: no closer look than this


class Scene:
    """A slice, the boundary unrolled and the image along a ray, for slices of one channel.

    `windows` (lowest and highest grey value) of every channel may be changed; the part of the
    plane that is shown holds every posterior, so that scrolling does not jump, unless `closer`
    says which part is looked at closely.
    """

    def __init__(
        self,
        image: Image,
        home: Channel,
        posteriors: Sequence[Posterior],
        lock: AbstractContextManager[Any],
    ) -> None:
        self.image, self.home = image, home
        self.limits = limits_around_all(posteriors, None, home.grid.plane(0))
        self.closer: Limits | None = None
        middle = posteriors[len(posteriors) // 2].chart.plane
        self.windows: dict[str, tuple[float, float]] = {}
        for name, channel in image.channels.items():
            try:
                shown = channel.slice_at(middle)
            except InputError:
                shown = channel.slice(channel.grid.shape[2] // 2)
            self.windows[name] = window_of(shown, self.limits)
        self.stage = Stage(WIDTH / DPI, HEIGHT / DPI, live=True, lock=lock)
        self._legend: Any = None
        self._listed: tuple[Any, ...] = ()
        with style():
            self.panel = SlicePanel(self.stage, self.stage.axes(0.1, 0.2, 0.4, 0.7))
            self.ring = RingPanel(self.stage, self.stage.axes(0.6, 0.7, 0.3, 0.2))
            self.profile = ProfilePanel(self.stage, self.stage.axes(0.6, 0.2, 0.3, 0.3))
        self._place(2)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels of the page."""
        scale = self.stage.figure._original_dpi  # type: ignore[attr-defined]
        width, height = self.stage.figure.get_size_inches() * scale
        return float(width), float(height)

    def resize(self, width: float, height: float) -> bool:
        """As large as there is room for; whether that is another size. Needs `frame`."""
        width = float(np.clip(width, LEAST[0], MOST[0]))
        height = float(np.clip(height, LEAST[1], min(MOST[1], 0.62 * width)))
        if np.allclose((width, height), self.size, atol=1.5):
            return False
        scale = float(np.clip(min(height / HEIGHT, width / WIDTH), 1.0, LARGEST))
        self.stage.resize(width, height, scale)
        self._listed = ()
        return True

    def _place(self, rows: int) -> None:
        """Lay the axes out, over so many rows of legend."""
        width, height = self.stage.figure.get_size_inches()
        below = BELOW + rows * ROW + 0.06
        tall = height - below - TOP
        wide = min(1.3 * tall, 0.52 * width)
        left = LEFT + wide + GAP
        beside = width - left - RIGHT

        def place(axes: Any, *box: float) -> None:
            axes.set_position((box[0] / width, box[1] / height, box[2] / width, box[3] / height))

        place(self.panel.axes, LEFT, below, wide, tall)
        upper = 0.42 * (tall - 0.85)
        place(self.ring.axes, left, below + tall - upper, beside, upper)
        place(self.profile.axes, left, below, beside, tall - upper - 0.85)

    def slice_of(self, name: str, k: int) -> ChannelSlice:
        """A channel at slice `k` of the home channel. Raises InputError where it has none."""
        return self.image[name].slice_at(self.home.grid.plane(k))

    def show_images(self, k: int, channel: str, overlay: str | None, opacity: float) -> None:
        """Another slice, or the same one otherwise. Raises InputError as `slice_of` does."""
        self.panel.base.set_visible(False)
        self.panel.overlay.set_visible(False)
        self.panel.show_slice(self.slice_of(channel, k), self.windows[channel])
        self.panel.base.set_visible(True)
        if overlay is not None:
            self.panel.show_overlay(self.slice_of(overlay, k), self.windows[overlay], opacity)

    def look_closer(self, limits: Limits | None) -> None:
        """Which part of the slice is looked at, None for the usual one. Needs `frame`."""
        if limits is not None:
            u_min, u_max, v_min, v_max = limits
            least = CLOSEST * float(np.max(self.home.grid.plane(0).spacing))
            if max(u_max - u_min, v_max - v_min) < least:
                return
        self.closer = limits

    def paint(self, shown: Collection[str]) -> None:
        """Show the parts as they are now; drawn anew where the legend has other entries."""
        if self._list(shown):
            self.stage.redraw()
        else:
            self.stage.paint()

    def _list(self, shown: Collection[str]) -> bool:
        """A legend of what is shown; whether it is another one than before."""
        listed = tuple(sorted(shown))
        if listed == self._listed:
            return False
        if self._legend is not None:
            self._legend.remove()
            self._legend = None
        self._listed = listed
        handles = legend_of(shown)
        columns = max(2, int(self.stage.figure.get_size_inches()[0] / ENTRY))
        self._place(max(1, -(-len(handles) // columns)))
        if handles:
            with style():
                self._legend = self.stage.figure.legend(
                    handles=handles, loc="lower center", ncols=min(columns, len(handles)),
                    fontsize=7.5, columnspacing=1.2, handlelength=2.2, borderaxespad=0.2,
                    labelspacing=0.35,
                )  # fmt: skip
        return True

    def frame(
        self,
        k: int,
        channel: str,
        *,
        whole: bool,
        posterior: Posterior | None,
        grade: Grade | None,
        level: float,
        shown: Collection[str],
    ) -> None:
        """Axes and their names for slice `k`, with room for the band at `level`; all is redrawn."""
        plane = self.home.grid.plane(k)
        self._list(shown)
        limits = self.closer or (plane.extent if whole else self.limits)
        chosen, window = self.image[channel], self.windows[channel]
        with style():
            self.panel.frame(plane, limits, dark=chosen.quantity == "SUV")
            if posterior is not None and grade is not None:
                widest = float(simultaneous_band(posterior, level).half_width.max())
                self.ring.frame(posterior.chart, HEADROOM * max(widest, grade.tolerance))
                self.profile.frame(chosen, posterior.chart.reach, window)
        self.stage.redraw()
