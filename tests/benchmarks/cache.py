"""Seconds to decode a dataset into the cache, and to open what is there.

    python -m tests.benchmarks.cache SOURCE [--times 5]

The cache is one of its own, in a temporary folder. Opening means verifying: the images' bytes and the cache's checksum.
"""

import argparse
import json
import os
import tempfile
import time
from statistics import median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--times", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = folder  # read by `datasets` when it is imported
        from fer_hf.console import quiet_libraries
        from fer_hf.data.cache import decoded
        from fer_hf.machine import environment
        from fer_hf.recipe.load import validate_recipe
        from fer_hf.workflows.faces import recipe_faces

        quiet_libraries()
        splits = recipe_faces(validate_recipe({"data": {"source": asked.source}})).splits

        def seconds() -> float:
            began = time.perf_counter()
            for name, split in splits.items():
                decoded(split, name, 64)
            return time.perf_counter() - began

        built, opened = seconds(), median(seconds() for _ in range(asked.times))
    images = sum(map(len, splits.values()))
    print(f"{images} images decoded in {built:.1f} s, opened in {opened:.2f} s")
    print(json.dumps({**vars(asked), "images": images, "built": built, "opened": opened, **environment()}))


if __name__ == "__main__":
    main()
