"""Chats by templates of the shapes that families of models have: the assistant's words alone are learned, or a sentence says why not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from tutelage import config
from tutelage.errors import DataError
from tutelage.tasks import _chat
from tutelage.tasks._packing import NO_TARGET
from tutelage.tasks.language import Language

USER, SAYS = {"role": "user", "content": " Who? "}, {"role": "assistant", "content": " He did\n\nit. "}
AGAIN, ENDS = {"role": "user", "content": "When?"}, {"role": "assistant", "content": "Then."}
TWO = [USER, SAYS, AGAIN, ENDS]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRIPS = (  # Llama 2 and Mistral: no head of the answer, words stripped, an end token
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
LAST = (  # Qwen 3: an empty thought, before the last answer alone
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLOSES = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% else %}</s>{% endif %}"
)
DROPS = (  # DeepSeek R1: thoughts of the last answer alone stay
    "{% for m in messages %}<{{ m.role }}>{{ m.content if loop.last else m.content.split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TAGGED = (  # SmolLM 3, over the shape of Qwen 3
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% if loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{%- generation -%}{{ m.content }}<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
)
RAISES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not\n supported') }}{% endif %}" + CHATML


def tokenizer(template, trim: bool = False):
    """A byte a token; `trim` leaves blanks out of what a token says of its place, as GPT-2's does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=trim)
    special = ["<|im_start|>", "<|im_end|>"]
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", additional_special_tokens=special)
    made.chat_template = template
    return made


def learned(turns, words):
    """What is learned of a chat, as text, one a stretch."""
    numbers, mask = _chat.tokens(turns, words, "chats.jsonl, chat 1")
    assert words.decode(numbers) == words.apply_chat_template(turns, tokenize=False) and len(numbers) == len(mask)
    edges = np.flatnonzero(np.diff([False, *mask, False]))
    return [words.decode(numbers[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize(
    ("template", "turns", "said"),
    [
        (CHATML, TWO, [" He did\n\nit. <|im_end|>\n", "Then.<|im_end|>\n"]),
        (CHATML, [*TWO, AGAIN], [" He did\n\nit. <|im_end|>\n", "Then.<|im_end|>\n"]),
        (STRIPS, TWO, [" He did\n\nit.</s>", " Then.</s>"]),
        (LAST, TWO[:2], ["<think>\n\n</think>\n\n He did\n\nit. <|im_end|>\n"]),
        (DROPS, TWO, [" He did\n\nit. ", "Then."]),
        (DROPS, [USER, {**SAYS, "content": "<think>hm</think>He."}], ["<think>hm</think>He."]),
        (TAGGED, TWO, [" He did\n\nit. <|im_end|>\n", "Then.<|im_end|>\n"]),
        (TAGGED, [SAYS, *TWO, AGAIN], [" He did\n\nit. <|im_end|>\n", " He did\n\nit. <|im_end|>\n", "Then.<|im_end|>\n"]),
        (RAISES, TWO[:2], [" He did\n\nit. <|im_end|>\n"]),
    ],
)
def test_the_assistants_words_are_learned_and_no_others(template, turns, said, trim):
    assert learned(turns, tokenizer(template, trim)) == said


@pytest.mark.parametrize(
    ("template", "turns", "sentence"),
    [
        (LAST, TWO, "chat 1, turn 2: .* writes the beginning of a chat otherwise than it stands in the whole"),
        (CLOSES, TWO, "chat 1, turn 2: .* otherwise"),
        (DROPS, [USER, {**SAYS, "content": "<think>hm</think>He."}, AGAIN, ENDS], "chat 1, turn 2: .* otherwise"),
        (CHATML, [SAYS, USER, ENDS], "chat 1, turn 1: .* begin with the user and end with their only answer"),
        (RAISES, [{"role": "system", "content": "x"}, *TWO], "^chats.jsonl, chat 1: .* refuses it: System role not supported$"),
        ("{{ messages[0].content + 1 }}", TWO, "chat 1: the tokenizer's chat template refuses it: can only concatenate str"),
        ("{% for m in %}", TWO, "chat 1: the tokenizer's chat template refuses it: Expected an expression"),
        (TAGGED.replace("'assistant'", "'model'"), TWO, "chat 1: .* writes nothing of it as the assistant's"),
        ({"rag": CHATML, "tool": CHATML}, TWO, "chat 1: .* refuses it: This model has multiple chat templates with no default"),
    ],
)
def test_a_chat_whose_words_cannot_be_told_apart_is_refused_in_a_sentence(template, turns, sentence):
    with pytest.raises(DataError, match=sentence) as fault:
        _chat.tokens(turns, tokenizer(template), "chats.jsonl, chat 1")
    assert "\n" not in str(fault.value)


def test_a_tokenizer_that_does_not_say_where_its_tokens_stand_learns_the_same():
    words = ByT5Tokenizer()
    words.chat_template = STRIPS.replace("{{ bos_token }}", "").replace("</s>", ".")
    assert not words.is_fast and learned(TWO, words) == [" He did\n\nit..", " Then.."]


def test_a_task_of_chats_names_the_chat_that_is_refused(tmp_path):
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in (TWO, [{"role": "system", "content": "x"}, *TWO])))
    task = config.build(Language, {"train": str(file), "dev": str(file), "test": str(file), "chat": "messages", "tokens": 512})
    split = task.load().splits["train"]
    with pytest.raises(DataError, match=r"chats.jsonl, chat 2: .* refuses it: System role not supported"):
        task.encode(split, tokenizer(RAISES))
    encoded = task.encode(split, tokenizer(CHATML))
    target = encoded.extra["target"]
    said = tokenizer(CHATML).decode([int(t) + NO_TARGET for t in target if t > 0])
    assert said == 2 * " He did\n\nit. <|im_end|>\nThen.<|im_end|>\n"
