import pytest
import torch
from small_runs import SCENES, small_recipe

from kdcam.data.batches.batch import Views
from kdcam.models.build import build_classifier
from kdcam.models.classifier import TEACHER_NEEDS, TeacherOutputs
from kdcam.models.model_config import ModelConfig
from kdcam.training.teachers.cached_teacher import (
    cache_entries,
    cached_views,
    megabytes_text,
    output_name,
    output_shapes,
    usual_views,
)

KD = [{"name": "cross_entropy"}, {"name": "kd"}]


def test_shapes_of_every_need_follow_the_size_of_the_images() -> None:
    teacher = build_classifier(ModelConfig(name="kdcam:resnet8"), num_classes=7, in_channels=3, image_size=32)
    modes = {name: module.training for name, module in teacher.named_modules()}
    assert output_shapes(teacher, TEACHER_NEEDS, image_size=24) == {
        "teacher.class_cams": ((7, 6, 6),),
        "teacher.embedding": ((64,),),
        "teacher.feature_map": ((64, 6, 6),),
        "teacher.label_cam": ((6, 6),),
        "teacher.logits": ((7,),),
        "teacher.published_stages": ((16, 24, 24), (32, 12, 12), (64, 6, 6)),
        "teacher.stages": ((16, 24, 24), (32, 12, 12)),
    }
    assert {name: module.training for name, module in teacher.named_modules()} == modes


def test_only_the_map_of_the_label_is_named_after_the_targets() -> None:
    needs = {"teacher.logits", "teacher.label_cam"}
    label_cam, logits = cache_entries(needs, torch.arange(4))
    assert logits.name == "logits"
    assert label_cam.name.startswith("label_cam-")
    assert cache_entries(needs, torch.arange(4).flip(0)) != (label_cam, logits)


@pytest.mark.parametrize(("epochs", "views"), [(1, 4), (10, 4), (17, 5), (60, 15), (240, 16)])
def test_long_runs_draw_from_more_views(epochs: int, views: int) -> None:
    assert usual_views(epochs) == views


def test_views_of_a_recipe() -> None:
    cached = {"checkpoint": "x", "cache": "views", "views": 6, "views_seed": 2}
    assert cached_views(small_recipe(loss=KD, teacher=cached)) == Views(6, 2)
    assert cached_views(small_recipe(loss=KD, teacher=[cached, {**cached, "checkpoint": "y"}])) == Views(6, 2)
    assert cached_views(small_recipe(loss=KD, teacher=cached, data=SCENES)) == Views(1, 0)
    assert cached_views(small_recipe(loss=KD, teacher={"checkpoint": "x"})) is None
    assert cached_views(small_recipe()) is None


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 MB"),
        (3728, "0.00373 MB"),
        (1_234_567, "1.23 MB"),
        (98_765_432, "98.8 MB"),
        (12_345_678_901, "12,346 MB"),
    ],
)
def test_megabytes_keep_three_digits(size: int, words: str) -> None:
    assert megabytes_text(size) == words


def test_name_of_an_output() -> None:
    assert {output_name(need) for need in TEACHER_NEEDS} == set(TeacherOutputs._fields)
