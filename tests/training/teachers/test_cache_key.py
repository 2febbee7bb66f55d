import pytest
from cached_runs import small_key

from kdcam.data.batches.batch import Views
from kdcam.data.batches.image_digests import ImagesDigest
from kdcam.training.teachers.cache_key import CacheKey, key_difference

KEY = small_key(views=4, images=9)


def with_digest(digest: ImagesDigest) -> CacheKey:
    return KEY._replace(data=KEY.data._replace(digest=digest))


def test_the_table_is_what_a_cache_of_this_format_holds() -> None:
    assert KEY.table() == {
        "format": 1,
        "teacher": {
            "architecture": {"name": "kdcam:resnet8"},
            "weights": "a" * 64,
            "mean": [0.5],
            "std": [0.5],
        },
        "data": {"images": 9, "image_size": 8, "digest": "b" * 64},
        "augment": ["crop", "flip"],
        "views": 4,
        "views_seed": 0,
        "precision": "float32",
    }


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (
            KEY._replace(teacher=KEY.teacher._replace(weights="c" * 64)),
            f'teacher.weights is "{"c" * 11} ... there, "{"a" * 11} ... here',
        ),
        (KEY._replace(views=Views(2, 0)), "views is 2 there, 4 here"),
        (KEY._replace(augment=("crop",)), 'augment is ["crop"] there, ["crop", "flip"] here'),
    ],
)
def test_the_first_difference_is_named_with_both_values(there: CacheKey, words: str) -> None:
    assert key_difference(there.table(), KEY) == words
    assert key_difference(KEY.table(), KEY) is None


def test_keys_that_are_no_key_differ() -> None:
    assert key_difference({}, KEY) == "format is not set there, 1 here"
    assert key_difference({**KEY.table(), "more": 1}, KEY) == "more is 1 there, not set here"
    assert str(key_difference(3, KEY)).startswith("key is 3 there, ")


def test_the_digest_of_files_has_a_name_of_its_own() -> None:
    one, other = (with_digest(ImagesDigest("files", letter * 64)) for letter in "de")
    assert key_difference(one.table(), other) == f'data.files is "{"d" * 11} ... there, "{"e" * 11} ... here'


def test_a_keys_name_is_its_own() -> None:
    assert KEY.name == small_key(views=4, images=9).name != small_key(views=2, images=9).name
    assert len(KEY.name) == 24
