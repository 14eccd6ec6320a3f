"""A masked-language-model generator that writes where student and teacher part: what MATE-KD and Combined-KD share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..config import Count, Positive, settings
from ..errors import ConfigError
from ..rows import Seen, Term
from ._method import Facts, Needs, RoleSpec, See, Stage, Turn

if TYPE_CHECKING:
    from torch import Tensor

Terms = Callable[[See], dict[str, Term]]
Distance = Callable[[See, Seen, Seen, float], Term]


@settings
class Adversary:
    """Settings of the generator, and its turns."""

    generator: str | None = None
    """A masked LM with the student's vocabulary, by name or folder; null takes the teacher's model before it was fine-tuned."""
    prepare: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps that teach the generator to fill masks in the task's text first, with a head tied to its embeddings;
    null takes an epoch where no generator is named, none where one is. Its perplexity on dev is said and recorded."""
    mask: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Probability that a token is masked and written anew by the generator."""
    gumbel: Positive = 1.0
    """Temperature of the hard Gumbel softmax."""
    generator_steps: Count = 10
    """Steps of the generator in each cycle."""
    student_steps: Count = 100
    """Steps of the student in each cycle."""
    generator_rate: Positive = 5e-7
    """The generator's peak learning rate."""
    generator_budget: Literal["within", "beside"] = "within"
    """Whether the generator's steps are part of the student's budget, as published, or come beside it."""

    def roles(self, facts: Facts) -> dict[str, RoleSpec]:
        if facts.mask_token is None:
            raise ConfigError("method: the student has no tokenizer with a mask token, which this method writes over; take another method")
        return {"generator": RoleSpec(start=self.generator or "teacher", head="masked_lm", setting="generator")}

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(same_tokens=True)

    def preparation(self, facts: Facts) -> list[Stage]:
        """The stage in which the generator learns to fill masks, if there is one."""
        steps = self.prepare if self.prepare is not None else (0 if self.generator else facts.steps_per_epoch)
        turn = Turn(lambda see: {"mask": Term(self.fill(see, facts)[0], "token", 1 / self.mask)}, role="generator")
        return [Stage("prepare", (turn,), steps, teacher=None, select=False, judge=lambda see: self.fill(see, facts))] if steps else []

    def turns(
        self, facts: Facts, part: Distance, student: Callable[[See, Callable[[], dict[str, Seen]]], dict[str, Term]]
    ) -> tuple[Turn, ...]:
        """The generator's turn, which parts student and teacher, then the student's, whose terms may look at the new text."""

        def apart(see: See) -> dict[str, Term]:
            seen = self.written(see, facts, learn=True)
            return {"apart": part(see, seen["student"], seen["teacher"], -1.0)}

        return (
            Turn(apart, role="generator", steps=self.generator_steps, learning_rate=self.generator_rate),
            Turn(lambda see: student(see, lambda: self.written(see, facts, learn=False)), steps=self.student_steps),
        )

    def length(self, budget: int) -> int:
        """Steps of a stage of these turns whose budget is `budget`."""
        cycles = -(-budget // self.student_steps) if self.generator_budget == "beside" else 0
        return budget + cycles * self.generator_steps

    def fill(self, see: See, facts: Facts) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of masked tokens in nats, and how many there are."""
        ids, hidden, _ = self._masked(see, facts)
        scores = self._scores(see, ids, hidden, facts)
        each = -scores.log_softmax(-1).gather(-1, ids[hidden][:, None])
        return each.sum(), hidden.sum()

    def written(self, see: See, facts: Facts, learn: bool) -> dict[str, Seen]:
        """Student and teacher on the text with masked tokens written by the generator; `learn` lets gradients reach it.

        A written token is a hard choice whose gradient is that of the soft one (straight through); each role sees its own
        embedding of it. Rows draw masks and Gumbel noise from generators of their own.
        """
        import torch

        with torch.set_grad_enabled(learn):
            ids, hidden, best, soft = self.chosen(see, facts, learn)
        out, size = {}, see.embeddings("generator").shape[0]
        for role in ("student", "teacher"):
            table = see.embeddings(role)
            if table.shape[0] != size:
                what = f"the generator writes {size} tokens, the {role} knows {table.shape[0]}"
                raise ConfigError(f"method.generator: {what}; name a masked LM with the same vocabulary")
            new = table[best]
            if soft is not None:
                expected = soft @ table.float()
                new = new + (expected - expected.detach())
            mixed = table[ids].to(new.dtype).masked_scatter(hidden[..., None], new)
            inputs = {k: v for k, v in see.batch.inputs.items() if k != "input_ids"}
            out[role] = see(role, {**inputs, "inputs_embeds": mixed})
        return out

    def chosen(self, see: See, facts: Facts, learn: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Token ids, which are masked (rows, tokens), the tokens written there (masked,), and to `learn` from the soft choice of each,
        (masked, vocabulary), summing to 1.

        The token is drawn from the generator's probabilities: where nobody learns, by one number each, else as the soft choice's greatest.
        """
        import torch

        ids, hidden, draws = self._masked(see, facts)
        scores = self._scores(see, ids, hidden, facts)
        shape = scores.shape[-1:] if learn else ()
        drawn = [
            torch.rand(int(n), *shape, dtype=torch.float64, generator=g).to(scores.device)
            for n, g in zip(hidden.sum(-1), draws, strict=True)
        ]
        if learn:
            soft = ((scores - torch.cat(drawn).log().neg().float().log()) / self.gumbel).softmax(-1)
            return ids, hidden, soft.argmax(-1), soft
        below = scores.softmax(-1).cumsum(-1)
        at = torch.searchsorted(below, (torch.cat(drawn).float() * below[:, -1])[:, None], right=True)
        return ids, hidden, at[:, 0].clamp(max=scores.shape[-1] - 1), None

    def _masked(self, see: See, facts: Facts) -> tuple[Tensor, Tensor, list]:
        """Token ids, which of them are masked (rows, tokens), and the rows' generators."""
        import torch

        ids, real = see.batch.inputs["input_ids"], see.batch.inputs["attention_mask"].bool()
        for special in facts.special_tokens:
            real = real & (ids != special)
        draws = see.generators()
        drawn = torch.nn.utils.rnn.pad_sequence(
            [torch.rand(int(n), generator=g) for n, g in zip(see.batch.inputs["attention_mask"].sum(-1), draws, strict=True)],
            batch_first=True,
        )
        drawn = torch.nn.functional.pad(drawn, (0, ids.shape[1] - drawn.shape[1]), value=1.0)
        return ids, real & (drawn.to(ids.device) < self.mask), draws

    def _scores(self, see: See, ids: Tensor, hidden: Tensor, facts: Facts) -> Tensor:
        """The generator's scores of masked places alone: (masked, vocabulary)."""
        assert facts.mask_token is not None
        inputs = {**see.batch.inputs, "input_ids": ids.masked_fill(hidden, facts.mask_token)}
        return see("generator", inputs, hidden).outputs["logits"].float()
