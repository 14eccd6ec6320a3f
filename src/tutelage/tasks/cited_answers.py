"""Answers that cite their sources: the next token of an answer, given the question with its numbered quotes.

Rows are chats: a prompt of `tutelage answers collect`, and an answer that people found informative and attributable. The answer
alone is predicted. Parts are cut by question, never by answer. Judged answers come in HAGRID's form (`docs/howto/cited-answers.md`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..cited import hagrid, prompts
from ..config import settings
from ..errors import ConfigError, DataError
from . import _chat
from ._packing import NO_TARGET
from ._parts import Part
from ._task import Encoded, Split
from .language import Language


@settings
class CitedAnswers(Language):
    """The next token of judged answers."""

    labels: Literal["both", "informative", "any"] = "both"
    """Which answers are learned: those judged informative and attributable, informative and not judged unattributable, or all."""
    prompt: Literal["own", "short", "long"] = "own"
    """The prompt before an answer; own takes that of the answer's type, short where it has none."""
    tokens: Annotated[int, Field(ge=8)] = 384
    """Tokens of a row; quotes are cut evenly, from their ends, where the whole does not fit."""

    def faults(self) -> Iterator[tuple[str, str]]:
        for name in ("text", "chat"):
            if getattr(self, name) != getattr(Language, name):
                yield name, "has no effect on cited answers, which are read in HAGRID's form; leave it out"
        yield from super().faults()

    def _part(self, data: str) -> Part:
        """A text a question, so that parts are cut by question: all its answers, as JSON."""
        questions, _ = hagrid.read(data)
        texts = []
        for question in questions:
            kept = [a for a in question.answers if self._wanted(a)]
            if kept and question.quotes:
                texts.append(json.dumps(hagrid.tree(question.model_copy(update={"answers": kept})), ensure_ascii=False))
        if not texts:
            raise DataError(
                f"{data}: holds no answer that is judged as task.labels={self.labels} asks; take task.labels=any, or judge some"
            )
        return Part(texts, None, None, list(range(1, len(texts) + 1)), data).numbered()

    def _wanted(self, answer: hagrid.Answer) -> bool:
        if not answer.answer.strip() or self.labels == "any":
            return bool(answer.answer.strip())
        return answer.informative == 1 and (answer.attributable == 1 if self.labels == "both" else answer.attributable != 0)

    def encode(self, split: Split, tokenizer: Any) -> Encoded:
        """A row an answer, cut to `tokens`; an item of a final result is a row."""
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError("task: the model's tokenizer has no chat template, which cited answers need; name an instruction-tuned model")
        documents, short = [], 0
        for text in split.columns["text"]:
            question = hagrid.Question.model_validate_json(text)
            for answer in question.answers:
                document, cut = self._document(question, answer, tokenizer)
                short += cut
                documents.append(document)
        pieces = [(numbers[: self.tokens], learned[: self.tokens]) for numbers, learned in documents]
        ids = np.concatenate([np.asarray(numbers, dtype=np.int32) for numbers, _ in pieces])
        places = np.concatenate([np.arange(len(numbers), dtype=np.int32) for numbers, _ in pieces])
        target = np.concatenate([_next(numbers, learned) for numbers, learned in pieces])
        if not (target > 0).any():
            raise DataError(f"{split.source}: no answer fits behind its question in task.tokens={self.tokens}; raise it")
        lengths = np.array([len(numbers) for numbers, _ in pieces], dtype=np.int64)
        pad = next((p for p in (tokenizer.pad_token_id, tokenizer.eos_token_id) if p is not None), 0)
        gold = np.zeros(len(lengths), dtype=np.int64)
        columns = {"input_ids": ids, "position_ids": places}
        return Encoded(columns, lengths, gold, extra={"target": target}, pad={"input_ids": pad}, mask=False, truncated=short)

    def _document(self, question: hagrid.Question, answer: hagrid.Answer, tokenizer: Any) -> tuple[tuple[list[int], list[bool]], bool]:
        """The chat's tokens and which are predicted; and whether quotes were cut to make it fit."""
        wanted = self.prompt if self.prompt != "own" else answer.answer_type if answer.answer_type in prompts.LATEST else "short"
        words = [quote.text.split() for quote in question.quotes]
        most = max(map(len, words))
        low, high = 0, most
        made = self._chat(question, answer, tokenizer, str(wanted), words, most)
        if len(made[0]) <= self.tokens:
            return made, False
        while high - low > 1:  # the longest quotes that still fit
            middle = (low + high) // 2
            if len(self._chat(question, answer, tokenizer, str(wanted), words, middle)[0]) <= self.tokens:
                low = middle
            else:
                high = middle
        return self._chat(question, answer, tokenizer, str(wanted), words, max(low, 1)), True

    @staticmethod
    def _chat(
        question: hagrid.Question, answer: hagrid.Answer, tokenizer: Any, prompt: str, words: list[list[str]], most: int
    ) -> tuple[list[int], list[bool]]:
        quotes = [(None, " ".join(w[:most]) + (" ..." if len(w) > most else "")) for w in words]
        turns = [*prompts.messages(prompt, question.query, quotes), {"role": "assistant", "content": answer.answer}]
        return _chat.tokens(turns, tokenizer, f"question '{question.query_id}'")

    def cut(self, encoded: Encoded) -> str:
        if not encoded.truncated:
            return ""
        return f"quotes of {encoded.truncated} of {len(encoded)} answers were cut to fit task.tokens={self.tokens}"


def _next(numbers: list[int], learned: list[bool]) -> np.ndarray:
    """Targets of one row, as `Language` keeps them: the next token's number less NO_TARGET where it is predicted, else 0."""
    out = np.zeros(len(numbers), dtype=np.int32)
    for i in range(1, len(numbers)):
        if learned[i]:
            out[i - 1] = numbers[i] - NO_TARGET
    return out
