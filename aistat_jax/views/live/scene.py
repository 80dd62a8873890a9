"""What does the explorer's picture show? Its stage and panels, framed and filled.

The scene walks a tuple of stacks (`views/stacks.py`), each with a panel: for contours one, the
slices of their channel; for surfaces the three planes of the patient, linked by a cross-hair. Its
state is `numbers`, which plane of each stack is shown, `active`, the panel that keys and slider
step through, and the part of each plane that is looked at closely. In space the numbers are those
of one point, and `look_at` moves all three. Beside the planes are the image along a ray and, for
contours, the boundary unrolled, for surfaces the volume and the grade in words.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice, Image
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.layers import Limits, limits_around_all, window_of
from aistat_jax.views.live.beside import ProfilePanel, RingPanel, WordsPanel
from aistat_jax.views.live.panels import SlicePanel, legend_of
from aistat_jax.views.live.stage import DPI, Stage
from aistat_jax.views.stacks import stacks_of
from aistat_jax.views.style import style

WIDTH, HEIGHT = 920, 480  # pixels, until the page has told how much room there is
LEAST, MOST = (600, 330), (1900, 900)  # pixels
LARGEST = 1.35  # of words in a large picture, where those at WIDTH and HEIGHT are 1
HEADROOM = 1.2  # of the half-width's axis above the band at its widest level
# Inches: what axes leave at the left and below for their names, and one row of the legend.
LEFT, BELOW, TOP, GAP, RIGHT, ROW = 0.6, 0.44, 0.08, 0.8, 0.12, 0.2
ENTRY = 1.75  # inches across of one entry of the legend
CLOSEST = 2.0  # pixels of the image: no closer look than this
# Of linked planes: inches above each for its name and between two, the share of the height that is
# below them, and how much of the plane is seen, in sizes of what lies in it.
NAME, APART, LOWER, AROUND = 0.24, 0.1, 0.24, 0.62
LISTED = 2  # rows of the legend there, however many it has: planes do not jump


class Scene:
    """Planes through an image, the boundaries in them, and what is beside.

    `windows` (lowest and highest grey value) of every channel may be changed; the part of a
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
        self.dims = posteriors[0].chart.dims
        self.stacks = stacks_of(home, self.dims)
        self.at = place_of(posteriors[len(posteriors) // 2])
        self.numbers = [stack.number_of(self.at) for stack in self.stacks]
        self.active = 0
        self.limits = self._usual(posteriors)
        self.closer: list[Limits | None] = [None] * len(self.stacks)
        self.windows: dict[str, tuple[float, float]] = {}
        for name, channel in image.channels.items():
            try:
                shown = self.stacks[0].shown(channel, self.numbers[0])
            except InputError:
                shown = channel.slice(channel.grid.shape[2] // 2)
            self.windows[name] = window_of(shown, self.limits[0])
        self.stage = Stage(WIDTH / DPI, HEIGHT / DPI, live=True, lock=lock)
        self._legend: Any = None
        self._listed: tuple[Any, ...] = ()
        self._pixels: list[Any] = [None] * len(self.stacks)  # which images are on the planes
        with style():
            self.panels = tuple(
                SlicePanel(self.stage, self.stage.axes(0.1, 0.2, 0.4, 0.7), small=self.linked)
                for _ in self.stacks
            )
            beside = self.stage.axes(0.6, 0.7, 0.3, 0.2)
            self.ring = None if self.linked else RingPanel(self.stage, beside)
            self.words = WordsPanel(self.stage, beside) if self.linked else None
            self.profile = ProfilePanel(self.stage, self.stage.axes(0.6, 0.2, 0.3, 0.3))
        self._place(2)

    @property
    def linked(self) -> bool:
        """Whether several planes meet in a cross-hair."""
        return len(self.stacks) > 1

    @property
    def panel(self) -> SlicePanel:
        """The one that keys step through."""
        return self.panels[self.active]

    def panel_at(self, axes: Any) -> int | None:
        """The number of the panel whose axes these are."""
        return next((n for n, panel in enumerate(self.panels) if panel.axes is axes), None)

    def plane(self, n: int) -> Plane:
        return self.stacks[n].plane(self.numbers[n])

    def point(self, n: int, uv: tuple[float, float]) -> tuple[float, ...]:
        """A point of a panel in the coordinates of the boundaries."""
        return self.stacks[n].point(uv, self.numbers[n])

    def look_at(self, point: Sequence[float] | np.ndarray) -> None:
        """The cross-hair at a point of the world, which every plane then passes through.

        Raises InputError outside of the image.
        """
        point = np.asarray(point, dtype=float)
        if not self.home.grid.contains(point):
            raise InputError(
                f"the point {np.round(point, 1).tolist()} lies outside of channel "
                f"{self.home.name}; point at the image"
            )
        self.at = point
        self.numbers = [stack.number_of(point) for stack in self.stacks]

    def step_to(self, n: int, number: float) -> None:
        """Another plane of a stack; the cross-hair goes with it."""
        stack = self.stacks[n]
        number = float(np.clip(number, 0, stack.count - 1))
        plane = stack.plane(number)
        normal = plane.frame[:, 2]
        self.at = self.at + (plane.offset - self.at @ normal) * normal
        self.numbers[n] = number

    def world_point(self, n: int, uv: tuple[float, float]) -> tuple[float, float, float]:
        """A point of a panel in the patient (x, y, z)."""
        x, y, z = np.asarray(self.plane(n).to_world(np.array(uv))).tolist()
        return x, y, z

    def middle(self) -> tuple[float, float, float]:
        """The cross-hair, or the middle of the part of the slice that is seen."""
        if self.linked:
            x, y, z = self.at.tolist()
            return x, y, z
        (left, right), (low, high) = self.panel.axes.get_xlim(), self.panel.axes.get_ylim()
        return self.world_point(self.active, ((left + right) / 2, (low + high) / 2))

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
        rows = max(rows, LISTED) if self.linked else rows
        below = BELOW + rows * ROW + 0.06
        tall = height - below - TOP

        def place(axes: Any, *box: float) -> None:
            axes.set_position((box[0] / width, box[1] / height, box[2] / width, box[3] / height))

        if self.linked:
            lower = LOWER * tall
            count = len(self.panels)
            wide = (width - 2 * RIGHT - (count - 1) * APART) / count
            high = tall - lower - 2 * NAME
            for n, panel in enumerate(self.panels):
                left = RIGHT + n * (wide + APART)
                place(panel.axes, left, below + lower + NAME, wide, high)
            half = 0.5 * (width - LEFT - GAP / 2 - RIGHT)
            place(self.profile.axes, LEFT, below, half, lower)
            if self.words is not None:
                place(self.words.axes, LEFT + half + GAP / 2, below - BELOW, half, lower + BELOW)
            return
        wide = min(1.3 * tall, 0.52 * width)
        left = LEFT + wide + GAP
        beside = width - left - RIGHT
        place(self.panel.axes, LEFT, below, wide, tall)
        upper = 0.42 * (tall - 0.85)
        if self.ring is not None:
            place(self.ring.axes, left, below + tall - upper, beside, upper)
        place(self.profile.axes, left, below, beside, tall - upper - 0.85)

    def _usual(self, posteriors: Sequence[Posterior]) -> list[Limits]:
        """The part of each plane that holds every posterior, all at one scale."""
        if self.dims == 2:
            return [limits_around_all(posteriors, None, self.plane(0))]
        points = np.concatenate([
            p.chart.points(np.quantile(p.draws, 0.995, axis=0)) for p in posteriors
        ])  # fmt: skip
        half = AROUND * float(np.ptp(points, axis=0).max()) + self.stacks[0].step
        found: list[Limits] = []
        for n in range(len(self.stacks)):
            uv = self.plane(n).to_uv(points)
            u, v = (uv.min(axis=0) + uv.max(axis=0)) / 2
            found.append((float(u - half), float(u + half), float(v - half), float(v + half)))
        return found

    def slice_of(self, n: int, name: str) -> ChannelSlice:
        """A channel on the plane of a panel. Raises InputError where it has nothing there."""
        return self.stacks[n].shown(self.image[name], self.numbers[n])

    def show_images(self, channel: str, overlay: str | None, opacity: float) -> None:
        """The images on every plane that has changed. Raises InputError as `slice_of` does."""
        for n, panel in enumerate(self.panels):
            look = (
                self.numbers[n], channel, self.windows[channel],
                overlay and (overlay, self.windows[overlay], opacity),
            )  # fmt: skip
            if self.linked and look == self._pixels[n]:
                continue
            self._pixels[n] = None
            panel.base.set_visible(False)
            panel.overlay.set_visible(False)
            panel.show_slice(self.slice_of(n, channel), self.windows[channel])
            panel.base.set_visible(True)
            if overlay is not None:
                panel.show_overlay(self.slice_of(n, overlay), self.windows[overlay], opacity)
            self._pixels[n] = look

    def show_cross(self) -> None:
        """The cross-hair, and which plane each is."""
        if not self.linked:
            return
        for n, panel in enumerate(self.panels):
            name = self.stacks[n].words(self.numbers[n])
            panel.show_cross(self.at, name, active=n == self.active)

    def look_closer(self, limits: Limits | None, n: int | None = None) -> None:
        """Which part of a plane is looked at, None for the usual one of all. Needs `frame`."""
        if limits is None:
            self.closer = [None] * len(self.stacks)
            return
        at = self.active if n is None else n
        u_min, u_max, v_min, v_max = limits
        least = CLOSEST * float(np.max(self.plane(at).spacing))
        if max(u_max - u_min, v_max - v_min) >= least:
            self.closer[at] = limits

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
        channel: str,
        *,
        whole: bool,
        posterior: Posterior | None,
        grade: Grade | None,
        level: float,
        shown: Collection[str],
    ) -> None:
        """Axes and their names, with room for the band at `level`; all is redrawn."""
        self._list(shown)
        chosen, window = self.image[channel], self.windows[channel]
        with style():
            for n, panel in enumerate(self.panels):
                plane = self.plane(n)
                limits = self.closer[n] or (plane.extent if whole else self.limits[n])
                panel.frame(plane, limits, dark=chosen.quantity == "SUV")
            if posterior is not None and grade is not None:
                widest = float(simultaneous_band(posterior, level).half_width.max())
                if self.ring is not None:
                    self.ring.frame(posterior.chart, HEADROOM * max(widest, grade.tolerance))
                self.profile.frame(chosen, posterior.chart.reach, window)
        self.stage.redraw()


def place_of(posterior: Posterior) -> Float[np.ndarray, "3"]:
    """A point of the world in the middle of a boundary."""
    chart = posterior.chart
    middle = chart.points(np.asarray(posterior.estimate)).mean(axis=0)
    return middle if chart.dims == 3 else chart.plane.to_world(middle)
