import pickle
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.images.spec import ImageSpec
from fer_hf.models.load import load_model, save_model
from fer_hf.models.network import heads

FER7 = LABEL_SETS["fer7"]


def trained(name="test_efficientnet", classes=8):
    """Stands for weights that somebody trained for something else."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes)
    torch.nn.init.normal_(model.get_classifier().bias)
    return model


def write(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


def load(path, name="test_efficientnet", **options):
    torch.manual_seed(1)
    return load_model(name, FER7, weights=str(path), **options)


def loaded_tensors(loaded, reference):
    """Names of the tensors of the reference that the loaded model has too."""
    own = loaded.model.timm_model.state_dict()
    return [name for name, tensor in reference.state_dict().items() if torch.equal(own[name], tensor)]


@pytest.mark.parametrize("pretrained", [True, False])  # True would download, had the file not been given
@pytest.mark.parametrize(
    ("file_name", "wrap"),
    [
        ("w.pt", dict),
        ("w.pth", lambda state: {"epoch": 3, "best": 0.61, "state_dict": {f"module.{k}": v for k, v in state.items()}}),
        ("w.pt", lambda state: {"model": {"model_state_dict": state}}),
        ("w.safetensors", lambda state: {f"timm_model.{k}": v for k, v in state.items()}),
    ],
)
def test_all_but_the_classifier_is_loaded(tmp_path, file_name, wrap, pretrained):
    source = trained(classes=7)  # as many outputs as ours, but of other labels
    loaded = load(write(wrap(source.state_dict()), tmp_path / file_name), pretrained=pretrained)
    names = [name for name in source.state_dict() if not name.startswith("classifier")]
    assert loaded_tensors(loaded, source) == names
    assert (loaded.base_model, loaded.head, loaded.label_names) == (None, "new (random weights)", FER7)
    floats = sum(source.state_dict()[name].is_floating_point() for name in names)
    assert loaded.notes == [f"weights of {file_name}: {floats} of {floats} tensors matched, the classifier is new"]


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "tf_efficientnet_b2"])
def test_the_form_of_the_vggface2_weights(tmp_path, name):
    """HSEmotion's state dicts: timm's own names, the classifier replaced by an identity."""
    source = timm.create_model(name, num_classes=0)
    loaded = load(write(source.state_dict(), tmp_path / "state_vggface2_enet.pt"), name, image_size=32)
    assert loaded_tensors(loaded, source) == list(source.state_dict())
    total = sum(tensor.is_floating_point() for tensor in source.state_dict().values())
    assert f"{total} of {total} tensors matched" in loaded.notes[0]
    assert len(loaded.model.eval()(torch.zeros(1, 3, 32, 32)).logits[0]) == 7


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("start", ["weights", "random", "folder", "folder of seven"])
def test_a_new_classifier_is_drawn_in_one_way(tmp_path, start, attention):
    """timm's own draw for this network is uniform up to 1 / sqrt(7), a standard deviation of 0.22."""
    source = trained("efficientnet_b0", classes=7)
    if start == "weights":
        options = {"name": "efficientnet_b0", "weights": write(source.state_dict(), tmp_path / "w.safetensors")}
    elif start == "random":
        options = {"name": "efficientnet_b0", "pretrained": False}
    else:
        labels = ("cat", "dog", "cow", "hen", "pig", "ewe", "fox")[: 7 if start == "folder of seven" else 3]
        of_animals = load_model("efficientnet_b0", labels, pretrained=False)
        save_model(of_animals.model, of_animals.processor, tmp_path / "folder")
        options = {"name": tmp_path / "folder"}
    loaded = load_model(options.pop("name"), FER7, attention=attention, **options)
    classifier = heads(loaded.model)[0]
    assert loaded.head == "new (random weights)"
    assert float(classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not classifier.bias.detach().any()


def test_under_attention(tmp_path):
    source = trained()
    loaded = load(write(source.state_dict(), tmp_path / "w.pt"), attention=True)
    own = loaded.model.backbone.state_dict()
    assert all(torch.equal(own[name], source.state_dict()[name]) for name in own)
    assert len(loaded.notes) == 1


def test_half_precision_becomes_single(tmp_path):
    source = trained().half()
    model = load(write(source.state_dict(), tmp_path / "w.pt")).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.timm_model.conv_stem.weight, source.conv_stem.weight.float())


def test_what_did_not_match_is_named(tmp_path):
    state = trained().state_dict()
    del state["bn2.bias"], state["bn2.weight"]
    state["conv_head.weight"] = torch.zeros(8, 64, 1, 1)
    state |= {f"projection.{i}": torch.zeros(2) for i in range(5)}
    loaded = load(write(state, tmp_path / "w.pt"))
    own, reference = loaded.model.timm_model.state_dict(), trained().state_dict()
    matched = [k for k in state if k in own and "classifier" not in k and torch.equal(own[k], reference[k])]
    floats = [k for k in matched if own[k].is_floating_point()]
    total = len([k for k, v in own.items() if v.is_floating_point() and "classifier" not in k])
    assert len(floats) >= total - 3
    shape = "x".join(map(str, reference["conv_head.weight"].shape))
    assert loaded.notes == [
        f"weights of w.pt: {total - 3} of {total} tensors matched, the classifier is new; "
        "2 not in the file (bn2.weight, bn2.bias); "
        "5 not in the model (projection.0, projection.1, projection.2, ...); "
        f"1 of another shape (conv_head.weight 8x64x1x1, not {shape})"
    ]


