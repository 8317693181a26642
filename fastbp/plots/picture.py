"""The class of the figures, apart because matplotlib is imported when the first one is made."""

import io

from matplotlib.figure import Figure

CSS_INCH = 96  # pixels of a page


class Picture(Figure):
    """A matplotlib figure that a notebook shows, whatever its backend, without pyplot."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture, and its size on the page: as in print, however fine its dots."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        width, height = (round(CSS_INCH * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}
