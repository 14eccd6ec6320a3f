"""The task span_qa: windows, targets, answers and losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spans import asked, encoded, questions, reader, settings, task

from tutelage import losses
from tutelage.engine.forward import outputs
from tutelage.engine.machine import Machine
from tutelage.errors import ConfigError, ModelError
from tutelage.rows import Seen
from tutelage.tasks import _windows

# ---- windows


def test_windows_overlap_by_the_stride_and_cover_the_text_once_in_order():
    context = " ".join(["film", "cast", "was", "very"] * 20)
    made = encoded(asked(context))
    words = []
    for window in range(len(made)):
        spans = made.about.spans[made.starts[window] : made.starts[window + 1]]
        inside = [context[a:b] for a, b in spans if a >= 0]
        assert made.lengths[window] <= 24
        assert window == 0 or words[-4:] == inside[:4]
        words += inside if window == 0 else inside[4:]
    assert words == context.split() and len(made) > 3


def test_targets_are_the_tokens_that_cover_the_first_answer_and_cls_where_a_window_lacks_it():
    context = " ".join(["film"] * 30 + ["very", "good"] + ["cast"] * 30)
    start = context.index("very good")
    made = encoded(asked(context, ("very good", start), ("film", 0)))
    found = 0
    for window, (first, last) in enumerate(made.gold):
        spans = made.about.spans[made.starts[window] : made.starts[window + 1]]
        holds = spans[spans[:, 0] >= 0][0, 0] <= start and spans[:, 1].max() >= start + 9
        assert context[spans[first, 0] : spans[last, 1]] == "very good" if holds else (first, last) == (0, 0)
        found += holds
    assert 1 <= found < len(made)


def test_a_target_inside_a_token_is_the_token():
    made = encoded(asked("a goodly plot", ("od", 4)))
    [(first, last)] = made.gold
    assert first == last and "a goodly plot"[slice(*made.about.spans[first])] == "goodly"


def test_an_unanswerable_question_targets_cls_in_every_window():
    made = encoded(asked("film " * 40), nullable=True)
    assert len(made) > 1 and (made.gold == 0).all() and made.labelled.all()


def test_allowed_positions_are_the_text_and_cls_and_never_question_separators_or_padding():
    made = encoded(asked("film cast", ("film", 0)), asked("film cast scene was good", ("cast", 5), text="plot was?"))
    batch = made.batch([0, 1])
    ids = batch.inputs["input_ids"]
    rows = task().rows(Seen({name: torch.zeros(ids.shape) for name in ("start_logits", "end_logits")}), batch)
    assert [row.share for row in rows] == [0.5, 0.5] and "answerable" not in batch.inputs
    # [CLS] plot ? [SEP] film cast [SEP], then [CLS] plot was ? [SEP] film cast scene was good [SEP]
    assert rows[0].allowed.tolist() == [
        [True] + [False] * 3 + [True] * 2 + [False] * 5,
        [True] + [False] * 4 + [True] * 5 + [False],
    ]
    assert batch.inputs["token_type_ids"][0].tolist() == [0] * 4 + [1] * 3 + [0] * 4


def test_a_long_question_is_cut_to_half_a_window_and_counted():
    made = encoded(asked("film cast", ("film", 0), text="very " * 50), asked("film", ("film", 0)))
    room = 24 - 3
    assert made.truncated == 1 and made.lengths[0] == 3 + room // 2 + 2
    assert "1 of 2 questions are longer" in task().cut(made)


def test_windows_too_small_for_question_and_stride_are_refused():
    with pytest.raises(ConfigError, match=r"task\.stride: 11 does not fit windows of 24 tokens.*raise task\.max_length"):
        encoded(asked("film"), stride=11)
    with pytest.raises(ConfigError, match=r"task\.stride: 128 does not fit windows of 64 tokens, of which.*30; lower it$"):
        encoded(asked("film"), length=384, stride=128)


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(ModelError, match="needs a tokenizer that says where its tokens stand"):
        _windows.encode([asked("film")], object(), 24, 4, False)


def test_joined_windows_keep_their_questions():
    one, two = encoded(asked("film " * 40, name="a")), encoded(asked("cast", name="b"))
    both = one.join(two)
    assert [both.about.questions[i].id for i in both.about.of] == ["a"] * len(one) + ["b"]
    whole = encoded(asked("film " * 40, name="a"), asked("cast", name="b"))
    assert both.digest == whole.digest and both.gold_digest == whole.gold_digest
    assert both.gold_digest != encoded(asked("film " * 40, name="a"), asked("cast", ("cast", 0), name="b")).gold_digest


# ---- answers


def test_the_answer_is_the_best_pair_that_is_ordered_short_enough_and_inside_the_text():
    made = encoded(asked("film cast was very good"))  # tokens: [CLS] plot ? [SEP] film cast was very good [SEP]
    start, end = np.zeros(10, np.float32), np.zeros(10, np.float32)
    start[[1, 7, 5]], end[[2, 4, 7]] = [50, 5, 3], [50, 4, 3]
    assert _windows.answers(start, end, made, **settings()).tolist() == ["very"], "the question and ends before starts take no part"
    start[4] = 4.5
    assert _windows.answers(start, end, made, **settings()).tolist() == ["film"]
    end[8] = 9
    assert _windows.answers(start, end, made, **settings()).tolist() == ["very good"]
    start[4] = 20
    assert _windows.answers(start, end, made, **settings()).tolist() == ["film cast was very good"]
    assert _windows.answers(start, end, made, **settings(max_answer=4)).tolist() == ["film"]
    assert _windows.answers(start, end, made, **settings(max_answer=4, n_best=1)).tolist() == [""], "start 4 and end 8 alone do not fit"


def test_the_best_window_answers_and_the_text_is_cut_from_the_context_as_it_stands():
    context = "Film,  " * 12 + "Very Good!" + " Cast" * 12
    made = encoded(asked(context))
    start, end = np.full(int(made.starts[-1]), -9, np.float32), np.full(int(made.starts[-1]), -9, np.float32)
    first, last = (np.flatnonzero(made.about.spans[:, 0] == context.index(word))[-1] for word in ("Very", "Good"))
    start[first], end[last] = 2, 2
    start[4], end[4] = 1, 1
    assert _windows.answers(start, end, made, **settings()).tolist() == ["Very Good"]


def test_no_answer_is_given_where_its_least_score_over_the_windows_is_above_the_threshold():
    made = encoded(asked("film " * 30), nullable=True)
    start, end = np.zeros(int(made.starts[-1]), np.float32), np.zeros(int(made.starts[-1]), np.float32)
    at = made.starts[:-1]
    start[at], end[at] = 3, 1
    start[5], end[5] = 1, 1
    assert len(made) == 2
    answer = lambda **changes: _windows.answers(start, end, made, **settings(**changes)).tolist()
    assert answer() == [""] and answer(null_threshold=1.9) == [""] and answer(null_threshold=2) == ["film"], "4 against 2"
    start[at[1]] = -3
    assert answer() == ["film"], "the least over windows is -2"
    never = encoded(asked("film " * 30))
    start[at] = 3
    assert _windows.answers(start, end, never, **settings()).tolist() == ["film"], "where every question has an answer, one is given"


def test_answers_agree_with_the_search_over_all_pairs():
    draw = np.random.default_rng(0)
    questions = [asked(" ".join(draw.choice(["film", "cast", "was"], draw.integers(1, 40))), name=str(i)) for i in range(20)]
    made = encoded(*questions)
    start, end = (draw.normal(size=int(made.starts[-1])).astype(np.float32) for _ in range(2))
    found = _windows.answers(start, end, made, **settings(n_best=99, max_answer=3))
    for number, question in enumerate(questions):
        every = []
        for window in np.flatnonzero(made.about.of == number):
            lo, hi = made.starts[window], made.starts[window + 1]
            for i in range(lo, hi):
                for j in range(i, min(hi, i + 3)):
                    a, b = made.about.spans[i, 0], made.about.spans[j, 1]
                    if a >= 0 and b >= 0:
                        every.append((float(start[i]) + float(end[j]), question.context[a:b]))
        assert found[number] == max(every)[1]


# ---- losses, counts, and the promises of methods


def test_the_label_loss_is_transformers_own_where_every_token_may_answer():
    made = encoded(*questions())
    batch = made.batch(range(len(made)))
    batch.extra["answerable"] = batch.inputs["attention_mask"].bool()
    model = reader().eval()
    with torch.no_grad():
        out = model(**batch.inputs)
    term = task().label_term(Seen({"start_logits": out.start_logits, "end_logits": out.end_logits}), batch)
    masked = [x.masked_fill(batch.inputs["attention_mask"] == 0, -torch.inf) for x in (out.start_logits, out.end_logits)]
    expected = sum(torch.nn.functional.cross_entropy(x, batch.gold[:, i]) for i, x in enumerate(masked)) / 2
    assert term.unit == "label" and torch.allclose(term.sum / task().counts(made, np.arange(len(made)))["label"], expected)


def test_unlabelled_windows_have_no_label_loss_and_no_nan():
    made = encoded(*questions())
    made.gold[:] = -1
    batch = made.batch(range(len(made)))
    out = reader()(**batch.inputs)
    term = task().label_term(Seen({"start_logits": out.start_logits, "end_logits": out.end_logits}), batch)
    term.sum.backward()
    assert term.sum == 0 and task().counts(made, np.arange(len(made)))["label"] == 0


def test_outputs_of_a_token_each_stand_end_to_end_in_row_order():
    made, model, machine = encoded(*questions()), reader().eval(), Machine(threads=1)
    found = outputs(model, made, task().outputs, machine, torch.float32)
    for row in range(len(made)):
        with torch.no_grad():
            alone = model(**made.batch([row]).inputs)
        here = slice(made.starts[row], made.starts[row + 1])
        for name in task().outputs:
            assert np.allclose(found[name][here], alone[name][0].numpy(), atol=1e-5) and len(found[name]) == made.starts[-1]


def test_the_soft_term_is_half_the_divergence_of_starts_and_half_that_of_ends(tmp_path):
    from tutelage.methods._method import over_rows

    made = encoded(*questions())
    batch = made.batch(range(len(made)))
    draw = torch.Generator().manual_seed(0)
    shape = batch.inputs["input_ids"].shape
    one, two = ({name: torch.randn(shape, generator=draw) for name in task().outputs} for _ in range(2))
    see = type("See", (), {"task": task(), "batch": batch})()
    term = over_rows(losses.soft_targets, Seen(one), Seen(two), see)
    total = 0.0
    for name in task().outputs:
        for row in range(len(made)):
            keep = batch.extra["answerable"][row]
            p, q = two[name][row][keep].softmax(-1), one[name][row][keep].softmax(-1)
            total += 0.5 * float((p * (p / q).log()).sum())
    assert term.unit == "example" and float(term.sum) == pytest.approx(total, rel=1e-5)
