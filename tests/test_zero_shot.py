"""Zero-shot accuracy by lm-evaluation-harness against log-probabilities summed by hand."""

from __future__ import annotations

import json

import decoders
import parts
import pytest
import torch
from click.testing import CliRunner

from tutelage.cli import main
from tutelage.engine import zero_shot
from tutelage.errors import ConfigError, DataError

WORDS = 3 * parts.WORDS[5:]
DIGITS = ["0", "1", "2", "10", "²", "٣"]


def language():
    """A tiny decoder and its tokenizer, which knows digits."""
    words = parts.tokenizer()
    words.add_tokens(DIGITS)
    return decoders.model(vocab_size=len(words)), words


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny decoder, and questions of both forms."""
    folder = tmp_path_factory.mktemp("zero")
    for part in language():
        part.save_pretrained(folder / "tiny")
    ask = lambda i: {
        "query": " ".join(WORDS[i : i + 3]),
        "choices": [WORDS[i + 4], " ".join(WORDS[i + 5 : i + 8]), WORDS[i]],
        "gold": i % 3,
    }
    (folder / "asked.jsonl").write_text("".join(json.dumps(ask(i)) + "\n" for i in range(12)))
    end = lambda i: {"contexts": [f"the {WORDS[i]}", f"a {WORDS[i + 1]}"], "ending": " ".join(WORDS[i + 2 : i + 4]), "gold": i % 2}
    (folder / "ended.jsonl").write_text("".join(json.dumps(end(i)) + "\n" for i in range(12)))
    return folder


def by_hand(place, name: str) -> list[tuple[bool, bool]]:
    """Whether the choice of the highest log-probability, and of the highest a byte, is the right one."""
    model, tokenizer = language()
    model.eval()
    out = []
    for line in (json.loads(x) for x in (place / name).read_text().splitlines()):
        pairs = [(line["query"], c) for c in line["choices"]] if "query" in line else [(c, line["ending"]) for c in line["contexts"]]
        sums = []
        for context, rest in pairs:
            before, after = (tokenizer(x, add_special_tokens=False)["input_ids"] for x in (context, rest))
            with torch.no_grad():
                log = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
            sums.append(sum(float(log[len(before) + i - 1, t]) for i, t in enumerate(after)))
        each = [s / len(rest.encode()) for s, (_, rest) in zip(sums, pairs, strict=True)]
        out.append(
            (max(range(len(sums)), key=sums.__getitem__) == line["gold"], max(range(len(each)), key=each.__getitem__) == line["gold"])
        )
    return out


def test_own_questions_are_judged_as_by_hand_from_the_command_line(place):
    asked, ended = by_hand(place, "asked.jsonl"), by_hand(place, "ended.jsonl")
    tasks = f"{place / 'asked.jsonl'},{place / 'ended.jsonl'}"
    said = CliRunner().invoke(main, ["evaluate", str(place / "tiny"), "--tasks", tasks, "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout.splitlines()[-1])
    assert found["asked"]["questions"] == found["ended"]["questions"] == 12
    assert found["asked"]["accuracy"]["value"] == pytest.approx(sum(a for a, _ in asked) / 12)
    assert found["asked"]["accuracy_by_length"]["value"] == pytest.approx(sum(b for _, b in asked) / 12)
    assert found["ended"]["accuracy"]["value"] == pytest.approx(sum(a for a, _ in ended) / 12)
    assert "accuracy_by_length" not in found["ended"]
    low, value, high = (found["asked"]["accuracy"][k] for k in ("low", "value", "high"))
    assert 0 <= low < value < high <= 1
    said = CliRunner().invoke(main, ["evaluate", str(place / "tiny"), "--tasks", str(place / "asked.jsonl"), "--limit", "5"])
    assert said.exit_code == 0 and "asked" in said.stdout and "Questions" in said.stdout, said.output


def test_digits_are_text_and_no_index(place):
    """In a query and in the choices, also of the first line, by which the harness tells kinds of tasks."""
    asked = [{"query": q, "choices": [DIGITS[i], "good", DIGITS[i - 1]], "gold": i % 3} for i, q in enumerate(DIGITS)]
    many = {"digits": asked, "mixed": [{**asked[0], "query": "the"}, *asked]}
    for name, lines in many.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = zero_shot.zero_shot(str(place / "tiny"), [str(place / f"{name}.jsonl") for name in many], threads=1)
    for name in many:
        wanted = list(zip(*by_hand(place, f"{name}.jsonl"), strict=True))
        for metric, right in zip(("accuracy", "accuracy_by_length"), wanted, strict=True):
            assert found[name][metric]["value"] == pytest.approx(sum(right) / len(right)), name


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["{"], "line 1: not JSON"),
        (
            ['{"query": "a", "choices": ["b", "c"], "gold": 0}', '{"query": "a"}'],
            "line 2: is no question; it needs query, choices and gold",
        ),
        (['{"query": "a", "choices": ["b"], "gold": 0}'], "line 1: 'query' must be a text and 'choices' a list of two texts or more"),
        (['{"query": "a", "choices": ["b", ""], "gold": 0}'], "line 1: .* two texts or more, none empty"),
        (['{"query": "a", "choices": ["b", "c"], "gold": true}'], "line 1: 'gold' must be a number from 0 to 1; got True"),
        (['{"query": "a", "choices": ["b", "c"], "gold": 2}'], "line 1: 'gold' must be a number from 0 to 1; got 2"),
        (
            ['{"query": "a", "choices": ["b", "c"], "gold": 0}', '{"contexts": ["a", "b"], "ending": "c", "gold": 0}'],
            "line 2: is of another",
        ),
    ],
)
def test_what_is_no_question_is_refused_with_its_line(tmp_path, lines, sentence):
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=sentence):
        zero_shot.read(tmp_path / "bad.jsonl")


def test_settings_without_effect_are_refused(place):
    for words, sentence in (
        (["data=x", "--tasks", "y.jsonl"], "takes no settings of a task"),
        (["--tasks", "a/x.jsonl,b/x.jsonl"], "two are called 'x'"),
        (["--limit", "3"], "no effect without --tasks"),
    ):
        said = CliRunner().invoke(main, ["evaluate", str(place / "tiny"), *words])
        assert said.exit_code == 2 and sentence in said.output


def test_unknown_tasks_are_refused_by_name(place):
    with pytest.raises(ConfigError, match="no task 'arc_eazy'; name a task of lm-evaluation-harness"):
        zero_shot.zero_shot(str(place / "tiny"), ["arc_eazy"])
