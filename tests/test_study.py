"""Studies: what a file says, cells that are claimed once, searches, and faults of a user in a sentence."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from parts import recipe, write_reviews
from postgres import postgres  # noqa: F401

from tutelage import config
from tutelage.cli import main
from tutelage.errors import ConfigError
from tutelage.study import plan as plans
from tutelage.study.cells import MOST_LOST, Cells, examples_of
from tutelage.study.tables import Base, CellRow


@pytest.fixture
def study(tmp_path, tiny_teacher):
    """Writes a study file with changes; gives its path."""

    def made(name="small.yaml", **changes):
        tree = {"base": recipe(tiny_teacher, write_reviews(tmp_path / "reviews.jsonl")), "axes": {"method": ["finetune", "kd"]}}
        tree |= {"seeds": [1, 2], "lease": 10.0} | changes
        (tmp_path / name).write_text(yaml.safe_dump(tree, sort_keys=False))
        return tmp_path / name

    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return str(tmp_path / "study.db") if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()


def call(*words):
    return CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


# ---- the file


def test_cells_are_the_axes_product_times_seeds_less_what_is_skipped(study):
    cut, fresh = {}, {"student.surgery": [{"kind": "fresh", "layers": 1}], "train.epochs": 3}
    axes = {"start": {"cut": cut, "fresh": fresh}, "method": ["finetune", {"kind": "kd", "temperature": 4.0}], "train.batch_size": [8, 16]}
    made = plans.load(study(axes=axes, skip=[{"start": "fresh", "method": "finetune", "train.batch_size": [8, 16]}]))
    assert len(made.cells) == (2 * 2 * 2 - 2) * 2 and [c.number for c in made.cells] == list(range(12))
    last = made.cells[-1]
    assert last.point == {"start": "fresh", "method": "kd(temperature=4)", "train.batch_size": "16"} and last.seed == last.recipe.seed == 2
    assert (last.recipe.train.epochs, last.recipe.train.batch_size, last.recipe.method.temperature) == (3, 16, 4.0)
    assert last.recipe.compare == () and not last.recipe.measure and last.recipe.threads == 1
    assert {last.recipe.train.precision, last.recipe.teacher.train.precision, last.recipe.signals.precision} == {"float32"}


def test_claims_workers_and_layout_are_no_part_of_what_identifies_a_study(study):
    known = plans.load(study()).hash
    assert plans.load(study(claims=[{"name": "KD helps", "against": "finetune"}], lease=3.0, level=0.01)).hash == known
    assert plans.load(study(seeds=[1, 3])).hash != known and plans.load(study(axes={"method": ["finetune", "tf_reg"]})).hash != known


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"axes": {"train.learning_rat": [0.1]}}, "axes.train.learning_rat: no such setting; did you mean 'learning_rate'?"),
        ({"axes": {"method": ["kd", "kdd"]}}, "axes.method: no method 'kdd'"),
        ({"axes": {"how": {"a": {"method.temperatur": 2}, "b": {}}}}, "axes.how.a.method.temperatur: no such setting of 'kd'"),
        ({"axes": {}}, "axes: names none, so the grid is empty"),
        ({"axes": {"method": []}}, "axes.method: has no values, so the grid is empty"),
        ({"axes": {"method": ["kd"]}, "skip": [{"method": "kd"}]}, "the grid is empty"),
        ({"axes": {"method": ["kd", "kd"]}}, "axes.method: holds a value twice"),
        ({"axes": {"how": {"a": {}, "b": {}}}}, "a and b have the same settings; skip one of them"),
        ({"axes": {"seed": [1, 2]}}, "axes.seed: seeds are no axis"),
        ({"axes": {"train.learning_rate": {"low": 1e-4, "high": 1e-3}}}, "and of a search alone"),
        ({"skip": [{"methd": "kd"}]}, "skip[0]: no 'methd'; did you mean 'method'?"),
        ({"skip": [{"method": "kdd"}]}, "skip[0].method: no 'kdd'; did you mean 'kd'?"),
        ({"claims": [{"name": "x", "against": "kdd"}]}, "claims[0].axis.method: no 'kdd'; did you mean 'kd'?"),
        ({"claims": [{"name": "x", "against": "kd", "kind": "equivalent"}]}, "claims[0].margin: is required for kind equivalent"),
        ({"claims": [{"name": "x", "against": "kd", "where": {"data": "a"}}]}, "claims[0].where: no 'data'"),
        ({"seeds": [1, 1]}, "seeds: holds a seed twice"),
        ({"base": "no-such-recipe"}, "no recipe 'no-such-recipe'"),
        ({"axis": {}}, "axis: no such setting; did you mean 'axes'?"),
    ],
    ids=lambda x: str(x)[:40] if isinstance(x, str) else "",
)
def test_a_fault_in_a_study_file_is_named_with_its_place(study, changes, sentence):
    file = study(**changes)
    done = call("study", file, "--out", file.parent / "out")
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert sentence in done.stderr
    assert not (file.parent / "out").exists()


# ---- cells


def test_migrations_make_the_tables_that_the_code_knows(study, url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    cells = Cells(url, plans.load(study()))
    with cells.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "study_version"})
        assert compare_metadata(context, Base.metadata) == []
    cells.close()


def test_cells_are_laid_down_once_however_many_begin_at_once(study, url):
    made = plans.load(study())
    Cells(url, made).close()
    threads = [threading.Thread(target=lambda: Cells(url, made).close()) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cells = Cells(url, made)
    assert [(r.number, r.seed, r.point["method"]) for r in cells.rows()] == [
        (0, 1, "finetune"), (1, 2, "finetune"), (2, 1, "kd"), (3, 2, "kd")
    ]  # fmt: skip
    cells.close()


def test_a_result_counts_only_under_the_fence_of_the_last_claim(study, url):
    clock = Clock()
    cells = Cells(url, plans.load(study(seeds=[1], axes={"method": ["kd"]})), clock=clock)
    slow = cells.claim("slow")
    assert cells.claim("quick") is None and cells.left() == 1
    clock.now += 9
    assert cells.beat(slow), "a heartbeat moves the lease's end"
    clock.now += 9
    assert cells.claim("quick") is None, "the lease still holds"
    clock.now += 2
    assert cells.status()["running_now"][0]["lost"]
    quick = cells.claim("quick")
    assert quick.number == slow.number and quick.fence == slow.fence + 1
    assert not cells.beat(slow) and not cells.accept(slow, {"score": 0}, {}) and not cells.fail(slow, "late")
    cells.release("slow")
    assert cells.rows()[0].worker == "quick" and cells.rows()[0].state == "running"
    assert cells.accept(quick, {"score": 1}, {"each": np.arange(3.0)})
    assert not cells.accept(quick, {"score": 2}, {}) and not cells.accept(slow, {"score": 2}, {}), "one result a cell"
    [row] = cells.rows()
    assert row.result == {"score": 1} and list(examples_of(row)["each"]) == [0, 1, 2] and row.state == "done"
    clock.now += 1e6
    assert cells.claim("late") is None and cells.left() == 0 and cells.again() == 0, "finished cells never run again"
    cells.close()


def test_a_lease_that_ran_out_but_was_not_taken_still_counts(study, url):
    clock = Clock()
    cells = Cells(url, plans.load(study(seeds=[1])), clock=clock)
    first = cells.claim("a")
    clock.now += 100
    assert cells.beat(first) and cells.accept(first, {}, {})
    cells.close()


def test_a_cell_that_every_worker_dies_of_fails_at_last_and_can_be_tried_again(study, url):
    clock = Clock()
    cells = Cells(url, plans.load(study(seeds=[1])), clock=clock)
    for i in range(MOST_LOST):
        assert cells.claim(f"worker {i}").number == 0
        clock.now += 11
    assert cells.claim("next").number == 1, "the rest goes on"
    failed = cells.rows()[0]
    assert failed.state == "failed" and "4 workers were lost at it, the last worker 3" in failed.reason
    assert cells.again() == 1 and cells.claim("next").number == 0
    cells.close()


def test_a_cell_is_claimed_by_one_of_many(study, url):
    cells = Cells(url, plans.load(study(seeds=list(range(30)))))
    taken, faults = [], []

    def work(name):
        try:
            while (one := cells.claim(name)) is not None:
                taken.append(one.number)
                cells.accept(one, {"by": name}, {})
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and sorted(taken) == list(range(60)) and {r.fence for r in cells.rows()} == {1}
    cells.close()


def test_the_database_s_clock_is_that_of_the_day(study, url):
    import time

    cells = Cells(url, plans.load(study()))
    with cells.reading() as session:
        assert abs(cells.now(session) - time.time()) < 5
    cells.close()


def test_a_study_that_changed_is_refused_with_the_difference(study, url):
    Cells(url, plans.load(study())).close()
    for changes, sentence in (
        ({"seeds": [1, 2, 3]}, r"seeds: \[1, 2\] -> \[1, 2, 3\]"),
        ({"axes": {"method": ["finetune", "tf_reg"]}}, r"axes.method: \['finetune', 'kd'\] -> \['finetune', 'tf_reg'\]"),
        ({"skip": [{"method": "kd"}]}, "skip: "),
    ):
        with pytest.raises(ConfigError, match=r"small.yaml: changed after the study 'small' began: " + sentence):
            Cells(url, plans.load(study(**changes)))
    other = Cells(url, plans.load(study("other.yaml", seeds=[1, 2, 3])))
    assert other.left() == 6
    other.close()


def test_a_changed_default_is_refused_with_the_difference(study, url):
    cells = Cells(url, plans.load(study()))
    with cells.writing() as session:
        row = session.scalar(sa.select(CellRow).where(CellRow.number == 1))
        row.recipe = config.override(row.recipe, ["train.warmup=0.2"])
        session.execute(sa.text("UPDATE study SET hash = 'another'"))
    with pytest.raises(ConfigError, match=r"cell 1.train.warmup: 0.2 -> 0.1"):
        Cells(url, plans.load(study()))
    cells.close()


def test_a_storage_that_is_down_or_of_another_schema_is_refused(study, tmp_path, url):
    file = study()
    with pytest.raises(ConfigError, match=r"--storage: .* does not answer"):
        Cells("postgresql+psycopg://nobody:secret@127.0.0.1:9/x", plans.load(file))
    with pytest.raises(ConfigError, match="no such store; 'tutelage study' makes one"):
        Cells(tmp_path / "none.db", plans.load(file), make=False)
    cells = Cells(url, plans.load(file))
    with pytest.raises(ConfigError, match="holds no study 'other'"):
        Cells(url, plans.load(study("other.yaml")), make=False)
    with cells.writing() as session:
        session.execute(sa.text("UPDATE study_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="is of another version of Tutelage"):
        Cells(url, plans.load(file))
    with cells.writing() as session:
        session.execute(sa.text("DROP TABLE study_version"))
    with pytest.raises(ConfigError, match="is no store of studies"):
        Cells(url, plans.load(file))
    cells.close()


# ---- runs


def test_a_study_runs_reports_and_shows_why_a_cell_failed(study, tmp_path):
    axes = {"method": ["finetune", "kd"], "data": {"whole": {}, "gone": {"task.data": str(tmp_path / "gone.jsonl")}}}
    claims = [
        {"name": "KD helps", "against": "finetune"},
        {"name": "No difference", "kind": "equivalent", "margin": 0.5, "against": "finetune", "where": {"data": "whole"}},
        {"name": "These two", "kind": "models", "seed": 1, "against": "finetune", "where": {"data": "whole"}},
    ]
    file, out = study(axes=axes, claims=claims), tmp_path / "out"
    done = call("study", file, "--out", out, "--quiet")
    assert done.exit_code == 0, done.output
    assert "4 of 8 cells done, 0 running, 4 failed, 0 missing" in done.stdout and "gone.jsonl: no such file" in done.stdout
    facts = json.loads(call("study", file, "--out", out, "--report", "--json").stdout)
    helps, same, two = facts["verdicts"]
    assert helps["verdict"] == "open" and helps["comparisons"][1]["missing"][0] == "kd, seed 1 (failed)"
    assert "mean" not in helps["comparisons"][1] and same["comparisons"][0]["mean"] is not None and two["comparisons"][0]["p"] <= 1
    page, table = (tmp_path / "out" / n for n in ("report.html", "cells.csv"))
    html = page.read_text()
    assert "Where a seed is missing" in html and "kd, seed 1 (failed)" in html and "<script" not in html and 'src="http' not in html
    lines = table.read_text().splitlines()
    assert len(lines) == 9 and lines[0].startswith("cell,method,data,seed,state,dev,metric,score")
    before = {r.number: r.fence for r in Cells(out / "study.db", plans.load(file)).rows()}
    write_reviews(tmp_path / "gone.jsonl", seed=5)
    again = call("study", file, "--out", out, "--quiet", "--retry")
    assert "8 of 8 cells done" in again.stdout
    after = {r.number: r.fence for r in Cells(out / "study.db", plans.load(file)).rows()}
    assert {n for n in after if after[n] > before[n]} == {2, 3, 6, 7}, "finished cells did not run again"
    assert len(list((out / "store" / "trainings").glob("*/result"))) == 2, "the two teachers stay, students went"


def test_a_trial_finds_what_distill_finds(study, tmp_path):
    import tutelage

    file, out = study(seeds=[3]), tmp_path / "out"
    assert call("study", file, "--out", out, "--quiet").exit_code == 0
    made = plans.load(file)
    for row, cell in zip(Cells(out / "study.db", made).rows(), made.cells, strict=True):
        run = tutelage.distill(cell.recipe, out=tmp_path / f"run{cell.number}", store=tmp_path / "other")
        model = run.record["models"][row.point["method"]]
        assert row.result["weights"] == model["weights"] and row.result["score"] == model["test"]["primary"]
        assert row.result["dev"] == model["dev"] and row.result["teacher"]["teacher"] == run.record["models"]["teacher"]["test"]["primary"]


def test_a_search_tries_points_chooses_on_dev_and_reports_test(study, tmp_path):
    pytest.importorskip("optuna")
    axes = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "method": ["finetune", "kd"]}
    for sampler in ("tpe", "random"):
        file, out = study(f"{sampler}.yaml", axes=axes, search={"trials": 4, "sampler": sampler}), tmp_path / sampler
        assert "8 of 8 cells done" in call("study", file, "--out", out, "--quiet").stdout
        facts = json.loads(call("study", file, "--out", out, "--report", "--json").stdout)
        rows = Cells(out / "study.db", plans.load(file)).rows()
        points = [rows[2 * i].point for i in range(4)]
        assert all(rows[2 * i + 1].point == p for i, p in enumerate(points)) and len({str(p) for p in points}) == 4
        assert all(1e-4 <= p["train.learning_rate"] <= 1e-2 and p["method"] in ("finetune", "kd") for p in points)
        dev = [np.mean([r.result["dev"]["accuracy"] for r in rows[2 * i : 2 * i + 2]]) for i in range(4)]
        html = (out / "report.html").read_text()
        assert f"{100 * max(dev):.1f}" in html and "on dev, which chose it" in html and facts["done"] == 8


def test_a_worker_waits_for_a_database_that_comes_back(study, postgres):  # noqa: F811
    from tutelage.study.work import patiently

    cells = Cells(postgres.fresh(), plans.load(study(seeds=[1], lease=60.0)))
    claimed = cells.claim("patient")
    postgres.stop("immediate")
    back = threading.Timer(2.0, postgres.start)
    back.start()
    assert patiently(lambda: cells.accept(claimed, {"score": 1.0}, {}))
    back.join()
    assert cells.rows()[claimed.number].state == "done"
    cells.close()
