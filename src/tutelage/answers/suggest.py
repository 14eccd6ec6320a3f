"""A suggestion for each segment of an answer: whether the quotes it cites support it. It knows nobody's judgement."""

from __future__ import annotations

from ..cited import citations
from ..errors import ConfigError
from . import lexical
from .judging import Suggestion
from .tables import Answer


class Suggester:
    """Suggests by a judge: `lexical`, the overlap with the cited quotes as one text. Raises ConfigError for any other name."""

    def __init__(self, judge: str):
        if judge != "lexical":
            raise ConfigError(f"--suggest: no judge '{judge}'; lexical is the only one")
        self.name = f"{lexical.Lexical.name} above {lexical.Lexical.threshold}"

    def of(self, answer: Answer) -> dict[int, Suggestion]:
        """The suggestion for each segment, by its id."""
        quotes, out = [quote.text for quote in answer.question.quotes], {}
        for segment in answer.segments:
            places, _ = citations.cited(segment.text, len(quotes))
            share = lexical.attribution(segment.text, [quotes[p] for p in places], join="all")
            out[segment.id] = Suggestion(int(share > lexical.Lexical.threshold), self.name)  # type: ignore[arg-type]
        return out
