from typing import Any

import pytest

from kdcam.comparison.plan.row_recipes import fill_losses, losses_of, model_settings_hint
from kdcam.losses import LOSSES

SMOOTHED = {"name": "cross_entropy", "label_smoothing": 0.1}
CAM = {"name": "cam", "weight": 3}
OWN = [SMOOTHED, CAM, {"name": "kd", "temperature": 8}]


def test_a_loss_that_trains_a_classifier_stands_alone() -> None:
    assert losses_of("focal", OWN) == [{"name": "focal"}]
    assert losses_of("cross_entropy", OWN) == [SMOOTHED]  # the recipe's settings of it


def test_another_loss_comes_behind_the_recipes_losses_on_the_labels() -> None:
    assert losses_of("center", OWN) == [SMOOTHED, {"name": "center"}]
    assert losses_of("cam", OWN) == [SMOOTHED, CAM]
    assert losses_of("cam", [CAM, {"name": "focal"}]) == [{"name": "focal"}, CAM]


def test_a_recipe_without_a_loss_on_the_labels_gets_that_of_its_task() -> None:
    assert losses_of("cam", []) == [{"name": "cross_entropy"}, {"name": "cam"}]
    assert losses_of("cam", OWN[2:], task="multi-label") == [
        {"name": "binary_cross_entropy"},
        {"name": "cam"},
    ]


def test_several_names_are_all_losses_in_their_order() -> None:
    assert losses_of("cam+focal", OWN) == [CAM, {"name": "focal"}]
    assert losses_of("cross_entropy+kd", OWN) == [SMOOTHED, OWN[2]]


def test_all_tables_of_a_name_are_kept() -> None:
    both = [{"name": "cross_entropy"}, {"name": "cross_entropy", "images": "clean"}]
    assert losses_of("cross_entropy", both) == both
    assert losses_of("cam", both) == [*both, {"name": "cam"}]


@pytest.mark.parametrize("name", [name for name, kind in LOSSES.items() if not kind.reads_teacher()])
def test_each_loss_makes_a_row_that_trains_a_classifier(name: str) -> None:
    found = [LOSSES[table["name"]] for table in losses_of(name, [])]
    assert found[-1] is LOSSES[name]
    assert [kind.trains_classifier for kind in found] == ([True] if len(found) == 1 else [True, False])


def test_what_comes_out_is_not_the_recipes_own_table() -> None:
    (found,) = losses_of("cross_entropy", OWN)
    found["label_smoothing"] = 0.5
    assert SMOOTHED["label_smoothing"] == 0.1


def filled(entry: str, *settings: str, **table: Any) -> dict[str, Any]:
    fill_losses(table, entry, settings)
    return table


def test_losses_take_the_place_of_a_method_and_its_settings() -> None:
    found = filled("cam", method="kd", methods={"dkd": {"beta": 2}})
    assert found == {"loss": [{"name": "cross_entropy"}, {"name": "cam"}]}


def test_a_setting_of_the_task_decides_the_loss_on_the_labels() -> None:
    found = filled("cam", "task=multi-label", "epochs=3")
    assert [loss["name"] for loss in found["loss"]] == ["binary_cross_entropy", "cam"]
    assert "epochs" not in found


def test_a_published_number_stays_where_the_losses_do() -> None:
    published = {"accuracy": 70.5, "source": "a paper"}
    assert filled("cam", loss=[SMOOTHED, CAM], published=published)["published"] == published
    assert filled("cross_entropy", published=published)["published"] == published
    assert "published" not in filled("cross_entropy", loss=[SMOOTHED, CAM], published=published)
    assert "published" not in filled("cross_entropy", method="kd", published=published)


@pytest.mark.parametrize(
    ("losses", "model", "said"),
    [
        (["cross_entropy", "cam"], {}, ""),
        (["arcface"], {"head": "cosine"}, ""),
        (["arcface"], {}, "--set model.head=cosine"),
        (["lgm"], None, "--set model.head=gaussian"),
        (["cross_entropy", "mutual_channel"], {"head": "cosine"}, "--set model.head=linear"),
        (["cross_entropy", "channel_correlation"], {}, "--set model.channel_attention=true"),
        (["arcface", "lgm"], {}, ""),  # no model has both heads
    ],
)
def test_the_way_to_the_model_that_losses_need(losses: list[str], model: Any, said: str) -> None:
    table = {"model": model, "loss": [{"name": name} for name in losses]}
    found = model_settings_hint(table, "scenes.toml")
    assert (said in found) if said else (found == "")
    assert not said or "beside --base scenes.toml" in found
