from pathlib import Path

import numpy
import pytest
import torch
from face_folders import SIZE, random_network
from small_runs import Watcher

from kdcam.data.batches.resident import ResidentBatches, ResidentImages
from kdcam.errors import Interrupted, ModelError
from kdcam.evaluation.verification.verification_evaluation import unit_embeddings
from kdcam.models.classifier import Classifier
from kdcam.runs.open_run import load
from kdcam.runtime.progress import Silent

PIXELS = torch.randint(256, (7, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def batches(batch_size: int = 3) -> ResidentBatches:
    return ResidentBatches(
        ResidentImages(PIXELS, image_size=SIZE),
        torch.zeros(7, dtype=torch.int64),
        batch_size=batch_size,
        training=False,
        augment=(),
        seed=0,
        device=torch.device("cpu"),
    )


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    return load(random_network(tmp_path / "network"))


def found_by(classifier: Classifier, batch_size: int = 3, *, flip: bool) -> numpy.ndarray:
    return unit_embeddings(
        classifier, batches(batch_size), flip=flip, place=Path("network"), progress=Silent()
    )


@pytest.mark.parametrize("flip", [True, False])
def test_equal_the_network_picture_by_picture(classifier: Classifier, flip: bool) -> None:
    found = found_by(classifier, flip=flip)
    numpy.testing.assert_allclose(numpy.linalg.norm(found, axis=1), 1, atol=1e-12)
    for row, picture in zip(found, PIXELS.float() / 255, strict=True):
        with torch.no_grad():
            embedding = classifier.outputs(picture[None]).embedding[0]
            if flip:
                embedding = embedding + classifier.outputs(picture.flip(2)[None]).embedding[0]
        expected = (embedding / embedding.norm()).numpy()
        numpy.testing.assert_allclose(row, expected, atol=1e-6)


def test_a_picture_and_its_mirror_image_are_one(classifier: Classifier) -> None:
    mirrored = ResidentImages(PIXELS.flip(3), image_size=SIZE)
    turned = ResidentBatches(
        mirrored,
        torch.zeros(7, dtype=torch.int64),
        batch_size=7,
        training=False,
        augment=(),
        seed=0,
        device=torch.device("cpu"),
    )
    found = unit_embeddings(classifier, turned, flip=True, place=Path("network"), progress=Silent())
    numpy.testing.assert_allclose(found, found_by(classifier, flip=True), atol=1e-6)
    assert not numpy.allclose(found_by(classifier, flip=False), found, atol=1e-4)


def test_modes_stay_and_batches_do_not_matter(classifier: Classifier) -> None:
    classifier.train()
    numpy.testing.assert_allclose(
        found_by(classifier, 1, flip=True), found_by(classifier, 7, flip=True), atol=1e-6
    )
    assert all(module.training for module in classifier.modules())


def test_an_embedding_of_zeros_stays_one(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = classifier.outputs

    def nothing(images, **keys):
        found = outputs(images, **keys)
        return found._replace(embedding=torch.zeros_like(found.embedding))

    monkeypatch.setattr(classifier, "outputs", nothing)
    assert not found_by(classifier, flip=True).any()


def test_broken_weights_are_told(classifier: Classifier) -> None:
    with torch.no_grad():
        next(iter(classifier.network.parameters())).fill_(float("nan"))
    with pytest.raises(
        ModelError, match=r"network: embeddings: the embeddings of 7 of 7 images are not finite"
    ):
        found_by(classifier, flip=True)


def test_stops_where_asked(classifier: Classifier) -> None:
    watcher = Watcher(stop_after=2)
    with pytest.raises(Interrupted, match=r"the verification was stopped; nothing was written"):
        unit_embeddings(classifier, batches(), flip=True, place=Path("network"), progress=watcher)
    assert watcher.done == [("network: embeddings", 1, 3)]
