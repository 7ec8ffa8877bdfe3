"""One call for PyTorch and ONNX: answers as `pipeline` gives them, logits, predictions of a dataset."""

import logging

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image, ImageOps
from scipy.special import softmax
from transformers import AutoImageProcessor, pipeline

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.images.batches import to_uint8
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.models.classifier import load_classifier

FER7 = LABEL_SETS["fer7"]


@pytest.fixture(scope="module")
def classifier(tiny_model):
    return load_classifier(tiny_model)


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return toy.load(train=1, validation=1, test=5, size=32)["test"]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Noise of the network's own size, so that the processor resizes nothing: two grey, one coloured."""
    torch.manual_seed(0)
    coloured = Image.fromarray(torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy())
    return [Image.effect_noise((32, 32), 80), coloured, Image.effect_noise((32, 32), 120)]


def test_what_a_classifier_knows_of_itself(classifier, tiny_model):
    assert classifier.label_names == FER7
    assert classifier.spec == ImageSpec.from_processor(AutoImageProcessor.from_pretrained(tiny_model))
    assert (classifier.format, classifier.source) == ("pytorch", str(tiny_model))
    assert classifier.device == torch.device("cpu")
    assert not classifier.model.training
    assert "pytorch" in repr(classifier)


# --- as pipeline answers


def assert_same(answer, expected, tolerance=1e-6):
    """Labels, order and keys of one image."""
    assert [list(row) for row in answer] == [["label", "score"]] * len(answer)
    assert [row["label"] for row in answer] == [row["label"] for row in expected]
    assert [row["score"] for row in answer] == pytest.approx([row["score"] for row in expected], abs=tolerance)


@pytest.mark.parametrize("top_k", [2, 100])
def test_answers_are_those_of_pipeline(classifier, tiny_model, pictures, tmp_path, top_k):
    theirs = pipeline("image-classification", model=str(tiny_model), device="cpu")
    colours = [picture.convert("RGB") for picture in pictures]
    expected = theirs(colours, top_k=top_k)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    arrays = [np.asarray(picture) for picture in pictures]
    batch = np.stack([np.asarray(picture) for picture in colours])
    tensor = torch.tensor(batch).permute(0, 3, 1, 2)
    for images in (pictures, colours, paths, list(map(str, paths)), arrays, tuple(arrays), batch, tensor):
        answers = classifier(images, top_k=top_k, batch_size=2)
        assert len(answers) == 3
        for answer, wanted, one in zip(answers, expected, images, strict=True):
            assert_same(answer, wanted)
            assert_same(classifier(one, top_k=top_k), wanted)
    assert_same(classifier([pictures[0]])[0], theirs([colours[0]])[0])
    assert classifier([]) == []


def test_a_picture_is_turned_as_its_exif_data_say(classifier, pictures, tmp_path):
    turned = pictures[1].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 270 degrees
    turned.save(tmp_path / "face.png", exif=exif)
    assert classifier(tmp_path / "face.png") == classifier(pictures[1])
    assert classifier(turned) != classifier(pictures[1])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 32, 32), dtype=np.uint8), r"uint8 of shape \(4, 32, 32\) is no image"),
        (np.zeros((32, 32), dtype=np.uint16), "uint16 of shape .* scale other values to 0 ... 255 first"),
        (np.full((32, 32), np.nan), "float64 of shape"),
        (np.zeros((0, 32, 3), dtype=np.uint8), r"uint8 of shape \(0, 32, 3\) is no image"),
        (Image.new("L", (0, 4)), "it has no pixels"),
        (Image.fromarray(np.full((4, 4), 0.5, np.float32)), "its mode is F, of more than 8 bits"),
        ("https://example.org/face.png", "face.png is no picture that can be read: it is an address, not a file"),
        (np.zeros((32, 32, 3), dtype=np.float32), "float32 of shape"),
        (torch.zeros(3, 32, 32), "torch.float32 of shape"),
        (None, "NoneType is no image"),
        ("nowhere.png", "nowhere.png is no picture that can be read: .*No such file"),
    ],
)
def test_what_is_no_image(classifier, image, message):
    with pytest.raises(UserError, match=message):
        classifier(image)


def test_formats_and_devices_are_checked(tiny_model):
    with pytest.raises(UserError, match="format='tflite' is unknown"):
        load_classifier(tiny_model, "tflite")
    with pytest.raises(UserError, match="ONNX Runtime runs on the CPU"):
        load_classifier(tiny_model, "onnx", device="cuda")


# --- logits


