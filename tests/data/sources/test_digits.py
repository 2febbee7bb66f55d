import numpy
import pytest
import torch
from sklearn.datasets import load_digits as sklearn_digits

from kdcam.data.source_configs import DigitsConfig
from kdcam.data.sources import digits
from kdcam.data.sources.digits import load_digits, read_digits
from kdcam.errors import DataError


def test_the_digits_are_scikit_learns():
    values, targets = read_digits()
    reference = sklearn_digits()
    assert numpy.array_equal(values.numpy(), reference.images)
    assert numpy.array_equal(targets.numpy(), reference.target)


def test_the_parts_and_their_range():
    source = load_digits(DigitsConfig())
    assert (len(source.train), len(source.test), source.validation) == (1300, 497, None)
    assert source.train.images.pixels.shape == (1300, 1, 8, 8)
    assert int(source.train.images.pixels.max()) == 255
    assert source.label_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "not installed"), (b"1,2,x", "cannot read the digits")]
)
def test_a_missing_or_broken_package_is_named(tmp_path, monkeypatch, content, reason):
    folder = tmp_path / "datasets" / "data"
    folder.mkdir(parents=True)

    class Found:
        submodule_search_locations = (str(tmp_path),)

    if content is not None:
        (folder / "digits.csv.gz").write_bytes(content)
    monkeypatch.setattr(digits, "find_spec", lambda name: None if content is None else Found())
    with pytest.raises(DataError, match=reason):
        read_digits()


def test_scenes_and_digits_share_no_memory_with_the_file():
    first, _ = read_digits()
    first.zero_()
    assert int(torch.count_nonzero(read_digits()[0])) > 0
