"""What writes answers: any server that speaks OpenAI's protocol, or a model in this process."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from ..errors import ConfigError, MissingExtra
from ..tasks._chat import words_of
from .network import is_private


class Failed(Exception):
    """A request without an answer; says why. `down` where no other request would fare better."""

    def __init__(self, why: str, tries: int = 1, down: bool = False):
        super().__init__(why)
        self.tries, self.down = tries, down


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back, and what it took."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    tries: int = 1


@dataclasses.dataclass(frozen=True)
class Request:
    """One chat to answer."""

    messages: list[dict[str, str]]
    temperature: float = 0.0
    tokens: int = 300
    """Most tokens of the answer."""
    seed: int = 0


class Writer(Protocol):
    """Answers chats; raises Failed."""

    model: str
    at_once: int
    """How many requests `write` takes in one call."""
    concurrent: bool
    """Whether calls may overlap."""

    async def write(self, requests: Sequence[Request]) -> list[Reply | Failed]: ...


class Server:
    """A model behind an OpenAI-compatible server, asked with retries that back off, as the server's Retry-After says where it does.

    The key is read from the environment variable `key` and is neither stored nor shown; servers that ask for none get a word.
    Raises MissingExtra without the package openai, ConfigError for an address that is none, and for a key that would go over the
    network in the clear without `in_clear`.
    """

    at_once = 1
    concurrent = True

    def __init__(
        self, model: str, url: str | None = None, *, key: str = "OPENAI_API_KEY", in_clear: bool = False, retries: int = 5,
        timeout: float = 120.0,
    ):  # fmt: skip
        try:
            import openai
        except ModuleNotFoundError:
            raise MissingExtra("a server", "answers") from None
        secret = os.environ.get(key)
        if url is None and not secret:
            raise ConfigError(f"--server: the environment variable {key} holds no key; set it, or name a server of your own")
        try:
            self._client = openai.AsyncOpenAI(base_url=url, api_key=secret or "none", max_retries=retries, timeout=timeout)
            there = str(self._client.base_url)  # which the environment may name too
            known = urlsplit(there).scheme in ("http", "https") and bool(urlsplit(there).hostname)
        except ValueError:
            known = False
        except Exception as fault:  # httpx's own, which the package does not depend on by itself
            if type(fault).__name__ != "InvalidURL":
                raise
            known = False
        if not known:
            raise ConfigError(f"--server: '{url}' is no address; write one such as http://localhost:11434/v1")
        if secret and not in_clear and not is_private(there):
            raise ConfigError(
                f"--server: {there} is neither on this machine nor https, so the key in {key} would go to it in the clear; take https, "
                f"unset {key} where the server wants none, or allow it with --key-over-http"
            )
        self.model, self.url, self._lib = model, url, openai
        self._retries = retries

    async def write(self, requests: Sequence[Request]) -> list[Reply | Failed]:
        return [await self._one(request) for request in requests]

    async def _one(self, request: Request) -> Reply | Failed:
        lib, tries = self._lib, self._retries + 1
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self.model, messages=request.messages, temperature=request.temperature, max_tokens=request.tokens,  # type: ignore[arg-type]
                seed=request.seed,
            )  # fmt: skip
            found = raw.parse()
            tries = 1 + int(getattr(raw, "retries_taken", 0))
            text = found.choices[0].message.content
            usage = found.usage
        except lib.APIConnectionError as fault:  # no answer in time is one of these
            return Failed(f"{self.url or 'the server'} does not answer ({type(fault.__cause__ or fault).__name__})", tries, down=True)
        except lib.APIStatusError as fault:
            down = fault.status_code in (401, 403, 404)
            return Failed(f"{self.url or 'the server'} said {fault.status_code}: {_line(fault.message)}", tries, down=down)
        except (lib.OpenAIError, ValueError, TypeError, AttributeError, IndexError, KeyError) as fault:
            return Failed(f"{self.url or 'the server'} answered what is no completion ({type(fault).__name__})", tries)
        if not isinstance(text, str) or not text.strip():
            return Failed("the model answered nothing", tries)
        read, written = (_count(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens"))
        return Reply(text.strip(), read, written, tries)


class Local:
    """A causal language model in this process, by name or folder; chats by its template, one batch at a time.

    Raises ConfigError for a model without a chat template, and as loading does.
    """

    concurrent = False

    def __init__(self, model: str, *, at_once: int = 4, threads: int | None = None):
        from ..engine.machine import Machine
        from ..models.load import open_model

        self.machine = Machine(threads)
        loaded = open_model(model, {}, auto="AutoModelForCausalLM")
        if loaded.new_head:
            raise ConfigError(f"{model}: is no causal language model, and only such a model writes answers")
        if not getattr(loaded.tokenizer, "chat_template", None):
            raise ConfigError(f"{model}: its tokenizer has no chat template; name an instruction-tuned model")
        self.model, self.at_once, self._words = model, at_once, loaded.tokenizer
        self._model = loaded.model.to(self.machine.device).eval()

    async def write(self, requests: Sequence[Request]) -> list[Reply | Failed]:
        return await asyncio.to_thread(self._write, requests)

    def _write(self, requests: Sequence[Request]) -> list[Reply | Failed]:
        import torch

        from ..engine.write import continuations

        room = getattr(self._model.config, "max_position_embeddings", None)
        asked: dict[int, torch.Tensor] = {}
        out: list[Reply | Failed] = [Failed("")] * len(requests)
        for i, request in enumerate(requests):
            try:
                prompt = self._words.apply_chat_template(request.messages, add_generation_prompt=True, return_dict=False)
            except Exception as fault:  # whatever a template may raise
                out[i] = Failed(f"the model's chat template refuses the question: {words_of(fault)}")
                continue
            if room and len(prompt) + request.tokens > room:
                out[i] = Failed(f"the question with its quotes has {len(prompt)} tokens, and the model takes {room} with the answer")
            else:
                asked[i] = torch.tensor(prompt, device=self.machine.device)
        for temperature in {requests[i].temperature for i in asked}:
            mine = [i for i in asked if requests[i].temperature == temperature]
            draws = [torch.Generator().manual_seed(requests[i].seed) for i in mine]
            written = continuations(self._model, [asked[i] for i in mine], [requests[i].tokens for i in mine], draws, temperature)
            for i, row in zip(mine, written, strict=True):
                text = self._words.decode(row, skip_special_tokens=True).strip()
                out[i] = Reply(text, len(asked[i]), len(row)) if text else Failed("the model answered nothing")
        return out


def _count(told: object) -> int | None:
    """A number of tokens as a server tells it; None for what is none."""
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 2**31 else None


def _line(text: str) -> str:
    """The beginning of a text, on one line, without what is no text."""
    return " ".join(re.sub("[\\x00\\ud800-\\udfff]", "?", str(text)).split())[:200]
