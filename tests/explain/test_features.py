"""The features before the classifier, held against the logits that they give."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.explain.features import penultimate_features
from fer_hf.images.batches import to_uint8
from fer_hf.models.classifier import Classifier, load_classifier
from fer_hf.models.load import load_model
from fer_hf.models.network import heads


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return toy.load(train=1, validation=1, test=2, size=32)["test"]


def fresh(name: str) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = load_model(name, LABEL_SETS["fer7"], pretrained=False, image_size=32)
    return Classifier(loaded.model, loaded.processor, loaded.label_names)


@pytest.mark.parametrize("name", ["tiny_model", "test_vit", "dla46x_c"])  # the last one's classifier is a convolution
def test_the_classifier_makes_the_logits_of_the_features(name, faces, tiny_model):
    classifier = load_classifier(tiny_model) if name == "tiny_model" else fresh(name)
    features = penultimate_features(classifier, faces, batch_size=4)
    head = heads(classifier.model)[0]
    weight, bias = (part.detach().numpy() for part in (head.weight.flatten(1), head.bias))
    assert (features.shape, features.dtype) == ((len(faces), weight.shape[1]), np.float32)
    np.testing.assert_allclose(features @ weight.T + bias, classifier.predict(faces), atol=1e-4)
    assert not head._forward_pre_hooks


def test_decoded_pixels_are_taken_as_they_are(faces, tiny_model):
    classifier = load_classifier(tiny_model)
    pixels = torch.stack([to_uint8(image) for image in faces["image"]])
    expected = penultimate_features(classifier, faces)
    np.testing.assert_array_equal(penultimate_features(classifier, faces, pixels=pixels), expected)


def test_an_onnx_file_has_no_features_to_give(faces, tiny_model):
    exported = load_classifier(tiny_model)
    exported.format = "int8"
    with pytest.raises(UserError, match="Features of the int8 file cannot be had: ONNX Runtime gives out its logits"):
        penultimate_features(exported, faces)
