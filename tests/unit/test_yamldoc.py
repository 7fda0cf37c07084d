"""YAML and JSON as people write them (T14, T27)."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from isthmus.adapters import yamldoc
from isthmus.adapters.yamldoc import MAX_BYTES, MAX_DEPTH, read_documents
from isthmus.registry.errors import ConfigError


class PlainDumper(yaml.SafeDumper):
    """A dumper that writes a value out each time it occurs."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def value_of(text: str) -> object:
    (document,) = read_documents(text)
    return document.value


def mistake_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_documents(text)
    (mistake,) = caught.value.mistakes
    return mistake


SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@example({"version": "1e3", "commit": "12e45", "zip": "010", "country": "no", "day": "2026-08-01", "x": "<<"})
def test_what_was_written_is_read(value: object) -> None:
    assert value_of(yaml.dump(value, Dumper=PlainDumper)) == value
    flow = yaml.dump(value, Dumper=PlainDumper, default_flow_style=True, explicit_start=True)
    assert value_of(flow) == value


def test_a_text_that_is_json_is_json_even_if_yaml_reads_it_otherwise() -> None:
    assert value_of("[1e3]") == [1000.0]
    assert value_of("--- [1e3]") == ["1e3"]


@given(st.lists(VALUES, max_size=3) | st.dictionaries(st.text(), VALUES, max_size=3), st.sampled_from([None, 1, "\t"]))
def test_json_is_read_as_json(value: object, indent: int | str | None) -> None:
    assert value_of(json.dumps(value, indent=indent)) == value
    assert value_of(json.dumps(value, indent=indent, ensure_ascii=False)) == value


@given(st.lists(VALUES.filter(lambda value: value is not None), max_size=3))
def test_documents_come_in_order(values: list[object]) -> None:
    text = yaml.dump_all(values, Dumper=PlainDumper, explicit_start=True)
    assert [document.value for document in read_documents(text)] == values


@given(st.text(alphabet="a:- \n\t[]{},\"'#&*!|>%@`?0.~<\\\x00\u2028é", max_size=40) | st.text())
def test_T27_no_text_breaks_the_reader(text: str) -> None:
    try:
        documents = read_documents(text)
    except ConfigError as error:
        documents = []
        mistakes = error.mistakes
    else:
        mistakes = []
    assert all(document.lines for document in documents)
    assert all(mistakes)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("8080", 8080),
        ("-1", -1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.0e+3", 1000.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'8080'", "8080"),
        ("!!str 8080", "8080"),
        ("! 8080", "8080"),
        *[(word, word) for word in ("no", "Yes", "on", "OFF", "y", "010", "0x10", "0o17", "1_000", "1:30")],
        *[(word, word) for word in ("1e3", "2026-08-01", "2026-08-01T10:00:00Z", "=", "1.2.3")],
    ],
)
def test_T27_words_mean_what_all_readers_agree_on(word: str, value: object) -> None:
    found = value_of(f"a: {word}\n")
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n---\n", "---\n# nothing\n---\n...\n"])
def test_nothing_is_no_document(text: str) -> None:
    assert read_documents(text) == []


def test_without_libyaml_the_same_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: [1, no, 'x']\n---\nb: |\n  c\n"
    expected = read_documents(text)
    monkeypatch.setattr(yamldoc, "_LOADER", yaml.SafeLoader)
    assert read_documents(text) == expected
    assert mistake_of("a: &x 1").startswith("anchors")
    assert mistake_of("a: b: c").startswith("line 1, column 5: ")


def test_null_is_a_document() -> None:
    assert [document.value for document in read_documents("null\n---\n~\n---\n---\na: 1\n")] == [None, None, {"a": 1}]


def test_a_byte_order_mark_is_not_read() -> None:
    assert value_of("\ufeffa: 1") == value_of('\ufeff{"a": 1}') == {"a": 1}


def test_lines_are_those_of_the_text() -> None:
    text = """\
# two sources
sources:
  - kind: zookeeper
    address: 127.0.0.1:2181

  - {kind: file, labels: {a.b/c: d}}
listen: |
  a
  b
last: 1
"""
    (document,) = read_documents(text)
    assert document.lines == {
        "": 2,
        "sources": 2,
        "sources[0]": 3,
        "sources[0].kind": 3,
        "sources[0].address": 4,
        "sources[1]": 6,
        "sources[1].kind": 6,
        "sources[1].labels": 6,
        "sources[1].labels.a.b/c": 6,
        "listen": 7,
        "last": 10,
    }


