"""Files of coreference read back to the same documents, and say where they are broken or cannot hold something."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest
from coref_documents import DATA, documents, public, quietly, scorer
from hypothesis import HealthCheck, given, settings

from tutelage.coref import formats
from tutelage.coref.documents import Document
from tutelage.errors import DataError

SMALL = Document(
    "d", [["Ann", "left", "."], ["She", "ran"]], [[(0, 0), (3, 3)], [(0, 1)]], ["-", "-", "-", "Bo", "Bo"], about={"genre": "news"}
)

UNIVERSAL = """\
# newdoc id = talk
# global.Entity = eid-etype-head-other
# meta::genre = speech
# newpar
# sent_id = talk-1
# speaker = Ann
# text = I don't see Bo's dogs.
1	I	I	PRON	_	_	4	nsubj	_	Entity=(e1-person-1-)
2-3	don't	_	_	_	_	_	_	_	_
2	do	do	AUX	_	_	4	aux	_	_
3	n't	not	PART	_	_	4	advmod	_	_
4	see	see	VERB	_	_	0	root	_	_
5-6	Bo's	_	_	_	_	_	_	_	_
5	Bo	Bo	PROPN	_	_	7	nmod	_	Entity=(e2-animal-3-(e3-person-1-
6	's	's	PART	_	_	5	case	_	Entity=e3)
7	dogs	dog	NOUN	_	_	4	obj	_	Entity=e2)|SpaceAfter=No
8	.	.	PUNCT	_	_	4	punct	_	_

# sent_id = talk-2
# text = Came du parc
1	Came	come	VERB	_	_	0	root	_	_
1.1	_	they	PRON	_	_	_	_	1:nsubj	Entity=(e2-animal-1-)
1.2	_	we	PRON	_	_	_	_	1:nsubj	Entity=(e1-person-1-
2-3	du	_	_	_	_	_	_	_	_
2	de	de	ADP	_	_	4	case	_	_
3	le	le	DET	_	_	4	det	_	Entity=e1)(e4[1/2]-place-1-)
4	parc	parc	NOUN	_	_	1	obl	_	Entity=(e4[2/2]-place-1-)

# newdoc id = other
# newpar
# text = One.
1	One	one	NUM	_	_	0	root	_	Entity=(e1-x-1-)|SpaceAfter=No
2	.	.	PUNCT	_	_	1	punct	_	_

