"""The class of the figures, apart because matplotlib is imported when the first one is made."""

import io
from typing import Any

from matplotlib.figure import Figure

SCREEN, PRINT = 96, 150  # dots per inch: of a browser's pixels, and of files


class Picture(Figure):
    """A matplotlib figure that a notebook shows, whatever its backend, without pyplot."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure as matplotlib does, finer than a screen."""
        super().savefig(fname, **{"dpi": PRINT, **options})

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture, and its size on the page."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        width, height = (round(SCREEN * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}