def test_lines_of_json_and_of_later_documents() -> None:
    (document,) = read_documents('\n{"a": 1,\n\n "b": [2,\n"\\n{", {"c":\n3}]}')
    assert document.lines == {"": 2, "a": 2, "b": 4, "b[0]": 4, "b[1]": 5, "b[2]": 5, "b[2].c": 5}
    _, second = read_documents("a: 1\n---\n\nb: 2\n")
    assert second.lines == {"": 4, "b": 4}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: b: c", "line 1, column 5: mapping values are not allowed in this context"),
        ("a:\n\tb: 1", "line 2, column 1: found character that cannot start any token"),
        ("a: [1,\n", "line 2, column 1: did not find expected node content"),
        ("a: 'b", "line 1, column 6: found unexpected end of stream"),
        ("a: \x00", "not YAML: unacceptable character #x0000"),
        ('{"a": 1,}}', "line 1, column 10: "),
    ],
)
def test_wrong_syntax_is_named_with_line_and_column(text: str, mistake: str) -> None:
    assert mistake_of(text).startswith(mistake)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: 1\nb: 2\na: 3", "a: the key stands here a second time (line 3)"),
        ("x:\n  - y: 1\n    y: 1", "x[0].y: the key stands here a second time (line 3)"),
        ('{"x": [{"y": 1,\n"y": 2}]}', "x[0].y: the key stands here a second time (line 2)"),
        ("a: 1\n'a': 2", "a: the key stands here a second time (line 2)"),
        ("1: a", "a key must be text, not 1: put it in quotes (line 1)"),
        ("x:\n  true: a", "x: a key must be text, not true: put it in quotes (line 2)"),
        ("? [a]\n: b", "a key must be text, not a map or list: put it in quotes (line 1)"),
    ],
)
def test_T14_a_key_is_text_and_stands_once(text: str, mistake: str) -> None:
    assert mistake_of(text) == mistake


@pytest.mark.parametrize(
    "text",
    ["a: &x 1", "a: &x [1]\nb: *x", "a: &x {b: 1}", "&x a: 1", "- *x", "base: &b {}\nx: {<<: *b}"],
)
def test_T27_anchors_and_aliases_are_refused(text: str) -> None:
    assert mistake_of(text).startswith("anchors and aliases are not read")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("x:\n  <<: {a: 1}", "merge keys (`<<`) are not read"),
        ("a: !!python/object/apply:os.system [id]", "the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !secret x", "the tag '!secret'"),
        ("a: !!binary aGk=", "the tag 'tag:yaml.org,2002:binary'"),
        ("a: !!set {b}", "the tag 'tag:yaml.org,2002:set'"),
        ("a: !!int '3'", "the tag 'tag:yaml.org,2002:int'"),
    ],
)
def test_T27_merge_keys_and_tags_are_refused(text: str, mistake: str) -> None:
    assert mistake_of(text).startswith(mistake)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_T14_json_numbers_are_finite(number: str) -> None:
    assert mistake_of(f'{{"a":\n{number}}}') == f"{number} is not a finite number (line 2)"


@pytest.mark.parametrize("number", [".nan", ".NaN", ".inf", "-.inf", "+.Inf", "1.0e+999"])
def test_T14_yaml_numbers_are_finite(number: str) -> None:
    assert mistake_of(f"a:\n  {number}") == f"{number} is not a finite number (line 2)"


@pytest.mark.parametrize("text", ["a: " + "9" * 5000, '{"a": ' + "9" * 5000 + "}"])
def test_T14_numbers_have_an_end(text: str) -> None:
    assert mistake_of(text) == "a number of 5000 digits (line 1)"


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', "a: \ud800"])
def test_T11_half_a_surrogate_pair_is_refused(text: str) -> None:
    assert mistake_of(text).startswith("the text holds half of a surrogate pair")


def test_T27_depth_has_a_limit() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(value_of(deepest)) == deepest
    for opening in ("[", "{a: ", "- ", '{"a":'):
        assert f"nested deeper than {MAX_DEPTH} levels" in mistake_of(opening * 100_000)
    assert f"nested deeper than {MAX_DEPTH} levels" in mistake_of("[" * 100_000 + "]" * 100_000)


def test_T27_size_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "é" * (MAX_BYTES // 2)
    assert value_of(text) == text
    assert mistake_of(text + "a") == f"the text has {MAX_BYTES + 1} bytes, more than {MAX_BYTES}"
    monkeypatch.setattr(yamldoc, "MAX_PARTS", 100)
    for text in ("[" + "1," * 100 + "1]", "- a\n" * 100, "---\n1\n" * 100):
        assert mistake_of(text).startswith("more than 100 keys, values and brackets")


def test_T27_long_keys_cost_no_memory_for_paths() -> None:
    (document,) = read_documents(json.dumps({"k" * 1_000_000: list(range(1000)), "a": 1}))
    assert document.lines == {"": 1, "a": 1}
