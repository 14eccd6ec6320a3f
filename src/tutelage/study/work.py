"""Workers: warm processes that claim cells, run them and file what they found, until every cell of the study is finished."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import exc

from .. import config
from ..engine import trial as engine
from ..engine.machine import Machine
from ..engine.talk import Console, Talk
from ..engine.warm import Warm
from ..errors import ConfigError, RunError, TutelageError
from ..recipe import Recipe
from ..robustness.battery import Battery
from ..robustness.students import Student
from .cells import Cells, Claimed
from .plan import told
from .sampling import asker

BEATS = 6
"""Heartbeats in the time of a lease."""
PATIENCE = 300.0
"""Seconds that a database may be away while a worker has something to say to it."""
T = TypeVar("T")


class Lost(Exception):
    """The lease of the cell that is being run was lost."""


class Heart(threading.Thread):
    """Keeps a lease while its cell runs, over a connection of its own; `lost` is set when the lease is."""

    def __init__(self, cells: Cells, claimed: Claimed):
        super().__init__(daemon=True)
        self.cells, self.claimed, self.lost, self._over = cells, claimed, threading.Event(), threading.Event()

    def run(self) -> None:
        while not self._over.wait(self.cells.lease / BEATS):
            with contextlib.suppress(exc.OperationalError):  # the database is away; the lease runs on
                if not self.cells.beat(self.claimed):
                    self.lost.set()
                    return

    def check(self, state: Any) -> None:
        """Raise Lost in the middle of a training whose result would not count."""
        if self.lost.is_set():
            raise Lost

    def __enter__(self) -> Heart:
        self.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._over.set()
        self.join()


class Worker:
    """One process at work on a study; `store` keeps what its runs share."""

    def __init__(self, cells: Cells, store: Path, talk: Talk):
        self.cells, self.store, self.talk = cells, store, talk
        self.name = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.warm = Warm()
        self.ask = asker(cells.plan) if cells.plan.study.search else None
        self.battery = Battery(cells.plan.suites, store / "attacks", Talk()) if cells.plan.suites else None

    def work(self) -> None:
        """Run cells until all are done or failed; stays while others still run some, for their cells may come back.

        Interrupted, it gives back the cell that it was at.
        """
        try:
            self._work()
        except KeyboardInterrupt:
            self.cells.release(self.name)
            raise

    def _work(self) -> None:
        pause = min(1.0, self.cells.lease / BEATS)
        while True:
            claimed = patiently(lambda: self.cells.claim(self.name, self.ask))
            if claimed is not None:
                self._run(claimed)
            elif not patiently(self.cells.left):
                return
            else:
                time.sleep(pause)

    def _run(self, claimed: Claimed) -> None:
        plan, title = self.cells.plan, f"cell {claimed.number} ({told(claimed.point)}, seed {claimed.seed})"
        began = time.monotonic()
        with Heart(self.cells, claimed) as heart:
            try:
                recipe = plan.recipe(claimed.point, claimed.seed)
                if self.battery and (faults := self.battery.faults("the student", self.warm.data(recipe.task), config.dump(recipe.task))):
                    raise ConfigError([("", why) for why in faults])
                found = engine.trial(recipe, store=self.store, warm=self.warm, talk=Talk(), patience=self.cells.lease, on_step=heart.check)
                if self.battery:
                    _try(found, self.battery, recipe)
                kept = patiently(lambda: self.cells.accept(claimed, found.facts, found.examples))
                if kept:
                    self.talk.say(f"{title}: {found.facts['metric']} {found.facts['score']:.4f}, {time.monotonic() - began:.1f} s")
                if kept and not plan.study.keep:
                    engine.forget(found.students)
            except Lost:
                kept = False
            except Exception as fault:
                reason = str(fault) if isinstance(fault, TutelageError) else _place(fault)
                kept = patiently(lambda: self.cells.fail(claimed, reason))
                self.talk.say(f"{title}: failed: {reason}")
        if not kept:
            self.talk.say(f"{title}: another worker has it since its lease ran out here; nothing of this one is kept")


def _try(found: engine.Trial, battery: Battery, recipe: Recipe) -> None:
    """Add to a trial what its student comes to on the suites: to its facts under `robustness`, to its examples under `on.NAME`."""
    began = time.monotonic()
    student = Student("student", found.student, Machine(recipe.threads), precision=recipe.train.precision)
    found.facts["robustness"], rights = battery.whole(student)
    found.facts["seconds"]["robustness"] = round(time.monotonic() - began, 2)
    found.facts["seconds"]["total"] += found.facts["seconds"]["robustness"]
    found.examples.update({f"on.{name}": right for name, right in rights.items()})


def _place(fault: Exception) -> str:
    """An unforeseen fault: what it says, and where it happened."""
    last = traceback.extract_tb(fault.__traceback__)[-1]
    return f"{type(fault).__name__}: {fault} ({Path(last.filename).name}, line {last.lineno})"


def patiently(do: Callable[[], T]) -> T:
    """Do it again while the database is away; RunError when that lasts too long."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return do()
        except exc.OperationalError as fault:
            if time.monotonic() > until:
                said = str(fault.orig).strip().splitlines()[0]
                raise RunError(f"--storage: has not answered for {PATIENCE:.0f} s: {said}; start the same command again") from None
            time.sleep(1.0)


def run(cells: Cells, store: Path, words: Sequence[str], workers: int, *, quiet: bool, again: int) -> None:
    """Work on a study until every cell is finished: in this process, or in several that run the command line `words`.

    Raises RunError where all of those ended before.
    """
    talk = Talk() if quiet else Console()
    if again:
        talk.say(f"{again} failed cells are open again")
    if workers == 1:
        return Worker(cells, store, talk).work()
    threads = max((c.recipe.threads or 1 for c in cells.plan.cells if c.recipe), default=1)
    command = [sys.executable, "-m", "tutelage", "study", *words, *(["--quiet"] if quiet else [])]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(workers)]
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
    if left := cells.left():
        codes = ", ".join(str(p.returncode) for p in processes)
        raise RunError(f"all {workers} workers ended (exit codes {codes}) with {left} cells left; start the same command again")
