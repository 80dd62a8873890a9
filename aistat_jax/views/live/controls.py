"""What can be turned and pressed in the explorer? Its widgets, laid out and bound to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

LEVELS = (0.5, 0.99)
MODES = {"look": "look", "edge ○": "edge", "inside ✚": "inside", "outside ✖": "outside"}
KEYS = (
    "Keys, with the picture in focus: ←/→ draw, ↑/↓ slice, +/− level, “,” and “.” ray, "
    "l look, e edge, i inside, o outside, Enter puts a click on the ray, Del removes the chosen "
    "click, u undo, r redo, space plays the draws."
)
EXPORTS = {
    "NIfTI": "nifti",
    "contours (CSV)": "csv",
    "PNG": "png",
    "SVG": "svg",
    "posterior (NetCDF)": "posterior",
    "Python lines": "python",
}


@dataclass
class Sliders:
    """Which draw, how many of them, and which credible level."""

    draw: Any
    play: Any
    level: Any
    bundle: Any


@dataclass
class Controls:
    """Every widget of the explorer, by name."""

    slice: Any
    draw: Any
    play: Any
    level: Any
    channel: Any
    window: Any
    overlay: Any
    opacity: Any
    bundle: Any
    whole: Any
    mode: Any
    undo: widgets.Button
    redo: widgets.Button
    remove: widgets.Button
    sample: widgets.Button
    clicks: widgets.HTML
    numbers: widgets.HTML
    chains: widgets.HTML
    folder: Any
    exports: dict[str, widgets.Button]
    lines: widgets.Textarea
    header: widgets.HTML
    tabs: widgets.Tab

    def always(self) -> widgets.Widget:
        """The sliders that are always in sight."""
        sliders = [self.slice] if self.slice.max > self.slice.min else []
        return widgets.HBox(
            [*sliders, self.draw, self.play, self.level],
            layout=widgets.Layout(flex_flow="row wrap", align_items="center"),
        )


def laid_out() -> dict[str, Any]:
    """How every slider and menu is laid out."""
    return {
        "style": {"description_width": "4.6em"},
        "layout": widgets.Layout(width="290px"),
    }


def make_sliders(draws: int, level: float) -> Sliders:
    """Sliders for a posterior of so many draws, the band at `level`."""
    play = widgets.Play(value=0, min=0, max=draws, interval=120, show_repeat=False)
    play.layout = widgets.Layout(width="auto")
    draw = widgets.IntSlider(value=0, min=0, max=draws, description="draw", **laid_out())
    # One way: a slider moved by hand need not send its value twice. Play goes on from there.
    widgets.jsdlink((play, "value"), (draw, "value"))
    play.observe(lambda _: setattr(play, "value", draw.value), "playing")
    low, high = min(LEVELS[0], level), max(LEVELS[1], level)
    return Sliders(
        draw,
        play,
        widgets.FloatSlider(
            value=level, min=low, max=high, step=0.01, readout_format=".2f", description="level",
            **laid_out(),
        ),
        widgets.IntSlider(
            value=20, min=0, max=min(200, draws), description="bundle", **laid_out()
        ),
    )  # fmt: skip


def make_controls(names: Sequence[str], slices: int, at: int, draws: int, level: float) -> Controls:
    """Widgets for an image of channels `names` and so many slices, shown at slice `at`."""
    sliders = make_sliders(draws, level)

    def button(words: str, icon: str, tooltip: str) -> widgets.Button:
        return widgets.Button(
            description=words, icon=icon, tooltip=tooltip, layout=widgets.Layout(width="auto")
        )

    controls = Controls(
        slice=widgets.IntSlider(value=at, min=0, max=slices - 1, description="slice", **laid_out()),
        draw=sliders.draw,
        play=sliders.play,
        level=sliders.level,
        channel=widgets.Dropdown(options=list(names), description="image", **laid_out()),
        window=widgets.FloatRangeSlider(description="window", readout_format=".1f", **laid_out()),
        overlay=widgets.Dropdown(options=["none", *names], description="overlay", **laid_out()),
        opacity=widgets.FloatSlider(value=0.7, min=0.0, max=1.0, step=0.05, description="opacity",
                                    **laid_out()),
        bundle=sliders.bundle,
        whole=widgets.Checkbox(value=False, description="whole slice", indent=False),
        mode=widgets.ToggleButtons(options=MODES, style={"button_width": "auto"}),
        undo=button("undo", "undo", "take the last edit back"),
        redo=button("redo", "repeat", "make it again"),
        remove=button("remove", "trash", "remove the chosen click"),
        sample=button("sample", "random", "let chains settle what Laplace refused (slow)"),
        clicks=widgets.HTML(),
        numbers=widgets.HTML(),
        chains=widgets.HTML(),
        folder=widgets.Text(value="aistat_export", description="folder", **laid_out()),
        exports={what: button(words, "save", f"write {words}") for words, what in EXPORTS.items()},
        lines=widgets.Textarea(rows=9, disabled=True, layout=widgets.Layout(width="100%")),
        header=widgets.HTML(),
        tabs=widgets.Tab(),
    )  # fmt: skip
    wrap = widgets.Layout(flex_flow="row wrap", align_items="center")
    pages: dict[str, Any] = {
        "Look": [
            widgets.HBox([controls.channel, controls.window, controls.bundle], layout=wrap),
            widgets.HBox([controls.overlay, controls.opacity, controls.whole], layout=wrap),
        ],
        "Edit": [
            widgets.HBox(
                [controls.mode, controls.undo, controls.redo, controls.remove, controls.sample],
                layout=wrap,
            ),
            controls.clicks,
        ],
        "Numbers": [controls.numbers],
        "Chains": [controls.chains],
        "Export": [
            widgets.HBox([controls.folder, *controls.exports.values()], layout=wrap),
            controls.lines,
        ],
    }
    tall = widgets.Layout(max_height="420px", overflow="auto")
    controls.tabs.children = [widgets.VBox(parts, layout=tall) for parts in pages.values()]
    controls.tabs.titles = list(pages)
    return controls
