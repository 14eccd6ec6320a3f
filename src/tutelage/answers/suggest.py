"""A model's suggestion for each segment of an answer: whether the quotes it cites support it. It knows nobody's judgement."""

from __future__ import annotations

from pathlib import Path

from ..database.store import unfit
from ..errors import ConfigError, DataError
from . import features, lexical
from .judging import Suggestion
from .tables import Answer, Judgement


class Suggester:
    """Suggests by a judge: `lexical`, the overlap with the cited quotes as one text, or the path of one that `features.Fitted.fit` made.

    Raises ConfigError for any other name, DataError for a file that holds no judge.
    """

    def __init__(self, judge: str):
        if judge == "lexical":
            self.name, self._fitted = f"{lexical.Lexical.name} above {lexical.Lexical.threshold}", None
        elif Path(judge).is_file():
            self._fitted = features.Fitted.load(judge)
            self.name = self._fitted.name
        else:
            raise ConfigError(f"--suggest: '{judge}' is neither lexical nor the file of a fitted judge")
        if why := unfit(Judgement(suggester=self.name)):
            raise DataError(f"{judge}: the judge's name cannot be kept with judgements: {why}")

    def of(self, answer: Answer) -> dict[int, Suggestion]:
        """The suggestion for each segment, by its id."""
        quotes = [quote.text for quote in answer.question.quotes]
        many = [
            features.Cited.of(segment.text, quotes, answer.question.text, place, len(answer.segments))
            for place, segment in enumerate(answer.segments)
        ]
        if self._fitted is None:
            said = [lexical.attribution(one.text, one.sources, join="all") > lexical.Lexical.threshold for one in many]
        else:
            said = [bool(score > self._fitted.threshold) for score in self._fitted.score(many)]
        return {segment.id: Suggestion(int(yes), self.name) for segment, yes in zip(answer.segments, said, strict=True)}  # type: ignore[arg-type]
