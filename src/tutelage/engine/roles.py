"""Models by role, made when first asked for: the student, the teacher and its checkpoints, and the roles a method adds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import transformers

from ..errors import ConfigError
from ..find import find
from ..methods._method import Facts, Method, RoleSpec
from ..models import anatomy
from ..models.load import MASKED_LM, open_config, open_model
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
        shop = self.shop
        auto, head = (MASKED_LM, {}) if spec.head == "masked_lm" else (shop.task.auto, shop.head)
        return open_model(_name(spec, shop), head, auto=auto, labels=shop.data.labels, text=shop.task.tokenized).model

    def _cut(self, model: Any, spec: RoleSpec | None) -> Any:
        if spec and spec.layers:
            depth = anatomy.shape(model.config).depth
            if spec.layers > depth:
                raise ConfigError(f"method.layers: {spec.layers} asked for; the model has {depth}")
            model = find("surgery", "keep_layers")(keep="even", count=spec.layers)(model)
        return model.to(self.shop.machine.device).eval().requires_grad_(False)


def foresee(spec: RoleSpec, shop: Workshop, same_tokens: Callable[[str], bool]) -> None:
    """Raise ConfigError for a role's model that cannot stand beside the student: of the wrong kind, or of another vocabulary.

    `same_tokens` says whether a model by name has the student's. Opens no weights, so that nothing has been trained yet.
    """
    if spec.start == "student":
        return
    name = _name(spec, shop)
    if spec.head == "masked_lm" and type(open_config(name)) not in transformers.MODEL_FOR_MASKED_LM_MAPPING:
        raise ConfigError(f"method.{spec.setting}: {name} is no masked language model; name one with the student's tokenizer")
    if shop.task.tokenized and not same_tokens(name):
        raise ConfigError(f"method.{spec.setting}: the vocabulary of {name} is not the student's; name a model with the same tokenizer")


def _name(spec: RoleSpec, shop: Workshop) -> str:
    """What a role's model is opened by: its own name, or the teacher's before its training."""
    of = shop.recipe.teacher
    name = spec.start if spec.start != "teacher" else of and of.model
    if not name:
        raise ConfigError(f"method.{spec.setting}: there is no single teacher model to start from; name a model")
    return name
