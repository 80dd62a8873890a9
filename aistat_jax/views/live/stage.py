"""How does a figure follow a slider? Moving parts are painted over a background drawn once.

Axes, ticks and labels are drawn when the size changes; after that only what moves is painted over
a copy of them (blitting). Where ipympl is installed the canvas is its widget, else a plain one.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._typing import UInt8
from aistat_jax.views.style import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

DPI = 100.0
# Pixels around axes that their parts may reach into, and above them, where words stand.
MARGIN, TITLE = 8.0, 16.0


class Stage:
    """A figure with moving parts. `live` asks for ipympl's canvas, a widget for notebooks.

    Resting parts (images, letters) lie under the moving ones and are painted anew only when one
    of them has changed. `lock` is held while the page is listened to: its messages come in
    threads of their own.
    """

    def __init__(
        self, width: float, height: float, *, live: bool, lock: AbstractContextManager[Any]
    ) -> None:
        from matplotlib.figure import Figure

        with style():
            self.figure = Figure(figsize=(width, height), dpi=DPI)
        self.canvas: Any = _live_canvas(self.figure, lock) if live else _plain_canvas(self.figure)
        self._moving: list[Any] = []
        self._resting: list[Any] = []
        self._empty: Any = None  # axes and labels alone
        self._still: Any = None  # with the resting parts
        self.canvas.mpl_connect("draw_event", self._drawn)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place given in shares of the figure."""
        return self.figure.add_axes((left, bottom, width, height))

    def moving(self, *parts: Any) -> Any:
        """Declare artists as parts that move; returns them."""
        return _added(self._moving, parts)

    def resting(self, *parts: Any) -> Any:
        """Declare artists as parts that seldom move; returns them."""
        return _added(self._resting, parts)

    def paint(self) -> None:
        """Show the parts as they are now, over the background that is there.

        Axes in which nothing has changed are left as they are.
        """
        if self._empty is None:
            return
        if any(part.stale for part in self._resting):
            self.canvas.restore_region(self._empty)
            self._rest()
            self._paint(self._moving)
        else:
            changed = {part.axes for part in self._moving if part.stale}
            for axes in changed:
                self._restore(axes)
            self._paint([part for part in self._moving if part.axes in changed])
        self.canvas.blit(self.figure.bbox)

    def _restore(self, axes: Any) -> None:
        """The still background of one pair of axes, and of what sticks out of them a little."""
        scale = self.figure.dpi / DPI
        left, bottom, right, top = axes.bbox.padded(MARGIN * scale).extents
        width, height = self.figure.bbox.size
        across, down = (
            np.clip([left, right], 0, width),
            [height - top - TITLE * scale, height - bottom],
        )
        rows = np.clip(down, 0, height)
        box = (int(across[0]), int(rows[0]), int(across[1]), int(rows[1]))
        # A region is put where its own corner goes, which rounding may leave a pixel off (0, 0).
        corner = self._still.get_extents()[:2]
        self.canvas.restore_region(self._still, bbox=box, xy=corner)

    def resize(self, width: float, height: float, scale: float) -> None:
        """Another size in pixels, with words and lines `scale` times as large. Needs `redraw`."""
        ratio = getattr(self.canvas, "device_pixel_ratio", 1.0)
        # What a canvas multiplies by its screen's ratio of pixels.
        setattr(self.figure, "_original_dpi", DPI * scale)  # noqa: B010
        self.figure.set_dpi(DPI * scale * ratio)
        self.figure.set_size_inches(width / (DPI * scale), height / (DPI * scale), forward=True)
        self._empty = self._still = None

    def redraw(self) -> None:
        """Draw everything anew; needed only when axes, ticks or labels change."""
        with style():
            self.canvas.draw()

    def _drawn(self, _event: Any) -> None:
        if self.canvas.is_saving():
            return
        self._empty = self.canvas.copy_from_bbox(self.figure.bbox)
        self._rest()
        self._paint(self._moving)

    def _rest(self) -> None:
        self._paint(self._resting)
        self._still = self.canvas.copy_from_bbox(self.figure.bbox)

    def _paint(self, parts: list[Any]) -> None:
        renderer = self.canvas.get_renderer()
        for part in parts:
            if part.get_visible():
                part.draw(renderer)
            part.stale = False


def _added(parts: list[Any], new: tuple[Any, ...]) -> Any:
    for part in new:
        part.set_animated(True)
    parts.extend(new)
    parts.sort(key=lambda part: part.get_zorder())
    return new[0] if len(new) == 1 else new


def _live_canvas(figure: Any, lock: AbstractContextManager[Any]) -> Any:
    """ipympl's canvas with no toolbar or header of its own, independent of pyplot."""
    from ipympl.backend_nbagg import Canvas, FigureManager

    class QuickCanvas(Canvas):
        """Packs what it sends lightly: there is little to pack, and somebody waits for it."""

        def _handle_message(self, object: Any, content: Any, buffers: Any) -> None:
            with lock:
                super()._handle_message(object, content, buffers)

        def get_diff_image(self) -> bytes | None:
            if not self._png_is_old:
                return None
            pixels = np.asarray(self.get_renderer().buffer_rgba())
            new, old = pixels.view(np.uint32)[..., 0], self._last_buff
            whole = self._force_full or new.shape != old.shape or pixels[..., 3].min() < 255
            self.set_image_mode("full" if whole else "diff")
            sent = new if whole else np.where(new != old, new, 0)
            self._last_buff, self._force_full, self._png_is_old = new.copy(), False, False
            return quick_png(np.ascontiguousarray(sent).view(np.uint8).reshape(pixels.shape))

    canvas = QuickCanvas(figure)
    manager: Any = FigureManager(canvas, 0)
    canvas.mpl_disconnect(manager.key_press_handler_id)  # its keys change axes: l is for log
    canvas.toolbar_visible = False
    canvas.header_visible = False
    canvas.footer_visible = False
    canvas.resizable = False
    canvas.syncing_data_url = False  # the view has its own picture for pages without a kernel
    return canvas


def quick_png(rgba: UInt8[np.ndarray, "v u 4"]) -> bytes:
    """Pixels as PNG without the search for filters that a library makes: a third of its time.

    What is sent while a slider moves is mostly clear, and packs as well without.
    """
    height, width, _ = rgba.shape
    rows = np.zeros((height, 1 + 4 * width), np.uint8)  # each row after its filter: none
    rows[:, 1:] = rgba.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # eight bits, RGBA
    data = zlib.compress(rows.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _plain_canvas(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg(figure)
