"""BERT and GPT-2 of transformers, of small sizes and with weights by formula: hidden states, logits, losses and gradients of the
positions, and names of parameters."""

import torch
from encoders import write_keys
from file import fill_weights, unit
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

SETTINGS = {"vocabulary": 47, "width": 24, "layers": 2, "heads": 3, "positions": 40, "base": 7000}
BATCH, TOKENS = 2, 12
IGNORED = -100
# Not entries of their own: the table of token embeddings, and `cls.predictions.bias`.
TIED = {"bert": ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"], "gpt2": ["lm_head.weight"]}


class Untied:
    """A model's entries without the tied ones."""

    def __init__(self, name, net):
        self.entries = {key: value for key, value in net.state_dict().items() if key not in TIED[name]}

    def state_dict(self):
        return self.entries


def build(name):
    s = SETTINGS
    if name == "bert":
        config = BertConfig(
            vocab_size=s["vocabulary"],
            hidden_size=s["width"],
            num_hidden_layers=s["layers"],
            num_attention_heads=s["heads"],
            intermediate_size=4 * s["width"],
            max_position_embeddings=s["positions"],
        )
        net = BertForMaskedLM(config)
    else:
        config = GPT2Config(
            vocab_size=s["vocabulary"],
            n_embd=s["width"],
            n_layer=s["layers"],
            n_head=s["heads"],
            n_positions=s["positions"],
            bos_token_id=0,
            eos_token_id=0,
        )
        net = GPT2LMHeadModel(config)
    net = net.double().eval()
    net.tie_weights()
    fill_weights(Untied(name, net), s["base"])
    return net


def tokens(seed):
    """Token ids of 1 and more, by formula."""
    numbers = unit(seed, BATCH, TOKENS) / (2 * 3**0.5) + 0.5
    return 1 + (numbers * (SETTINGS["vocabulary"] - 1)).long().clamp(0, SETTINGS["vocabulary"] - 2)


def fill(file):
    ids = tokens(7999)
    attention = torch.ones_like(ids)
    attention[1, 9:] = 0
    labels = torch.where((unit(7998, BATCH, TOKENS) > 0.8) & (attention > 0), ids, IGNORED)
    masked = torch.where(labels != IGNORED, 0, ids)
    bert = build("bert")
    out = bert(input_ids=masked, attention_mask=attention, labels=labels, output_hidden_states=True)
    grad = bert.bert.embeddings.position_embeddings.weight
    add(file, "bert", {"ids": masked, "attention": attention, "labels": labels}, out, grad)
    gpt = build("gpt2")
    out = gpt(input_ids=ids, labels=ids, output_hidden_states=True)
    add(file, "gpt2", {"ids": ids}, out, gpt.transformer.wpe.weight)


def add(file, case, inputs, out, positions):
    out.loss.backward()
    outputs = {
        "hidden": out.hidden_states[-1],
        "logits": out.logits,
        "loss": out.loss.view(1),
        "position_grad": positions.grad,
    }
    file.add(case, SETTINGS, in_=inputs, out_={name: x.float() for name, x in outputs.items()})


def save_keys(path):
    write_keys(path, {name: build(name) for name in TIED})
