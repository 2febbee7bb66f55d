"""Every shipped recipe does a step on a tiny network and data, and its own network fits its own data's sizes."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import pytest
import timm
import torch
from pydantic import TypeAdapter
from small_runs import SCENES

from kdcam.data.common_config import BatchAugment
from kdcam.data.dataset_parts import DataSummary
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.source_configs import CifarConfig, DataConfig, DigitScenesConfig, MnistConfig, OmniglotConfig
from kdcam.losses.loss import term_names
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.packaged_weights import is_packaged, packaged
from kdcam.recipe.recipe_files import read_toml, recipe_stem, shipped_recipes
from kdcam.recipe.train_recipe import TrainRecipe, load_recipe, read_recipe
from kdcam.runs.checkpoint import save_model
from kdcam.training.assembly import assemble
from kdcam.training.engine import train_step
from kdcam.training.preflight import preflight

EMBEDDED = {"digits", "digit-scenes"}  # sources that need no files
FOLDERS = {"cub200": 200, "cars196": 196, "imagenet": 1000, "coco": 80, "photos": 5}  # classes, by data.root
FOLDERS |= {"cifar10": 10, "tiny-imagenet32-100": 100}
FOLDERS |= {"orl_faces": 30}  # ten of the forty people are kept out of training
SETS = {
    "mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "omniglot": 150,  # about as many as five alphabets have
    "torchvision:FGVCAircraft": 100,
    "torchvision:Flowers102": 102,
}
LARGEST_PROBE = 64  # pixels: a 2x2 map of most networks says what a larger one says, in less time


def tiny(name: str, folder: Path) -> TrainRecipe:
    """Return a shipped recipe on a tiny network; other data than the embedded gives way to tiny scenes."""
    table: dict[str, Any] = read_toml(name)
    if table["data"]["name"] != "digits":
        table["data"] = tiny_scenes(table["data"], multi_label=table.get("task") == "multi-label")
        written = table.get("model", {})
        kept = {key: written[key] for key in ("channel_attention", "head") if key in written}
        wider = {"feature_channels": 30} if "feature_channels" in written else {}
        table["model"] = {"name": "kdcam:resnet8_s2"} | kept | wider
    table["batch_size"] = 8
    if "episodes" in table:  # of 8 images, and a tiny class has not many
        table["episodes"] = {"ways": 4, "shots": 1, "queries": 1, "per_epoch": 2}
    if "teacher" in table:
        table["teacher"]["checkpoint"] = random_teacher(folder, describe(table["data"]))
    if "init" in table:
        table["init"]["checkpoint"] = random_teacher(folder / "start", describe(table["data"]))
        table["model"].pop("name")
    return read_recipe(table, source=name)


def tiny_scenes(data: dict[str, Any], *, multi_label: bool) -> dict[str, Any]:
    kept = {key: data[key] for key in ("validation", "mixup", "cutmix") if key in data}
    augment = [name for name in data.get("augment", ()) if name in get_args(BatchAugment)]
    return {**SCENES, **kept, "augment": augment, "multi_label": multi_label}


def describe(data: dict[str, Any]) -> DataSummary:
    return describe_data(DigitScenesConfig.model_validate(data))


def random_teacher(folder: Path, summary: DataSummary) -> str:
    torch.manual_seed(1)
    save_model(
        folder,
        build_classifier(
            ModelConfig(name="kdcam:resnet8"),
            num_classes=len(summary.label_names),
            in_channels=summary.channels,
            image_size=summary.image_size,
            label_names=summary.label_names,
        ),
    )
    return str(folder)


def random_package(place: str) -> dict[str, torch.Tensor]:
    """Return random tensors in the place of a package's, which need not be installed."""
    tensors: dict[str, torch.Tensor] = timm.create_model(packaged(place).network).state_dict()
    return tensors


@pytest.mark.parametrize("name", shipped_recipes())
def test_does_a_step_with_every_term_on(name: str, tmp_path: Path) -> None:
    checked = preflight(tiny(name, tmp_path), device="cpu")
    plan, state = assemble(checked, load_data(checked.recipe.data))
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    state.model.train()
    state.position.epoch = plan.epochs - 1  # the last epoch, in which every term counts
    terms = train_step(plan, state, next(iter(plan.train.epoch(0))))
    assert set(terms.values) == set(term_names(checked.recipe.loss))
    assert all(weight > 0 for weight in terms.weights.values())
    assert torch.isfinite(terms.total)
    moved = zip(before, state.model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)


