"""Training tokens per second: Portolan beside transformers with PyTorch, in turns, on the CPU in float32.

text_speed.py PORTOLAN TEXT FOLDER [THREADS] [TURNS] trains BERT and GPT of the recipes `shakespeare` on the file or folder TEXT:
with Portolan for some hundreds of steps, then with transformers for as many, of the same sizes and batches, AdamW, clipping at 1
and the same masking. The runs go into FOLDER. Each turn prints both speeds, without the first quarter of the steps.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

VOCABULARY = 1024
WIDTH, HEADS = 128, 4
# Blocks, tokens of a sequence, sequences of a batch.
RECIPES = {"bert": (2, 16, 64), "gpt": (3, 64, 16)}
STEPS = 400
MASK, FIRST = 4, 5


def network(method):
    depth, length, _ = RECIPES[method]
    if method == "gpt":
        config = GPT2Config(
            vocab_size=VOCABULARY, n_positions=length, n_embd=WIDTH, n_layer=depth, n_head=HEADS, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        )
        return GPT2LMHeadModel(config)
    config = BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=length, hidden_size=WIDTH, num_hidden_layers=depth,
        num_attention_heads=HEADS, intermediate_size=4 * WIDTH, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    return BertForMaskedLM(config)


def batch(method, ids):
    """The arguments of the network for these token ids."""
    if method == "gpt":
        return {"input_ids": ids, "labels": ids}
    # As transformers' DataCollatorForLanguageModeling hides tokens.
    labels = ids.clone()
    selected = torch.rand(ids.shape) < 0.15
    labels[~selected] = -100
    draw = torch.rand(ids.shape)
    shown = ids.masked_fill(selected & (draw < 0.8), MASK)
    random = torch.randint(FIRST, VOCABULARY, ids.shape)
    shown = torch.where(selected & (draw >= 0.8) & (draw < 0.9), random, shown)
    return {"input_ids": shown, "attention_mask": torch.ones_like(ids), "labels": labels}


def transformers(method, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    _, length, size = RECIPES[method]
    model = network(method).train()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    text = torch.randint(FIRST, VOCABULARY, (4096, length))
    for step in range(STEPS):
        if step == STEPS // 4:
            started = time.perf_counter()
        ids = text[torch.randint(0, len(text), (size,))]
        optimizer.zero_grad()
        model(**batch(method, ids)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (STEPS - STEPS // 4) * size * length / (time.perf_counter() - started)


def portolan(program, text, folder, method, threads, turn):
    _, length, size = RECIPES[method]
    run = folder / f"{method}-{turn}"
    words = [program, "pretrain", method, "--data", text, "--threads", str(threads), "--epochs", "1", "--device", "cpu"]
    words += ["--out", str(run)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    rows = []
    while process.poll() is None and (not rows or rows[-1]["step"] < STEPS):
        time.sleep(0.2)
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]
    process.kill()
    process.wait()
    speeds = [row["images_per_second"] for row in rows if STEPS // 4 < row["step"] <= STEPS and "images_per_second" in row]
    return length * len(speeds) / sum(1 / speed for speed in speeds)


def main():
    program, text, folder = sys.argv[1:4]
    threads, turns = (int(word) for word in (sys.argv[4:6] + ["2", "3"][len(sys.argv[4:6]) :]))
    print("| method | turn | Portolan (tokens/s) | transformers (tokens/s) | ratio |\n|---|---|---|---|---|")
    for method in RECIPES:
        for turn in range(1, turns + 1):
            ours = portolan(program, text, Path(folder), method, threads, turn)
            theirs = transformers(method, threads)
            print(f"| {method} | {turn} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |", flush=True)


main()
