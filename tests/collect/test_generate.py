"""Pictures from a provider: a small server that InferenceClient really talks to."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient
from image_server import Provider
from PIL import Image

from fer_hf.collect.generate import generate, read_prompts, to_make
from fer_hf.collect.prompts import prompt_set
from fer_hf.errors import FerError, UserError

TOKEN = "hf_secret_of_this_test"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    found = Provider()
    yield found
    found.stop()


RECORDS = prompt_set(emotions=("happy", "sad"), genders=("female",), per_kind=2)


def client(provider: Provider) -> InferenceClient:
    return InferenceClient(provider="hf-inference", token=TOKEN)


def test_pictures_and_what_is_known_of_them(provider: Provider, tmp_path: Path) -> None:
    waits: list[float] = []
    provider.answers = [503, 429]
    assert generate(RECORDS, tmp_path, client(provider), provider.url, 512, waits.append) == {"made": 4, "refused": 0}
    assert waits == [2.0, 8.0]
    assert provider.asked[-1]["inputs"] == RECORDS[-1]["prompt"]
    assert provider.asked[-1]["parameters"] == {"seed": RECORDS[-1]["seed"], "width": 512, "height": 512}
    lines = [json.loads(line) for line in (tmp_path / "images.jsonl").read_text().splitlines()]
    for line, record in zip(lines, RECORDS, strict=True):
        assert record.items() <= line.items()
        assert line["model"] == provider.url
        assert Image.open(tmp_path / line["file"]).size == (64, 64)
    assert TOKEN not in (tmp_path / "images.jsonl").read_text()


def test_it_goes_on_where_it_stopped(provider: Provider, tmp_path: Path) -> None:
    provider.answers = [200, 200, 500, 500, 500, 500]
    with pytest.raises(FerError, match=r"failed 4 times in a row \(HTTP 500\)"):
        generate(RECORDS, tmp_path, client(provider), provider.url, 512, lambda _: None)
    assert to_make(RECORDS, tmp_path) == RECORDS[2:]
    (tmp_path / "images" / f"{RECORDS[0]['id']}.png").unlink()
    rest = to_make(RECORDS, tmp_path)
    assert rest == [RECORDS[0], *RECORDS[2:]]
    provider.asked.clear()
    generate(rest, tmp_path, client(provider), provider.url, 512)
    assert [asked["inputs"] for asked in provider.asked] == [record["prompt"] for record in rest]
    assert to_make(RECORDS, tmp_path) == []


def test_a_refused_prompt_does_not_stop_the_others(provider: Provider, tmp_path: Path) -> None:
    provider.answers = [200, 400]
    assert generate(RECORDS, tmp_path, client(provider), provider.url, 512) == {"made": 3, "refused": 1}
    [line] = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert line["id"] == RECORDS[1]["id"]
    assert "not this one" in line["reason"]
    assert to_make(RECORDS, tmp_path) == []


@pytest.mark.parametrize(("status", "advice"), [(401, "hf auth login"), (402, "no credit"), (404, "no such model")])
def test_what_stops_at_once(provider: Provider, tmp_path: Path, status: int, advice: str) -> None:
    provider.answers = [status]
    with pytest.raises(UserError, match=advice) as caught:
        generate(RECORDS, tmp_path, client(provider), provider.url, 512)
    assert len(provider.asked) == 1
    assert TOKEN not in str(caught.value)


def test_prompts_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    with pytest.raises(UserError, match="There is no file"):
        read_prompts(file)
    for line in (
        '{"id": "../up", "prompt": "x", "seed": 1}',
        f'{{"id": "{"a" * 61}", "prompt": "x", "seed": 1}}',
        '{"id": "a", "prompt": "x", "seed": 1e999}',
        '{"id": "a"}',
        "nonsense",
        '["id"]',
        "caf\xe9",
    ):
        file.write_bytes((json.dumps(RECORDS[0]) + "\n" + line).encode("latin-1"))
        with pytest.raises(UserError, match="line 2, is no record with id, prompt, seed"):
            read_prompts(file)
    file.write_text(json.dumps(RECORDS[0]) + "\n" + json.dumps(RECORDS[0]))
    with pytest.raises(UserError, match="with the id of another"):
        read_prompts(file)


def test_any_prompt_stays_on_its_line(provider: Provider, tmp_path: Path) -> None:
    """Line separators, a list that was edited by hand and has no last end of line, and an empty line."""
    odd = [{"id": 7, "prompt": "a\u2028b\x85c", "seed": 1.0}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n\n" for one in odd))
    (tmp_path / "images.jsonl").write_text('{"id": "other"}')
    records = read_prompts(tmp_path / "prompts.jsonl")
    assert records == [{"id": "7", "prompt": odd[0]["prompt"], "seed": 1}]
    generate(records, tmp_path, client(provider), provider.url, 512)
    assert to_make(records, tmp_path) == []


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("nonsense", r"cannot be used: Provider 'nonsense' not supported"),
        ("fal-ai", "cannot be used: .* `hf auth login`"),
    ],
)
def test_what_no_new_try_would_mend(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str, message: str
) -> None:
    """An unknown provider and a missing token say so at once."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match=message):
        generate(RECORDS, tmp_path, InferenceClient(provider=service), "a/b", 512, lambda _: pytest.fail("it waited"))  # type: ignore[arg-type]


def test_what_is_no_picture_is_not_bought_again(provider: Provider, tmp_path: Path) -> None:
    provider.body = b"<html>"
    with pytest.raises(UserError, match="cannot identify image"):
        generate(RECORDS, tmp_path, client(provider), provider.url, 512, lambda _: pytest.fail("it waited"))
    assert len(provider.asked) == 1


def test_the_command_asks_first(cli, provider: Provider, tmp_path: Path) -> None:
    assert cli("data", "grid", "prompts", "--output", "p.jsonl", "--emotions", "sad", "--rows", 3)[0] == 0
    command = ("data", "grid", "generate", "p.jsonl", "--output", "grids", "--model", provider.url)
    code, out, _ = cli(*command, "--price-per-image", 0.04)  # nobody answers
    assert (code, provider.asked) == (1, [])
    assert "2 of 2 pictures" in out
    assert "about 0.08 dollars" in out
    provider.answers = [400]
    code, out, _ = cli(*command, "--yes")
    assert (code, len(provider.asked)) == (0, 2)
    assert "made 1, refused 1: grids" in out
    assert "refused.jsonl says why" in out
    assert "0 of 2 pictures" in cli(*command)[1]
