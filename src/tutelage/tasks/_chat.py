"""A chat as tokens by the tokenizer's template, and which of them are the assistant's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import DataError

_TAGGED = re.compile(r"\{%-?\s*generation\s*-?%\}")
Turn = dict[str, str]
Stretch = tuple[int, int]
"""Where a stretch of text begins and ends, in characters."""


def tokens(turns: Sequence[Turn], tokenizer: Any, where: str) -> tuple[list[int], list[bool]]:
    """The chat's tokens, and whether each is the assistant's: of its words, and of what closes its turn.

    A template that marks what the assistant says ({% generation %}) is taken at its word. Else a turn is what the template adds for
    it, which holds only where it writes every beginning of the chat as it stands in the whole. Raises DataError, with `where`, for a
    chat that the template refuses, and where the assistant's words cannot be told from others.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as fault:  # several templates, and none by default
        raise DataError(_refusal(where, fault)) from None
    text, said = _marked(turns, tokenizer, template, where) if _TAGGED.search(template) else _grown(turns, tokenizer, where)
    numbers, learned = _learned(text, said, tokenizer, where)
    if not any(learned):
        raise DataError(f"{where}: the tokenizer's chat template writes nothing of it as the assistant's")
    return numbers, learned


def _marked(turns: Sequence[Turn], tokenizer: Any, template: str, where: str) -> tuple[str, list[Stretch]]:
    """The chat as text, and the stretches between the template's generation tags."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        made: Any = render_jinja_template(
            [list(turns)], chat_template=template, return_assistant_tokens_mask=True, **tokenizer.special_tokens_map
        )
        [text], [said] = made
    except Exception as fault:  # whatever a template may raise
        raise DataError(_refusal(where, fault)) from None
    return text, said


def _grown(turns: Sequence[Turn], tokenizer: Any, where: str) -> tuple[str, list[Stretch]]:
    """The chat as text, and the stretches by which it grows with each turn of the assistant."""

    def write(many: int, ask: bool = False) -> str:
        return tokenizer.apply_chat_template(list(turns[:many]), tokenize=False, add_generation_prompt=ask)

    try:
        text = write(len(turns))
    except Exception as fault:  # whatever a template may raise
        raise DataError(_refusal(where, fault)) from None
    said = []
    for i, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        try:
            before, after = write(i, ask=True), write(i + 1)
        except Exception:  # a beginning that the template refuses, such as none at all
            before, after = "", None
        if after is None or not (after.startswith(before) and text.startswith(after)):
            raise DataError(
                f"{where}, turn {i + 1}: the tokenizer's chat template writes the beginning of a chat otherwise than it stands in the "
                "whole, so the assistant's words cannot be told from others; name a tokenizer whose template has {% generation %} around "
                "them, or give chats that begin with the user and end with their only answer"
            )
        said.append((len(before), len(after)))
    return text, said


def _refusal(where: str, fault: Exception) -> str:
    return f"{where}: the tokenizer's chat template refuses it: {words_of(fault)}"


def words_of(fault: Exception) -> str:
    """What a template says by an exception, on one line."""
    return " ".join(str(fault).split())[:300] or type(fault).__name__


def _learned(text: str, said: Sequence[Stretch], tokenizer: Any, where: str) -> tuple[list[int], list[bool]]:
    """The text's tokens, and whether each lies in one of these stretches, if only in part."""
    inside = bytearray(len(text))
    for start, stop in said:
        inside[start:stop] = b"\1" * (stop - start)
    if not tokenizer.is_fast:
        return _counted(text, said, tokenizer, where)
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    learned, last = [], 0
    for start, stop in made["offset_mapping"]:
        # a token of blanks alone may have been trimmed to nothing: it lies behind the token before it
        learned.append(any(inside[min(start, last) if start == stop else start : stop]))
        last = stop
    return made["input_ids"], learned


def _counted(text: str, said: Sequence[Stretch], tokenizer: Any, where: str) -> tuple[list[int], list[bool]]:
    """The same by a tokenizer that does not say where its tokens stand: by how many tokens the text before a place has."""

    def split(end: int) -> list[int]:
        return tokenizer(text[:end], add_special_tokens=False, verbose=False)["input_ids"]

    numbers = split(len(text))
    learned = [False] * len(numbers)
    for ends in said:
        before, after = map(split, ends)
        if numbers[: len(before)] != before or numbers[: len(after)] != after:
            raise DataError(
                f"{where}: the tokenizer joins the assistant's words with others, and does not say where; name one with a tokenizer.json"
            )
        learned[len(before) : len(after)] = [True] * (len(after) - len(before))
    return numbers, learned
