"""Grids of faces: where the cells of a picture really are.

Text-to-image models that are asked for a 6x6 grid return 5x5 or 3x3 ones too, with or without gutters, so the grid is
found. Three things tell a border between rows (columns alike), and each gives it a worth:

- a seam: faces have no straight edges, so for each line the share of its length is counted at which the picture changes
  exactly there, less what the lines around it have;
- a gutter: two seams with an even strip between them;
- a void: a strip that is background all along, between heads that stand before one backdrop.

Of all chains of borders the one is taken that has the most worth and the evenest cells, by dynamic programming for each
size of cells (after the beat tracker of Ellis, 2007). Rows are found first, over the whole width, then the columns of
all rows together, and then those of single rows, for pictures whose rows differ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import find_peaks

LONGEST = 1024  # larger pictures are looked at in this size
CONTRAST = 6.0  # grey levels between the two sides of a seam, at least
EVEN = 3.0  # grey levels by which an even strip may differ along its length
BACKGROUND = 8.0  # the same for background
VOID = 0.3  # worth of a void: less than a seam along half of the line
UNEVEN = 4.0  # cost of uneven cells: 0.2 where one is a quarter larger than the others
GUTTER = 0.12  # of a cell: the widest gutter
MARGIN = 0.5  # of a cell: the widest outer border
BLANK = 0.7  # of a row or column of cells: as much of it can be empty
THINNEST = 16  # pixels of the smallest cell
OWN_COLUMNS = 0.5  # by how much a row's own columns have to be worth more than those of all rows
SURE = 0.3  # confidence below which a picture is no grid; scattered portraits reach 0.25
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """A cell: its row and column from 0, and `box` in pixels: left, top, right, bottom (the last two exclusive)."""

    row: int
    column: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Grid:
    """The cells row by row, the number of cells in each row, and the confidence: 1 is lines without a gap."""

    cells: list[Cell]
    columns: tuple[int, ...]
    confidence: float

    def __str__(self) -> str:
        alike = len(set(self.columns)) == 1
        return f"{len(self.columns)}x{self.columns[0]}" if alike else f"rows of {', '.join(map(str, self.columns))}"


@dataclass(frozen=True)
class Profile:
    """Where borders between the rows of a picture may be, and what each is worth.

    A border goes from `ends`, where a cell ends, to `starts`, where the next begins; in a seam they are one. `chance`
    is the evidence that any line may have, which is taken off every worth. `empty` says of each line whether it is
    background; `voids` are the strips of them that no gutter explains.
    """

    height: int
    ends: NDArray[np.intp]
    starts: NDArray[np.intp]
    worth: NDArray[np.float64]
    chance: float
    voids: list[tuple[int, int]]
    empty: NDArray[np.bool_]

    def worth_of(self, borders: list[tuple[int, int]]) -> float:
        """What the inner ones of these borders are worth here, give or take two pixels."""
        total = 0.0
        for end, start in borders[1:-1]:
            before, after = np.abs(self.ends - end) <= 2, np.abs(self.starts - start) <= 2
            near = self.worth[(before & after) | ((self.ends == self.starts) & (before | after))]
            empty = any(a <= end and start <= b for a, b in self.voids)
            total += max([*near, VOID if empty else -self.chance])
        return total


@dataclass(frozen=True)
class Chain:
    """Borders along one axis as pairs `(end, start)`, outer ones included; the mean evidence of inner ones, 0 to 1."""

    borders: list[tuple[int, int]]
    evidence: float
    empty: NDArray[np.bool_]

    def cells(self) -> list[tuple[int, int]]:
        """First and last (exclusive) pixel of each cell."""
        return [(start, end) for (_, start), (end, _) in zip(self.borders, self.borders[1:], strict=False)]

    def blank(self) -> bool:
        """Whether there is nothing in one of the cells."""
        return any(self.empty[start:end].mean() > BLANK for start, end in self.cells())


def find_grid(image: NDArray[np.uint8], most: int = 8) -> Grid:
    """The cells of a picture (H, W, 3) or (H, W) with 2 to `most` rows, and 2 to `most` columns in each.

    Raises `ValueError` that says why no grid can be told.
    """
    picture = Image.fromarray(image).convert("RGB")
    scale = max(1.0, max(picture.size) / LONGEST)
    size = (round(picture.width / scale), round(picture.height / scale))
    if min(size) < 2 * THINNEST:
        raise ValueError(f"{picture.width} x {picture.height} pixels are too few for a grid")
    pixels = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32)
    turned = pixels.transpose(1, 0, 2)

    rows = best_chain(profile(pixels), most)
    if rows is None or rows.blank():
        raise ValueError("no straight lines or empty strips part it into rows")
    shared = best_chain(profile(np.concatenate([turned[:, a:b] for a, b in rows.cells()], axis=1)), most)
    shared = None if shared and shared.blank() else shared
    columns = [_columns(profile(turned[:, a:b]), shared, most) for a, b in rows.cells()]
    chains = [chain for chain in columns if chain]
    if len(chains) < len(columns):
        raise ValueError(f"no straight lines or empty strips part row {columns.index(None) + 1} into columns")
    confidence = min(rows.evidence, float(np.mean([chain.evidence for chain in chains])))
    if confidence < SURE:
        raise ValueError(f"its lines are too faint for a grid (confidence {confidence:.2f})")

    def back(*edges: int) -> tuple[int, int, int, int]:
        left, top, right, bottom = (round(scale * edge) for edge in edges)
        return left, top, right, bottom

    cells = [
        Cell(row, column, back(left, top, right, bottom))
        for row, ((top, bottom), chain) in enumerate(zip(rows.cells(), chains, strict=True))
        for column, (left, right) in enumerate(chain.cells())
    ]
    return Grid(cells, tuple(len(chain.cells()) for chain in chains), round(confidence, 2))


def _columns(row: Profile, shared: Chain | None, most: int) -> Chain | None:
    """The columns of one row: those of all rows, unless its own are much clearer."""
    single = best_chain(row, most)
    if single is None or shared is None:
        return single or shared
    return single if row.worth_of(single.borders) > row.worth_of(shared.borders) + OWN_COLUMNS else shared


def seams(pixels: Floats) -> NDArray[np.float64]:
    """For each row y of (H, W, 3), from 0 to 1: the share of the width at which an edge lies just above it.

    An edge is where the means of three rows above and below differ more than one and two rows further up and down.
    Texture, noise and curved edges, which the rows around have as well, are taken off.
    """
    means = uniform_filter1d(uniform_filter1d(pixels, 9, axis=1), 3, axis=0, mode="nearest")
    step = np.zeros(pixels.shape[:2], np.float32)
    step[2:-1] = np.abs(means[3:] - means[:-3]).mean(axis=2)
    edge = (step > CONTRAST) & (step >= maximum_filter1d(step, 5, axis=0))
    share = np.convolve(edge.mean(axis=1), [0.5, 1.0, 0.5], mode="same")
    return np.clip(share - median_filter(share, 31), 0, 1)


def profile(pixels: Floats) -> Profile:
    """The borders that there may be between the rows of (H, W, 3)."""
    height, evidence = len(pixels), seams(pixels)
    chance = max(0.15, 2.5 * float(np.quantile(evidence, 0.9)))
    peaks = find_peaks(evidence, height=0.06, distance=2)[0]
    peaks = np.sort(peaks[np.argsort(evidence[peaks])[-80:]])
    # Each line in up to 48 parts, which have less noise than pixels.
    parts = np.array_split(np.arange(pixels.shape[1]), min(48, pixels.shape[1] // 3))
    lines = np.stack([pixels[:, part].mean(axis=1) for part in parts], axis=1)

    gutters = _gutters(lines, peaks[evidence[peaks] > chance])
    empty, voids = _voids(lines)
    voids = [(a, b) for a, b in voids if not any(c < b and a < d for c, d in gutters)]
    borders = [(0, 0, 0.0), (height, height, 0.0)]
    borders += [(y, y, evidence[y] - chance) for y in peaks]
    for a, b in gutters:
        weaker, stronger = sorted((evidence[a], evidence[b]))
        borders.append((a, b, stronger + weaker / 2 - chance))
    for a, b in voids:
        sharp = [y for y in peaks if min(abs(y - a), abs(y - b)) <= 2 and evidence[y] > chance]
        if len(sharp) == 1:  # such as shoulders that end on the border, with empty space below
            borders.append((sharp[0], sharp[0], evidence[sharp[0]] - chance + VOID))
        else:  # the border is somewhere in it: where the cells are evenest
            borders += [(y, y, VOID) for y in range(a + 2, b - 1, 4)]
    ends, starts, worth = (np.array(column) for column in zip(*sorted(borders), strict=True))
    return Profile(height, ends, starts, worth, chance, voids, empty)


def _gutters(lines: Floats, peaks: NDArray[np.intp]) -> list[tuple[int, int]]:
    """The pairs of seams with a strip between them that is even all along, as strips beside it are not."""
    sums = np.concatenate([np.zeros_like(lines[:1]), np.cumsum(lines, axis=0, dtype=np.float64)])

    def unevenness(top: NDArray[np.intp], bottom: NDArray[np.intp]) -> NDArray[np.float64]:
        top, bottom = np.clip(top, 0, len(lines) - 1), np.clip(bottom, 1, len(lines))
        return ((sums[bottom] - sums[top]) / (bottom - top)[:, None, None]).std(axis=1).mean(axis=1)

    first, second = np.triu_indices(len(peaks), 1)
    a, b = peaks[first], peaks[second]
    near = b - a <= GUTTER * len(lines) / 2
    a, b = a[near], b[near]
    if not len(a):
        return []
    thick, trim = b - a, (b - a > 2).astype(int)
    around = np.minimum(unevenness(a - thick, a), unevenness(b, b + thick))
    even = unevenness(a + trim, b - trim) < np.maximum(EVEN, 0.3 * around)
    return list(zip(a[even].tolist(), b[even].tolist(), strict=True))


def _voids(lines: Floats) -> tuple[NDArray[np.bool_], list[tuple[int, int]]]:
    """Which lines are background but for a tenth of their length; inner strips of them, as first and last + 1."""
    off = np.abs(lines - np.median(lines, axis=1, keepdims=True)).mean(axis=2)
    empty = (off < BACKGROUND).mean(axis=1) >= 0.9
    runs = np.flatnonzero(np.diff(np.r_[False, empty, False].astype(int))).reshape(-1, 2).tolist()
    if np.median(off.mean(axis=1)) < 2 * BACKGROUND:  # nothing stands out, so nothing stands before a background
        runs = []
    return empty, [(a, b) for a, b in runs if a > 0 and b < len(lines) and b - a >= 4]


def best_chain(lines: Profile, most: int) -> Chain | None:
    """The borders of 2 to `most` cells that are worth most, less the cost of uneven cells; None when none are."""
    height, ends, starts = lines.height, lines.ends, lines.starts
    # All arrays are (sizes of a cell, candidates): the best chain so far that ends in the candidate, and its last link.
    sizes = np.geomspace(max(THINNEST, 0.8 * height / most), height / 1.8, 64)[:, None]
    worth = np.where(starts - ends <= GUTTER * sizes, lines.worth, -np.inf)
    outer = np.where((ends > 0) & (starts < height), 0.3 * lines.worth - 0.1, 0.0)  # a frame is no proof of a grid
    best = np.where(starts <= MARGIN * sizes, outer, -np.inf)
    last = np.full(best.shape, -1)
    each = np.arange(len(sizes))
    for j in range(1, len(ends)):
        uneven = np.log(np.maximum(ends[j] - starts[:j], 1) / sizes)
        score = np.where(np.abs(uneven) < 0.4, best[:, :j] - UNEVEN * uneven**2, -np.inf)
        link = score.argmax(axis=1)
        total = score[each, link] + worth[:, j]
        better = total > best[:, j]
        best[better, j], last[better, j] = total[better], link[better]
    done = (height - ends <= MARGIN * sizes) & (last >= 0) & np.isfinite(best)
    final = np.where(done, best - lines.worth + outer, -np.inf)

    for place in np.argsort(final, axis=None)[::-1]:
        size, j = np.unravel_index(place, final.shape)
        if final[size, j] <= 0:
            return None
        chain = [int(j)]
        while last[size, chain[-1]] >= 0:
            chain.append(int(last[size, chain[-1]]))
        if 3 <= len(chain) <= most + 1:
            inner = lines.worth[chain[-2:0:-1]]
            borders = [(int(ends[k]), int(starts[k])) for k in chain[::-1]]
            best_borders = Chain(borders, float(np.clip(inner + lines.chance, 0, 1).mean()), lines.empty)
            return best_borders if (inner > 0).mean() >= 0.6 else None  # a few strong lines are no grid
    return None
