"""The loop: batches, selection, early stop, faults, processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import Bench, Stop, ToyTask, stop_at

from tutelage import records
from tutelage.config import settings
from tutelage.engine import batches
from tutelage.errors import RunError
from tutelage.methods.finetune import Finetune
from tutelage.methods.kd import Kd
from tutelage.recipe import Training
from tutelage.rows import Term

TESTS = Path(__file__).parent


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 60), st.integers(0, 5))
def test_an_epoch_holds_every_row_once_in_batches_of_the_size(number, size, bucket, seed):
    lengths = np.random.default_rng(seed).integers(1, 50, number)
    many = batches.epoch(lengths, size, bucket=bucket, seed=seed, number=1)
    assert sorted(np.concatenate(many)) == list(range(number))
    assert sorted(len(b) for b in many)[1:] == [size] * (len(many) - 1)


def test_epochs_repeat_by_seed_and_differ_by_number():
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    make = lambda seed, number: [b.tolist() for b in batches.epoch(lengths, 8, bucket=5, seed=seed, number=number)]
    assert make(1, 0) == make(1, 0) != make(1, 1) and make(1, 0) != make(2, 0)
    assert {frozenset(b) for b in make(1, 0)} != {frozenset(b) for b in make(1, 1)}, "other rows together, not only another order"


def test_buckets_take_most_of_the_padding_away():
    lengths = np.random.default_rng(0).lognormal(3.4, 0.55, 6400).clip(3, 128).astype(int)
    cells = lambda bucket: sum(len(b) * lengths[b].max() for b in batches.epoch(lengths, 32, bucket=bucket, seed=0, number=0))
    assert cells(50) < 1.1 * lengths.sum() and cells(0) > 2 * lengths.sum()


@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 9))
def test_a_step_is_split_without_loss_over_processes_and_micro_batches(number, processes, micro):
    step = np.arange(number)
    mine = [batches.split(step, processes, rank, micro) for rank in range(processes)]
    assert np.concatenate([c for many in mine for c in many] or [np.array([], int)]).tolist() == step.tolist()
    assert all(len(c) <= micro for many in mine for c in many)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=80))
def test_canonical_batches_depend_on_lengths_alone_and_keep_their_budget(lengths):
    many = batches.canonical(np.array(lengths), tokens=100)
    assert sorted(np.concatenate(many)) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 100 for b in many)


def test_two_runs_are_equal_and_another_seed_is_not(tmp_path):
    a, b = (Bench(tmp_path / x, Kd()).run() for x in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)
    loop = Bench(tmp_path / "c", Kd()).loop()
    loop.job.seed = 6
    loop.run()
    assert any(not torch.equal(a[f"student.{k}"], v) for k, v in loop.models["student"].state_dict().items())


def test_the_best_on_dev_is_kept_or_the_last_where_asked(tmp_path):
    scores = iter([0.2, 0.9, 0.5, 0.4] * 2)

    @settings
    class Scripted(ToyTask):
        def score(self, predicted, gold):
            return {"accuracy": next(scores)}

    kept = {}
    for select in ("best", "last"):
        weights = {}
        training = Training(epochs=4, batch_size=8, learning_rate=1e-2, precision="float32", select=select)
        bench = Bench(tmp_path / select, Finetune(), training, task=Scripted())
        loop = bench.loop()
        loop.job.on_step = lambda state, loop=loop, weights=weights: weights.update(
            {state.total: loop.models["student"].classifier.weight.clone()}
        )
        state = loop.run()
        kept[select] = (loop.models["student"].classifier.weight, weights)
        assert state.best[""]["score"] == 0.9 and state.best[""]["step"] == 10
    assert torch.equal(kept["best"][0], kept["best"][1][10]) and torch.equal(kept["last"][0], kept["last"][1][20])


def test_patience_stops_a_stage_also_after_a_resume(tmp_path):
    @settings
    class Falling(ToyTask):
        def score(self, predicted, gold):
            return {"accuracy": 0.5}

    training = Training(epochs=9, batch_size=8, precision="float32", patience=2)
    make = lambda where: Bench(tmp_path / where, Finetune(), training, task=Falling(), autosave=0.0)
    loop = make("a").loop()
    assert loop.run().total == 15
    with pytest.raises(Stop):
        make("b").run(stop_at(15))
    again = make("b").loop()
    assert again.run().total == 15
    assert all(torch.equal(v, again.models["student"].state_dict()[k]) for k, v in loop.models["student"].state_dict().items())


def test_a_loss_that_is_not_a_number_is_one_sentence_and_keeps_the_last_good_checkpoint(tmp_path):
    @settings
    class Breaking(Kd):
        def terms(self, see):
            out = super().terms(see)
            if see.progress.step == 7:
                out["soft"] = Term(out["soft"].sum * float("nan"))
            return out

    bench = Bench(tmp_path, Breaking(), autosave=0.0)
    with pytest.raises(
        RunError, match=r"toy: the loss or its gradient is not a finite number by stage 'train', step .*; lower train.learning_rate"
    ):
        bench.run()
    state, tensors = bench.loop().checkpoints.load()
    assert state.total == 7 and all(torch.isfinite(t).all() for t in tensors.values())


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    whole = Bench(tmp_path / "a", Kd()).run()
    bench = Bench(tmp_path / "b", Kd(), autosave=0.0)
    with pytest.raises(Stop):
        bench.run(stop_at(6))
    newest = max((tmp_path / "b" / "checkpoints").glob("step-*")) / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    assert bench.loop().checkpoints.load()[0].total == 5
    resumed = bench.run()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    steps = [row["step"] for row in records.rows(tmp_path / "b" / "steps.jsonl")]
    assert steps == [row["step"] for row in records.rows(tmp_path / "a" / "steps.jsonl")]


def test_checkpoints_do_not_pile_up(tmp_path):
    bench = Bench(tmp_path, Kd(), Training(epochs=4, batch_size=8, precision="float32"), autosave=0.0)
    bench.run()
    names = [p.name for p in (tmp_path / "checkpoints").iterdir()]
    assert sum(n.startswith("step-") for n in names) == 2 and len(names) <= 6, names


PROGRAM = """
import sys, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
from toys import Bench, rows
from tutelage import find
from tutelage.recipe import Training
training = Training(steps=4, batch_size=7, learning_rate=1e-2, precision='float32', optimizer='sgd', clip=1.0)
bench = Bench(Path({folder!r}), find.find('methods', {method!r})(), training, dropout=0.0, data=rows(41, unlabelled=7), autosave=0.0)
loop = bench.loop()
loop.run()
if loop.machine.main:
    torch.save((loop.machine.processes, loop.models['student'].state_dict()), {out!r})
"""


@pytest.mark.parametrize("method", ["kd", "finetune"])
def test_two_processes_give_the_weights_of_one(method, tmp_path):
    got = {}
    for processes in (1, 2):
        out = tmp_path / f"{processes}.pt"
        program = tmp_path / f"{processes}.py"
        program.write_text(PROGRAM.format(tests=str(TESTS), folder=str(tmp_path / f"run{processes}"), method=method, out=str(out)))
        launch = (
            [sys.executable] if processes == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        )
        env = os.environ | {"ACCELERATE_USE_CPU": "true"}
        done = subprocess.run([*launch, str(program)], capture_output=True, text=True, timeout=200, check=False, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
        count, got[processes] = torch.load(out)
        assert count == processes
    assert all(torch.allclose(got[1][k], got[2][k], atol=2e-6) for k in got[1])
