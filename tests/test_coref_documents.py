"""Documents refuse what they cannot mean; raw text keeps exact places; words are those of the public corpora."""

from __future__ import annotations

import re

import pytest
from coref_documents import DATA, documents, public
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.coref import formats
from tutelage.coref.documents import Document, cut, of_characters, of_text
from tutelage.errors import DataError
from tutelage.splitting import split

HERE = [["Ann", "left", "."], ["She", "ran"]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sentences": [[], []]}, "document d: holds no word"),
        ({"clusters": [[(0, 0), (3, 5)]]}, r"document d, cluster 0: span \[3, 5\] is out of range; the document has words 0 to 4"),
        ({"clusters": [[(-1, 0)]]}, r"cluster 0: span \[-1, 0\] is out of range"),
        ({"clusters": [[(0, 0)], [(3, 2)]]}, r"document d, cluster 1: span \[3, 2\] ends before it starts"),
        ({"clusters": [[(0, 0)], [(0, 0)]]}, r"cluster 1: span \[0, 0\] 'Ann' is in cluster 0 too"),
        ({"clusters": [[(0, 0), (0, 0)]]}, r"cluster 0: span \[0, 0\] 'Ann' is in cluster 0 too"),
        ({"clusters": [[]]}, "cluster 0: holds no mention"),
        ({"speakers": ["A", "B"]}, "document d: 2 speakers for 5 words"),
        ({"text": "Ann left. She ran"}, "a text and the offsets of its words come together"),
        ({"text": "Ann", "offsets": [(0, 3)]}, "document d: 1 offsets for 5 words"),
        (
            {"text": "Ann left. She", "offsets": [(0, 3), (4, 8), (8, 9), (10, 13), (14, 17)]},
            r"word 4 'ran': offsets \[14, 17\] do not lie",
        ),
    ],
)
def test_what_a_document_cannot_mean_is_refused_with_its_place(given, said):
    with pytest.raises(DataError, match=said):
        Document(**{"name": "d", "sentences": HERE} | given)


def test_clusters_and_mentions_stand_in_the_order_of_the_text():
    made = Document("d", HERE, [[(3, 3)], [(4, 4), (0, 1)]], ["", "-", "-", "Bo", "Bo"])
    assert made.clusters == (((0, 1), (4, 4)), ((3, 3),))
    assert made.mentions == ((0, 1), (3, 3), (4, 4)) and made.speakers == ("-", "-", "-", "Bo", "Bo")
    assert made.starts == (0, 3) and made.phrase((0, 1)) == "Ann left"
    with pytest.raises(DataError, match="has words but no text"):
        made.character_clusters  # noqa: B018


def test_words_and_sentences_of_raw_text_are_those_of_ontonotes():
    text = "I don't think Mr. O'Brien's dog can't run. \"Really?\" he asked. J. Smith paid $1,000.50 at 7:30 p.m.\n\nThen he cannot leave."
    sentences, offsets = split(text)
    assert sentences == [
        ["I", "do", "n't", "think", "Mr.", "O'Brien", "'s", "dog", "ca", "n't", "run", "."],
        ['"', "Really", "?", '"', "he", "asked", "."],
        ["J.", "Smith", "paid", "$", "1,000.50", "at", "7:30", "p.m."],
        ["Then", "he", "can", "not", "leave", "."],
    ]
    assert [text[b:e] for b, e in offsets.tolist()] == [word for words in sentences for word in words]
    assert split("The dogs' well-known non-stop U.S. tour ended... He said no. It's over")[0] == [
        ["The", "dogs", "'", "well", "-", "known", "non-stop", "U.S.", "tour", "ended", "..."],
        ["He", "said", "no", "."],
        ["It", "'s", "over"],
    ]


def test_emoji_and_accents_keep_exact_places():
    family, text = "👩‍👩‍👧", "Zoe\u0308 saw 👩‍👩‍👧 in Zürich. They waved."
    made = of_characters(
        "d", text, [[(text.index(family), text.index(family) + len(family)), (text.index("They"), text.index("They") + 4)]]
    )
    assert "Zoe\u0308" in made.words and family in made.words
    assert [text[b:e] for b, e in made.character_clusters[0]] == [family, "They"]


def test_a_mention_inside_a_word_cuts_the_word_and_white_space_at_its_edges_is_left_off():
    made = of_characters("d", "Johnson came. He sat.", [[(0, 4), (13, 16)]])
    assert made.words == ("John", "son", "came", ".", "He", "sat", ".") and made.clusters == (((0, 0), (4, 4)),)
    for begin, end in ((3, 3), (7, 8), (4, 99), (-1, 2)):
        with pytest.raises(DataError, match=rf"document d, cluster 0: \[{begin}, {end}\] is no mention in a text of 21 characters"):
            of_characters("d", "Johnson came. He sat.", [[(begin, end)]])
    with pytest.raises(DataError, match="document d: holds no word"):
        of_text("d", " \n ")


@settings(max_examples=60)
@given(st.text(max_size=80))
def test_splitting_any_text_leaves_no_sign_out_and_keeps_the_order(text):
    sentences, offsets = split(text)
    assert [text[b:e] for b, e in offsets.tolist()] == [word for words in sentences for word in words]
    assert "".join(text[b:e] for b, e in offsets.tolist()) == "".join(text.split())
    assert all(words for words in sentences)


@settings(max_examples=40)
@given(documents(text=True, crossing=True), st.lists(st.integers(0, 40), max_size=6))
def test_cutting_words_leaves_every_mention_where_it_was_in_the_text(document, points):
    made = cut(document, [p for p in points if p <= len(document.text)])
    assert sorted(made.character_clusters) == sorted(document.character_clusters)
    assert len(made.words) >= len(document.words) and made.text == document.text


@public
@pytest.mark.parametrize(("name", "least"), [("ontogum/dev", 0.99), ("litbank/dev", 0.98)])
def test_words_of_public_corpora_are_found_again(name, least):
    """Right words of all, where the text is the corpus's words with spaces, but for contractions and signs that stand close."""
    right = said = true = 0
    for one in formats.read(DATA / "coref" / f"{name}.jsonl"):
        text, gold = "", set()
        for word in one.words:
            close = (
                re.match(r"(n['\u2019]t|['\u2019](s|m|d|re|ve|ll)?)$", word, re.I)
                or word in (*".,;:!?)]”-",)
                or text[-2:-1] in ("(", "[", "“", "-")
            )
            text = text.rstrip(" ") if close else text
            gold.add((len(text), len(text) + len(word)))
            text += word + " "
        found = set(map(tuple, split(text)[1].tolist()))
        right, said, true = right + len(found & gold), said + len(found), true + len(gold)
    assert 2 * right / (said + true) > least
