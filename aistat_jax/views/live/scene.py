"""What does the explorer's picture show? Its stage and panels, framed and filled."""

from __future__ import annotations

from collections.abc import Sequence

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.image import Channel, ChannelSlice, Image
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.layers import limits_around_all, window_of
from aistat_jax.views.live.panels import ProfilePanel, RingPanel, SlicePanel, legend_of
from aistat_jax.views.live.stage import Stage
from aistat_jax.views.style import style

WIDTH, HEIGHT = 9.2, 5.1  # inches
HEADROOM = 1.2  # of the half-width's axis above the band at its widest level


class Scene:
    """A slice, the boundary unrolled and the image along a ray, for slices of one channel.

    `windows` (lowest and highest grey value) of every channel may be changed; the part of the
    plane that is shown holds every posterior, so that scrolling does not jump.
    """

    def __init__(
        self, image: Image, home: Channel, posteriors: Sequence[Posterior], with_reference: bool
    ) -> None:
        self.image, self.home = image, home
        self.limits = limits_around_all(posteriors, None, home.grid.plane(0))
        middle = posteriors[len(posteriors) // 2].chart.plane
        self.windows: dict[str, tuple[float, float]] = {}
        for name, channel in image.channels.items():
            try:
                shown = channel.slice_at(middle)
            except InputError:
                shown = channel.slice(channel.grid.shape[2] // 2)
            self.windows[name] = window_of(shown, self.limits)
        self.stage = Stage(WIDTH, HEIGHT, live=True)
        with style():
            self.panel = SlicePanel(self.stage, self.stage.axes(0.065, 0.19, 0.44, 0.794))
            self.ring = RingPanel(self.stage, self.stage.axes(0.585, 0.69, 0.4, 0.28))
            self.profile = ProfilePanel(self.stage, self.stage.axes(0.585, 0.21, 0.4, 0.32))
            self.stage.figure.legend(
                handles=legend_of(with_reference), loc="lower center", ncols=5,
                fontsize=7.5, columnspacing=1.2, handlelength=2.2,
            )  # fmt: skip

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

    def frame(
        self,
        k: int,
        channel: str,
        *,
        whole: bool,
        posterior: Posterior | None,
        grade: Grade | None,
        level: float,
    ) -> None:
        """Axes and their names for slice `k`, with room for the band at `level`; all is redrawn."""
        plane = self.home.grid.plane(k)
        u_min, u_max, v_min, v_max = plane.extent
        limits = (u_min, u_max, v_min, v_max) if whole else self.limits
        chosen, window = self.image[channel], self.windows[channel]
        with style():
            self.panel.frame(plane, limits, dark=chosen.quantity == "SUV")
            if posterior is not None and grade is not None:
                widest = float(simultaneous_band(posterior, level).half_width.max())
                self.ring.frame(plane, HEADROOM * max(widest, grade.tolerance))
                self.profile.frame(chosen, posterior.chart.radius_max, window)
        self.stage.redraw()