def summary_of(config: DataConfig) -> DataSummary:
    """Return what `describe_data` would say if the files were there; the data that kdcam brings tells it itself."""
    if config.name in EMBEDDED:
        return describe_data(config)
    classes = SETS.get(config.name) or FOLDERS[str(getattr(config, "root", ""))]
    names = tuple(str(index) for index in range(classes))
    channels = 1 if isinstance(config, MnistConfig | OmniglotConfig) else 3
    has_own = not isinstance(config, MnistConfig | CifarConfig | OmniglotConfig)
    return DataSummary(names, channels, min(config.image_size, LARGEST_PROBE), None, "", has_own)


@pytest.fixture(scope="module")
def build_once() -> Iterator[Callable[..., Classifier]]:
    """Build a network that follows itself once: VGG16 takes seconds and half a gigabyte."""
    kept = lru_cache(maxsize=1)(build_classifier)
    yield kept
    kept.cache_clear()


def by_network(name: str) -> str:
    table = read_toml(name)
    return f"{table.get('model')} {table['data']}"


@pytest.mark.parametrize("name", sorted(shipped_recipes(), key=by_network))
def test_network_and_losses_fit_the_data_as_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_once: Callable[..., Classifier]
) -> None:
    table = read_toml(name)
    if "teacher" in table:
        summary = summary_of(TypeAdapter[DataConfig](DataConfig).validate_python(table["data"]))
        table["teacher"]["checkpoint"] = random_teacher(tmp_path, summary)
    if "init" in table:
        monkeypatch.setattr("kdcam.models.weights.starting_weights.packaged_tensors", random_package)
        if not is_packaged(table["init"]["checkpoint"]):
            summary = summary_of(TypeAdapter[DataConfig](DataConfig).validate_python(table["data"]))
            table["init"]["checkpoint"] = random_teacher(tmp_path / "start", summary)
    monkeypatch.setattr("kdcam.training.preflight.describe_data", summary_of)
    monkeypatch.setattr("kdcam.models.build.build_classifier", build_once)
    checked = preflight(read_recipe(table, source=name), device="cpu", fetches=False)
    assert checked.student.num_classes == len(checked.summary.label_names)
    assert checked.student.image_size == checked.summary.image_size
    assert bool(checked.teachers) == ("teacher" in table)


@pytest.mark.parametrize("name", [n for n, text in shipped_recipes().items() if "feature_channels" in text])
def test_mutual_channel_from_scratch_has_three_channels_a_class(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model.feature_channels == 3 * len(summary_of(recipe.data).label_names)


def by_column() -> dict[str, list[str]]:
    """Return the recipes of the CC-Loss paper's table, a list a column (data and network)."""
    columns: dict[str, list[str]] = {}
    for name in shipped_recipes():
        if name.startswith("papers/channel-correlation/"):
            columns.setdefault(name.partition("-")[2].partition("-")[2], []).append(name)
    return columns


@pytest.mark.parametrize("column", by_column())
def test_recipes_of_a_column_differ_in_losses_head_and_block_alone(column: str) -> None:
    names = by_column()[column]
    assert len(names) == 8  # the paper's seven rows and the control
    protocols = []
    for name in names:
        table = read_toml(name)
        for key in ("description", "loss", "published"):
            table.pop(key, None)
        for key in ("channel_attention", "head"):
            table["model"].pop(key, None)
        if "mutual_channel" in shipped_recipes()[name]:
            table["data"].pop("image_size", None)  # it needs a map of more than one place
        protocols.append(table)
    sizes = [protocol["data"].pop("image_size", None) for protocol in protocols]
    assert len({size for size in sizes if size is not None}) <= 1
    assert all(protocol == protocols[0] for protocol in protocols)


def test_run_folders_are_told_apart_by_the_files_name() -> None:
    stems = [recipe_stem(name) for name in shipped_recipes()]
    assert len(set(stems)) == len(stems)


def test_quickstart_teacher_and_student_see_the_same_split() -> None:
    teacher, student = (read_toml(f"quickstart/{name}")["data"] for name in ("teacher", "student"))
    assert teacher == student
