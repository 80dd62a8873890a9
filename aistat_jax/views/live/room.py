"""How much room is there? The size of the notebook's window, as the page tells it."""

from __future__ import annotations

import anywidget
import traitlets

# The widget itself takes no room. What it measures: the width of the view it is part of, and the
# height of the window in which notebook and view are scrolled.
_MEASURE = """
function render({ model, el }) {
  el.style.display = "none";
  let timer = null, observer = null;
  const look = () => {
    const view = el.closest(".aistat");
    if (!view || !view.clientWidth) return;
    const panel = view.closest(".jp-WindowedPanel-outer") || view.closest(".jp-Notebook");
    model.set("width", Math.round(view.clientWidth));
    model.set("height", Math.round(panel ? panel.clientHeight : window.innerHeight));
    model.save_changes();
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(look, 150); };
  const begin = () => {
    const view = el.closest(".aistat");
    if (!view) { timer = setTimeout(begin, 100); return; }
    observer = new ResizeObserver(soon);
    observer.observe(view);
    window.addEventListener("resize", soon);
    soon();
  };
  begin();
  return () => {
    clearTimeout(timer);
    observer?.disconnect();
    window.removeEventListener("resize", soon);
  };
}
export default { render };
"""


class Room(anywidget.AnyWidget):
    """Width and height in pixels; 0 until a page has told them."""

    _esm = _MEASURE
    width = traitlets.Int(0).tag(sync=True)
    height = traitlets.Int(0).tag(sync=True)
