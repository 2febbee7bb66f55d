import numpy
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy

from kdcam.data.datasets import load_data
from kdcam.data.source_configs import DigitsConfig
from kdcam.errors import TrainingError
from kdcam.training.linear_probe import fit_logistic, fit_logistic_path


def clouds(images, size, classes, *, seed=0, wrong=0.2):
    """Return features of very different scales and labels, some of them wrong."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, size, generator=generator, dtype=torch.float64)
    features = centres[labels] + 2 * torch.randn(images, size, generator=generator, dtype=torch.float64)
    features = features * torch.logspace(-2, 2, size, dtype=torch.float64) + 5
    is_wrong = torch.rand(images, generator=generator) < wrong
    return features, torch.where(is_wrong, labels.roll(1), labels)


def by_scikit(features, targets, inverse_penalty):
    """Return weight and bias of raw features, each class's sum taken out: it changes no probability."""
    solver = LogisticRegression(C=inverse_penalty, tol=1e-10, max_iter=10_000)
    scaler, solver = (
        make_pipeline(StandardScaler(), solver).fit(features.numpy(), targets.numpy()).named_steps.values()
    )
    weight = torch.from_numpy(solver.coef_ / scaler.scale_)
    bias = torch.from_numpy(solver.intercept_) - weight @ torch.from_numpy(scaler.mean_)
    return weight, bias


@pytest.mark.parametrize(("images", "size", "classes"), [(300, 12, 3), (200, 20, 7), (40, 100, 4)])
@pytest.mark.parametrize("inverse_penalty", [0.01, 1.0, 30.0])
def test_weights_equal_scikit_learns(images, size, classes, inverse_penalty):
    features, targets = clouds(images, size, classes)
    fit = fit_logistic(features, targets, classes, inverse_penalty=inverse_penalty)
    weight, bias = by_scikit(features, targets, inverse_penalty)
    deviation = features.std(0)
    torch.testing.assert_close(
        (fit.weight - fit.weight.mean(0)) * deviation,
        (weight - weight.mean(0)) * deviation,
        rtol=0,
        atol=1e-4,
    )
    logits, theirs = features @ fit.weight.T + fit.bias, features @ weight.T + bias
    torch.testing.assert_close(logits.softmax(1), theirs.softmax(1), rtol=0, atol=5e-5)
    assert fit.loss == pytest.approx(float(cross_entropy(logits, targets)), rel=1e-9)


def test_the_gradient_is_zero_where_the_search_ends():
    features, targets = clouds(300, 12, 3)
    fit = fit_logistic(features, targets, 3, inverse_penalty=0.5)
    mean, deviation = features.mean(0), features.std(0, correction=0)
    weight = (fit.weight * deviation).requires_grad_()
    bias = (fit.bias + fit.weight @ mean).requires_grad_()
    standardised = (features - mean) / deviation
    objective = cross_entropy(
        standardised @ weight.T + bias, targets, reduction="sum"
    ) + weight.square().sum() / (2 * 0.5)
    for gradient in torch.autograd.grad(objective, (weight, bias)):
        assert float(gradient.abs().max()) < 1e-3  # a sum over 300 images


def test_two_classes_are_a_softmax_of_two():
    features, targets = clouds(200, 5, 2)
    fit = fit_logistic(features, targets, 2)
    assert fit.weight.shape == (2, 5)
    torch.testing.assert_close(fit.weight[0], -fit.weight[1])


