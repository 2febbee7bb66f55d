from pathlib import Path

import pytest
import torch
from conftest import SHARED_DATA

from kdcam.data.one_shot_runs import omniglot_runs
from kdcam.errors import DataError
from kdcam.few_shot.one_shot import one_shot_scores, runs_as_episodes
from kdcam.few_shot.settings import FewShotSettings
from kdcam.models.build import ModelConfig, build_classifier
from kdcam.models.classifier import Classifier
from kdcam.progress import Silent

OFFICIAL = SHARED_DATA / "omniglot" / "all_runs.zip"


def network(channels: int = 1) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=4, in_channels=channels, image_size=28
    ).eval()


def test_each_query_stands_at_the_place_of_its_character(one_shot_folder: Path) -> None:
    runs = omniglot_runs(one_shot_folder)
    episodes = runs_as_episodes(runs)
    assert (episodes.ways, episodes.shots, episodes.queries, len(episodes.classes)) == (5, 1, 1, 3)
    pixels = torch.cat([part.images.pixels for run in runs for part in (run.training, run.test)])
    assert torch.equal(pixels[episodes.support], pixels[episodes.query])


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_drawings_are_told_without_error(one_shot_folder: Path, channels: int) -> None:
    settings = FewShotSettings(heads=("prototype", "cosine-prototype"))
    found = one_shot_scores(network(channels), one_shot_folder, settings, batch_size=7, progress=Silent())
    assert [scores.head for scores in found] == ["prototype", "cosine-prototype"]
    assert found[0].right == (5, 5, 5)
    assert found[0].error == (0, 0, 3)
    assert found[0].name == "Omniglot one-shot error prototype"


def test_a_run_with_two_drawings_of_one_character_is_refused(one_shot_folder: Path) -> None:
    labels = one_shot_folder / "run02" / "class_labels.txt"
    lines = labels.read_text().splitlines()
    lines[0] = f"{lines[0].split()[0]} {lines[1].split()[1]}"
    labels.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"run02: has 5 training drawings and test drawings of 4 of them; expected 5"
    ):
        runs_as_episodes(omniglot_runs(one_shot_folder))


@pytest.mark.shared_data
@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official runs are not beside the checkout")
def test_the_official_runs_are_20_of_20() -> None:
    """Nearest neighbours in pixels: Lake et al.'s demo reports 38.8 % error with another distance; chance is 95 %."""
    runs = omniglot_runs(OFFICIAL)
    episodes = runs_as_episodes(runs)
    assert episodes.classes.shape == (20, 20)
    from kdcam.few_shot.scoring import right_queries

    pixels = torch.cat([part.images.pixels for run in runs for part in (run.training, run.test)])
    error = 1 - float(right_queries(pixels.flatten(1).float(), episodes, "prototype").double().mean()) / 20
    assert 0.5 < error < 0.9
