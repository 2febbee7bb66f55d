import json

import pytest

from kdcam.data.sources.image_labels import read_label_table
from kdcam.errors import DataError


def read(tmp_path, text, name="labels.csv", separator=";"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read_label_table(file, separator=separator)


def plain(table):
    return [(entry.image, sorted(entry.labels), entry.split) for entry in table.entries]


def test_a_column_of_names(tmp_path):
    table = read(tmp_path, 'image,labels\na.jpg,dog; cat ;\nb.jpg,\n\n"c,d.jpg",cat\n')
    assert plain(table) == [
        ("a.jpg", ["cat", "dog"], None),
        ("b.jpg", [], None),
        ("c,d.jpg", ["cat"], None),
    ]
    assert table.columns is None
    assert [entry.place for entry in table.entries] == [
        f"{tmp_path / 'labels.csv'}, line {n}" for n in (2, 3, 5)
    ]


def test_another_separator_a_split_and_columns_that_do_not_matter(tmp_path):
    table = read(
        tmp_path, "\ufeffid,split,image,labels\n1,train,a.jpg,cat|a;b\n2,val,b.jpg,\n", separator="|"
    )
    assert plain(table) == [("a.jpg", ["a;b", "cat"], "train"), ("b.jpg", [], "val")]


def test_a_column_for_each_class_in_the_order_of_the_columns(tmp_path):
    table = read(tmp_path, "zebra,image,split,ant\n0,a.jpg,train,1\n1.0,b.jpg,test,0\n0,c.jpg,test,0\n")
    assert table.columns == ("zebra", "ant")
    assert plain(table) == [("a.jpg", ["ant"], "train"), ("b.jpg", ["zebra"], "test"), ("c.jpg", [], "test")]


def test_both_forms_of_json(tmp_path):
    table = read(tmp_path, '{"a.jpg": ["dog", "cat"], "b.jpg": []}', "labels.json")
    assert plain(table) == [("a.jpg", ["cat", "dog"], None), ("b.jpg", [], None)]
    items = [{"image": "a.jpg", "labels": ["cat"], "split": "val", "id": 7}, {"image": "b.jpg", "labels": []}]
    table = read(tmp_path, json.dumps(items), "labels.JSON")
    assert plain(table) == [("a.jpg", ["cat"], "val"), ("b.jpg", [], None)]
    assert table.entries[1].place.endswith("labels.JSON, entry 2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"line 1: found the columns none; allowed"),
        ("image,labels\n", "names no picture"),
        ("file,labels\na.jpg,cat\n", r"line 1: found the columns 'file', 'labels'; allowed.*image,labels"),
        (
            "image;labels\na.jpg;cat\n",
            r"line 1: found the columns 'image;labels', parted by semicolons.*; allowed, with commas",
        ),
        ("image,split\na.jpg,train\n", "line 1: found the columns 'image', 'split'"),
        ("image,cat,\na.jpg,1,0\n", "line 1: found the columns 'image', 'cat', ''"),
        ("image,cat,cat\na.jpg,1,0\n", "line 1: has the column 'cat' more than once"),
        (
            "image,labels\na.jpg,cat,dog\n",
            "line 2: has 3 cells where the first line has 2 columns .*; put texts that hold commas in quotes",
        ),
        ("image,labels\na.jpg\n", "line 2: has 1 cells"),
        ("image,cat\na.jpg,1\nb.jpg,-1\n", "line 3: found '-1' in the column 'cat'; allowed: 0 or 1"),
        ("image,cat\na.jpg,\n", "line 2: found '' in the column 'cat'"),
        ('image,labels\na.jpg,"cat\n', "line 2: is no CSV"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named_with_its_line(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "labels.csv") in str(caught.value)


def test_a_separator_that_has_no_use_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"no column 'labels' whose names data\.label_separator = '\|' would part"
    ):
        read(tmp_path, "image,cat\na.jpg,1\n", separator="|")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a.jpg": ["cat"],\n "b.jpg" ["dog"]}', "line 2: is no JSON"),
        ("", "line 1: is no JSON"),
        ('"a.jpg"', "holds a single str; allowed"),
        ("[]", "names no picture"),
        ('{"a.jpg": ["cat"], "a.jpg": []}', r"'a\.jpg' stands twice in one object"),
        ('{"a.jpg": "cat"}', r"'a\.jpg': found 'cat' as labels; must be a list of names"),
        ('{"a.jpg": [3]}', r"found \[3\] as labels"),
        ('{"a.jpg": [""]}', "found .* as labels"),
        ('[{"image": "a.jpg", "label": ["cat"]}]', "entry 1: found the keys 'image', 'label'; allowed"),
        ('[{"image": "a.jpg", "labels": []}, 3]', "entry 2: found 3; allowed"),
        ('[{"image": 3, "labels": []}]', "entry 1: found image 3"),
        ('[{"image": "a.jpg", "labels": [], "split": 1}]', "split 1; both must be texts"),
    ],
)
def test_what_is_wrong_in_a_json_file_is_named(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason) as caught:
        read(tmp_path, text, "labels.json")
    assert str(tmp_path / "labels.json") in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"data\.labels: .*missing\.csv: cannot be read"):
        read_label_table(tmp_path / "missing.csv", separator=";")
    (tmp_path / "latin.csv").write_bytes("image,labels\na.jpg,Bär\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv, line 2: is not written in UTF-8 \(the byte 0xe4"):
        read_label_table(tmp_path / "latin.csv", separator=";")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "image,labels,Split\na.png,cat,test\n"),
        ("a.json", '[{"image": "a.png", "labels": [], "Split": "test"}]'),
    ],
)
def test_a_name_that_is_known_but_for_case_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="found 'Split'; write 'split'"):
        read_label_table(tmp_path / name, separator=";")


def test_names_are_stripped_in_json_as_in_csv(tmp_path):
    (tmp_path / "a.json").write_text('{"a.png": [" cat", "dog "]}')
    assert read_label_table(tmp_path / "a.json", separator=";").entries[0].labels == {"cat", "dog"}