def test_float32_agrees_with_float64_and_scales_do_not_matter():
    features, targets = clouds(400, 30, 5)
    exact = fit_logistic(features, targets, 5)
    coarse = fit_logistic(features.float(), targets, 5)
    scaled = fit_logistic(features * 1000 - 7, targets, 5)
    assert coarse.weight.dtype == torch.float32
    wanted = (features @ exact.weight.T + exact.bias).softmax(1)
    near = (features.float() @ coarse.weight.T + coarse.bias).softmax(1)
    torch.testing.assert_close(near.double(), wanted, rtol=0, atol=2e-3)
    torch.testing.assert_close(scaled.weight * 1000, exact.weight, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("images", [200, 10])
def test_features_that_never_change_or_repeat_others_do_no_harm(images):
    features, targets = clouds(images, 12, 3)
    more = torch.cat(
        [features, torch.full((images, 1), 0.3, dtype=torch.float64), features[:, :1], 0 * features[:, :1]], 1
    )
    fit = fit_logistic(more.float(), targets, 3)
    assert bool(torch.isfinite(fit.weight).all())
    assert float(fit.weight[:, [12, 14]].abs().max()) == 0
    torch.testing.assert_close(fit.weight[:, 13], fit.weight[:, 0], rtol=1e-3, atol=1e-4)


def test_float32_goes_on_in_float64_where_rounding_ends_its_search():
    labels = torch.arange(90) % 3
    features = torch.randn(90, 6, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    path = list(fit_logistic_path(features, labels, 3, inverse_penalties=[0.001, 0.1, 1.0]))
    exact = list(fit_logistic_path(features.double(), labels, 3, inverse_penalties=[0.001, 0.1, 1.0]))
    for fit, wanted in zip(path, exact, strict=True):
        assert fit.steps < 100
        assert fit.weight.dtype == torch.float32
        torch.testing.assert_close(fit.weight.double(), wanted.weight, rtol=1e-3, atol=1e-4)


def test_a_class_without_images_is_never_said():
    features, targets = clouds(200, 12, 3)
    fit = fit_logistic(features, targets, 4)
    assert not bool(((features @ fit.weight.T + fit.bias).argmax(1) == 3).any())


def test_a_path_ends_where_single_fits_do_and_weights_grow_along_it():
    features, targets = clouds(300, 12, 3)
    penalties = [0.001, 0.1, 10.0]
    path = list(fit_logistic_path(features, targets, 3, inverse_penalties=penalties))
    assert [fit.inverse_penalty for fit in path] == penalties
    lengths = [float(fit.weight.norm()) for fit in path]
    assert lengths == sorted(lengths)
    for fit in path:
        alone = fit_logistic(features, targets, 3, inverse_penalty=fit.inverse_penalty)
        torch.testing.assert_close(fit.weight, alone.weight, rtol=1e-3, atol=1e-5)
    assert not torch.equal(path[0].weight, path[1].weight)


def test_real_digits_within_a_point_of_scikit_learn():
    parts = load_data(DigitsConfig())
    train, test = (part.images.pixels.flatten(1).float() for part in (parts.train, parts.test))
    fit = fit_logistic(train, parts.train.targets, 10)
    ours = (test @ fit.weight.T + fit.bias).argmax(1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, parts.train.targets)
    accuracy = float((ours == parts.test.targets).double().mean())
    assert accuracy > 0.9
    assert accuracy == pytest.approx(
        float(numpy.mean(model.predict(test) == parts.test.targets.numpy())), abs=0.01
    )


def test_what_cannot_be_solved_is_told(monkeypatch):
    features, targets = clouds(50, 6, 3)
    with pytest.raises(ValueError, match=r"num_classes is 1; allowed: 2 or more"):
        fit_logistic(features, targets, 1)
    with pytest.raises(ValueError, match=r"inverse_penalties are \[0\]; allowed: numbers above 0"):
        fit_logistic(features, targets, 3, inverse_penalty=0)
    monkeypatch.setattr("kdcam.training.linear_probe._STEPS", 2)
    with pytest.raises(TrainingError, match=r"not reached in 2 steps .* smaller inverse penalty than 100$"):
        fit_logistic(features, targets, 3, inverse_penalty=100)
    features[3, 2] = torch.nan
    with pytest.raises(TrainingError, match=r"a feature is not a finite number"):
        fit_logistic(features, targets, 3)
