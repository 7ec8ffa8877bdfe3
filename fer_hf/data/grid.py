"""Grids of faces: where the cells of a picture really are.

Text-to-image models that are asked for a 6x6 grid return 5x5 or 3x3 ones too, with or without gutters, so the grid is
found. A border between cells is what a face never shows: a straight edge along a whole line of cells. For every line of
pixels, the share of its length is counted at which the picture changes exactly there, and not a pixel before or after
(`seams`). Two such edges with an even strip between them are a gutter. Then the chain of borders with the best evidence
and the evenest cells is searched by dynamic programming over all sizes of cells (`best_chain`): rows over the whole
width first, then columns in all rows together, then columns in each row, for pictures whose rows differ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import find_peaks

MOST = 8  # rows and columns that are looked for
LONGEST = 1024  # larger pictures are looked at in this size
REACH = 3  # pixels on either side of an edge that are compared
ALONG = 9  # pixels that are averaged along a line
CONTRAST = 6.0  # grey levels between the sides of an edge, at least
UNEVEN = 4.0  # cost of uneven sizes: at a quarter more than the mean size, 0.2 of a border with full evidence
GUTTER = 0.2  # of a cell: the widest gutter
EVEN = 3.0  # grey levels: the spread of an even line, at most
VOID = 0.3  # evidence of an even strip without straight edges
NEAR = 8.0
MARGIN = 0.5  # an outer border may have this share of a cell
THINNEST_CELL = 16  # pixels

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """A cell: its row and column from 0, and `box` in pixels: left, top, right, bottom (the last two exclusive)."""

    row: int
    column: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Grid:
    """The cells row by row, the number of cells in each row, and how sure it is, from 0 to 1."""

    cells: list[Cell]
    columns: tuple[int, ...]
    confidence: float

    def __str__(self) -> str:
        same = len(set(self.columns)) == 1
        return f"{len(self.columns)}x{self.columns[0] if same else '(' + ', '.join(map(str, self.columns)) + ')'}"


@dataclass(frozen=True)
class Chain:
    """Borders along one axis, `(end of one cell, start of the next)` in pixels, outer ones included, and evidence."""

    borders: list[tuple[int, int]]
    total: float  # evidence above chance, summed over inner borders, less the cost of uneven sizes
    mean: float  # evidence of an inner border, from 0 to 1


def find_grid(image: NDArray[np.uint8], most: int = MOST) -> Grid:
    """The cells of a picture (H, W, 3) or (H, W), with 2 to `most` rows and columns.

    Raises `ValueError` that says why no grid can be told.
    """
    height, width = image.shape[:2]
    picture = Image.fromarray(image).convert("RGB")
    scale = max(1.0, max(height, width) / LONGEST)
    pixels = np.asarray(picture.resize((round(width / scale), round(height / scale)), Image.Resampling.BOX), np.float32)
    across = pixels.transpose(1, 0, 2)

    rows = Profile(pixels, most).best_chain()
    if rows is None:
        raise ValueError("no straight lines part it into rows")
    bands = [(top, bottom) for (_, top), (bottom, _) in zip(rows.borders, rows.borders[1:], strict=False)]
    shared = Profile(np.concatenate([across[:, top:bottom] for top, bottom in bands], axis=1), most).best_chain()
    cells, columns, means = [], [], [rows.mean]
    for row, (top, bottom) in enumerate(bands):
        chain = _columns(Profile(across[:, top:bottom], most), shared)
        if chain is None:
            raise ValueError("no straight lines part it into columns")
        columns.append(len(chain.borders) - 1)
        means.append(chain.mean)
        for column, ((_, left), (right, _)) in enumerate(zip(chain.borders, chain.borders[1:], strict=False)):
            left, top_, right, bottom_ = (round(scale * edge) for edge in (left, top, right, bottom))
            cells.append(Cell(row, column, (left, top_, right, bottom_)))
    confidence = min(means[0], float(np.mean(means[1:])))
    if confidence < 0.3:
        raise ValueError(f"the lines found are too faint to be a grid (confidence {confidence:.2f})")
    return Grid(cells, tuple(columns), round(confidence, 3))


def _columns(profile, shared):
    """The columns of one row: those of all rows, unless its own are much clearer."""
    own = profile.best_chain()
    if own is None or shared is None:
        return own or shared
    return own if profile.total(own) > profile.total(shared) + 0.5 else shared


def seams(pixels: Floats) -> Floats:
    """For each row y of (H, W, 3): the share of the width at which rows y - 1 and y are the two sides of an edge.

    From 0 to 1, less what the rows around have: texture, curved edges and noise cancel out, straight edges stay.
    """
    means = uniform_filter1d(uniform_filter1d(pixels, ALONG, axis=1), REACH, axis=0, mode="nearest")
    step = np.zeros(pixels.shape[:2], np.float32)
    step[2:-1] = np.abs(means[3:] - means[:-3]).mean(axis=2)
    edge = (step > CONTRAST) & (step >= maximum_filter1d(step, 2 * REACH + 1, axis=0))
    share = np.convolve(edge.mean(axis=1), [0.5, 1.0, 0.5], mode="same")
    return np.clip(share - median_filter(share, 31), 0, 1)


class Profile:
    def __init__(self, pixels, most):
        self.height, self.most = len(pixels), most
        self.evidence = seams(pixels)
        self.chance = max(0.15, 2.5 * float(np.quantile(self.evidence, 0.9)))
        parts = np.array_split(np.arange(pixels.shape[1]), min(48, pixels.shape[1] // 3))
        self.lines = np.stack([pixels[:, part].mean(axis=1) for part in parts], axis=1)  # (H, parts, 3)
        self.spread = self.lines.std(axis=1).mean(axis=1)  # (H,) how uneven each line is
        off = np.abs(self.lines - np.median(self.lines, axis=1, keepdims=True)).mean(axis=2)
        even = np.r_[False, (off < NEAR).mean(axis=1) >= 0.9, False]
        runs = np.flatnonzero(np.diff(even.astype(int))).reshape(-1, 2)
        self.voids = [(int(a), int(b)) for a, b in runs if a > 0 and b < self.height and b - a >= 4]
        self.end, self.start, self.value = self._candidates()

    def _candidates(self):
        height, evidence = self.height, self.evidence
        peaks = find_peaks(evidence, height=0.06, distance=2)[0]
        peaks = np.sort(peaks[np.argsort(evidence[peaks])[-80:]])
        found = [(0, 0, 0.0), (height, height, 0.0)] + [(y, y, evidence[y] - self.chance) for y in peaks]
        sums = np.concatenate([np.zeros_like(self.lines[:1]), np.cumsum(self.lines, axis=0, dtype=np.float64)])

        def unevenness(top, bottom):
            top, bottom = np.clip(top, 0, height - 1), np.clip(bottom, 1, height)
            return ((sums[bottom] - sums[top]) / (bottom - top)[:, None, None]).std(axis=1).mean(axis=1)

        for i, a in enumerate(peaks):
            b = peaks[i + 1 :]
            b = b[(b - a <= GUTTER * height / 2) & (np.minimum(evidence[a], evidence[b]) > self.chance)]
            if not len(b):
                continue
            thick, trim = b - a, (b - a > 2).astype(int)
            inside = unevenness(a + trim, b - trim)
            around = np.minimum(unevenness(a - thick, 0 * b + a), unevenness(b, b + thick))
            for other, good in zip(b, inside < np.maximum(EVEN, 0.3 * around), strict=True):
                if good:
                    found.append(
                        (
                            a,
                            other,
                            max(evidence[a], evidence[other]) + 0.5 * min(evidence[a], evidence[other]) - self.chance,
                        )
                    )
        gutters = [pair for pair in found if pair[0] < pair[1]]
        for a, b in self.voids:
            if any(c < b and a < d for c, d, _ in gutters):
                continue
            sharp = [y for y in peaks if min(abs(y - a), abs(y - b)) <= 2 and evidence[y] > self.chance]
            if len(sharp) == 1:
                found.append((sharp[0], sharp[0], evidence[sharp[0]] - self.chance + VOID))
            else:
                found += [(y, y, VOID) for y in range(a + 2, b - 1, 4)]
        return (np.array(c) for c in zip(*sorted(found), strict=True))

    def total(self, chain):
        """What the inner borders of a chain are worth here."""
        worth = 0.0
        for a, b in chain.borders[1:-1]:
            near = (
                np.minimum(np.abs(self.end - a), np.abs(self.end - b))
                + np.minimum(np.abs(self.start - a), np.abs(self.start - b))
                <= 4
            )
            default = VOID if any(c <= a and b <= d for c, d in self.voids) else -self.chance
            worth += max([*self.value[near], default])
        return worth

    def best_chain(self):
        height, end, start, value = self.height, self.end, self.start, self.value
        if height < 2 * THINNEST_CELL:
            return None
        sizes = np.geomspace(max(THINNEST_CELL, 0.8 * height / self.most), height / 1.8, 64)[:, None]  # of a cell
        inside = (end > 0) & (start < height)
        outer = np.where(inside, 0.3 * value - 0.1, 0.0)  # an outer border is no proof of a grid
        gain = np.where(start - end <= GUTTER * sizes, value, -np.inf)
        best = np.where(start <= MARGIN * sizes, outer, -np.inf)  # (sizes, candidates)
        back = np.full(best.shape, -1)
        for j in range(1, len(end)):
            size = (end[j] - start[:j])[None]
            ratio = np.log(np.maximum(size, 1) / sizes)
            score = np.where(np.abs(ratio) < 0.4, best[:, :j] - UNEVEN * ratio**2, -np.inf)
            prev = score.argmax(axis=1)
            top = score[np.arange(len(sizes)), prev] + gain[:, j]
            better = top > best[:, j]
            best[better, j], back[better, j] = top[better], prev[better]
        finish = (height - end)[None] <= MARGIN * sizes
        final = np.where(finish & (back >= 0), best - value + outer, -np.inf)
        for flat in np.argsort(final, axis=None)[::-1]:
            s, j = np.unravel_index(flat, final.shape)
            if final[s, j] <= 0:
                return None
            chain = [int(j)]
            while back[s, chain[-1]] >= 0:
                chain.append(int(back[s, chain[-1]]))
            if 3 <= len(chain) <= self.most + 1:
                break
        else:
            return None
        chain = chain[::-1]
        inner = value[chain[1:-1]]
        if (inner > 0).mean() < 0.6:
            return None
        borders = [(int(end[k]), int(start[k])) for k in chain]
        return Chain(borders, float(final[s, j]), float(np.mean(np.clip(inner + self.chance, 0, 1))))
