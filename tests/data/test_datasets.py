import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdcam.data.common_config import NoiseConfig
from kdcam.data.datasets import batches, decode_sample, describe_data, load_data
from kdcam.data.source_configs import (
    CifarConfig,
    DigitScenesConfig,
    DigitsConfig,
    ImageFolderConfig,
    MnistConfig,
)
from kdcam.errors import DataError

CPU = torch.device("cpu")
CONFIGS = [
    DigitsConfig(),
    DigitsConfig(image_size=16, validation=0.0),
    DigitScenesConfig(train_size=100, test_size=20, augment=("crop",)),
    DigitScenesConfig(train_size=100, test_size=20, multi_label=True),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_summary_parts_and_batches_agree(config):
    summary, parts = describe_data(config), load_data(config)
    assert summary.label_names == parts.label_names
    assert (summary.channels, summary.image_size) == (parts.channels, parts.image_size)
    assert summary.train_images == len(parts.train)
    assert (parts.validation is None) == (config.validation == 0)
    for part in filter(None, (parts.train, parts.validation, parts.test)):
        loader = batches(part, batch_size=16, training=True, config=config, seed=0, device=CPU)
        batch = next(loader.epoch(0))
        assert batch.images.shape == (min(16, len(part)), parts.channels, parts.image_size, parts.image_size)
        assert float(batch.images.min()) >= 0
        assert float(batch.images.max()) <= 1
        assert torch.equal(batch.targets, part.targets[batch.indices])


def test_the_split_is_seeded_stratified_and_disjoint():
    parts, again = load_data(DigitsConfig()), load_data(DigitsConfig())
    other = load_data(DigitsConfig(split_seed=1))
    assert torch.equal(parts.validation.images.pixels, again.validation.images.pixels)
    assert not torch.equal(parts.validation.images.pixels, other.validation.images.pixels)
    assert torch.equal(parts.test.images.pixels, other.test.images.pixels)
    assert len(parts.validation) == 130
    whole = torch.bincount(torch.cat([parts.train.targets, parts.validation.targets]))
    assert bool(((torch.bincount(parts.validation.targets) - whole * 0.1).abs() < 1).all())


def test_noise_touches_the_training_targets_alone():
    clean = load_data(DigitsConfig())
    noisy = load_data(DigitsConfig(noise=NoiseConfig(rate=0.4)))
    assert torch.equal(noisy.noise.clean, clean.train.targets)
    assert torch.equal(noisy.noise.noisy, noisy.train.targets)
    assert 0.35 < noisy.noise.realised_rate < 0.45
    assert torch.equal(noisy.validation.targets, clean.validation.targets)
    assert torch.equal(noisy.test.targets, clean.test.targets)
    assert torch.equal(noisy.train.images.pixels, clean.train.images.pixels)
    assert clean.noise is None


def test_a_file_of_labels_names_images_as_they_stood_before_the_split(tmp_path):
    file = tmp_path / "labels.csv"
    whole = load_data(DigitsConfig(validation=0.0)).train
    # Image i of all 1,300 gets the label i mod 10, wherever the split puts it.
    lines = [f"{i},{label},{i % 10}" for i, label in enumerate(whole.targets.tolist())]
    file.write_text("\n".join(["index,clean,turned", *reversed(lines)]))
    parts = load_data(DigitsConfig(noise=NoiseConfig(kind="file", file=file, column="turned")))
    same = (parts.train.images.pixels[:, None] == whole.images.pixels).flatten(2).all(2)
    assert same.any(1).all()
    for row, label in zip(same, parts.train.targets.tolist(), strict=True):
        assert label in (row.nonzero().flatten() % 10).tolist()  # some digits are there twice
    assert parts.noise.nominal_rate is None
    assert parts.noise.realised_rate == pytest.approx(0.9, abs=0.05)
    clean = load_data(DigitsConfig())
    assert torch.equal(parts.noise.clean, clean.train.targets)
    assert torch.equal(parts.validation.targets, clean.validation.targets)


def test_a_file_of_labels_for_a_folder_of_pictures(tmp_path):
    from PIL import Image

    names = [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(10)]
    for number, name in enumerate(names):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    file = tmp_path / "labels.csv"
    lines = [f"{name},{('cat', 'dog')[number % 2]}" for number, name in enumerate(names)]
    file.write_text("\n".join(["path,seen", *lines]))
    noise = NoiseConfig(kind="file", file=file, column="seen")
    config = ImageFolderConfig(root=tmp_path / "photos", image_size=8, test=0.2, validation=0.25, noise=noise)
    assert describe_data(config).train_images == 12
    train = load_data(config).train
    assert train.targets.tolist() == [int(value) % 2 for value in train.images.pixels[:, 0, 0, 0]]


def test_noise_that_does_not_fit_is_refused_before_anything_is_read(tmp_path):
    asymmetric = NoiseConfig(kind="asymmetric", rate=0.2)
    with pytest.raises(DataError, match=r"asymmetric noise is told by the names"):
        describe_data(DigitsConfig(noise=asymmetric))
    for name in ("cifar10", "cifar100"):
        assert "downloaded" in describe_data(CifarConfig(name=name, root=tmp_path, noise=asymmetric)).note
    with pytest.raises(DataError, match=r"data\.noise\.file: .*cannot be read"):
        describe_data(DigitsConfig(noise=NoiseConfig(kind="matrix", file=tmp_path / "none.csv")))


def test_a_class_without_a_training_image_is_named():
    with pytest.raises(DataError, match=r"no training image of class '\d'"):
        load_data(DigitScenesConfig(train_size=20, validation=0.9, test_size=10))


def test_a_class_without_a_training_image_is_usual_where_an_image_has_several_labels():
    config = DigitScenesConfig(train_size=20, validation=0.9, test_size=10, multi_label=True)
    assert not load_data(config).train.targets.any(0).all()


def test_a_share_that_holds_out_nothing_is_refused_before_anything_is_read():
    with pytest.raises(DataError, match=r"validation = 0\.0001.*holds out no image"):
        describe_data(DigitsConfig(validation=0.0001))


def test_a_share_that_holds_out_nothing_is_refused():
    with pytest.raises(DataError, match=r"data \(digits\): validation = 0\.0001 of 1300"):
        load_data(DigitsConfig(validation=0.0001))


def test_a_batch_size_of_nothing_is_a_programmers_error():
    with pytest.raises(ValueError, match="batch_size is 0"):
        batches(
            load_data(DigitsConfig()).train,
            batch_size=0,
            training=True,
            config=DigitsConfig(),
            seed=0,
            device=CPU,
        )


def test_subset_takes_everything_along():
    part = load_data(CONFIGS[2]).test.subset(torch.tensor([3, 1]))
    assert len(part) == len(part.images) == len(part.boxes) == 2


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_describing_mnist_says_whether_it_will_be_downloaded(tmp_path, name):
    summary = describe_data(MnistConfig(name=name, root=tmp_path))
    assert "will download" in summary.note
    assert summary.train_images == 54_000


@pytest.mark.parametrize("config", ["DigitsConfig()", "DigitScenesConfig(train_size=40, test_size=10)"])
def test_embedded_data_import_nothing_heavy(config):
    code = (
        "import sys, torch; from kdcam.data.source_configs import *; from kdcam.data.datasets import *; "
        f"c = {config}; describe_data(c); p = load_data(c).train; "
        "d = torch.device('cpu'); b = batches(p, batch_size=8, training=True, config=c, seed=0, device=d); "
        "next(b.epoch(0)); heavy = ('timm', 'torchvision', 'sklearn', 'matplotlib', 'PIL', 'scipy'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sees_the_same_batches():
    config = DigitScenesConfig(train_size=100, test_size=20, augment=("crop", "flip", "cutout"))
    part = load_data(config).train
    pairs = zip(
        *(
            batches(
                part, batch_size=16, training=True, config=config, seed=0, device=torch.device(name)
            ).epoch(1)
            for name in ("cpu", "cuda")
        ),
        strict=True,
    )
    for here, there in pairs:
        assert there.images.is_cuda
        torch.testing.assert_close(here.images, there.images.cpu(), rtol=0, atol=1e-7)
        assert torch.equal(here.targets, there.targets.cpu())
        assert torch.equal(here.indices, there.indices.cpu())


def test_a_sample_is_spread_over_all_parts(tmp_path, paint) -> None:
    for place, count in (("train/a", 30), ("train/b", 30), ("test/a", 20), ("test/b", 20)):
        paint(tmp_path / place, count)
    settings = ImageFolderConfig(root=tmp_path, image_size=16)
    assert decode_sample(settings, most=10) == "10 of 100 decoded"
    (tmp_path / "test" / "b" / "010.png").write_text("no picture")  # the 91st of 100
    with pytest.raises(DataError, match=r"1 of 10 pictures decoded, out of 100, cannot be read: .*010\.png"):
        decode_sample(settings, most=10)
    assert decode_sample(settings, most=5) == "5 of 100 decoded"
    assert decode_sample(DigitsConfig()) is None
