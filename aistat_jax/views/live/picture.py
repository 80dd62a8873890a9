"""What do the planes, the ring and the profile show of an explorer's state?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax.edits import Click
from aistat_jax.space.image import Channel, ChannelSlice


class Picture:
    """All that is drawn: it reads the explorer, and changes nothing but the scene."""

    def __init__(self, explorer: Any) -> None:
        self.explorer = explorer

    def show_cuts(self, panels: Iterable[int]) -> None:
        """What some of the planes show of the target."""
        e = self.explorer
        c, posterior, target = e.controls, e.posterior, e.target
        for panel in (e.scene.panels[n] for n in panels):
            panel.show_posterior(posterior, e.grade)
            panel.show_bundle(posterior, c.bundle.value)
            panel.show_draw(posterior, c.draw.value)
            panel.show_reference(None if target is None else e.references[target])
            panel.show_other(None if target is None else e.others[target])
            panel.show_band(posterior, e.band)

    def show_grade(self) -> None:
        """What is beside the planes: half-widths by grade, or the grade in words."""
        e = self.explorer
        if e.scene.ring is not None:
            e.scene.ring.show_tolerance(e.grade)
            e.scene.ring.show(e.band, e.grade)
        if e.scene.words is not None:
            e.scene.words.show(e.posterior, e.grade)

    def shown(self) -> set[str]:
        """What is in the picture, for its legend."""
        e = self.explorer
        c, posterior, grade = e.controls, e.posterior, e.grade
        if posterior is None or grade is None or e.target is None:
            return set()
        there = {
            "band": True, "surely": not e.scene.linked, "perhaps": not e.scene.linked,
            "bundle": c.bundle.value, "draw": c.draw.value, "ray": e.ray is not None,
            "reference": e.references[e.target] is not None,
            "other": e.others[e.target] not in (None, ()),
            "click": e.clicks,
        }  # fmt: skip
        grades = {name for name, part in grade.fraction.items() if part > 0}
        return grades | {name for name, seen in there.items() if seen}

    def paint(self) -> None:
        e = self.explorer
        e.scene.paint(self.shown())

    def show_images(self) -> None:
        e = self.explorer
        c = e.controls
        overlay = None if c.overlay.value == "none" else c.overlay.value
        try:
            e.scene.show_images(c.channel.value, overlay, c.opacity.value)
        except InputError as refusal:
            e.line.say(str(refusal), trouble=True)

    def _seen(self) -> ChannelSlice | Channel | None:
        """The image where rays run: the slice that is shown, None where the channel has none."""
        e = self.explorer
        name = e.controls.channel.value
        if e.scene.linked:
            return e.image[name]
        try:
            return e.scene.slice_of(0, name)
        except InputError:
            return None

    def show_band(self) -> None:
        e = self.explorer
        for panel in e.scene.panels:
            panel.show_band(e.posterior, e.band)
        self.show_grade()
        self.show_ray()

    def show_ray(self) -> None:
        e = self.explorer
        band, posterior, ray = e.band, e.posterior, e.ray
        for panel in e.scene.panels:
            panel.show_ray(posterior, ray, e.gestures.radius)
        if e.scene.ring is not None:
            e.scene.ring.show_ray(band, ray)
        near = self._radii_near(ray)
        e.scene.profile.show(posterior, band, self._seen(), ray, near, e.grade)

    def _radii_near(self, ray: int | None) -> list[float]:
        """Radii of the clicks that are nearest to a ray, or to one next to it."""
        e = self.explorer
        if e.posterior is None or ray is None or not e.clicks:
            return []
        chart, points = e.posterior.chart, [click.point for click in e.clicks]
        away = chart.distance(e.posterior.estimate)[ray]
        close = away[chart.nearest(points)] <= 1.5 * away[away > 0].min()
        return chart.position(points)[close].tolist()

    def show_clicks(self, waiting: Sequence[Click]) -> None:
        """The clicks that were made, and those that wait."""
        e, scene = self.explorer, self.explorer.scene
        for panel in scene.panels:
            panel.show_clicks(e.gestures.clicks_in_hand(), e.chosen)
            panel.show_waiting(waiting)
        if scene.ring is not None:
            clicks = () if e.posterior is None else e.clicks
            scene.ring.show_clicks(e.posterior and e.posterior.chart, clicks)
