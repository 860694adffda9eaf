"""A GIF on its canvas: what no frame has painted yet, or what was cleared, is transparent, as in browsers.

Pillow fills it with the colour number 0 or with the background colour, which no browser has shown since 2000.
"""

from PIL import Image as pillow
from PIL.GifImagePlugin import GifImageFile

_CLEAR = 2  # the method of disposal that clears a frame's rectangle
CANVAS_BYTES = 9  # a pixel: RGB, the mask and RGBA


class CanvasGif(GifImageFile):
    """Pillow's reader of GIF, whose canvas is transparent at first."""

    @property
    def bytes_beside(self) -> int:
        """Bytes a pixel that loading the frame takes beside the picture."""
        return CANVAS_BYTES if self.tell() == 0 and self._shows_canvas() else 0

    def load_end(self) -> None:
        """Make the canvas around the first frame, or behind it when it is cleared, transparent."""
        super().load_end()
        if self.tell() == 0 and self._shows_canvas() and self.dispose_extent:
            painted = pillow.new("L", self.size, 0)
            painted.paste(255, self.dispose_extent)
            shown = self.convert("RGB")
            shown.putalpha(painted)
            self.im, self._mode, self.palette = shown.im, "RGBA", None
            if self.disposal_method >= _CLEAR:  # nor is there a frame before this one to restore
                self._clear_later(self.dispose_extent)

    def seek(self, frame: int) -> None:
        """Seek a frame; one that is to be cleared will leave the canvas transparent."""
        super().seek(frame)
        if frame and self.disposal_method == _CLEAR and self.dispose_extent and self.mode in ("RGB", "RGBA"):
            self._clear_later(self.dispose_extent)

    def _shows_canvas(self) -> bool:
        """Whether the canvas is seen beside or behind the first frame, and the frame has no transparency."""
        around = self.dispose_extent != (0, 0, *self.size)
        return "transparency" not in self.info and (around or self.disposal_method >= _CLEAR)

    def _clear_later(self, box: tuple[int, int, int, int]) -> None:
        """Have the frame's rectangle cleared before the next frame is painted."""
        left, top, right, bottom = box
        self.dispose = pillow.new("RGBA", (right - left, bottom - top), (255, 255, 255, 0)).im
