"""What can be turned and pressed in the explorer? Its widgets, laid out and bound to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

LEVELS = (0.5, 0.99)
MODES = {
    "look": "look", "zoom ⌕": "zoom", "edge ○": "edge", "inside ✚": "inside",
    "outside ✖": "outside", "place ◎": "place",
}  # fmt: skip
MEANINGS = {"edge": "through", "inside": "outside of", "outside": "inside of"}
HELLO = (
    "Point at the boundary to look along a ray; choose “edge”, “inside” or “outside” to correct it "
    "by clicks. Mouse and keys: page Help."
)
LINKED = (
    "A click moves the cross-hair; “edge”, “inside”, “outside” correct the surface in any plane. "
    "Mouse and keys: page Help."
)
KEYS = {
    "← →": "draw", "↑ ↓, wheel": "slice", "PgUp PgDn": "next slice that has a contour",
    "p": "next of three planes", "c": "next channel", "t": "next contour of the slice",
    "+ −": "level",
    ", and .": "ray",
    "[ and ]": "in and out on it",
    "l z e i o d": "look, zoom, edge, inside, outside, place a target",
    "Enter": "puts a click on the ray, or the target of page Target",
    "n": "chooses a click", "Del, right click": "removes it", "u r": "undo, redo",
    "space": "plays the draws", "Ctrl wheel": "closer, further away",
    "drag with the right button": "moves what is seen closely", "0": "the usual part again",
}  # fmt: skip
EXPORTS = {
    "everything, all slices": "all",
    "NIfTI": "nifti",
    "contours (CSV)": "csv",
    "posterior (NetCDF)": "posterior",
    "Python lines": "python",
    "PNG of this slice": "png",
    "SVG": "svg",
}
# Pixels of everything around the picture while no page is open, and of pages that are kept in sight
# with it.
AROUND = 192
PAGES = {"Look": 98, "Clicks": 104, "Target": 98, "Save": 150, "Sign": 98}


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
    tolerance: Any
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
    reset: widgets.Button
    target: Any
    middle: Any
    radius: Any
    place: widgets.Button
    displace: widgets.Button
    clicks: widgets.HTML
    status: widgets.HTML
    numbers: widgets.HTML
    chains: widgets.HTML
    folder: Any
    exports: dict[str, widgets.Button]
    session: Any
    save: widgets.Button
    open: widgets.Button
    lines: widgets.Textarea
    header: widgets.HTML
    tabs: widgets.Tab

    @property
    def page(self) -> str:
        """The page that is open, nothing when none is."""
        at = self.tabs.selected_index
        return "" if at is None else self.tabs.titles[at]

    def above(self) -> list[widgets.Widget]:
        """What is said of the contour, and what can be pressed to correct it."""
        words = widgets.HBox([self.header, self.status])
        words.layout = widgets.Layout(justify_content="space-between", width="100%")
        pressed = [
            self.mode,
            self.target,
            self.undo,
            self.redo,
            self.remove,
            self.sample,
            self.reset,
        ]
        return [words, widgets.HBox(pressed, layout=_in_one_row())]

    def below(self) -> widgets.Widget:
        """The sliders that are always in sight."""
        sliders = [self.slice] if self.slice.max > self.slice.min else []
        sliders += [self.draw, self.play, self.level, self.tolerance]
        return widgets.HBox(sliders, layout=_in_one_row())


def _in_one_row() -> widgets.Layout:
    return widgets.Layout(
        flex_flow="row nowrap", align_items="center", width="100%", overflow="hidden"
    )


def keys_table() -> str:
    """What mouse and keys do, as HTML."""
    words = "".join(
        f"<span style='white-space:nowrap;margin-right:1.4em'><b>{key}</b> {what}</span> "
        for key, what in KEYS.items()
    )
    return f"<div>With the picture in focus: {words}</div>"


def laid_out() -> dict[str, Any]:
    """How every slider and menu is laid out."""
    return {
        "style": {"description_width": "4.6em"},
        "layout": widgets.Layout(width="290px", min_width="150px", flex="1 1 0%"),
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


def make_controls(
    names: Sequence[str], slices: int, at: int, draws: int, level: float, tolerance: float
) -> Controls:
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
        tolerance=widgets.FloatSlider(
            value=tolerance, min=0.25 * tolerance, max=3 * tolerance, step=0.05 * tolerance,
            readout_format=".1f", description="tolerance",
            **laid_out() | {"style": {"description_width": "5.2em"}},
        ),
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
        sample=button("sample", "random", "settle what was refused by sampling (slow)"),
        reset=button("reset view", "expand", "see the usual part of the slice again"),
        target=widgets.Dropdown(
            options=[], description="contour", style={"description_width": "4.6em"},
            layout=widgets.Layout(width="200px", display="none"),
        ),
        middle=widgets.Text(description="middle", placeholder="x, y, z", **laid_out()),
        radius=widgets.FloatText(value=10.0, step=0.5, description="radius", **laid_out()),
        place=button("place target", "bullseye", "a new target of this middle and radius"),
        displace=button("remove target", "trash", "take the placed target in sight away"),
        clicks=widgets.HTML(),
        status=widgets.HTML(),
        numbers=widgets.HTML(),
        chains=widgets.HTML(),
        folder=widgets.Text(value="aistat_export", description="folder", **laid_out()),
        exports={what: button(words, "save", f"write {words}") for words, what in EXPORTS.items()},
        session=widgets.Text(value="edits.npz", description="session", **laid_out()),
        save=button("save session", "save", "write all edits to one file, with undo and redo"),
        open=button("open session", "folder-open", "go on with a session that was saved"),
        lines=widgets.Textarea(rows=4, disabled=True, layout=widgets.Layout(width="100%")),
        header=widgets.HTML(),
        tabs=widgets.Tab(),
    )  # fmt: skip
    wrap = widgets.Layout(flex_flow="row wrap", align_items="center")
    pages: dict[str, Any] = {
        "Look": [
            widgets.HBox([controls.channel, controls.window, controls.bundle], layout=wrap),
            widgets.HBox([controls.overlay, controls.opacity, controls.whole], layout=wrap),
        ],
        "Clicks": [controls.clicks],
        "Target": [
            widgets.HBox(
                [controls.middle, controls.radius, controls.place, controls.displace], layout=wrap
            ),
            widgets.HTML("Or choose “place”, press on the middle of a lesion, drag to its edge."),
        ],
        "Numbers": [controls.numbers],
        "Chains": [controls.chains],
        "Save": [
            widgets.HBox([controls.session, controls.save, controls.open], layout=wrap),
            widgets.HBox([controls.folder, *controls.exports.values()], layout=wrap),
            controls.lines,
        ],
        "Help": [widgets.HTML(keys_table())],
    }
    tall = widgets.Layout(max_height="420px", overflow="auto")
    controls.tabs.children = [widgets.VBox(parts, layout=tall) for parts in pages.values()]
    controls.tabs.titles = list(pages)
    controls.tabs.selected_index = None
    return controls