def test_another_architecture_is_refused(tmp_path):
    path = write(trained("test_resnet").state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"fits 0 of \d+ tensors \(wanted: conv_stem\.weight .*in the file: conv1\.0"):
        load(path)
    wide = {name: torch.cat([tensor, tensor]) for name, tensor in trained().state_dict().items() if tensor.ndim}
    with pytest.raises(UserError, match=r"wanted: conv_stem\.weight 24x3.*in the file: conv_stem\.weight 48x3"):
        load(write(wide, tmp_path / "wide.pt"))


@pytest.mark.parametrize(
    ("theirs", "ours"), [("mobilenet_v2", "mobilenetv2_100"), ("mobilenet_v3_small", "mobilenetv3_small_100")]
)
def test_files_of_torchvision_are_loaded_by_their_order(tmp_path, theirs, ours):
    """Held against torchvision's own features of an image."""
    torch.manual_seed(0)
    source = getattr(torchvision.models, theirs)(weights=None).eval()
    loaded = load(write(source.state_dict(), tmp_path / "w.pth"), ours, image_size=32)
    assert "matched by their order, since names differ; the classifier is new" in loaded.notes[0]
    images = torch.randn(2, 3, 32, 32)
    features = source.features(images).mean((2, 3))
    if theirs == "mobilenet_v3_small":
        features = source.classifier[:2](features)
    network = loaded.model.timm_model.eval()
    torch.testing.assert_close(network.forward_head(network.forward_features(images), pre_logits=True), features)
    assert heads(loaded.model)[0].out_features == 7


def test_order_is_not_enough_where_roles_or_shapes_differ_or_none_is_kept(tmp_path):
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    names = list(state)
    swapped = {name: state[name] for name in (names[0], names[2], names[1], *names[3:])}  # a bias before its weight
    with pytest.raises(
        UserError, match=r"by order tensor 2 is features\.0\.1\.bias 32 where the network has bn1\.weight"
    ):
        load(write(swapped, tmp_path / "swapped.pt"), "mobilenetv2_100", image_size=32)
    fewer = {name: tensor for name, tensor in state.items() if "features.18" not in name}
    with pytest.raises(UserError, match=r"the file has 257 tensors where the network has 262"):
        load(write(fewer, tmp_path / "fewer.pt"), "mobilenetv2_100", image_size=32)
    with pytest.raises(UserError, match=r"a \.safetensors file says nothing, since it keeps none"):
        load(write(state, tmp_path / "w.safetensors"), "mobilenetv2_100", image_size=32)


def test_arguments_of_timm_mean_and_std_come_back(tmp_path):
    options = {"args": {"pad_type": "same"}, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    loaded = load_model("test_efficientnet", FER7, pretrained=False, image_size=32, **options)
    assert type(loaded.model.timm_model.conv_stem).__name__ == "Conv2dSame"
    save_model(loaded.model, loaded.processor, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again.model.timm_model.conv_stem).__name__ == "Conv2dSame"
    spec = ImageSpec.from_processor(again.processor)
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"pad_typ": "same"}, r"does not take model\.args\.pad_typ"),
        ({"num_classes": 3}, r"model\.args\.num_classes is set by fer_hf: the labels decide it"),
        ({"drop_rate": 0.1}, r"use model\.drop_rate"),
    ],
)
def test_arguments_that_cannot_be_given(args, message):
    with pytest.raises(UserError, match=message):
        load_model("test_efficientnet", FER7, pretrained=False, image_size=32, args=args)


class Canary:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickled_model_is_never_unpickled_and_the_way_to_convert_it_works(tmp_path, monkeypatch):
    source = trained()
    source.canary = Canary(tmp_path / "unpickled")
    torch.save(source, tmp_path / "whole.pt")
    with pytest.raises(UserError, match=r"no state dict but a pickle.*If you trust") as refusal:
        load(tmp_path / "whole.pt")
    assert not (tmp_path / "unpickled").exists()
    lines = [line.strip() for line in str(refusal.value).splitlines() if line.startswith("    ")]
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), {})
    assert (tmp_path / "unpickled").exists()
    assert load(tmp_path / "whole_state.pt").notes[0].startswith("weights of whole_state.pt: ")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files(tmp_path, suffix):
    with pytest.raises(UserError, match=r"model\.weights='.*none.* is no file"):
        load(tmp_path / f"none{suffix}")
    path = tmp_path / f"w{suffix}"
    path.touch()
    with pytest.raises(UserError, match=r"\(0 bytes\) is cut short"):
        load(path)
    write(trained().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="cut short"):
        load(path)
    write(trained().state_dict(), path)
    path.write_bytes(path.read_bytes().replace(b"conv_stem", b"\xff" * 9))  # not what the format allows for a name
    with pytest.raises(UserError, match="cut short"):
        load(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="cut short or not in this format"):
        load(path)


def test_what_holds_no_weights(tmp_path):
    with pytest.raises(UserError, match=r"ends in '\.h5': \.pt, \.pth"):
        load(write({}, tmp_path / "w.h5"))
    with pytest.raises(UserError, match="no tensors with names, but a list"):
        load(write([torch.zeros(3)], tmp_path / "w.pt"))
    with pytest.raises(UserError, match="no tensors with names"):
        load(write({"state_dict": {"epoch": 3}}, tmp_path / "w.pt"))
    with (tmp_path / "p.pt").open("wb") as file:
        pickle.dump({"a": [1]}, file)
    with pytest.raises(UserError, match=r"p\.pt"):
        load(tmp_path / "p.pt")


def test_only_for_timm_architectures(tmp_path):
    path = write(trained().state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"model\.weights fills a timm architecture: 'google/vit"):
        load(path, "google/vit-base-patch16-224-in21k")
    assert heads(load(path).model)[0].out_features == 7
