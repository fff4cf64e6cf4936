"""Runs of BERT and GPT opened by transformers, a part of check.py.

Trains both for a moment, opens the runs' folders with AutoModel… and AutoTokenizer, and compares: the five likeliest tokens of
a blank with their probabilities, and forty tokens of greedy generation. Then the same with folders that transformers wrote.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

SMALL = "--set positions=48 --set width=32 --set depth=2 --set heads=4 --batch-size 8 --epochs 2 --device cpu --threads 1"
SENTENCE = "The [MASK] is mightier than the sword."
PROMPT = "To be, or"
TOKENS = 40


def portolan(program, *words):
    done = subprocess.run([program, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"portolan {' '.join(words)}: {done.stderr}")
    return done.stdout


def check_bert(program, run):
    tokenizer, model = AutoTokenizer.from_pretrained(run), AutoModelForMaskedLM.from_pretrained(run).eval()
    words = tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.cls_token_id, *words, tokenizer.sep_token_id]])
    with torch.no_grad():
        shares = model(ids).logits[0, ids[0].tolist().index(tokenizer.mask_token_id)].double().softmax(0)
    best = shares.topk(5)
    theirs = [(tokenizer.convert_ids_to_tokens(i.item()), 100 * p.item()) for p, i in zip(*best)]
    lines = [line.split("%") for line in portolan(program, "fill", run, SENTENCE).splitlines()[1:]]
    ours = [(token.strip(), float(share)) for share, token in lines]
    same = all(a[0] == b[0] and abs(a[1] - b[1]) <= 0.06 for a, b in zip(ours, theirs, strict=True))
    print("bert", "agrees" if same else f"differs: {ours} {theirs}")
    return same


def check_gpt(program, run):
    tokenizer, model = AutoTokenizer.from_pretrained(run), AutoModelForCausalLM.from_pretrained(run).eval()
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    theirs = model.generate(ids, do_sample=False, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
    theirs = tokenizer.decode(theirs[0], skip_special_tokens=True)
    command = ["generate", run, "--prompt", PROMPT, "--temperature", "0", "--tokens", str(TOKENS)]
    ours = portolan(program, *command).removesuffix("\n")
    print("gpt", "agrees" if ours == theirs else f"differs: {ours!r} {theirs!r}")
    return ours == theirs


def write_folder(kind, run, folder):
    """A network of the run's sizes with other weights, as transformers writes it, with the run's tokenizer."""
    kind.from_config(AutoConfig.from_pretrained(run)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{run}/{name}", folder)


def check(root, scratch):
    """Whether both agree, with the program of the checkout `root`."""
    words = ["cargo", "build", "--quiet", "--release", "--workspace", "--bin", "portolan"]
    subprocess.run(words, cwd=root, check=True)
    program = str(root / "target/release/portolan")
    text = Path(scratch) / "text.txt"
    text.write_text("The pen is mightier than the sword. To be, or not to be: that is the question.\n" * 60)
    good = True
    torch.manual_seed(0)
    kinds = [("bert", check_bert, AutoModelForMaskedLM, 80), ("gpt", check_gpt, AutoModelForCausalLM, 300)]
    for method, check_run, kind, size in kinds:
        run = f"{scratch}/{method}"
        words = f"pretrain {method} --data {text} --set tokenizer.size={size} {SMALL} --out {run}".split()
        portolan(program, *words)
        good &= check_run(program, run)
        folder = f"{scratch}/{method}-of-transformers"
        write_folder(kind, run, folder)
        good &= check_run(program, folder)
    return good
