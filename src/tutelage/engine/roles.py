"""Models by role, made when first asked for: the student, the teacher and its checkpoints, and the roles a method adds."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ConfigError
from ..find import find
from ..methods._method import Facts, Method, RoleSpec
from ..models import anatomy
from ..models.load import MASKED_LM, open_model, tokenizer_digest
from ..seeds import stream
from .teacher import Teacher

if TYPE_CHECKING:
    from .workshop import Start, Workshop


class Roles(dict):
    """The roles of one training by name."""

    def __init__(self, shop: Workshop, method: Method, facts: Facts, start: Start, teacher: Teacher | None, seed: int):
        super().__init__(student=start.model)
        self.shop, self.teacher, self.specs, self.seed, self.start = shop, teacher, method.roles(facts), seed, start
        for role, spec in self.specs.items():
            if spec.start == "student":
                self[role] = self._cut(copy.deepcopy(start.model), spec)

    def __missing__(self, role: str) -> Any:
        spec = self.specs.get(role)
        torch.manual_seed(stream(self.seed, "role", role))
        if spec is None:
            if role.split("@")[0] != "teacher" or self.teacher is None or not self.teacher.members:
                raise ConfigError(f"method: needs a model for the role '{role}', and the recipe has none; give teacher.model")
            model = self.teacher.at(role).members[0].load()
        else:
            model = self._open(spec)
        self[role] = self._cut(model, spec)
        return self[role]

    def _open(self, spec: RoleSpec) -> Any:
        """A role's model by name, or the teacher's before its training; its vocabulary must be the student's."""
        shop, of = self.shop, self.shop.recipe.teacher
        name = of.model if spec.start == "teacher" and of else spec.start
        if spec.start == "teacher" and not name:
            raise ConfigError(f"method.{spec.setting}: there is no single teacher model to start from; name a model")
        auto, head = (MASKED_LM, {}) if spec.head == "masked_lm" else (shop.task.auto, shop.head)
        loaded = open_model(name or "", head, auto=auto, labels=shop.data.labels, text=shop.task.tokenized)
        if tokenizer_digest(loaded.tokenizer) != tokenizer_digest(self.start.tokenizer):
            raise ConfigError(f"method.{spec.setting}: the vocabulary of {name} is not the student's; name a model with the same tokenizer")
        return loaded.model

    def _cut(self, model: Any, spec: RoleSpec | None) -> Any:
        if spec and spec.layers:
            depth = anatomy.shape(model.config).depth
            if spec.layers > depth:
                raise ConfigError(f"method.layers: {spec.layers} asked for; the model has {depth}")
            model = find("surgery", "keep_layers")(keep="even", count=spec.layers)(model)
        return model.to(self.shop.machine.device).eval().requires_grad_(False)
