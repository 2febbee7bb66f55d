import os
import pickle
import tarfile
from argparse import Namespace
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdcam.errors import CheckpointError
from kdcam.models import Classifier, ModelConfig, build_classifier
from kdcam.models.networks import build_cifar
from kdcam.models.weights.foreign_checkpoints import architecture_from_path, is_foreign, read_foreign


class Runs:
    """Unpickling it would make a file."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def trained(name: str = "resnet8") -> tuple[nn.Module, torch.optim.SGD]:
    network = build_cifar(name, num_classes=5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    network(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    return network, optimizer


def repdistiller_style(name: str = "resnet8") -> dict[str, Any]:
    """Return what RepDistiller's train_teacher.py saves in its ``_last.pth`` and ``ckpt_epoch_240.pth``."""
    network, optimizer = trained(name)
    return {
        "opt": Namespace(
            model=name, learning_rate=0.05, lr_decay_epochs=[150, 180, 210], folder=Path("save")
        ),
        "epoch": 240,
        "accuracy": torch.tensor(72.5),
        "best_acc": np.float64(72.5),
        "test_loss": np.float32(1.5),
        "history": np.arange(3.0),
        "optimizer": optimizer.state_dict(),
        "model": network.state_dict(),
    }


def build(name: str = "kdcam:resnet8", *, classes: int = 5, **keys: Any) -> Classifier:
    config = ModelConfig(name=name, **keys)
    return build_classifier(config, num_classes=classes, in_channels=3, image_size=32).eval()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("zipped", [True, False])  # False: as torch wrote until 1.5, RepDistiller's own files
def test_a_checkpoint_of_repdistiller_gives_the_same_logits(tmp_path: Path, zipped: bool) -> None:
    content = repdistiller_style()
    place = tmp_path / "resnet8_vanilla" / "ckpt_epoch_240.pth"
    place.parent.mkdir()
    torch.save(content, place, _use_new_zipfile_serialization=zipped)
    own = build_cifar("resnet8", num_classes=5).eval()
    own.load_state_dict(content["model"])
    loaded = build(weights=str(place))
    assert loaded.notes == ()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(images), own(loaded.normalise(images)))


