"""A recipe's teacher: opened, fine-tuned where asked, with the checkpoints of its training."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from .. import records
from ..errors import ConfigError
from ..find import find
from ..models import anatomy
from ..models.load import Loaded, model_digest, open_config, tokenizer_digest
from ..rows import LAST_STATES
from . import fits
from .checkpoint import ANCHOR
from .teacher import Member, Teacher, read_probabilities
from .workshop import Start, Trained, Workshop, refuse_new_head


class Hire:
    """Makes the teacher; `members` are its models by key: name, model, and the training of those that were fine-tuned."""

    def __init__(self, shop: Workshop):
        assert shop.recipe.teacher is not None
        self.shop, self.given = shop, shop.recipe.teacher
        self.members: dict[str, tuple[str, Loaded, Trained | None]] = {}

    def teacher(self) -> Teacher:
        """Fine-tune the teacher where asked, else check that its head knows the labels."""
        given, shop = self.given, self.shop
        teacher = Teacher([], shop.recipe.signals, shop.task, shop.cache, shop.machine, given.average)
        if given.probabilities:
            parts = [shop.data.splits[name] for name in shop.taught.split("+")]
            rows, ids, test = parts[-1].total, [i for part in parts for i in part.ids], shop.data.splits.get("test")
            read = functools.partial(read_probabilities, given.probabilities, shop.data.labels, rows, kind=shop.task.kind)
            teacher.given = read(ids=ids)
            if test and (test.source, test.total) == (parts[0].source, parts[0].total) and not set(test.ids) & set(ids):
                teacher.tested = read(ids=test.ids)
            return teacher
        for number, name in enumerate(given.models or (given.model or "",)):
            key = "teacher" if len(given.models) < 2 else f"teacher-{number + 1}"
            teacher.members.append(self._member(key, name))
        teacher.route = self._route(teacher.members[0])
        return teacher

    def _member(self, key: str, name: str) -> Member:
        given, shop = self.given, self.shop
        loaded = shop.open(name, given.seed)
        fits.try_out(key, loaded.model, shop.encoded(loaded.tokenizer, "train"), shop.task)
        trained: Trained | None = None
        finished = given.train and not given.retrain and not given.checkpoints and self._knows(name, loaded)
        if finished:
            shop.talk.say(
                f"{key} ({Path(name).name}): its head knows the task's labels; taken as it is (teacher.retrain=true trains it on)"
            )
        elif given.train:
            start, finetune = Start(loaded.model, loaded.tokenizer), find("methods", "finetune")()
            title, anchors = f"{key} ({Path(name).name})", given.checkpoints or 0
            training, why = given.train.rated(name, anatomy.width(loaded.model.config), "teacher.train")
            shop.talk.say(f"{title}: {why}")
            trained = shop.train(title, finetune, start, training, given.seed, anchors=anchors)
            shop.say_reused(key, trained)
            if trained.reused:
                loaded = shop.open(str(trained.model), given.seed)
        else:
            refuse_new_head(name, loaded, shop.data.labels, shop.head)
        model = self._frozen(loaded.model)
        self.members[key] = (name, loaded, trained)
        return Member(
            Path(name).name,
            lambda: model,
            model_digest(model, trained.weights if trained else None),
            lambda: shop.encoded(loaded.tokenizer, shop.taught),
            model.config.hidden_size,
            tokenizer_digest(loaded.tokenizer),
        )

    def _knows(self, name: str, loaded: Loaded) -> bool:
        """Whether a model's head is one for the task whose labels have the task's names: a finished teacher."""
        if loaded.new_head or LAST_STATES in self.shop.task.outputs:
            return False
        labels = getattr(open_config(name), "id2label", {}).values() if self.shop.data.labels else ("known",)
        return not all(re.fullmatch(r"LABEL_\d+", str(label)) for label in labels)

    def _route(self, finished: Member) -> tuple[Member, ...]:
        """The checkpoints of the teacher's training that the recipe keeps or names, the finished teacher last; read when used."""
        given, shop, members = self.given, self.shop, []
        for number in range(1, given.checkpoints or 1):
            trained = self.members["teacher"][2]
            assert trained is not None
            file = trained.folder / f"{ANCHOR}{number}.safetensors"
            load = functools.partial(self._checkpoint, finished, file)
            title = f"{finished.title}, checkpoint {number}"
            members.append(
                dataclasses.replace(finished, title=title, load=load, digest=records.digest(finished.digest, records.file_digest(file)))
            )
        for place in given.route:
            loaded = shop.open(place, given.seed)
            refuse_new_head(place, loaded, shop.data.labels, shop.head)
            if tokenizer_digest(loaded.tokenizer) != finished.tokenizer:
                raise ConfigError(f"teacher.route: {place} has another tokenizer than the teacher; name checkpoints of its own training")
            load = functools.partial(self._earlier, place)
            members.append(dataclasses.replace(finished, title=Path(place).name, load=load, digest=model_digest(loaded.model)))
        return (*members, finished) if members else ()

    def _checkpoint(self, finished: Member, file: Path) -> Any:
        """The teacher as it was in the middle of its training."""
        model = copy.deepcopy(finished.load())
        model.load_state_dict(load_file(file))
        return self._frozen(model)

    def _earlier(self, place: str) -> Any:
        return self._frozen(self.shop.open(place, self.given.seed).model)

    def _frozen(self, model: Any) -> Any:
        return model.to(self.shop.machine.device).eval().requires_grad_(False)