# newpar
# text = Two
1	Two	two	NUM	_	_	0	root	_	SpacesAfter=\\n
"""


def read(tmp_path, content, name="x.conll"):
    (tmp_path / name).write_text(content, encoding="utf-8")
    return formats.read(tmp_path / name)


def again(tmp_path, many, ending):
    formats.write(tmp_path / f"again{ending}", many)
    return formats.read(tmp_path / f"again{ending}")


@public
@pytest.mark.parametrize("name", ["ontogum/dev", "ontogum/test", "gum/dev", "litbank/dev", "winobias/dev"])
def test_public_corpora_are_the_same_in_every_format(name, tmp_path):
    lined = formats.read(DATA / "coref" / f"{name}.jsonl")
    bare = [dataclasses.replace(one, about={}) for one in lined]
    assert formats.read(DATA / "coref" / f"{name}.conll") == bare
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again(tmp_path, lined, ".jsonl") == lined
        assert again(tmp_path, lined, ".conll") == bare
        universal = again(tmp_path, lined, ".conllu")
    for one, was in zip(universal, lined, strict=True):
        assert dataclasses.replace(one, text=None, offsets=None) == was and one.text == " ".join(was.words)


@scorer
def test_the_reference_scorers_files_are_read_as_its_own_code_reads_them():
    for case in json.loads((DATA / "coref-scorer" / "cases.json").read_text())["cases"]:
        for side in ("key", "response"):
            [found] = quietly(DATA / "coref-scorer" / case[f"{side}_file"])
            assert found.clusters == tuple(sorted(tuple(sorted(map(tuple, c))) for c in case[f"{side}_clusters"])), case["id"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents(), documents(name="e_2"))
def test_nested_clusters_come_back_from_every_format(tmp_path, one, two):
    many = [one, two]
    assert again(tmp_path, many, ".jsonl") == many
    assert again(tmp_path, many, ".conll") == many
    assert [dataclasses.replace(d, text=None, offsets=None) for d in again(tmp_path, many, ".conllu")] == many


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents(text=True))
def test_texts_come_back_exactly_from_json_lines_and_from_universal_dependencies(tmp_path, one):
    assert again(tmp_path, [one], ".jsonl") == [one]
    found = again(tmp_path, [one], ".conllu")[0]
    assert found.text == one.text and found.character_clusters == one.character_clusters
    assert found == one


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents(crossing=True))
def test_brackets_lose_only_mentions_that_cross_and_say_so(tmp_path, one):
    assert again(tmp_path, [one], ".jsonl") == [one]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = again(tmp_path, [one], ".conll")[0]
    assert found == one or said
    apart = all(not a < c <= b < d for mine in one.clusters or () for a, b in mine for c, d in mine)
    assert not said or not apart


def test_mentions_that_cross_read_back_as_nested_with_a_warning(tmp_path):
    crossing = Document("d", [["a", "b", "c", "d"]], [[(0, 2), (1, 3)]])
    with pytest.warns(UserWarning, match="document d: mentions of one entity cross .* read back as nested"):
        assert again(tmp_path, [crossing], ".conll")[0].clusters == (((0, 3), (1, 2)),)


def test_mentions_of_an_entity_that_touch_in_a_word_are_told_by_writer_and_reader(tmp_path):
    touching = Document("d", [["a", "b", "c"]], [[(0, 1), (1, 2)]])
    with pytest.warns(UserWarning, match="first word 1.* brackets cannot say which is which"):
        formats.write(tmp_path / "x.conll", [touching])
    with pytest.warns(UserWarning, match=r"x.conll, document d: .*: 1 \(first line 3\); brackets cannot say which is which"):
        assert formats.read(tmp_path / "x.conll") == [touching]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again(tmp_path, [touching], ".conllu")[0].clusters == touching.clusters
        [apart] = read(tmp_path, BEGIN + ROW.format(0, "(1") + ROW.format(1, "1)|(1)|(2") + ROW.format(2, "2)") + "#end document\n")
    assert apart.clusters == (((0, 1), (1, 1)), ((1, 2),))


@pytest.mark.parametrize(
    ("begin", "end", "name"),
    [
        ("# begin document GUM_news_asylum", "# end document", "GUM_news_asylum"),
        ("#begin document 10000_00", "#end document 10000_00", "10000_00"),
        ("#begin document (a (b)); part 000", "#end document", "a (b)"),
        ("#begin document (bc/a); part 002", "#end document", "bc/a_2"),
        ("# begin document", "# end document", "x"),
    ],
)
def test_the_first_line_of_a_document_as_corpora_have_it(tmp_path, begin, end, name):
    content = f"{begin}\n0\tThe\t(place-1(person-2\n1\tboat\tplace-1)\n2\tsank\tperson-2)\n{end}\n"
    [found] = read(tmp_path, content)
    assert found.name == name and found.words == ("The", "boat", "sank") and found.clusters == (((0, 1),), ((0, 2),))
    (tmp_path / "unnamed").write_text(content)
    assert formats.read(tmp_path / "unnamed")[0].words == found.words


def test_columns_are_parted_by_blanks_and_tabs_alone(tmp_path):
    rows = BEGIN + "d   0   0   10\u00a0000   -   -   -   -   -   Jo\u2009Doe   *   (1)\n#end document\n"
    [found] = read(tmp_path, rows)
    assert found.words == ("10\u00a0000",) and found.speakers == ("Jo\u2009Doe",)
    assert again(tmp_path, [found], ".conll") == [found]


SEMEVAL = "{}\t{}\tlemma\tlemma\tN\tN\t_\t_\t2\t2\tsbj\tsbj\t_\t{}\n"


def test_the_words_of_semevals_files_are_in_the_second_column(tmp_path):
    rows = SEMEVAL.format(1, "Ann", "(1)") + SEMEVAL.format(2, "left", "_") + "\n" + SEMEVAL.format(1, "Stop", "_")
    [found] = read(tmp_path, f"#begin document d\n{rows}#end document d\n")
    assert found.sentences == (("Ann", "left"), ("Stop",)) and found.clusters == (((0, 0),),) and found.speakers is None


def test_files_without_words_say_so(tmp_path):
    rows = BEGIN + "".join(ROW.format(i, "(1)").replace("\tw\t", "\t[WORD]\t") for i in range(2)) + "#end document\n"
    with pytest.warns(UserWarning, match=r"document d: holds no words, '\[WORD\]' stands for each"):
        read(tmp_path, rows.replace("(1)", "-", 1))


@pytest.mark.parametrize("head", ["newpar", "newpar id = p2", "newpar = p2"])
def test_paragraphs_with_and_without_a_name(tmp_path, head):
    row = "1\t{}\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No\n\n"
    [found] = read(tmp_path, f"# newdoc id = d\n# {head}\n{row.format('One')}# {head}\n{row.format('Two')}", "x.conllu")
    assert found.text == "One\n\nTwo"


def test_types_are_never_taken_for_entities(tmp_path):
    rows = "".join(f"{i}\t{who}\t_\t_\t_\t_\t_\t_\t_\tEntity=(person-{who})\n" for i, who in ((1, "Ann"), (2, "Bo")))
    with pytest.warns(UserWarning, match="names no attribute eid or GRP, .* those of 2 words are left out"):
        [found] = read(tmp_path, f"# newdoc id = d\n# global.Entity = etype-identity\n{rows}", "x.conllu")
    assert found.clusters is None and found.words == ("Ann", "Bo")
    with pytest.raises(DataError, match=r"line 3: '\(person-Ann' has no name of an entity in field 3, where '# global.Entity' puts it"):
        read(tmp_path, f"# newdoc id = d\n# global.Entity = etype-identity-eid\n{rows}", "x.conllu")


def test_what_columns_cannot_hold_is_told(tmp_path):
    odd = Document("a b", [["New York", ""]], None, ["J. Doe", "-"])
    with pytest.warns(UserWarning) as said:
        [found] = again(tmp_path, [odd], ".conll")
    assert found.words == ("New_York", "_") and found.speakers == ("J._Doe", "-") and found.name == "a b" and found.clusters == ()
    assert sorted(str(w.message).split(": ")[1][:20] for w in said) == ["a column is not empt", "nobody has looked fo"]
    two = dataclasses.replace(SMALL, speakers=["Bo", "-", "-", "Bo", "Bo"])
    with pytest.warns(UserWarning, match="document d: sentences with several speakers: 1"):
        assert again(tmp_path, [two], ".conllu")[0].speakers == ("Bo",) * 5
    changed = Document("d", [["“", "x"]], [[(1, 1)]], text='" x', offsets=[(0, 1), (2, 3)])
    with pytest.warns(UserWarning, match="its words do not spell its text"):
        assert again(tmp_path, [changed], ".conllu")[0].text == "“ x"


def test_parts_of_a_conll_document_are_documents_of_their_own(tmp_path):
    rows = "".join(
        f"#begin document (bc/a); part {p}\nbc/a\t{int(p)}\t0\tHi\tUH\t*\t-\t-\t-\tJim\t*\t-\n#end document\n" for p in ("000", "003")
    )
    found = read(tmp_path, rows, "x.v4_gold_conll")
    assert [one.name for one in found] == ["bc/a", "bc/a_3"] and found[1].speakers == ("Jim",)
    formats.write(tmp_path / "y.conll", found)
    assert "#begin document (bc/a); part 003\nbc/a\t3\t0\tHi\t" in (tmp_path / "y.conll").read_text()
    assert formats.read(tmp_path / "y.conll") == found


def test_universal_dependencies_are_read_with_multiword_tokens_empty_nodes_and_text(tmp_path):
    with pytest.warns(UserWarning) as said:
        talk, other = read(tmp_path, UNIVERSAL, "x.conllu")
    assert talk.text == "I don't see Bo's dogs. Came du parc" and other.text == "One.\n\nTwo\n"
    assert talk.words[:8] == ("I", "do", "n't", "see", "Bo", "'s", "dogs", ".") and talk.words[8:] == ("Came", "de", "le", "parc")
    assert talk.clusters == (((0, 0), (9, 10)), ((4, 5),), ((4, 6),), ((10, 11),))
    assert [talk.phrase(m) for m in ((1, 1), (2, 2), (4, 5), (9, 10), (10, 11))] == ["do", "n't", "Bo's", "du", "du parc"]
    assert talk.about == {"genre": "speech"} and talk.speakers == ("Ann",) * 8 + ("-",) * 4
    told = sorted(str(w.message) for w in said)
    assert (
        "mentions in several parts: 1 (first line 26); each is read as the whole stretch" in told[0] and "mentions of no word: 1" in told[1]
    )
    assert other.clusters == (((0, 0),),)
    assert again(tmp_path, [talk, other], ".conllu") == [talk, other]


def test_entities_of_a_file_of_universal_dependencies_have_names_of_their_own(tmp_path):
    formats.write(tmp_path / "x.conllu", [SMALL, dataclasses.replace(SMALL, name="e")])
    opened = re.findall(r"\((e\d)--1-", (tmp_path / "x.conllu").read_text())
    assert sorted(opened) == ["e1", "e1", "e2", "e3", "e3", "e4"]


def test_gums_own_order_of_attributes_is_read_from_the_files_head(tmp_path):
    rows = (
        UD.format("Entity=(person-7-new").replace("1\t", "# global.Entity = etype-GRP-infstat\n1\t")
        + "2\tLee\t_\t_\t_\t_\t_\t_\t_\tEntity=7)\n"
    )
    [found] = read(tmp_path, rows, "x.conllu")
    assert found.clusters == (((0, 1),),)
    [plain] = read(tmp_path, "1\tAnn\t_\t_\t_\t_\t_\t_\t_\t_\n", "plain.conllu")
    assert plain.clusters is None and plain.name == "plain"


def test_json_lines_of_fastcoref_have_tokens_or_characters(tmp_path):
    rows = [
        {"doc_key": "t", "tokens": ["Ann", "left", "."], "clusters": [[[0, 0]]]},
        {"text": "Ann left. She ran.", "clusters": [[[0, 3], [10, 13]]], "genre": "x", "year": 3},
        {"doc_key": "both", "sentences": [["Ann", "left"]], "text": "Ann  left"},
    ]
    token, character, both = read(tmp_path, "\n".join(map(json.dumps, rows)), "x.jsonl")
    assert token.sentences == (("Ann", "left", "."),) and token.clusters == (((0, 0),),)
    assert character.name == "2" and character.clusters == (((0, 0), (3, 3)),) and len(character.sentences) == 2
    assert character.about == {"genre": "x"} and character.character_clusters == (((0, 3), (10, 13)),)
    assert np.array_equal(both.offsets, [(0, 3), (5, 9)]) and both.clusters is None


def test_a_format_is_known_by_its_content_where_the_ending_says_nothing(tmp_path):
    for ending in (".jsonl", ".conll", ".conllu"):
        formats.write(tmp_path / f"a{ending}", [SMALL])
        (tmp_path / "unnamed").write_bytes((tmp_path / f"a{ending}").read_bytes())
        assert formats.read(tmp_path / "unnamed")[0].clusters == SMALL.clusters
    [raw] = read(tmp_path, "\ufeffAnn left. She ran.", "story.txt")
    assert raw.name == "story" and raw.clusters is None and raw.text == "Ann left. She ran."


BEGIN = "#begin document (d); part 000\n"
ROW = "d\t0\t{}\tw\t-\t-\t-\t-\t-\t-\t*\t{}\n"
UD = "# newdoc id = d\n1\ta\t_\t_\t_\t_\t_\t_\t_\t{}\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "x.conll",
            BEGIN + ROW.format(0, "(1") + "#end document\n",
            r"x.conll, document d, line 2: '\(1' opens a mention that is not closed",
        ),
        (
            "x.conll",
            BEGIN + ROW.format(0, "1)") + "#end document\n",
            r"x.conll, document d, line 2: '1\)' closes a mention that was not opened",
        ),
        ("x.conll", BEGIN + ROW.format(0, "(1))") + "#end document\n", r"line 2: '\(1\)\)' is no cell of brackets"),
        (
            "x.conll",
            BEGIN + ROW.format(0, "-") + "d\t0\t1\tw\t-\n#end document\n",
            "document d, line 3: 5 columns; the lines before have 12",
        ),
        (
            "x.conll",
            BEGIN + ROW.format("X", "-") + "#end document\n",
            "document d, line 2: 'X' stands where CoNLL-2012 has the number of the word, so no column is known to hold the words",
        ),
        (
            "x.conll",
            BEGIN + ROW.format(7, "-").replace("\tw\t", "\t0\t") + ROW.format(7, "-").replace("\tw\t", "\t1\t") + "#end document\n",
            "document d, line 2: the number '0' stands for the word, so no column",
        ),
        ("x.conll", BEGIN + ROW.format(0, "(aaa)" * 40 + "))") + "#end document\n", r"is no cell of brackets"),
        ("x.conll", BEGIN + ROW.format(0, "-"), "document d: ends without '#end document'; the file is cut short"),
        ("x.conll", BEGIN + ROW.format(0, "-") + BEGIN, "document d, line 3: another document begins"),
        ("x.conll", ROW.format(0, "-"), "x.conll, line 1: a word outside of a document"),
        ("x.conll", BEGIN + "#end document\n", "x.conll, document d: holds no word"),
        ("x.conllu", UD.format("Entity=(e1-x-1-"), r"x.conllu, document d, line 2: '\(e1' opens a mention that is not closed"),
        ("x.conllu", UD.format("Entity=e1)"), r"document d, line 2: 'e1\)' closes a mention"),
        ("x.conllu", UD.format("Entity=e1"), "document d, line 2: 'Entity=e1' is broken"),
        ("x.conllu", UD.format("_") + "3\tb\t_\t_\t_\t_\t_\t_\t_\t_\n", "document d, line 3: word 3 follows word 1"),
        ("x.conllu", "# newdoc id = d\n1\ta\t_\n", "document d, line 2: no line of CoNLL-U"),
        ("x.conllu", "# newdoc id = d\n1-3\ta\t_\t_\t_\t_\t_\t_\t_\t_\n1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n", "multiword token 1-3 ends outside"),
        ("x.jsonl", '{"doc_key": "d", "tokens": ["a"]}\n{"doc_key": ', r"x.jsonl, line 2: not JSON: .* at column 13"),
        (
            "x.jsonl",
            '{"doc_key": "d", "tokens": ["a"], "clusters": [[[0, 1]]]}',
            r"x.jsonl, line 1: document d, cluster 0: span \[0, 1\] is out of",
        ),
        (
            "x.jsonl",
            '{"doc_key": "d", "tokens": ["a"], "clusters": [[[0, 0]], [[0, 0]]]}',
            "line 1: document d, cluster 1: span .* is in cluster 0",
        ),
        ("x.jsonl", '{"doc_key": "d", "tokens": ["a"], "clusters": [[[0]]]}', "line 1: clusters.0.0: list should have at least 2 items"),
        ("x.jsonl", '{"doc_key": "d", "tokens": ["a"], "speakers": ["x", "y"]}', "line 1: document d: 2 speakers for 1 words"),
        ("x.jsonl", '{"doc_key": "d", "tokens": []}', "line 1: document d: holds no word"),
        ("x.jsonl", '{"doc_key": "d", "text": " "}', "line 1: document d: holds no word"),
        ("x.jsonl", '{"doc_key": "d"}', "line 1: document d: has none of sentences, tokens and text"),
        ("x.jsonl", '{"doc_key": "d", "tokens": ["a", "b"], "text": "a c"}', "line 1: document d: word 1 'b' is not in the text"),
        ("x.jsonl", '{"doc_key": "d", "tokens": ["a"]}\n' * 2, "x.jsonl: names of documents that come twice: d; give"),
        ("x.jsonl", "[1]", "line 1: holds a list; each line is one object"),
        ("x.jsonl", "[" * 10**5, "line 1: brackets stand more than 100 deep within each other"),
        ("x.jsonl", '{"doc_key": "d", "tokens": ["\\ud83d\\ude00", "\\ud800"]}', r"x.jsonl, line 1: \\ud800 is half a character"),
        ("x.jsonl", " \n", "x.jsonl: is empty; it holds no document"),
        ("x.dat", "Ann left.", "x.dat: is neither JSON lines nor CoNLL-2012 nor CoNLL-U; raw text ends in .txt"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path, name, content, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, content, name)


def test_files_that_are_not_there_or_not_text_and_endings_without_a_format_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.conll: no such file"):
        formats.read(tmp_path / "nowhere.conll")
    (tmp_path / "bytes.conll").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bytes.conll, line 1: is not UTF-8 \(byte 0xff\)"):
        formats.read(tmp_path / "bytes.conll")
    with pytest.raises(DataError, match=r"x.doc: its ending names no format; end it with .jsonl, .conll or .conllu"):
        formats.write(tmp_path / "x.doc", [SMALL])