@pytest.mark.parametrize("name", ["wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_every_family_loads(tmp_path: Path, name: str) -> None:
    content = repdistiller_style(name)
    torch.save(content, tmp_path / "last.pth")
    loaded = build(f"kdcam:{name}", weights=str(tmp_path / "last.pth"))
    assert loaded.notes == ()
    assert same(dict(loaded.network.state_dict()), content["model"])


def test_a_head_of_another_class_count_starts_afresh(tmp_path: Path) -> None:
    torch.save(repdistiller_style("mobilenetv2"), tmp_path / "last.pth")
    loaded = build("kdcam:mobilenetv2", classes=7, weights=str(tmp_path / "last.pth"))
    assert loaded.notes == ("model.weights has 5 classes, the data 7: the classifier starts afresh",)


def test_where_the_state_dict_is(tmp_path: Path) -> None:
    state = build_cifar("resnet8_s2", num_classes=3).state_dict()
    wrapped = {f"module._orig_mod.{name}": value for name, value in state.items()}
    parameters = {
        name: nn.Parameter(value) if value.is_floating_point() else value for name, value in state.items()
    }
    contents: list[tuple[str, dict[str, Any]]] = [
        ("mdistiller.pth", {"model": state}),
        ("torchdistill.pt", {"model": state, "args": Namespace(), "best_value": 0.7, "lr_scheduler": None}),
        ("lightning.ckpt", {"epoch": 3, "state_dict": state}),
        ("model_best.pth.tar", {"net": wrapped}),
        ("tutorial.bin", {"model_state_dict": wrapped}),
        ("bare.PTH", dict(parameters)),
        ("student_best", {"model": state}),  # mdistiller gives its students no ending
    ]
    for file, content in contents:
        torch.save(content, tmp_path / file)
        assert is_foreign(tmp_path / file), file
        found = read_foreign(tmp_path / file).tensors
        assert same(found, dict(state)), file
        assert not any(isinstance(value, nn.Parameter) for value in found.values())


@pytest.mark.parametrize("zipped", [True, False])
def test_tables_and_queues_of_collections_are_read_as_plain_ones(tmp_path: Path, zipped: bool) -> None:
    state = {"a": torch.ones(2)}
    content = {
        "history": defaultdict(list, {"loss": [1.0, 0.5]}),
        "optimizer": defaultdict(dict, {0: {"momentum_buffer": torch.zeros(2)}}),
        "counts": defaultdict(int, seen=3),
        "config": OrderedDict(lr=0.1),
        "latest": deque([1.0, 2.0], maxlen=5),
        "model": defaultdict(list, state),
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert same(read_foreign(tmp_path / "a.pth").tensors, state)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_table_made_with_anything_else_is_refused(tmp_path: Path, zipped: bool) -> None:
    content = repdistiller_style() | {"history": defaultdict(os.getcwd)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"asks for \w+\.getcwd"):
        read_foreign(tmp_path / "a.pth")


def test_half_and_tied_tensors(tmp_path: Path) -> None:
    network = build_cifar("resnet8", num_classes=5)
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    half["bn1.running_mean"] = half["bn1.bias"]
    torch.save({"model": half}, tmp_path / "half.pth")
    loaded = build(weights=str(tmp_path / "half.pth")).network.state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32, torch.int64}
    assert torch.equal(loaded["fc.weight"], half["fc.weight"].float())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", ["system", "open", "eval", "touch"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_file_that_would_run_something_is_refused(
    tmp_path: Path, function: str, hidden: bool, zipped: bool
) -> None:
    trace = tmp_path / "trace"
    evil = {
        "system": Runs(os.system, f"touch {trace}"),
        "open": Runs(open, str(trace), "w"),
        "eval": Runs(eval, f"open({str(trace)!r}, 'w').close()"),
        "touch": Runs(Path.touch, trace),
    }[function]
    content = repdistiller_style() | ({"opt": Namespace(folder=evil)} if hidden else {"model": evil})
    file = tmp_path / "evil.pth"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    names = {"system": r"\w+\.system", "open": r"\w*\.?open", "eval": "eval", "touch": r"getattr"}
    with pytest.raises(CheckpointError, match=rf"evil\.pth: asks for {names[function]} .*\.safetensors"):
        read_foreign(file)
    with pytest.raises(CheckpointError, match="asks for"):
        build(weights=str(file))
    assert not trace.exists()


def test_the_malicious_file_does_run_where_pickles_are_trusted(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    torch.save({"opt": Runs(os.mkdir, str(tmp_path / "trace"))}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "trace").exists()


def test_the_allow_list_is_ours_alone_and_only_while_reading(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save(repdistiller_style() | {"opt": Runs(open, str(trace), "w")}, tmp_path / "evil.pth")
    torch.save(repdistiller_style(), tmp_path / "good.pth")
    with torch.serialization.safe_globals([(open, "io.open"), (open, "_io.open"), Namespace]):
        before = set(torch.serialization.get_safe_globals())
        with pytest.raises(CheckpointError, match="asks for"):
            read_foreign(tmp_path / "evil.pth")
        read_foreign(tmp_path / "good.pth")
        assert set(torch.serialization.get_safe_globals()) == before
    assert not trace.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(build_cifar("resnet8"), tmp_path / "whole.pth")
    with pytest.raises(
        CheckpointError, match=r"asks for kdcam\.models\.networks\.\w+\.CifarResNet .*state_dict\(\) alone"
    ):
        read_foreign(tmp_path / "whole.pth")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "found nothing"),
        ([torch.zeros(2)], "found a list"),
        (torch.zeros(2), "found a Tensor"),
        ({"epoch": 3, "weights": {"a": torch.zeros(1)}}, "found epoch, weights"),
        ({"model": {}, "accuracy": torch.zeros(1)}, "found model, accuracy"),
        ({str(key): 0 for key in range(9)}, r"found 0, 1, 2, 3, 4, 5, \.\.\."),
    ],
)
def test_files_without_a_state_dict(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: holds no state dict.*{found};.*state_dict\(\)"):
        read_foreign(tmp_path / "a.pth")


def test_tensors_without_values(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(2, device="meta")}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="'a' is no ordinary tensor"):
        read_foreign(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_truncated_files(tmp_path: Path, share: float, zipped: bool) -> None:
    file = tmp_path / "a.pth"
    torch.save(repdistiller_style(), file, _use_new_zipfile_serialization=zipped)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"a\.pth: cannot be read as a pickle of torch\.save"):
        read_foreign(file)


