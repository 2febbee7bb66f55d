import io

import numpy as np
import pytest
import torch
from PIL import Image

from kdcam.attacks.attack_settings import PgdConfig
from kdcam.data.batches.batch import Batch
from kdcam.evaluation.robustness.robustness_plots import (
    RobustnessCurve,
    adversarial_examples,
    draw_reliability,
    draw_robustness_curves,
)
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.scores.calibration import calibration_report


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return picture.size


def test_equal_curves_give_equal_bytes_and_others_do_not() -> None:
    curves = [
        RobustnessCurve("one", [(0, 0.9), (8 / 255, 0.2)]),
        RobustnessCurve("two", [(0, 0.8), (8 / 255, 0.5)]),
    ]
    words = {"horizontal": "eps", "vertical": "accuracy"}
    drawn = draw_robustness_curves(curves, **words)
    assert drawn == draw_robustness_curves(curves, **words)
    assert drawn != draw_robustness_curves(
        [curves[0], RobustnessCurve("two", [(0, 0.8), (8 / 255, 0.4)])], **words
    )
    assert min(size(drawn)) > 300


def test_many_runs_make_a_higher_picture() -> None:
    many = [RobustnessCurve(f"run {number}", [(0, 0.5), (1, 0.4)]) for number in range(40)]
    words = {"horizontal": "eps", "vertical": "accuracy"}
    assert size(draw_robustness_curves(many, **words))[1] > size(draw_robustness_curves(many[:2], **words))[1]


def test_a_long_name_leaves_the_curves_their_place() -> None:
    long = RobustnessCurve("runs/" + 200 * "x", [(0, 0.9), (1, 0.2)])
    assert size(draw_robustness_curves([long], horizontal="eps", vertical="accuracy"))[0] > 300


def test_reliability_before_and_after() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(60, 4, generator=generator), torch.randint(0, 4, (60,), generator=generator)
    alone = draw_reliability(calibration_report(logits, targets, validation=None), name="run")
    both = draw_reliability(calibration_report(logits, targets, validation=(logits, targets)), name="run")
    assert size(both)[0] == 2 * size(alone)[0]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ModelConfig(name="kdcam:resnet8_s2")
        return build_classifier(config, num_classes=3, in_channels=1, image_size=16).eval()


@pytest.fixture
def batch(classifier: Classifier) -> Batch:
    images = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return Batch(images, classifier(images).argmax(1), torch.arange(5))


def test_a_row_an_image_with_maps_and_the_change(classifier: Classifier, batch: Batch) -> None:
    attack = PgdConfig(eps=8 / 255, steps=2)
    drawn = adversarial_examples(classifier, batch, attack, most=3)
    side, text, gap = 160, 30, 4
    assert drawn.shape == (3, 3 * (side + text) + 2 * gap, 5 * side + 4 * gap)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert np.array_equal(drawn, adversarial_examples(classifier, batch, attack, most=3))


def test_the_fooled_come_first(classifier: Classifier, batch: Batch) -> None:
    class LastOnly(PgdConfig):
        def perturb(self, model, images, targets, indices):
            found = images.clone()
            found[-1] = super().perturb(model, images[-1:], targets[-1:], indices[-1:])
            return found

    attack = LastOnly(eps=0.5, steps=20)
    fooled = classifier(attack.perturb(classifier, *batch[:3])).argmax(1) != batch.targets
    assert fooled.tolist() == [False] * 4 + [True]
    first = adversarial_examples(classifier, batch, attack, most=1)
    last = Batch(batch.images[-1:], batch.targets[-1:], batch.indices[-1:])
    assert np.array_equal(first, adversarial_examples(classifier, last, attack, most=1))
