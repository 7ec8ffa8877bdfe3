"""Pictures from prompts, through any provider that `huggingface_hub.InferenceClient.text_to_image` reaches.

What is there already is not made again, so a command that stopped goes on where it was. In the output folder:
images/<id>.png, images.jsonl (a line per picture, with its prompt, seed and model), refused.jsonl (what the model would
not make, and why).
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from fer_hf.errors import FerError, UserError
from fer_hf.progress import track
from fer_hf.run import move_into_place

WAITS = (2.0, 8.0, 30.0)  # seconds before each new try, when a provider is busy
NO_ACCESS = {
    401: "the token is missing or wrong: run `hf auth login`, or set HF_TOKEN",
    402: "the account has no credit left with this provider",
    403: "the token may not use this provider or model",
    404: "there is no such model or provider",
}


def read_prompts(file: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file, each with at least `id`, `prompt` and `seed`. Raises `UserError`."""
    if not file.is_file():
        raise UserError(f"There is no file {str(file)!r}; `fer-hf data grid prompts` writes one.")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            if not str(record["id"]).replace("-", "").replace("_", "").replace("+", "").isalnum():
                raise ValueError(f"the id {record['id']!r} is no plain name")
            records.append({**record, "prompt": str(record["prompt"]), "seed": int(record["seed"])})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{str(file)!r}, line {number}, is no prompt with id, prompt and seed: {error}.") from error
    return records


def to_make(records: list[dict[str, Any]], output: Path) -> list[dict[str, Any]]:
    """The records whose picture is not there yet; refused ones are not asked for again."""
    done = {line["id"] for name in ("images.jsonl", "refused.jsonl") for line in _lines(output / name)}
    refused = {line["id"] for line in _lines(output / "refused.jsonl")}
    return [
        one
        for one in records
        if one["id"] not in done or (one["id"] not in refused and not _file(output, one).is_file())
    ]


def generate(
    records: list[dict[str, Any]],
    output: Path,
    client: InferenceClient,
    model: str,
    size: int = 1024,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, int]:
    """Make the pictures of `records`, `size` x `size` pixels; returns how many were `made` and `refused`.

    A busy provider is asked again after 2, 8 and 30 seconds; a prompt that is refused is noted, and the others go on.
    Raises `UserError` when the account cannot use the model, `FerError` when the provider keeps failing.
    """
    (output / "images").mkdir(parents=True, exist_ok=True)
    made = refused = 0
    for record in track(records, "making pictures"):
        try:
            image = _ask(client, model, record, size, sleep)
        except HfHubHTTPError as error:
            reason = " ".join(str(getattr(error, "server_message", None) or error).split())[:300]
            _append(output / "refused.jsonl", {"id": record["id"], "prompt": record["prompt"], "reason": reason})
            refused += 1
            continue
        file = _file(output, record)
        aside = file.with_suffix(".part")
        image.save(aside, format="PNG")
        move_into_place(aside, file)
        about = {
            "file": f"images/{file.name}",
            "model": model,
            "provider": str(client.provider or "auto"),
            "size": size,
        }
        _append(output / "images.jsonl", {**record, **about, "made": datetime.now(UTC).isoformat(timespec="seconds")})
        made += 1
    return {"made": made, "refused": refused}


def _ask(client: InferenceClient, model: str, record: dict[str, Any], size: int, sleep: Callable[[float], None]) -> Any:
    for wait in (*WAITS, None):
        try:
            return client.text_to_image(record["prompt"], model=model, width=size, height=size, seed=record["seed"])
        except Exception as error:  # the client's errors come from three HTTP libraries
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in NO_ACCESS:
                raise UserError(f"{model} cannot be used: {NO_ACCESS[status]} (HTTP {status}).") from None
            if isinstance(error, HfHubHTTPError) and status and status < 500 and status != 429:
                raise
            reason = f"HTTP {status}" if status else type(error).__name__
        if wait is None:
            raise FerError(
                f"{model} failed {len(WAITS) + 1} times in a row ({reason}). What was made is kept: run the same "
                "command again later."
            )
        sleep(wait)
    raise AssertionError("not reached")


def _file(output: Path, record: dict[str, Any]) -> Path:
    return output / "images" / f"{record['id']}.png"


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def _append(file: Path, record: dict[str, Any]) -> None:
    with open(file, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")