def test_files_of_other_formats(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    with tarfile.open(file, "w") as archive:  # as torch wrote before 0.2
        for name in ("sys_info", "pickle", "storages", "tensors"):
            (tmp_path / name).write_bytes(b"x")
            archive.add(tmp_path / name, arcname=name)
    with pytest.raises(CheckpointError, match=r"cannot be read as a pickle of torch\.save.*\.tar format"):
        read_foreign(file)
    for data in (
        b"not a checkpoint",
        pickle.dumps({"a": 1}),
        pickle.dumps({"a": 1}, protocol=2),
        b"\x89HDF\r\n",
    ):
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"cannot be read as a pickle of torch\.save"):
            read_foreign(file)
    with pytest.raises(CheckpointError, match="No such file"):
        read_foreign(tmp_path / "nowhere.pth")


def test_wrong_architecture_names_the_first_mismatch(tmp_path: Path) -> None:
    torch.save(repdistiller_style(), tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"a\.pth: does not fit model\.name: 'layer1\.1\..*' is missing"
    ):
        build("kdcam:resnet14", weights=str(tmp_path / "a.pth"))
    with pytest.raises(CheckpointError, match=r"'conv1\.weight' is 16x3x3x3, expected 32x3x3x3"):
        build("kdcam:resnet8x4", weights=str(tmp_path / "a.pth"))


def test_what_is_no_file_of_torch(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"text")
    assert not is_foreign(tmp_path / "plain")
    assert not is_foreign(tmp_path / "nowhere")
    assert not is_foreign(tmp_path / "model.safetensors")
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(CheckpointError, match="pickle"):
        build(weights=str(tmp_path / "a.pkl"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("save/models/resnet32x4_vanilla/ckpt_epoch_240.pth", "kdcam:resnet32x4"),
        ("resnet8_vanilla/ckpt_epoch_240.pth", "kdcam:resnet8"),
        ("download_ckpts/cifar_teachers/vgg13_vanilla/ckpt_epoch_240.pth", "kdcam:vgg13"),
        ("wrn_40_2_vanilla/ckpt_epoch_240.pth", "kdcam:wrn_40_2"),
        ("ResNet50_vanilla/ckpt_epoch_240.pth", "kdcam:resnet50"),
        ("MobileNetV2_vanilla/ckpt_epoch_240.pth", "kdcam:mobilenetv2"),
        ("mobile_half_cifar100_lr_0.01_decay_0.0005_trial_0/mobile_half_last.pth", "kdcam:mobilenetv2"),
        ("ShuffleV1_vanilla/a.pth", "kdcam:shufflenetv1"),
        ("ShuffleV2_vanilla/a.pth", "kdcam:shufflenetv2"),
        ("S:resnet8x4_T:resnet32x4_cifar100_kd_r:0.1_a:0.9_b:0.0_1/resnet8x4_best.pth", "kdcam:resnet8x4"),
        ("resnet20_s2_mine/a.pth", "kdcam:resnet20_s2"),
        ("output/cifar100_baselines/dkd,res32x4,res8x4/student_best", None),
        ("tiny_imagenet_teachers/ResNet18_vanilla/ti_res18", None),
        (
            "resnet50_in1k/model.pth",
            None,
        ),  # kdcam's spelling, not RepDistiller's: timm's or torchvision's network
        ("ckpt_epoch_240.pth", None),
    ],
)
def test_architecture_from_path(path: str, name: str | None) -> None:
    assert architecture_from_path(path) == name
    assert architecture_from_path(Path(path)) == name


@pytest.mark.parametrize(
    ("keys", "chosen", "told"),
    [
        (
            ("state_dict", "state_dict_ema"),
            "state_dict_ema",
            "state_dict_ema, a moving average, not from state_dict",
        ),
        (("model", "model_ema"), "model_ema", "model_ema, a moving average, not from model"),
        (("model", "state_dict"), "state_dict", "its table state_dict, not from model"),
        (("state_dict_ema",), "state_dict_ema", "its table state_dict_ema, a moving average"),
        (("net", "model", "model_ema", "state_dict_ema"), "state_dict_ema", "not from model_ema, model, net"),
        (("state_dict",), "state_dict", None),
    ],
)
def test_of_several_tables_timms_choice_is_taken_and_told(
    tmp_path: Path, keys: tuple[str, ...], chosen: str, told: str | None
) -> None:
    from timm.models import load_state_dict

    content = {key: {"a.weight": torch.full((2,), float(number))} for number, key in enumerate(keys)}
    torch.save({"epoch": 3, "arch": "resnet18", **content}, tmp_path / "model_best.pth.tar")
    tensors, note = read_foreign(tmp_path / "model_best.pth.tar")
    assert same(tensors, content[chosen])
    assert same(tensors, load_state_dict(str(tmp_path / "model_best.pth.tar")))
    assert (note is None) if told is None else (told in str(note))


