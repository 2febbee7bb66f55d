import shutil
from pathlib import Path

import pytest
import torch
from conftest import SHARED_DATA
from small_runs import Watcher

from kdcam.data.sources.omniglot import omniglot_runs
from kdcam.errors import DataError, ModelError
from kdcam.evaluation.few_shot.few_shot_schema import FewShotSettings
from kdcam.evaluation.few_shot.omniglot_one_shot import one_shot_scores, runs_as_episodes
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runtime.progress import Progress, Silent

OFFICIAL = SHARED_DATA / "omniglot" / "all_runs.zip"


def network(channels: int = 1) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=4, in_channels=channels, image_size=28
    ).eval()


def scores_of(
    classifier: Classifier, folder: Path, settings: FewShotSettings, progress: Progress | None = None
):
    return one_shot_scores(
        classifier, folder, settings, place="a run", batch_size=7, progress=progress or Silent()
    )


def test_each_query_stands_at_the_place_of_its_character(one_shot_folder: Path) -> None:
    runs = omniglot_runs(one_shot_folder)
    episodes = runs_as_episodes(runs)
    assert (episodes.ways, episodes.shots, episodes.queries, len(episodes.classes)) == (20, 1, 1, 20)
    pixels = torch.cat([part.images.pixels for run in runs for part in (run.training, run.test)])
    assert torch.equal(pixels[episodes.support], pixels[episodes.query])


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_drawings_are_told_without_error(one_shot_folder: Path, channels: int) -> None:
    settings = FewShotSettings(heads=("prototype", "cosine-prototype"))
    watcher = Watcher()
    found = scores_of(network(channels), one_shot_folder, settings, progress=watcher)
    assert [scores.head for scores in found] == ["prototype", "cosine-prototype"]
    assert found[0].right == (20,) * 20
    assert found[0].error == (0, 0, 20)
    assert watcher.done[-1] == ("a run: one-shot cosine-prototype", 20, 20)
    assert found[0].name == "Omniglot one-shot error prototype"


def test_a_run_with_two_drawings_of_one_character_is_refused(one_shot_folder: Path) -> None:
    labels = one_shot_folder / "run02" / "class_labels.txt"
    lines = labels.read_text().splitlines()
    lines[0] = f"{lines[0].split()[0]} {lines[1].split()[1]}"
    labels.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"run02: has 20 training drawings and test drawings of 19 of them; expected 20"
    ):
        runs_as_episodes(omniglot_runs(one_shot_folder))


def test_other_than_the_20_runs_are_refused(one_shot_folder: Path) -> None:
    shutil.rmtree(one_shot_folder / "run07")
    with pytest.raises(
        DataError, match=r"all_runs: holds 19 runs of 20 characters; the official ones are 20 of"
    ):
        scores_of(network(), one_shot_folder, FewShotSettings())


def test_the_digest_tells_other_drawings_and_other_answers(one_shot_folder: Path) -> None:
    settings = FewShotSettings(heads=("prototype",))
    before = scores_of(network(), one_shot_folder, settings)[0].images
    assert scores_of(network(channels=3), one_shot_folder, settings)[0].images == before
    labels = one_shot_folder / "run02" / "class_labels.txt"
    lines = [line.split() for line in labels.read_text().splitlines()]
    answers = [lines[1][1], lines[0][1], *(line[1] for line in lines[2:])]
    labels.write_text("\n".join(f"{line[0]} {answer}" for line, answer in zip(lines, answers, strict=True)))
    other = scores_of(network(), one_shot_folder, settings)[0].images
    shutil.copy(one_shot_folder / "run01/test/item01.png", one_shot_folder / "run01/test/item02.png")
    assert len({before, other, scores_of(network(), one_shot_folder, settings)[0].images}) == 3


def test_embeddings_that_are_not_finite_are_refused(one_shot_folder: Path) -> None:
    broken = network()
    with torch.no_grad():
        next(broken.network.parameters()).fill_(torch.nan)
    with pytest.raises(
        ModelError, match=r"a run: one-shot features: the embeddings of 800 of 800 images are not finite"
    ):
        scores_of(broken, one_shot_folder, FewShotSettings())


@pytest.mark.shared_data
@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official runs are not beside the checkout")
def test_the_official_runs_are_20_of_20() -> None:
    """Nearest neighbours in pixels: Lake et al.'s demo reports 38.8 % error with another distance; chance is 95 %."""
    runs = omniglot_runs(OFFICIAL)
    episodes = runs_as_episodes(runs)
    assert episodes.classes.shape == (20, 20)
    from kdcam.evaluation.few_shot.episode_heads import correct_queries

    pixels = torch.cat([part.images.pixels for run in runs for part in (run.training, run.test)])
    error = 1 - float(correct_queries(pixels.flatten(1).float(), episodes, "prototype").double().mean()) / 20
    assert 0.5 < error < 0.9
