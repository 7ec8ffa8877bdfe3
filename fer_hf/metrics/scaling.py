"""How error falls with the number of training images, and how far that can be believed beyond the largest number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

FEWEST = 3
"""Different numbers of images that a fit takes: two points lie on any curve."""
FARTHEST = 4.0
"""Times the largest number of images, up to which a fit is asked."""


@dataclass(frozen=True)
class PowerLaw:
    """Error as `scale * images ** -exponent`, a straight line on logarithmic axes, fitted by least squares.

    `spread` is the standard deviation of a run around the line, of the logarithm of its error; `centre` and `width` are
    the mean logarithm of the images and the sum of its squared deviations, `points` the number of runs, and `largest`
    the largest number of images.
    """

    scale: float
    exponent: float
    spread: float
    centre: float
    width: float
    points: int
    largest: float

    def error(self, images: float) -> tuple[float, float, float]:
        """The error expected with so many images, and the 95 % prediction interval of one run, all in [0, 1].

        Raises:
            ValueError: these are more than four times the images of the largest run.

        Example:
            >>> law = fit_power_law([1000, 2000, 4000], [0.4, 0.2, 0.1], [0.01, 0.01, 0.01])
            >>> round(law.exponent, 3), round(law.error(8000)[0], 3)
            (1.0, 0.05)
        """
        if images > FARTHEST * self.largest:
            raise ValueError(
                f"{images:,.0f} images are more than {FARTHEST:g} times the {self.largest:,.0f} of the largest run"
            )
        distance = np.log(images) - self.centre
        middle = np.log(self.scale) - self.exponent * np.log(images)
        wide = self._quantile * self.spread * np.sqrt(1 + 1 / self.points + distance**2 / self.width)
        middle, low, high = (float(min(np.exp(value), 1.0)) for value in (middle, middle - wide, middle + wide))
        return middle, low, high

    @property
    def exponent_interval(self) -> tuple[float, float]:
        """The 95 % interval of the exponent; where it holds 0, the runs do not show that more images help."""
        wide = float(self._quantile * self.spread / np.sqrt(self.width))
        return self.exponent - wide, self.exponent + wide

    @property
    def _quantile(self) -> float:
        return float(t.ppf(0.975, self.points - 2))


def fit_power_law(images: Sequence[float], errors: Sequence[float], deviations: Sequence[float]) -> PowerLaw:
    """Fit error against training images, as learning curves mostly run (arXiv 1712.00409).

    Args:
        images: training images of each run, from 1.
        errors: 1 - accuracy of each run, above 0.
        deviations: the standard deviation of each error for want of test images. The runs are taken to scatter at least
            as much, however well they happen to lie on a line.

    Returns:
        The curve with its uncertainty, which has `len(images) - 2` degrees of freedom: three runs say little.

    Raises:
        ValueError: there are fewer than three different numbers of images, or a run has no error at all.

    Example:
        >>> law = fit_power_law([1000, 2000, 4000, 8000], [0.40, 0.33, 0.28, 0.23], [0.01, 0.01, 0.01, 0.01])
        >>> [round(share, 3) for share in law.error(16000)]
        [0.192, 0.152, 0.243]
    """
    if len({*images}) < FEWEST:
        raise ValueError(f"a curve takes at least {FEWEST} different numbers of training images, not {len({*images})}")
    if min(errors) <= 0:
        raise ValueError("a run without any error has no logarithm")
    x, y = np.log(np.asarray(images, dtype=float)), np.log(np.asarray(errors, dtype=float))
    slope, intercept = np.polyfit(x, y, 1)
    residual = float(((y - intercept - slope * x) ** 2).sum()) / (len(x) - 2)
    sampling = float(((np.asarray(deviations) / np.asarray(errors)) ** 2).mean())
    width = float(((x - x.mean()) ** 2).sum())
    spread = float(np.sqrt(max(residual, sampling)))
    return PowerLaw(float(np.exp(intercept)), -float(slope), spread, float(x.mean()), width, len(x), float(max(images)))
