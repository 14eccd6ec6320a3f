"""A trained student inside a spaCy pipeline."""

from __future__ import annotations

import tomllib
from pathlib import Path

import parts
import pytest

spacy = pytest.importorskip("spacy", reason="needs spaCy: pip install 'tutelage[spacy]'")

import torch  # noqa: E402
from spacy.tokens import Doc  # noqa: E402

import tutelage  # noqa: E402
from tutelage import errors, records, spacy_pipe  # noqa: E402
from tutelage.config import build  # noqa: E402
from tutelage.coref.documents import Document  # noqa: E402
from tutelage.models.load import open_model  # noqa: E402
from tutelage.tasks.coreference import Coreference  # noqa: E402

TEXTS = [
    "the good film is very bad.  and\nthe film was not good . plot",
    "a film",
    " \n ",
    "",
    "the plot is a plot and a scene was the scene",
]


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """A student with random weights, whose threshold joins some spans and not all."""
    folder = tmp_path_factory.mktemp("coref")
    torch.manual_seed(0)
    settings = {"kind": "coreference", "data": "documents.jsonl", "size": 8, "widest": 3, "proposals": 1.0, "threshold": 0.1}
    task = build(Coreference, {k: v for k, v in settings.items() if k != "kind"})
    loaded = open_model(str(parts.save_tiny(folder / "tiny")), task.head(None), auto=task.auto)
    torch.nn.init.normal_(loaded.model.head.weight, std=0.1)
    loaded.save(folder / "student")
    records.write_json(folder / "student" / "tutelage.json", {"task": settings})
    return folder / "student"


@pytest.fixture(scope="module")
def nlp(student):
    made = spacy.blank("en")
    made.add_pipe("sentencizer")
    made.add_pipe(spacy_pipe.NAME, config={"model": str(student), "threads": 1})
    return made


def test_clusters_are_those_of_the_library_on_the_docs_own_words(nlp, student):
    resolver = tutelage.Coreference.from_pretrained(student, threads=1)
    for text in (TEXTS[0], TEXTS[4]):
        doc = nlp(text)
        words = [token for token in doc if not token.is_space]
        sentences = [[t.text for t in s if not t.is_space] for s in doc.sents]
        [found] = resolver.predict([Document("x", tuple(map(tuple, sentences)))])
        assert found.document.clusters
        wanted = [[doc[words[a].i : words[b].i + 1].text for a, b in cluster] for cluster in found.document.clusters]
        assert [[span.text for span in cluster] for cluster in doc._.coref_clusters] == wanted
        assert all(span.doc is doc for cluster in doc._.coref_clusters for span in cluster)


def test_a_batch_is_as_its_docs_alone_and_docs_without_words_have_no_cluster(nlp):
    together = list(nlp.pipe(TEXTS, batch_size=3))
    assert [doc.text for doc in together] == TEXTS
    for doc, text in zip(together, TEXTS, strict=True):
        assert places(doc) == places(nlp(text))
    assert not places(together[2]) and not places(together[3]) and places(together[0])


def test_a_doc_keeps_its_clusters_when_saved_and_gets_new_ones_when_asked_again(nlp):
    doc = nlp(TEXTS[0])
    assert places(Doc(nlp.vocab).from_bytes(doc.to_bytes())) == places(doc)
    doc.spans["mine"] = [doc[0:1]]
    doc.spans["coref_clusters_99"] = [doc[0:1], doc[1:2]]
    again = nlp.get_pipe(spacy_pipe.NAME)(doc)
    assert places(again) == places(nlp(TEXTS[0])) and "mine" in doc.spans


def test_sentences_are_the_docs_own(nlp):
    doc = nlp.make_doc("a film . a plot")
    assert spacy_pipe._document(doc, "x").sentences == (("a", "film", ".", "a", "plot"),)
    for token in doc:
        token.is_sent_start = token.i in (0, 3)
    assert spacy_pipe._document(doc, "x").sentences == (("a", "film", "."), ("a", "plot"))


def test_settings_reach_the_task_and_faults_are_one_sentence(student, tmp_path):
    made = spacy.blank("en")
    made.add_pipe(spacy_pipe.NAME, config={"model": str(student), "settings": {"longest": 3}})
    with pytest.raises(errors.DataError, match="has 4 words, more than 3"):
        made("a film is good")
    with pytest.raises(errors.ModelError, match="is no student of the task coreference"):
        spacy.blank("en").add_pipe(spacy_pipe.NAME, config={"model": str(tmp_path)})


def test_spacy_finds_the_component_by_its_entry_point():
    written = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["entry-points"]["spacy_factories"]
    assert written == {spacy_pipe.NAME: "tutelage.spacy_pipe:make"}


def places(doc) -> list[list[tuple[int, int]]]:
    return [[(span.start, span.end) for span in cluster] for cluster in doc._.coref_clusters]
