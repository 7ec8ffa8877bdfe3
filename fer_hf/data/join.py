"""Several sources in one dataset: ids that tell the source, weights, and the same columns in all."""

from datasets import Dataset, Value, concatenate_datasets

from fer_hf.data.columns import same_columns
from fer_hf.data.source import Source
from fer_hf.data.splits import SPLITS
from fer_hf.data.subsets import thin_out


def prefixes(sources: list[Source]) -> list[str]:
    """What the ids of each source begin with beside those of others; a name that comes again is numbered."""
    names = [source.name for source in sources]
    before = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name}-{count + 1}:" if count else f"{name}:" for name, count in zip(names, before, strict=True)]


def join(sources: list[Source], weights: list[float], seed: int) -> dict[str, Dataset]:
    """The splits of several sources, one after another, with the column `source`.

    Args:
        sources: aligned with one label set.
        weights: how many times the training images of each source count.
        seed: of the images that are drawn for a fraction of a weight.
    """
    joined = {}
    for split in SPLITS:
        parts = []
        for source, prefix, weight in zip(sources, prefixes(sources), weights, strict=True):
            if split in source.splits:
                data = source.splits[split]
                ids = [prefix + name for name in data["id"][:]]
                data = data.remove_columns("id").add_column("id", ids, feature=Value("string"))
                data = data.add_column("source", [prefix[:-1]] * len(data), feature=Value("string"))
                parts.append(_weighted(data, weight, seed) if split == "train" else data)
        if parts:
            joined[split] = concatenate_datasets(same_columns(parts))
    return joined


def _weighted(train: Dataset, weight: float, seed: int) -> Dataset:
    """A training split `weight` times over: whole copies, and for the rest that share of each class."""
    copies = [train] * int(weight)
    if rest := weight - int(weight):
        copies.append(thin_out(train, fraction=rest, seed=seed)[0])
    return concatenate_datasets(copies)
