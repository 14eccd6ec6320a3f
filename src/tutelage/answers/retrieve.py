"""An index of passages in a folder or an object store, searched by their words, by their meaning, or by both; on LanceDB.

By words: BM25 (k1 1.2, b 0.75) of LanceDB's full-text index over title and text. By meaning: the cosine of vectors from a Hugging
Face encoder. Both: reciprocal rank fusion (Cormack, Clarke, Büttcher 2009), the sum over the lists of weight / (k + rank).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import config, records
from ..engine.talk import Talk
from ..errors import ConfigError, DataError
from . import lance
from .making import ABOUT, SHOWN, Making, as_rows, schema
from .passages import Passage
from .ranking import Fusion, Hit, fused

if TYPE_CHECKING:
    import pyarrow

    from .encoder import Encoder

TABLE = "passages"
BATCH = 1024
"""Passages that are encoded and written together: what a kill can cost."""
PROBES = 32
"""Cells of the approximate vector index that a search looks into, of about the square root of the number of passages."""
LONGEST = 20_000
"""Characters of a question that are looked at."""


@dataclasses.dataclass(frozen=True)
class Added:
    """What became of passages: new ones, ones in the place of others with their docid, and ones that were there unchanged."""

    new: int = 0
    replaced: int = 0
    same: int = 0


class Index:
    """An open index: `build` makes one or goes on with it, `open` takes one that is there. One process writes at a time.

    `storage` are LanceDB's options for object stores (endpoint, region, allow_http, keys). Raises ConfigError for a place that holds no
    index, RunError for one that does not answer or is in use, MissingExtra without LanceDB.
    """

    def __init__(self, uri: str | Path, table: Any):
        self.uri, self.table = str(uri), table
        about = json.loads(table.schema.metadata[ABOUT])
        self.making = config.build(Making, about["making"], self.uri)
        self.digest: str = about["digest"]
        self._encoder: Encoder | None = None

    @classmethod
    def open(cls, uri: str | Path, *, encoder: str | None = None, storage: dict[str, str] | None = None) -> Index:
        """The index at a place. `encoder` says where its encoder is now; another one than it was made with is refused when used."""
        if "://" not in str(uri) and not Path(uri).is_dir():
            raise ConfigError(f"{uri}: no such folder; build an index there first")
        table = lance.table_of(lance.connect(uri, storage), uri, TABLE, ABOUT)
        if table is None:
            raise ConfigError(f"{uri}: holds no index of passages; build one there first")
        made = cls(uri, table)
        if encoder is not None:
            made.making = dataclasses.replace(made.making, encoder=encoder)
        return made

    @classmethod
    def build(
        cls,
        uri: str | Path,
        passages: Iterable[Passage],
        making: Making | None = None,
        *,
        storage: dict[str, str] | None = None,
        talk: Talk | None = None,
        prune: bool = False,
    ) -> Index:
        """An index with these passages; one that is there, perhaps of a build that was killed, gets those that it lacks.

        `prune` first takes out all others; it reads the passages once more. Raises ConfigError where the one that is there was made
        otherwise, and as `prune` and `add` do.
        """
        making = making or Making()
        base = lance.connect(uri, storage)
        table = lance.table_of(base, uri, TABLE, ABOUT)
        encoder = None
        if table is None:
            encoder = _encoder(making)
            with lance.sentences(uri):
                table = base.create_table(TABLE, schema=schema(making, encoder.digest, encoder.size))
        made = cls(uri, table)
        other = [f.name for f in dataclasses.fields(Making) if getattr(made.making, f.name) != getattr(making, f.name)]
        if other:
            name = other[0]
            was, wanted = getattr(made.making, name), getattr(making, name)
            raise ConfigError(f"{uri}: was made with {name}={was!r}, not {wanted!r}; keep that, or name another place")
        made._encoder = encoder
        if prune and (gone := made.prune(one.docid for one in passages)):
            (talk or Talk()).say(f"{gone:,} passages taken out that the source no longer has")
        made.add(passages, talk=talk)
        return made

    def __len__(self) -> int:
        return self.table.count_rows()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the folder, where the index is in one, and the latest state."""
        with records.locked(Path(self.uri)) if "://" not in self.uri else contextlib.nullcontext():
            with lance.sentences(self.uri):
                self.table.checkout_latest()
            yield

    def encoder(self) -> Encoder:
        """The encoder, opened when first asked for. Raises ConfigError for another one than the index was made with."""
        if self._encoder is None:
            opened = _encoder(self.making)
            if opened.digest != self.digest:
                raise ConfigError(
                    f"{self.uri}: was made with another encoder than '{self.making.encoder}' is now (digest {self.digest[:12]}, found "
                    f"{opened.digest[:12]}); give the one it was made with, or build it anew elsewhere"
                )
            self._encoder = opened
        return self._encoder

    # ---- writing

    def add(self, passages: Iterable[Passage], *, talk: Talk | None = None) -> Added:
        """Put passages in, each in the place of one with its docid; unchanged ones cost nothing, and the statistics are made anew.

        They are written in batches of BATCH: after a kill, the same call goes on. Raises DataError for a docid that comes twice.
        """
        done, seen = Added(), set()
        total = len(passages) if isinstance(passages, Sized) else 0
        with self._writing(), (talk or Talk()).task("index passages", total) as advance:
            known = self._known()
            self._index_words()
            many = iter(passages)
            while batch := list(islice(many, BATCH)):
                for one in batch:
                    if one.docid in seen:
                        raise DataError(f"docid '{one.docid}' comes twice; give each passage its own")
                    seen.add(one.docid)
                digests = [bytes.fromhex(records.digest(one.title, one.text)[:32]) for one in batch]
                changed = [(one, d) for one, d in zip(batch, digests, strict=True) if known.get(one.docid) != d]
                advance(len(batch) - len(changed))
                old = sum(one.docid in known for one, _ in changed)
                if changed:
                    self._write(self._rows(changed, advance), replace=bool(old))
                done = Added(done.new + len(changed) - old, done.replaced + old, done.same + len(batch) - len(changed))
        self.optimize(anew=done.replaced > 0)
        return done

    def _known(self) -> dict[str, bytes]:
        """The digest of each passage that is there."""
        out: dict[str, bytes] = {}
        with lance.sentences(self.uri):
            for batch in self.table.search().select(["docid", "digest"]).to_batches():
                out.update(zip(batch["docid"].to_pylist(), batch["digest"].to_pylist(), strict=True))
        return out

    def _rows(self, changed: Sequence[tuple[Passage, bytes]], advance: Any) -> pyarrow.Table:
        return as_rows(self.making, self.digest, changed, lambda texts: self.encoder()(texts, advance))

    def _write(self, rows: pyarrow.Table, *, replace: bool) -> None:
        with lance.sentences(self.uri):
            if replace:
                self.table.merge_insert("docid").when_matched_update_all().when_not_matched_insert_all().execute(rows)
            else:
                self.table.add(rows)

    def delete(self, docids: Iterable[str]) -> int:
        """Take passages out; returns how many were there. Statistics are made anew."""
        from lancedb.expr import col, lit

        wanted, gone = list(dict.fromkeys(docids)), 0
        with self._writing(), lance.sentences(self.uri):
            for start in range(0, len(wanted), BATCH):
                condition = col("docid").isin([lit(one) for one in wanted[start : start + BATCH]])
                gone += self.table.delete(condition.to_sql()).num_deleted_rows
        self.optimize(anew=gone > 0)
        return gone

    def prune(self, docids: Iterable[str]) -> int:
        """Take out every passage but these; returns how many. Raises ConfigError where that would leave none of those that are there."""
        with self._writing():
            there, kept = self._known().keys(), set(docids)
        if there and kept.isdisjoint(there):
            raise ConfigError(f"{self.uri}: has {len(there):,} passages and none of them is in the source; name its own, or another place")
        return self.delete(there - kept) if there - kept else 0

    def optimize(self, *, anew: bool = False) -> None:
        """Make indexes that are missing, take all rows into them, and put small files together.

        `anew` makes that of words afresh: LanceDB's counts passages that went, until a tenth has gone. `add` and `delete` end with
        it; scores are then those of an index made of the same passages at once.
        """
        from lancedb.index import IvfFlat

        with self._writing(), lance.sentences(self.uri):
            self._index_words(anew)
            rows = len(self)
            if rows > self.making.exact_up_to and not self._indexed("vector"):
                self.table.create_index("vector", config=IvfFlat(distance_type="dot", num_partitions=math.isqrt(rows)))
            self.table.optimize()

    def _indexed(self, column: str) -> bool:
        return any(column in one.columns for one in self.table.list_indices())

    def _index_words(self, anew: bool = False) -> None:
        """The full-text index, if it is missing or to be made `anew`; rows that come later are found without being in it."""
        from lancedb.index import FTS

        if anew or not self._indexed("full"):
            making = self.making
            words = FTS(language=making.language, stem=making.stem, remove_stop_words=making.stop_words)
            with lance.sentences(self.uri):
                self.table.create_index("full", config=words)

    # ---- searching

    def search(
        self, queries: Sequence[str], k: int = 10, by: Literal["hybrid", "text", "vector"] = "hybrid", fusion: Fusion | None = None
    ) -> list[list[Hit]]:
        """The best `k` passages for each question, best first; equal ones by docid, within the depth of a list.

        A question is words, whatever signs stand in it; blanks alone find nothing, and by words neither do stop words alone. Raises
        ConfigError for an unknown `by`, a `k` below 1, one string in the place of several, and another encoder.
        """
        fusion = fusion or Fusion()
        if by not in ("hybrid", "text", "vector"):
            raise ConfigError(f"by: '{by}' is none of hybrid, text, vector")
        if k < 1:
            raise ConfigError(f"k: {k} passages were asked for; ask for 1 or more")
        if isinstance(queries, str):
            raise ConfigError("queries: one text was given; give a list of questions")
        asked = [_clean(one) for one in queries]
        depth = max(k, fusion.depth)
        with lance.sentences(self.uri):
            self.table.checkout_latest()
            words = [self._by_text(one, depth) for one in asked] if by != "vector" else [[]] * len(asked)
            meant = self._by_vector(asked, depth) if by != "text" else [[]] * len(asked)
        if by == "hybrid":
            fusion = dataclasses.replace(fusion, depth=depth)
            return [fused(*lists, fusion)[:k] for lists in zip(words, meant, strict=True)]
        return [hits[:k] for hits in (meant if by == "vector" else words)]

    def _by_text(self, query: str, depth: int) -> list[Hit]:
        from lancedb.query import MatchQuery

        if not query.strip():
            return []
        words: Any = MatchQuery(query, "full")  # type: ignore[call-arg]
        found = self.table.search(words, query_type="fts").select([*SHOWN, "_score"]).limit(depth).to_arrow()
        rows = sorted(found.to_pylist(), key=lambda row: (-row["_score"], row["docid"]))
        return [_hit(row, row["_score"], text_rank=i) for i, row in enumerate(rows, 1)]

    def _by_vector(self, queries: Sequence[str], depth: int) -> list[list[Hit]]:
        out: list[list[Hit]] = [[] for _ in queries]
        asked = [i for i, query in enumerate(queries) if query.strip()]
        for start in range(0, len(asked), BATCH):
            at = asked[start : start + BATCH]
            vectors = self.encoder()([self.making.query_prefix + queries[i] for i in at])
            real = [i for i, vector in enumerate(vectors) if vector.any()]
            at, vectors = [at[i] for i in real], vectors[real]
            if not at:
                continue
            search = self.table.search(vectors if len(at) > 1 else vectors[0], vector_column_name="vector").distance_type("dot")
            found = search.nprobes(PROBES).select([*SHOWN, "_distance"]).limit(depth).to_arrow()
            rows = sorted(found.to_pylist(), key=lambda row: (row["_distance"], row["docid"]))
            for row in rows:
                mine = out[at[row.get("query_index", 0)]]
                mine.append(_hit(row, 1 - row["_distance"], vector_rank=len(mine) + 1))
        return out


def _hit(row: dict[str, Any], score: float, **rank: int) -> Hit:
    return Hit(row["docid"], row["title"], row["text"], score, **rank)


def _encoder(making: Making) -> Encoder:
    from .encoder import Encoder

    return Encoder(making.encoder, precision=making.precision, tokens=making.tokens)


def _clean(query: str) -> str:
    """The beginning of a question, as text that UTF-8 can write."""
    return query[:LONGEST].encode("utf-8", "replace").decode()