def test_an_average_that_is_none_leaves_the_plain_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "state_dict_ema": None}, tmp_path / "a.pth")
    assert read_foreign(tmp_path / "a.pth") == ({"a": torch.ones(1)}, None)


WRAPPERS = [
    ("model.", "'model.'"),
    ("module.", "'module.'"),
    ("module.module.", "'module.'"),
    ("_orig_mod.", "'_orig_mod.'"),
    ("model._orig_mod.", "'model.'"),
    ("network.", "'network.'"),
    ("student.model.", "'student.', 'model.'"),
]


@pytest.mark.parametrize(("prefix", "told"), WRAPPERS)
@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
def test_what_wrappers_put_before_all_names_is_removed_and_told(
    tmp_path: Path, prefix: str, told: str, ending: str
) -> None:
    state = build_cifar("resnet8", num_classes=5).state_dict()
    wrapped = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    file = tmp_path / f"last{ending}"
    if ending == ".ckpt":
        torch.save({"epoch": 3, "pytorch-lightning_version": "2.2.0", "state_dict": wrapped}, file)
    else:
        save_file(wrapped, file)
    loaded = build(weights=str(file))
    assert same(dict(loaded.network.state_dict()), dict(state))
    if ending == ".ckpt" or not prefix.startswith(("module.", "_orig_mod.")):
        assert any(f"{file}: names without {told}" in note for note in loaded.notes)


@pytest.mark.parametrize("table", [None, "model_ema"])
def test_averages_of_torch_are_read(tmp_path: Path, table: str | None) -> None:
    network, _ = trained()
    averaged = torch.optim.swa_utils.AveragedModel(network).state_dict()
    torch.save(averaged if table is None else {table: averaged}, tmp_path / "swa.pth")
    loaded = build(weights=str(tmp_path / "swa.pth"))
    assert same(dict(loaded.network.state_dict()), dict(network.state_dict()))
    assert any("'module.'" in note for note in loaded.notes)


def test_another_class_count_is_told_of_wrapped_weights_too(tmp_path: Path) -> None:
    wrapped = {
        f"model.{name}": tensor for name, tensor in build_cifar("resnet8", num_classes=5).state_dict().items()
    }
    torch.save({"state_dict": wrapped}, tmp_path / "last.ckpt")
    loaded = build(classes=7, weights=str(tmp_path / "last.ckpt"))
    assert loaded.notes[0] == "model.weights has 5 classes, the data 7: the classifier starts afresh"
    assert "names without 'model.'" in loaded.notes[1]


def test_names_of_another_network_keep_what_begins_them(tmp_path: Path) -> None:
    torch.save({"model.a": torch.ones(1), "model.b": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"does not fit model\.name"):
        build(weights=str(tmp_path / "a.pth"))


def test_an_archive_that_unpacks_to_more_than_it_has_is_refused_unread(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2_000_000)}, tmp_path / "plain.pth")
    with (
        ZipFile(tmp_path / "plain.pth") as plain,
        ZipFile(tmp_path / "packed.pth", "w", ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / "packed.pth").stat().st_size < 50_000
    with pytest.raises(
        CheckpointError, match=r"packed\.pth: unpacks to 8,0\d\d,\d\d\d bytes .*torch\.save packs not"
    ):
        read_foreign(tmp_path / "packed.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_name_without_an_end_is_refused_at_once(tmp_path: Path, zipped: bool) -> None:
    """torch's own search for names in its message takes the square of their length."""
    torch.save({"a": OrderedDict(b=torch.ones(1))}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    data, long = (tmp_path / "a.pth").read_bytes(), b"c" + b"x" * 200_000 + b"\n" + b"y\n"
    if zipped:
        with ZipFile(tmp_path / "a.pth") as plain, ZipFile(tmp_path / "b.pth", "w") as changed:
            for name in plain.namelist():
                changed.writestr(
                    name, plain.read(name).replace(b"ctorch._utils\n", long + b"ctorch._utils\n")
                )
    else:
        (tmp_path / "b.pth").write_bytes(data.replace(b"ctorch._utils\n", long + b"ctorch._utils\n"))
    with pytest.raises(CheckpointError, match=r"b\.pth: asks for a name of 200,00\d letters"):
        read_foreign(tmp_path / "b.pth")
