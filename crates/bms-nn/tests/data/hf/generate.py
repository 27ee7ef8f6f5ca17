"""Makes the tiny models of this folder, and what Hugging Face transformers computes with them.

    python -m venv venv && venv/bin/pip install torch transformers==5.24.0 safetensors
    venv/bin/python generate.py

Every model has a folder: `config.json`, `model.safetensors` (bfloat16), and `expected.safetensors` with the tokens that
were read and the logits of all positions, computed in 32-bit numbers. The seed is fixed, so that running this again gives
the same files.
"""

import json
import math
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
VOCAB = 64

SMALL = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    attn_implementation="eager",
)

MODELS = {
    "llama": transformers.LlamaConfig(
        **SMALL,
        tie_word_embeddings=False,
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=1000.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=16,
        ),
    ),
    "llama-bias": transformers.LlamaConfig(
        **SMALL,
        tie_word_embeddings=True,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
    ),
    "mistral": transformers.MistralConfig(**SMALL, head_dim=16, sliding_window=7),
    "mixtral": transformers.MixtralConfig(
        **{**SMALL, "intermediate_size": 16}, num_local_experts=4, num_experts_per_tok=2, sliding_window=None
    ),
    "qwen2": transformers.Qwen2Config(
        **SMALL,
        tie_word_embeddings=True,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
        rope_parameters=dict(
            rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16
        ),
    ),
    "qwen2-moe": transformers.Qwen2MoeConfig(
        **SMALL,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=24,
        num_experts=5,
        num_experts_per_tok=2,
        mlp_only_layers=[0],
    ),
    "qwen3": transformers.Qwen3Config(**SMALL, head_dim=16, tie_word_embeddings=False),
    "qwen3-moe": transformers.Qwen3MoeConfig(
        **SMALL,
        head_dim=8,
        moe_intermediate_size=16,
        num_experts=6,
        num_experts_per_tok=3,
        norm_topk_prob=True,
    ),
    "gemma2": transformers.Gemma2Config(
        **SMALL,
        head_dim=16,
        sliding_window=7,
        query_pre_attn_scalar=12,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": transformers.Gemma3TextConfig(
        **{**SMALL, "num_hidden_layers": 3},
        head_dim=16,
        sliding_window=7,
        query_pre_attn_scalar=12,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(
            sliding_attention=dict(rope_type="default", rope_theta=1000.0),
            full_attention=dict(rope_type="linear", rope_theta=10000.0, factor=8.0),
        ),
    ),
    "phi3": transformers.Phi3Config(
        **SMALL,
        sliding_window=11,
        partial_rotary_factor=1.0,
        original_max_position_embeddings=32,
        rope_parameters=dict(
            rope_type="longrope",
            rope_theta=10000.0,
            short_factor=[1.0, 1.1, 1.3, 1.6],
            long_factor=[1.0, 1.5, 2.0, 4.0],
            original_max_position_embeddings=32,
        ),
    ),
    "phi3-partial": transformers.Phi3Config(
        **{**SMALL, "num_attention_heads": 2, "num_key_value_heads": 1},
        sliding_window=None,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5),
    ),
}


def randomise(model, generator):
    """Weights large enough that every part of the computation shows in the logits, exact in bfloat16."""
    gemma = "Gemma" in type(model).__name__
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            new = noise * 0.2 if gemma else 1.0 + noise * 0.2
        elif name.endswith("bias"):
            new = noise * 0.3
        elif "embed" in name:
            new = noise * 0.5
        else:
            new = noise * 1.2 / math.sqrt(value.shape[-1])
        with torch.no_grad():
            value.copy_(new.to(torch.bfloat16).to(torch.float32))


def tokens(count, generator):
    return torch.randint(3, VOCAB, (count,), generator=generator)


def saved(model, folder):
    """Saves as bfloat16, which the weights are exact in."""
    folder.mkdir(parents=True)
    model.save_pretrained(folder, safe_serialization=True)
    weights = {name: value.to(torch.bfloat16) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for extra in folder.glob("generation_config.json"):
        extra.unlink()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids[None], use_cache=False).logits[0].to(torch.float32)


def decoders():
    for seed, (name, config) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        model = model.to(torch.float32).eval()
        randomise(model, generator)
        model.tie_weights()
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        saved(model, folder)
        short = tokens(24, generator)
        expected = dict(tokens=short.to(torch.int32), logits=logits(model, short))
        if name == "phi3":
            # Longer than the original context, where other factors apply.
            long = tokens(40, generator)
            expected |= dict(long_tokens=long.to(torch.int32), long_logits=logits(model, long)[-8:].contiguous())
        if name == "llama":
            adapter(model, folder, short, expected, generator)
        save_file(expected, folder / "expected.safetensors")
        print(name, expected["logits"].std().item(), sum(p.numel() for p in model.parameters()))


def adapter(model, folder, ids, expected, generator):
    """A PEFT adapter, and the logits of the model with it merged."""
    rank, alpha = 4, 6.0
    weights = {}
    merged = {name: value.clone() for name, value in model.state_dict().items()}
    targets = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
    targets += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    modules = [f"model.layers.{i}.{t}" for i in range(model.config.num_hidden_layers) for t in targets] + ["lm_head"]
    for module in modules:
        base = merged[f"{module}.weight"]
        a = torch.randn(rank, base.shape[1], generator=generator) / math.sqrt(base.shape[1])
        b = torch.randn(base.shape[0], rank, generator=generator) * 0.3
        a, b = (value.to(torch.bfloat16) for value in (a, b))
        weights[f"base_model.model.{module}.lora_A.weight"] = a
        weights[f"base_model.model.{module}.lora_B.weight"] = b
        merged[f"{module}.weight"] = base + alpha / rank * b.to(torch.float32) @ a.to(torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(merged)
    expected["adapter_logits"] = logits(model, ids)
    model.load_state_dict(before)
    place = folder / "adapter"
    place.mkdir()
    save_file(weights, place / "adapter_model.safetensors", metadata={"format": "pt"})
    config = dict(
        peft_type="LORA",
        r=rank,
        lora_alpha=alpha,
        target_modules=[t.split(".")[-1] for t in targets] + ["lm_head"],
        bias="none",
        fan_in_fan_out=False,
        use_dora=False,
        use_rslora=False,
        modules_to_save=None,
        base_model_name_or_path=None,
    )
    (place / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def encoder():
    generator = torch.Generator().manual_seed(99)
    config = transformers.BertConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        type_vocab_size=2,
        attn_implementation="eager",
    )
    model = transformers.BertModel(config, add_pooling_layer=False).to(torch.float32).eval()
    randomise(model, generator)
    folder = HERE / "bert"
    shutil.rmtree(folder, ignore_errors=True)
    saved(model, folder)
    expected = {}
    for index, count in enumerate([24, 5, 1]):
        ids = tokens(count, generator)
        with torch.no_grad():
            states = model(input_ids=ids[None]).last_hidden_state[0]
        expected[f"tokens_{index}"] = ids.to(torch.int32)
        expected[f"mean_{index}"] = torch.nn.functional.normalize(states.mean(0), dim=0).contiguous()
        expected[f"first_{index}"] = torch.nn.functional.normalize(states[0], dim=0).contiguous()
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    decoders()
    encoder()
