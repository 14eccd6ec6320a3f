"""Citation recall and precision by ALCE's definitions on cases worked by hand."""

from __future__ import annotations

import numpy as np
import parts
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from tutelage.answers import scores
from tutelage.answers.scores import Statement
from tutelage.cited import hagrid
from tutelage.errors import ConfigError


class Known:
    """Supports a statement where its joined sources hold every letter of it."""

    name, threshold = "letters", 0.5

    def __init__(self):
        self.asked = 0

    def support(self, pairs):
        self.asked += len(pairs)
        return np.array([float(set(text) - set(" .") <= set(source)) for source, text in pairs])


def one(*many: tuple[str, list[str]]) -> dict[str, float]:
    return scores.support([[Statement(text, tuple(sources), ()) for text, sources in many]], Known())[0]


@pytest.mark.parametrize(
    ("many", "recall", "precision"),
    [
        ([("a", ["a"])], 1.0, 1.0),
        ([("a", ["b"])], 0.0, 0.0),
        ([("a", [])], 0.0, 0.0),
        ([("ab", ["a", "b"])], 1.0, 1.0),  # neither alone, both needed
        ([("a", ["a", "b"])], 1.0, 0.5),  # b alone does not, and a does without it
        ([("a", ["a", "ac"])], 1.0, 1.0),  # each supports it alone
        ([("ab", ["a", "b", "c"])], 1.0, 2 / 3),
        ([("ab", ["a", "c"])], 0.0, 0.0),  # unsupported statements have no good citation
        ([("a", ["a"]), ("b", []), ("c", ["a"])], 1 / 3, 0.5),
    ],
)
def test_recall_and_precision_by_hand(many, recall, precision):
    found = one(*many)
    assert found["recall"] == pytest.approx(recall)
    assert found["precision"] == pytest.approx(precision)
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    assert found["f1"] == pytest.approx(f1)


STATEMENTS = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=3), st.lists(st.text("abcd", min_size=1), max_size=3, unique=True)), min_size=1
)


@given(STATEMENTS)
def test_recall_and_precision_are_those_of_alces_own_steps(many):
    """Its steps as its paper and program have them, on statements whose citations are in range, each once, three at most."""
    holds = lambda sources, text: set(text) <= set("".join(sources))
    entailed = good = cited = 0
    for text, sources in many:
        cited += len(sources)
        joint = bool(sources) and holds(sources, text)
        entailed += joint
        if joint and len(sources) > 1:
            for each in sources:
                good += holds([each], text) or not holds([other for other in sources if other != each], text)
        else:
            good += joint
    found = one(*many)
    assert found["recall"] == pytest.approx(entailed / len(many))
    assert found["precision"] == pytest.approx(good / cited if cited else 0)


def question(query_id: str, *answers: str, quotes: tuple[str, ...] = ("ab", "c"), **labels) -> hagrid.Question:
    return hagrid.Question(
        query_id=query_id, query="Which?", quotes=[hagrid.Quote(idx=0, docid="x", text=t) for t in quotes],
        answers=[hagrid.Answer(answer=a, **labels) for a in answers],
    )  # fmt: skip


def test_scores_of_answers_name_their_judge_and_count_what_dangles():
    found = scores.score([question("1", "a [1]. c [2].", "a."), question("2", "c. [1] b [7].")], Known())
    assert found["judge"] == "letters" and (found["answers"], found["questions"]) == (3, 2)
    table = {name: row["value"] for name, row in found["scores"].items()}
    assert table["answers_that_cite"] == pytest.approx(2 / 3) and table["answers_that_dangle"] == pytest.approx(1 / 3)
    assert table["citation_recall"] == pytest.approx(1 / 3), "the third answer's citation stands for the sentence before it"
    assert table["citation_precision"] == pytest.approx(1 / 3) and found["scores"]["citation_precision"]["known"] == 3
    assert table["precision_where_cited"] == pytest.approx(0.5) and found["scores"]["precision_where_cited"]["known"] == 2
    assert all(row["low"] <= row["value"] <= row["high"] for row in found["scores"].values())


def test_brackets_that_are_not_read_are_counted():
    found = scores.score([question("1", "a [1].", "a [^1]. b [Source 2].", "a \u30101\u3011")])
    assert found["other_brackets"] == {"answers": 1, "first": "[^1]"}
    assert found["scores"]["answers_that_cite"]["value"] == pytest.approx(2 / 3)


def test_the_same_pair_is_asked_once():
    judge = Known()
    scores.score([question("1", "a [1].", "a [1].", "a [1][1].")], judge)
    assert judge.asked == 1


def test_nearness_takes_the_nearest_reference():
    told = question("1", "the river is long [1]", "nobody knows", informative=1)
    references = scores.references_of([told, question("2", "x", informative=0), question("3", "y", informative=1, attributable=0)])
    assert references == {"1": ["the river is long [1]", "nobody knows"]}
    found = scores.score([question("1", "the river is long [2]"), question("9", "none")], references=references)["scores"]
    assert found["rouge_l"]["value"] == pytest.approx(1.0) and found["rouge_l"]["known"] == 1
    assert found["bleu"]["value"] == pytest.approx(1.0)


def test_nothing_to_score_is_refused():
    with pytest.raises(ConfigError, match="there is no answer to score"):
        scores.score([question("1")])


@pytest.mark.parametrize(
    "names", [("contradiction", "ENTAILMENT", "neutral"), ("unsupported", "supported"), ("not_entailment", "entailment")]
)
def test_a_classifier_by_name(tmp_path, names):
    torch.manual_seed(0)
    named = dict(enumerate(names))
    shape = BertConfig(vocab_size=len(parts.WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                       max_position_embeddings=64, id2label=named, label2id={v: k for k, v in named.items()})  # fmt: skip
    model = BertForSequenceClassification(shape).eval()
    model.save_pretrained(tmp_path / "nli")
    words = parts.pair_tokenizer()
    words.save_pretrained(tmp_path / "nli")
    judge = scores.Classifier(str(tmp_path / "nli"), threads=1, batch_size=2)
    pairs = [("the film was good", "a good film"), ("bad " * 80, "the plot was bad"), ("the cast", "fine")]
    with torch.no_grad():
        wanted = [float(model(**words(*p, truncation="only_first", return_tensors="pt")).logits.softmax(-1)[0, 1]) for p in pairs]
    assert np.allclose(judge.support(pairs), wanted, atol=5e-3)
    model.config.id2label = {i: f"not_{name}" for i, name in named.items()}
    model.save_pretrained(tmp_path / "other")
    words.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"has no label for entailment and none named supported \(not_"):
        scores.Classifier(str(tmp_path / "other"), threads=1)
