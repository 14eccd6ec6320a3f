"""A student of the task coreference as a component of a spaCy pipeline.

>>> nlp = spacy.blank("en")  # doctest: +SKIP
>>> nlp.add_pipe("tutelage_coref", config={"model": "runs/coref/student"})  # doctest: +SKIP
>>> nlp("Ada wrote to Mary. She answered.")._.coref_clusters  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.util import minibatch

from .coref.documents import Document
from .engine.resolve import Coreference

NAME = "tutelage_coref"
GROUP = "coref_clusters"
"""The attribute `Doc._.coref_clusters`, and, with a number behind it, the name of a cluster in `Doc.spans`."""


@Language.factory(NAME, assigns=[f"doc._.{GROUP}"], default_config={"threads": None, "settings": {}})
def make(nlp: Language, name: str, model: str, threads: int | None, settings: dict[str, Any]) -> CoreferencePipe:
    """`model` is a student's folder; `settings` change those of its task (singletons, threshold, proposals, longest)."""
    return CoreferencePipe(Coreference.from_pretrained(model, threads=threads, **settings))


def clusters_of(doc: Doc) -> list[list[Span]]:
    """The clusters in the order of their first mentions; none where no component has looked."""
    return [list(group) for name, group in doc.spans.items() if _number(name)]


def _number(name: str) -> str:
    head, _, number = name.rpartition("_")
    return number if head == GROUP and number.isdigit() else ""


class CoreferencePipe:
    """Finds the clusters of Docs, a batch at a time. They are kept as `Doc.spans["coref_clusters_1"]` and so on, which are saved
    with a Doc, and given by `Doc._.coref_clusters`."""

    def __init__(self, resolver: Coreference):
        self.resolver = resolver
        Doc.set_extension(GROUP, getter=clusters_of, force=True)

    def __call__(self, doc: Doc) -> Doc:
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 64) -> Iterator[Doc]:
        """The Docs in their order. Raises DataError for one longer than the task's `longest`."""
        for docs in minibatch(stream, batch_size):
            places = [[token.i for token in doc if not token.is_space] for doc in docs]
            asked = [n for n, place in enumerate(places) if place]
            found = self.resolver.predict([_document(docs[n], f"doc {n + 1} of its batch") for n in asked])
            clusters = dict(zip(asked, (one.document.clusters or () for one in found), strict=True))
            for n, (doc, place) in enumerate(zip(docs, places, strict=True)):
                for name in [name for name in doc.spans if _number(name)]:
                    del doc.spans[name]
                for number, cluster in enumerate(clusters.get(n, ()), 1):
                    spans = [doc[place[first] : place[last] + 1] for first, last in cluster]
                    doc.spans[f"{GROUP}_{number}"] = SpanGroup(doc, name=f"{GROUP}_{number}", spans=spans)
                yield doc


def _document(doc: Doc, name: str) -> Document:
    """A Doc's words, white space left out; one sentence where nothing has set their boundaries."""
    sentences = doc.sents if doc.has_annotation("SENT_START") else [doc]
    return Document(name, tuple(tuple(token.text for token in sentence if not token.is_space) for sentence in sentences))
