from pathlib import Path

import pytest
import torch
from small_runs import SCENES, Watcher
from torch import Tensor

from kdcam.data.batches.episodes import draw_episodes
from kdcam.data.datasets import load_data, load_source
from kdcam.data.source_configs import DigitScenesConfig, ImageFolderConfig
from kdcam.errors import Interrupted
from kdcam.evaluation.few_shot.episode_fine_tuning import EpisodeImages, fine_tuned_correct
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.safetensors_files import plain_names
from kdcam.runtime.progress import Silent

EPISODES = draw_episodes(torch.arange(3).repeat_interleave(6), ways=3, shots=2, queries=4, episodes=3, seed=0)


@pytest.fixture
def images() -> Tensor:
    """Three classes of 6 images of 16 pixels, a bright patch at each class's own place."""
    found = 0.3 * torch.rand(18, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for number in range(3):
        found[6 * number : 6 * number + 6, :, 5 * number : 5 * number + 5, :5] += 0.6
    return found


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=16
    ).eval()


def embeddings(classifier: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return classifier.outputs(images).embedding


def test_learns_and_leaves_the_classifier_as_it_was(classifier: Classifier, images: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in plain_names(classifier.state_dict()).items()}
    found = fine_tuned_correct(classifier, images.__getitem__, embeddings(classifier, images), EPISODES)
    assert found.tolist() == [12, 12, 12]
    after = plain_names(classifier.state_dict())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_only_the_last_stage_learns_and_begins_anew(
    classifier: Classifier, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdcam.evaluation.few_shot import episode_fine_tuning

    seen: list[dict[str, Tensor]] = []
    train = episode_fine_tuning._train

    def kept(network: Classifier, *others: object) -> None:
        seen.append({name: tensor.clone() for name, tensor in network.network.state_dict().items()})
        train(network, *others)
        seen.append({name: tensor.clone() for name, tensor in network.network.state_dict().items()})

    monkeypatch.setattr(episode_fine_tuning, "_train", kept)
    fine_tuned_correct(classifier, images.__getitem__, embeddings(classifier, images), EPISODES)
    start = classifier.network.state_dict()
    for before in seen[::2]:
        assert all(torch.equal(before[name], tensor) for name, tensor in start.items())
    moved = {name for name, tensor in start.items() if not torch.equal(seen[1][name], tensor)}
    stage = {name for name, _ in classifier.network.named_parameters() if name.startswith("layer3.")}
    assert moved == stage


def test_an_episode_depends_on_no_other(classifier: Classifier, images: Tensor) -> None:
    table = embeddings(classifier, images)
    noisy = 0.9 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) + 0.1 * images
    whole = fine_tuned_correct(classifier, noisy.__getitem__, table, EPISODES)
    last = EPISODES._replace(**{name: part[2:] for name, part in EPISODES._asdict().items()})
    assert fine_tuned_correct(classifier, noisy.__getitem__, table, last).tolist() == whole[2:].tolist()


def test_stops_where_asked(classifier: Classifier, images: Tensor) -> None:
    with pytest.raises(Interrupted, match=r"was stopped"):
        fine_tuned_correct(
            classifier,
            images.__getitem__,
            embeddings(classifier, images),
            EPISODES,
            progress=Watcher(stop_after=2),
        )


def test_images_held_in_memory_and_pictures_of_files_come_by_position(tmp_path: Path) -> None:
    from PIL import Image

    scenes = DigitScenesConfig(**SCENES)
    part = load_data(scenes).train
    read = EpisodeImages(part, scenes, torch.device("cpu")).read
    assert torch.equal(read(torch.tensor([5, 3])), part.images.pixels[[5, 3]].float() / 255)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("L", (80, 80), 10 * index + (100 if name == "b" else 0)).save(
                tmp_path / name / f"{index}.png"
            )
    folder = ImageFolderConfig(root=tmp_path, image_size=80, channels=1, validation=0, test=0)
    streamed = load_source(folder, Silent()).train
    found = EpisodeImages(streamed, folder, torch.device("cpu")).read(torch.tensor([4, 0]))
    assert found.shape == (2, 1, 80, 80)
    assert (255 * found.mean((1, 2, 3))).round().tolist() == [110, 0]
