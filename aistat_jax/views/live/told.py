"""What is said and left to the person at the screen? A line, a picture, never a lost traceback."""

from __future__ import annotations

import base64
import functools
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets as widgets

from aistat_jax._errors import InputError
from aistat_jax.edits import Click, where
from aistat_jax.inference.posterior import Posterior
from aistat_jax.views.checks import plot_chain_ranks, plot_traces
from aistat_jax.views.page import figure, picture, safe
from aistat_jax.views.report import MARKS

# ipywidgets marks every widget whose kernel is gone; the sentence is in the page all along.
STYLE = """<style>
.aistat{padding-top:2px}
.aistat .widget-tab:not(:has(.lm-mod-current)) .widget-tab-contents{display:none}
.aistat .widget-html-content{line-height:1.35}
.aistat-line{min-height:1.3em;padding:.2em .6em;border-left:4px solid #4FA8F0;
background:rgba(127,127,127,.09);font-size:13px}
.aistat-status{font-size:12px;opacity:.8;white-space:nowrap}
.aistat .widget-html{margin-top:0;margin-bottom:0}
.aistat-line.trouble{border-left-color:#B0124F}
.aistat-lost{display:none}
.jupyter-widgets-disconnected .aistat-lost{display:block;padding:.4em .6em;font-size:13px;
border-left:4px solid #B0124F;background:rgba(176,18,79,.12)}
.jupyter-widgets-disconnected .aistat-line{display:none}
.aistat-badge{border:2px solid;border-radius:4px;padding:0 .5em;font-weight:700;
white-space:nowrap}
.aistat-green{border-color:#00806a}.aistat-amber{border-color:#c08a00;border-style:dashed}
.aistat-red{border-color:#b30d49;border-style:dotted}
.aistat table{border-collapse:collapse}
.aistat th,.aistat td{text-align:left;padding:.1em .9em .1em 0;vertical-align:top;
font-weight:400}
.aistat thead th{font-weight:600}
.aistat h2,.aistat h3{font-size:14px;margin:.6em 0 .2em}
.aistat ul{margin:.2em 0;padding-left:1.2em}
</style>"""
LOST = (
    '<div class="aistat-lost" role="alert">The kernel behind this view has stopped or been '
    "restarted: the picture is the last good state, and the controls do nothing any more. "
    "Run the cell again to go on; exported files are kept.</div>"
)


class Line(widgets.HTML):
    """One line of words; a refusal is marked, and read out by screen readers.

    Its `lock` is held by whatever changes the view: callbacks come from several threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.said, self.trouble = "", False
        self.say("")

    def say(self, sentence: str, *, trouble: bool = False) -> None:
        self.said, self.trouble = sentence, trouble
        mark = "⚠ " if trouble else ""
        kind = "aistat-line trouble" if trouble else "aistat-line"
        self.value = (
            f'{STYLE}<div class="{kind}" role="status" aria-live="polite">{mark}{safe(sentence)}'
            f"</div>{LOST}"
        )


def told(method: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever goes wrong in a callback is said on the view's `line`; nothing is thrown.

    One callback at a time.

    Exceptions in a widget's callback reach nobody. Bad input gets its own sentence; anything else
    is named, and its traceback kept in the view's `failure`.
    """

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.line.lock:
            try:
                return method(self, *args, **kwargs)
            except InputError as refusal:
                self.line.say(str(refusal), trouble=True)
            except Exception as error:
                getattr(self, "explorer", self).failure = traceback.format_exc()
                self.line.say(
                    f"that failed ({type(error).__name__}: {error}); the last good state is kept, "
                    "and the view's `failure` holds the details",
                    trouble=True,
                )
        return None

    return guarded


class View(widgets.VBox):
    """A widget that leaves a picture behind for pages in which no kernel runs.

    Its subclasses say what is shown now, as a figure.
    """

    static_figure: Callable[..., Any]

    def still(self) -> str:
        """The picture, as HTML that hides itself where widgets live."""
        data = base64.b64encode(picture(self.static_figure(), dpi=110)).decode("ascii")
        return (
            '<div class="aistat-still"><style>.lm-Widget .aistat-still{display:none}</style>'
            f'<img alt="The view as it was first shown." src="data:image/png;base64,{data}"></div>'
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, a widget: it moves in a notebook with a kernel>"

    def _ipython_display_(self, **kwargs: Any) -> None:
        from IPython.display import HTML, display

        display(self._repr_mimebundle_(**kwargs), raw=True)
        display(HTML(self.still()))


def badge(case: str) -> str:
    """A grade as a shape, a word and a border of its own, so that no colour is needed."""
    return f'<span class="aistat-badge aistat-{case}">{MARKS[case]} {case}</span>'


def click_table(clicks: Sequence[Click], waiting: Sequence[Click], unit: str, sd: float) -> str:
    """The clicks of a target, one a line, and how many wait."""
    wait = f"{len(waiting)} more to be carried out. " if waiting else ""
    if not clicks:
        return wait or (
            "No clicks yet. Choose what to say (edge, inside, outside) and click on the image; "
            "right-click removes."
        )
    rows = "".join(
        f"<tr><td>{n}</td><td>{click.kind}</td><td>{where(click.point)[1:-1]} {unit}</td></tr>"
        for n, click in enumerate(clicks, start=1)
    )
    return f"<table><tbody>{rows}</tbody></table>{wait}Each is trusted to ± {sd:g} {unit} (sd)."


def chains_page(posterior: Posterior) -> str:
    """Traces and ranks of a posterior's chains, as HTML."""
    pages = [figure("Draws in the order they were made.", plot_traces(posterior))]
    if posterior.radii.shape[0] > 1:
        drawing = plot_chain_ranks(posterior)
        pages.append(
            figure("Ranks of each chain's draws among all: flat where they agree.", drawing)
        )
    else:
        pages.append(
            "<p>These draws are independent, weighted and drawn again, and come from no chain: "
            "what tells whether to trust them is the Pareto k on the page of numbers.</p>"
        )
    return "".join(pages)


def spans(slices: Iterable[int]) -> str:
    """Slices as words: runs, and those that stand alone."""
    runs: list[list[int]] = []
    for k in sorted(slices):
        if runs and k == runs[-1][-1] + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    words = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"slice {words}" if len(runs) == len(runs[0]) == 1 else f"slices {words}"
