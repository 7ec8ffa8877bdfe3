"""Pictures from prompts, through any provider that `huggingface_hub.InferenceClient.text_to_image` reaches.

What is there already is not made again, so a command that stopped goes on where it was. In the output folder:
images/<id>.png, images.jsonl (a line per picture, with its prompt, seed and model), refused.jsonl (what the model would
not make, and why).
"""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import UnidentifiedImageError

from fer_hf.console import track
from fer_hf.errors import FerError, UserError
from fer_hf.files import write_text, written_whole

WAITS = (2.0, 8.0, 30.0)  # seconds before each new try, when a provider is busy
NO_ACCESS = {
    401: "the token is missing or wrong: run `hf auth login`, or set HF_TOKEN",
    402: "the account has no credit left with this provider",
    403: "the token may not use this provider or model",
    404: "there is no such model or provider",
}


def read_prompts(file: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file, each with `id`, `prompt` and `seed`. Raises `UserError`."""
    if not file.is_file():
        raise UserError(f"There is no file {str(file)!r}; `fer-hf data grid prompts` writes one.")
    records = read_records(file, id=str, prompt=str, seed=int)
    if doubled := len(records) - len({record["id"] for record in records}):
        raise UserError(f"{str(file)!r} has {doubled} prompt(s) with the id of another one.")
    return records


def read_records(file: Path, /, **wanted: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """The records of a JSONL file with the keys and types `wanted`; none without a file. An id is a plain name.

    Raises `UserError` that names the line.
    """
    records: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_bytes().splitlines() if file.is_file() else (), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            records.append(record | {key: kind(record[key]) for key, kind in wanted.items()})
            if not re.fullmatch(r"[\w+-]{1,60}", records[-1]["id"]):
                raise ValueError(f"the id {records[-1]['id']!r} is no plain name of up to 60 characters")
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            keys = ", ".join(wanted)
            raise UserError(f"{str(file)!r}, line {number}, is no record with {keys}: {error}.") from error
    return records


def to_make(records: list[dict[str, Any]], output: Path) -> list[dict[str, Any]]:
    """The records whose picture is not there yet; refused ones are not asked for again."""
    refused = {line["id"] for line in read_records(output / "refused.jsonl", id=str)}
    made = {line["id"] for line in read_records(output / "images.jsonl", id=str) if _file(output, line).is_file()}
    return [record for record in records if record["id"] not in refused | made]


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
        with written_whole(file) as aside:
            image.save(aside, format="PNG")
        about = {
            "file": f"images/{file.name}",
            "model": model,
            "provider": str(client.provider or "auto"),
            "size": size,
        }
        _append(output / "images.jsonl", record | about | {"made": datetime.now(UTC).isoformat(timespec="seconds")})
        made += 1
    return {"made": made, "refused": refused}


def _ask(client: InferenceClient, model: str, record: dict[str, Any], size: int, sleep: Callable[[float], None]) -> Any:
    for wait in (*WAITS, 0.0):
        try:
            return client.text_to_image(record["prompt"], model=model, width=size, height=size, seed=record["seed"])
        except Exception as error:  # the client's errors come from three HTTP libraries
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in NO_ACCESS:
                raise UserError(f"{model} cannot be used: {NO_ACCESS[status]} (HTTP {status}).") from None
            if isinstance(error, HfHubHTTPError) and status and status < 500 and status != 429:
                raise
            # No token or an unknown provider; a prompt that cannot be sent; an answer that is no picture.
            if type(error) in (ValueError, UnicodeEncodeError, UnidentifiedImageError):
                raise UserError(f"{model} cannot be used: {error}") from None
            reason = f"HTTP {status}" if status else type(error).__name__
        sleep(wait)
    raise FerError(
        f"{model} failed {len(WAITS) + 1} times in a row ({reason}). What was made is kept: run the same command again "
        "later."
    )


def _file(output: Path, record: dict[str, Any]) -> Path:
    return output / "images" / f"{record['id']}.png"


def _append(file: Path, record: dict[str, Any]) -> None:
    """Add a line; a crash leaves the file as it was, since half a line would cost a picture."""
    before = file.read_text(encoding="utf-8").rstrip() if file.is_file() else ""
    write_text(file, f"{before}\n{json.dumps(record)}\n".lstrip())