def test_logits_do_not_depend_on_the_batch_size_and_keep_the_order(classifier, faces):
    whole = classifier.predict(faces, batch_size=64)
    assert whole.shape == (35, 7)
    assert whole.dtype == np.float32
    assert classifier.predict(faces, batch_size=3) == pytest.approx(whole, abs=1e-4)
    inputs = classifier.processor([face.convert("RGB") for face in faces["image"]])
    direct = classifier.model(**inputs).logits.detach().numpy()
    assert whole == pytest.approx(direct, abs=1e-3)
    pixels = torch.stack([to_uint8(face) for face in faces["image"]])
    assert classifier.predict(faces, pixels=pixels) == pytest.approx(whole, abs=1e-4)
    assert classifier.logits(pixels).numpy() == pytest.approx(whole, abs=1e-4)
    assert classifier.logits(list(pixels)).numpy() == pytest.approx(whole, abs=1e-4)


def plain_loop(classifier, pictures, tta):
    """Mean probability `(N, C)` over the views of each picture, cut out with PIL and classified one at a time."""
    transform = EvalTransform(classifier.spec)
    rows = []
    for picture in pictures:
        seen = [picture]
        if tta == "ten_crop":
            width, height = picture.size
            w, h = {32: 28, 40: 35, 48: 42}[width], {32: 28, 40: 35, 48: 42}[height]
            x, y = width - w, height - h
            corners = [(0, 0), (x, 0), (0, y), (x, y), (x // 2, y // 2)]
            seen = [
                turned.crop((a, b, a + w, b + h)) for turned in (picture, ImageOps.mirror(picture)) for a, b in corners
            ]
        elif tta == "flip":
            seen = [picture, ImageOps.mirror(picture)]
        logits = [classifier.model(pixel_values=transform(to_uint8(view)[None])).logits for view in seen]
        rows.append(torch.cat(logits).softmax(dim=-1).mean(dim=0).detach().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("tta", ["flip", "ten_crop"])
def test_augmented_predictions_are_those_of_a_plain_loop(classifier, faces, tta, mixed):
    faces = faces.select(range(0, 35, 3))
    pictures = faces["image"][:]
    if mixed:  # colour and grey, three shapes
        shapes = [(32, 48), (40, 40), (48, 32)]
        modes = ["L", "RGB"]
        pictures = [p.convert(modes[n % 2]).resize(shapes[n % 3]) for n, p in enumerate(pictures)]
    dataset = Dataset.from_dict({"image": pictures, "label": faces["label"][:]})
    logits = classifier.predict(dataset, batch_size=8, tta=tta)
    expected = plain_loop(classifier, pictures, tta)
    assert np.exp(logits) == pytest.approx(expected, abs=1e-5)
    assert softmax(logits, axis=1) == pytest.approx(expected, abs=1e-5)
    assert np.abs(plain_loop(classifier, pictures, "none") - expected).max() > 1e-2  # the loop tells them apart


# --- ONNX


@pytest.mark.export
@pytest.mark.parametrize("tta", ["none", "flip", "ten_crop"])
def test_an_onnx_model_gives_the_same_logits(classifier, exported_model, faces, tta):
    onnx = load_classifier(exported_model, "onnx")
    assert onnx.predict(faces, batch_size=5, tta=tta) == pytest.approx(classifier.predict(faces, tta=tta), abs=1e-3)
    assert (onnx.label_names, onnx.spec, onnx.format) == (FER7, classifier.spec, "onnx")


@pytest.mark.export
def test_pipeline_names_the_labels_of_both_files(classifier, exported_model, faces):
    face = faces[0]["image"].convert("RGB")
    expected = {row["label"]: row["score"] for row in classifier(face, top_k=7)}
    for format, tolerance in (("onnx", 1e-4), ("int8", 0.2)):
        exported = load_classifier(exported_model, format)
        answer = exported(face, top_k=7)
        assert {row["label"]: row["score"] for row in answer} == pytest.approx(expected, abs=tolerance)
        theirs = pipeline("image-classification", model=exported.model, image_processor=exported.processor)
        assert_same(answer, theirs(face, top_k=7), 1e-4)


@pytest.mark.export
def test_loading_an_onnx_model_is_quiet(exported_model, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        load_classifier(exported_model, "onnx")
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.export
def test_a_model_without_the_file_says_how_to_make_it(tiny_model):
    with pytest.raises(UserError, match="fer-hf export RUN --int8"):
        load_classifier(tiny_model, "int8")
    with pytest.raises(UserError, match=r"onnx/model\.onnx of .*there is no such file\..*fer-hf export RUN`"):
        load_classifier(tiny_model, "onnx")
