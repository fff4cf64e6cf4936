"""Vision transformers of DINOv2, DINOv3, DeiT III and CLIP between Portolan, timm and transformers: the same features and tokens
to 1e-4, also for images of another size and aspect. Networks are small and their weights random; check.py runs this."""

from pathlib import Path

import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn

SIZE, WIDE = 20, (16, 32)
SMALL = {"embed_dim": 128, "depth": 2, "num_heads": 2, "patch_size": 4, "img_size": SIZE}
HF = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4, "image_size": SIZE}
DINOV2, REGISTERS = "vit_w128d2h2_patch4_dinov2_20", "vit_w128d2h2_patch4_reg2_dinov2_20"
OUT = [
    (name, layout)
    for name in (DINOV2, REGISTERS, f"{REGISTERS}+swiglu")
    for layout in ("timm", "dinov2", "transformers")
] + [(name, "timm") for name in ("vit_w128d2h2_patch4_dinov3_20", "deit3_w128d2h2_patch4_20", "vit_w128d2h2_patch4_clip_20")]


def of_timm(name, **changes):
    return timm.create_model(name, num_classes=0, dynamic_img_size=True, **{**SMALL, **changes})


def tokens_of(net, images):
    """The tokens after the last norm, of either library."""
    if isinstance(net, transformers.CLIPVisionModel):
        out = net(images, interpolate_pos_encoding=True)
        return net.post_layernorm(out.last_hidden_state)
    if isinstance(net, transformers.PreTrainedModel):
        return net(images).last_hidden_state
    return net.forward_features(images)


def built(name, layout, folder):
    """Portolan's export as the library builds it. DINOv2's names go through timm's reader of them."""
    if layout == "transformers":
        return transformers.AutoModel.from_pretrained(folder)
    if layout == "timm":
        return timm.create_model(f"local-dir:{folder}", pretrained=True, dynamic_img_size=True)
    # 344 of each half: two thirds of four times the width, rounded up to a multiple of 8.
    gated = {"mlp_ratio": (2 * 344 + 0.5) / SMALL["embed_dim"], "mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    net = of_timm(
        "vit_small_patch14_reg4_dinov2" if "reg" in name else "vit_small_patch14_dinov2",
        **({"reg_tokens": 2} if "reg" in name else {}),
        **(gated if "swiglu" in name else {}),
    )
    net.load_state_dict(checkpoint_filter_fn(load_file(folder / "model.safetensors"), net), strict=True)
    return net


def check_out(scratch, example, near):
    good = True
    for name, layout in OUT:
        folder = Path(scratch) / f"{name}-{layout}"
        example("export_vit", name, layout, folder)
        check = load_file(folder / "check.safetensors")
        net = built(name, layout, folder).eval()
        # timm's reader of DINOv2's names interpolates positions its own way.
        for images in ["images"] if layout == "dinov2" else ["images", "wide"]:
            tokens = tokens_of(net, check[images])
            good &= near(f"out  {name}, {images}", layout, tokens, check[f"{images}.tokens"])
            good &= near(f"out  {name}, {images}", layout, tokens[:, 0], check[f"{images}.features"])
    return good


def authors_of(net):
    """DINOv2's names of timm's network with registers: with a mask token, and a place of the class token."""
    state = {name.replace("reg_token", "register_tokens"): tensor for name, tensor in net.state_dict().items()}
    place = torch.full_like(state["cls_token"], 0.25)
    state["cls_token"] = state["cls_token"] - place
    state["pos_embed"] = torch.cat([place, state["pos_embed"]], 1)
    return {"teacher": {f"backbone.{name}": tensor for name, tensor in {**state, "mask_token": torch.zeros(1, 128)}.items()}}


def cases_in(moved):
    """What is saved, and the network that computes what is expected; a network of transformers as a folder."""
    registers = moved(of_timm("vit_small_patch14_reg4_dinov2"))
    clip = transformers.CLIPVisionConfig(**HF, intermediate_size=512)
    gated = transformers.Dinov2WithRegistersConfig(**HF, use_swiglu_ffn=True)
    dinov3 = {**HF, "intermediate_size": 512, "num_register_tokens": 4}
    dinov3_gated = {**dinov3, "use_gated_mlp": True, "hidden_act": "silu"}
    timms = {
        "DINOv2, timm": moved(of_timm("vit_small_patch14_dinov2")),
        "DINOv2 with registers, timm": registers,
        "DINOv3 ViT-S, timm": moved(timm.create_model("vit_small_patch16_dinov3", num_classes=0, global_pool="token")),
        "DINOv3 with biases, timm": moved(of_timm("vit_small_patch16_dinov3_qkvb", global_pool="token")),
        "DINOv3 S+, timm": moved(of_timm("vit_small_plus_patch16_dinov3", global_pool="token")),
        "DeiT III, timm": moved(of_timm("deit3_small_patch16_224")),
        "CLIP, timm": moved(of_timm("vit_base_patch16_clip_224")),
    }
    folders = {
        "Dinov2Model": transformers.Dinov2Model(transformers.Dinov2Config(**HF)),
        "Dinov2WithRegistersModel": transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**HF)),
        "Dinov2WithRegistersModel, SwiGLU": transformers.Dinov2WithRegistersModel(gated),
        "DINOv3ViTModel": transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**dinov3)),
        "DINOv3ViTModel, gated": transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**dinov3_gated)),
        "CLIPVisionModel": transformers.CLIPVisionModel(clip),
    }
    return (
        [(name, net, net.state_dict()) for name, net in timms.items()]
        + [("DINOv2 with registers, authors", registers, authors_of(registers))]
        + [("DINOv2, transformers in memory", net := moved(folders["Dinov2Model"]), net.state_dict())]
        + [(name, moved(net), None) for name, net in folders.items()]
    )


def check_in(scratch, example, near, moved):
    good = True
    for i, (name, net, contents) in enumerate(cases_in(moved)):
        seen, out = (Path(scratch) / f"vit{i}{end}" for end in ("-images.safetensors", "-out.safetensors"))
        file = Path(scratch) / (f"vit{i}" if contents is None else f"vit{i}.pth")
        if contents is None:
            net.save_pretrained(file)
        else:
            torch.save(contents, file)
        side = 64 if "ViT-S" in name else SIZE
        generator = torch.Generator().manual_seed(2)
        images = {
            "images": torch.randn(2, 3, side, side, generator=generator),
            "wide": torch.randn(2, 3, *(WIDE if side == SIZE else (32, 96)), generator=generator),
        }
        save_file(images, seen)
        example("features_of", file, seen, out)
        found = load_file(out)
        for images, pixels in images.items():
            tokens = tokens_of(net, pixels)
            good &= near(f"in   {name}, {images}", "Portolan", found[f"{images}.tokens"], tokens)
            good &= near(f"in   {name}, {images}", "Portolan", found[f"{images}.features"], tokens[:, 0])
    return good
