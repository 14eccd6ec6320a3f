"""Echoing models against the unshared one: prefill, decoding and training steps, by turns in one process.

    python benchmarks/echoatt.py --shape smollm2 --tokens 256,1024 --rows 1,8 --what prefill,decode,train --rounds 5

Weights are random; `smollm2` has its 30 layers, `tinyllama` as many layers of TinyLlama-1.1B's shape as --layers says (22 are the
whole). Systems: `eager` and `fused` are transformers' own Llama with eager attention and with its fused kernel (SDPA, grouped
queries kept), `echo` is the same model with a share of its layers echoing, computed as its measured rule decides (in training
always by the fused kernel); with `--maps` its heads echo heads at random, which parts the groups of query heads that share keys, as the
head maps of plans do. A decoding step adds one token to caches that hold --tokens random keys and values.

Every figure is a ratio of times in the same round, eager or fused over echo, as median (lowest to highest round). `bound` is the
ratio to `fused` that the saved work allows: operations for prefill and training (both leave the output layer out), bytes of weights
and caches for decoding. `MiB` is the most memory that one call took beyond what the process held before it (Linux alone).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import peak
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from tutelage.echo.price import price
from tutelage.models import echoes
from tutelage.models.plan import OWN

SHAPES: dict[str, dict[str, Any]] = {
    "smollm2": {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                "num_key_value_heads": 3, "max_position_embeddings": 8192, "tie_word_embeddings": True},
    "tinyllama": {"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
                  "num_key_value_heads": 4, "max_position_embeddings": 4096},
}  # fmt: skip


def entries(layers: int, share: float, heads: int = 0) -> list[dict[str, Any]]:
    """So many layers echo, spread over all but the first two and the last: each echoes the nearest earlier layer that does not.

    With `heads` each of so many heads echoes a random head of the source.
    """
    count = round(share * layers)
    places = [1 + round((i + 1) * (layers - 2) / (count + 1)) for i in range(count)] if count < layers - 2 else list(range(1, count + 1))
    made: list[dict[str, Any]] = [dict(OWN) for _ in range(layers)]
    for place in sorted(set(places)):
        source = next(i for i in range(place - 1, -1, -1) if i not in places)
        made[place] = {"kind": "echo", "source": source}
        if heads:
            made[place]["heads"] = np.random.default_rng(place).integers(heads, size=heads).tolist()
    return made


def models(given: argparse.Namespace, share: float) -> dict[str, Any]:
    shape = dict(SHAPES[given.shape])
    if given.layers:
        shape["num_hidden_layers"] = given.layers
    torch.manual_seed(0)
    made = {}
    for name, attention in (("eager", "eager"), ("fused", "sdpa")):  # a configuration each: models that share one share its attention
        made[name] = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation=attention)).to(getattr(torch, given.precision))
    heads = shape["num_attention_heads"] if given.maps else 0
    made["echo"] = echoes.convert(made["fused"], entries(shape["num_hidden_layers"], share, heads))
    return made


def prefill(model: Any, rows: int, tokens: int) -> Callable[[], None]:
    ids = torch.randint(5, 1000, (rows, tokens))

    @torch.no_grad()
    def call() -> None:
        model.eval()(ids, use_cache=True, logits_to_keep=1)

    return call


def decode(model: Any, rows: int, tokens: int) -> Callable[[], None]:
    config = model.config
    cache = DynamicCache(config=config)
    size, like = config.head_dim, next(model.parameters())
    kinds = [a["kind"] for a in echoes.attention_of(config)]
    for i, kind in enumerate(kinds):
        block = torch.randn(rows, config.num_key_value_heads, tokens, size, dtype=like.dtype)
        cache.update(block, block[..., :0] if kind == "echo" else torch.randn_like(block), i)
    ids = torch.randint(5, 1000, (rows, 1))

    @torch.no_grad()
    def call() -> None:
        model.eval()(ids, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return call


def train(model: Any, rows: int, tokens: int) -> Callable[[], None]:
    ids = torch.randint(5, 1000, (rows, tokens))

    def call() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        hidden = model.model(ids, use_cache=False).last_hidden_state
        hidden.float().square().mean().backward()

    return call


def bound(model: Any, what: str, rows: int, tokens: int, item: int) -> float:
    """The ratio of times that the saved work allows."""
    found = price(model.config, model.config.attention, tokens=tokens, item=item)
    if what == "decode":
        cache = rows * tokens * found["kv_bytes"]
        before = (found["parameters"] + found["parameters_saved"]) * item + cache / (1 - found["kv_share_saved"])
        return before / (found["parameters"] * item + cache)
    head = 2 * model.config.hidden_size * model.config.vocab_size
    return (found["flops"] - head) / (found["flops"] * (1 - found["flops_saved"]) - head)


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    out = []
    makers = {"prefill": prefill, "decode": decode, "train": train}
    for share in (float(x) for x in given.shares.split(",")):
        systems = models(given, share)
        for what in given.what.split(","):
            for rows in (int(x) for x in given.rows.split(",")):
                for tokens in (int(x) for x in given.tokens.split(",")):
                    calls = {n: makers[what](m, rows, tokens) for n, m in systems.items() if n in given.systems.split(",")}
                    times: dict[str, list[float]] = {name: [] for name in calls}
                    memory = {name: peak(call) for name, call in calls.items()}
                    for _ in range(given.rounds):
                        for name, call in calls.items():
                            taken = []
                            until = time.perf_counter() + given.seconds
                            while time.perf_counter() < until or not taken:
                                began = time.perf_counter()
                                call()
                                taken.append(time.perf_counter() - began)
                            times[name].append(float(np.median(taken)))
                    limit = bound(systems["echo"], what, rows, tokens, 2 if given.precision == "bfloat16" else 4)
                    row: dict[str, Any] = {"shape": given.shape, "precision": given.precision, "share": share, "what": what}
                    row |= {"maps": given.maps, "rows": rows, "tokens": tokens, "bound": round(limit, 3)}
                    row["ms"] = {n: round(1000 * float(np.median(t)), 2) for n, t in times.items()}
                    row["mib"] = {n: m if m is None else round(m) for n, m in memory.items()}
                    for name in calls:
                        if name != "echo":
                            ratios = np.array(times[name]) / np.array(times["echo"])
                            row[name] = [round(float(x), 3) for x in (np.median(ratios), ratios.min(), ratios.max())]
                    show(row)
                    out.append(row)
    return out


def show(row: dict[str, Any]) -> None:
    told = "  ".join(f"x {n} {row[n][0]:.3f} ({row[n][1]:.3f} to {row[n][2]:.3f})" for n in ("eager", "fused") if n in row)
    where = f"{row['share']:.0%} {row['what']:<8} rows {row['rows']:<3} tokens {row['tokens']:<5}"
    print(f"{where} {told}  bound {row['bound']:.3f}  ms {row['ms']}  MiB {row['mib']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="smollm2", choices=list(SHAPES))
    parser.add_argument("--layers", type=int, help="fewer layers of the shape")
    parser.add_argument("--shares", default="0.41")
    parser.add_argument("--what", default="prefill,decode,train")
    parser.add_argument("--rows", default="1")
    parser.add_argument("--tokens", default="256,1024")
    parser.add_argument("--systems", default="eager,fused,echo")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--maps", action="store_true", help="echoing heads echo heads at random, as head maps let them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="a system's turn")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    found = measure(given)
    if given.json:
        known = json.loads(given.json.read_text()) if given.json.exists() else []
        given.json.write_text(json.dumps(known + found, indent=1))


if __name__ == "__main__":
    main()
