from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    JinaEmbeddingsV3Config,
    JinaEmbeddingsV3Model,
)
from transformers.models.gemma2.modeling_gemma2 import Gemma2RotaryEmbedding
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.jina_embeddings_v3.modeling_jina_embeddings_v3 import (
    JinaEmbeddingsV3RotaryEmbedding,
)

from sakuga.checkpoint.families.tables import config_of
from sakuga.model.spec import CHIBI, GemmaSpec, JinaSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder, masked_mean

GEMMA = GemmaSpec(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    query_pre_attn_scalar=6,
    sliding_window=3,
    full_attention_layers=(1,),
    max_position_embeddings=64,
)
# The bound is low, so that it is felt.
GEMMA_2 = replace(
    GEMMA, qk_norm=False, attn_softcap=1.5, rope_theta=5e3, rope_local_theta=5e3,
    rope_linear_factor=1.0,
)  # fmt: skip
JINA = JinaSpec(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=64,
)


# The real one's layers and heads, of other widths.
LUMINA_2B = replace(
    GEMMA_2, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4,
    full_attention_layers=(1, 3, 5), attn_softcap=50.0,
)  # fmt: skip


def filled(encoder):
    torch.manual_seed(0)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.fixture(scope="module")
def gemma() -> GemmaEncoder:
    return filled(GemmaEncoder(GEMMA))


@pytest.fixture(scope="module")
def jina() -> JinaEncoder:
    return filled(JinaEncoder(JINA))


IDS = torch.tensor([[2, 7, 11, 13, 17, 19, 23], [2, 29, 31, 37, 41, 43, 47]])


def of_transformers(encoder, build, config):
    """The model of transformers with an encoder's weights; what only it has is random."""
    whole = filled(build(config(**config_of(encoder.spec)))).to(next(encoder.parameters()).dtype)
    own = encoder.model.state_dict()
    left = whole.state_dict().keys() - own.keys()
    last = f"layers.{encoder.spec.num_hidden_layers - 1}."
    assert all(key.startswith((last, "norm.", "pooler.")) for key in left)
    whole.load_state_dict({**whole.state_dict(), **own})
    whole.rotary_emb = type(whole.rotary_emb)(whole.config)  # a cast took digits of its angles
    return whole.eval()


TEXTS = [IDS, IDS[:, :3], IDS[:, :1]]  # longer than the window of GEMMA, as long, one word


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "spec",
    [GEMMA, replace(GEMMA, num_key_value_heads=4), CHIBI.gemma],
    ids=["tiny", "ungrouped", "chibi"],
)
def test_gemma_is_that_of_transformers_to_the_bit(spec, dtype):
    assert_equal_to_the_bit(spec, dtype, Gemma3TextModel, Gemma3TextConfig)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "spec",
    [GEMMA_2, replace(GEMMA_2, num_key_value_heads=4, sliding_window=40), LUMINA_2B],
    ids=["tiny", "ungrouped", "narrow"],
)
def test_gemma_2_is_that_of_transformers_to_the_bit(spec, dtype):
    assert_equal_to_the_bit(spec, dtype, Gemma2Model, Gemma2Config)


def assert_equal_to_the_bit(spec, dtype, model, config) -> None:
    encoder = filled(GemmaEncoder(spec)).to(dtype)
    theirs = of_transformers(encoder, model, config)
    for ids in TEXTS:
        states = theirs(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        assert torch.equal(encoder(ids), states[-2])


@pytest.mark.parametrize(
    "change",
    [{"attn_softcap": 3.0}, {"sliding_window": 2}, {"full_attention_layers": ()},
     {"query_pre_attn_scalar": 8}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_number_of_gemma_2_is_felt(change):
    states = filled(GemmaEncoder(GEMMA_2))(IDS)
    others = filled(GemmaEncoder(replace(GEMMA_2, **change)))(IDS)
    assert (states - others).abs().max() > 1e-4


def last_layer(encoder, ids):
    """What the last layer makes of ids (B, L), before pooling: (B, L, W)."""
    seen = []
    layer = encoder.model.layers[-1]
    hook = layer.register_forward_hook(lambda module, given, made: seen.append(made))
    encoder(ids)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", [JINA, CHIBI.jina], ids=["tiny", "chibi"])
def test_jina_is_that_of_transformers_to_the_bit(spec, dtype):
    encoder = filled(JinaEncoder(spec)).to(dtype)
    theirs = of_transformers(encoder, JinaEmbeddingsV3Model, JinaEmbeddingsV3Config)
    padded = torch.cat((IDS[:, :4], torch.full((2, 3), spec.pad_token_id)), dim=1)
    for ids in (*TEXTS, padded):
        states = theirs(input_ids=ids, attention_mask=ids != spec.pad_token_id)
        assert torch.equal(last_layer(encoder, ids), states.last_hidden_state)


def test_gemma_leaves_out_its_last_layer(gemma):
    assert len(gemma.model.layers) == GEMMA.num_hidden_layers - 1


@pytest.mark.parametrize("encoder", [GemmaEncoder(GEMMA), JinaEncoder(JINA)])
def test_training_starts_from_small_random_matrices(encoder):
    for name, value in encoder.named_parameters():
        if value.dim() > 1:
            assert 0.01 < value.std() < 0.03, name
        elif name.endswith("bias"):
            assert not value.any(), name


def test_gemma_reads_forwards_so_padding_on_the_right_is_never_seen(gemma):
    torch.testing.assert_close(gemma(IDS[:, :4]), gemma(IDS)[:, :4])


def test_gemma_looks_through_its_window_where_attention_is_not_full():
    near = filled(GemmaEncoder(replace(GEMMA, full_attention_layers=())))
    moved = IDS.clone()
    moved[:, 1] = 5
    difference = (near(moved) - near(IDS)).abs().amax(dim=(0, 2))
    # Two layers, each seeing two tokens back, carry a change four tokens far.
    assert (difference > 0).tolist() == [False, True, True, True, True, True, False]


def test_a_batch_of_texts_is_each_text_alone(gemma, jina):
    for encoder in (gemma, jina):
        alone = torch.cat([encoder(ids[None]) for ids in IDS])
        torch.testing.assert_close(encoder(IDS), alone)


def test_jina_pools_the_words_and_not_the_padding(jina):
    padded = torch.cat((IDS[:, :4], torch.full((2, 3), JINA.pad_token_id)), dim=1)
    torch.testing.assert_close(jina(padded), jina(IDS[:, :4]))
    torch.testing.assert_close(jina(IDS), last_layer(jina, IDS).mean(dim=1))


def test_the_mean_takes_only_what_the_mask_leaves():
    features = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert masked_mean(features, torch.tensor([[True, True, False]])).item() == 2.0


def test_rotary_tables_are_those_of_transformers(gemma, jina):
    x, positions = torch.zeros(1), torch.arange(40)[None]
    theirs = Gemma3RotaryEmbedding(Gemma3TextConfig(**config_of(GEMMA)))
    for kind in ("full_attention", "sliding_attention"):
        ours = gemma.rotary(x, positions, kind)
        torch.testing.assert_close(ours, theirs(x, positions, kind))
    older = Gemma2RotaryEmbedding(Gemma2Config(**config_of(GEMMA_2)))
    for kind in ("full_attention", "sliding_attention"):
        ours = GemmaEncoder(GEMMA_2).rotary(x, positions, kind)
        torch.testing.assert_close(ours, older(x, positions))
    other = JinaEmbeddingsV3RotaryEmbedding(JinaEmbeddingsV3Config(**config_of(JINA)))
    torch.testing.assert_close(jina.rotary(x, positions), other(x, positions))


@pytest.mark.parametrize(
    ("encoder", "spec"), [(GemmaEncoder, GEMMA), (GemmaEncoder, GEMMA_2), (JinaEncoder, JINA)]
)
def test_one_built_on_the_meta_device_needs_nothing_but_its_parameters(encoder, spec):
    with torch.device("meta"):
        empty = encoder(spec)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert list(empty.buffers()) == []
    whole = filled(encoder(spec))
    empty.load_state_dict(whole.state_dict(), assign=True)
    assert torch.equal(empty(IDS), whole(IDS))


@pytest.mark.parametrize(
    ("encoder", "spec"), [(GemmaEncoder, GEMMA), (GemmaEncoder, GEMMA_2), (JinaEncoder, JINA)]
)
def test_a_cast_keeps_the_digits_of_positions(encoder, spec):
    whole = filled(encoder(spec))
    half = encoder(spec)
    half.load_state_dict(whole.state_dict())
    half.bfloat16()
    positions = torch.arange(40)[None]
    kind = next(iter(whole.rotary.kinds))
    x = torch.zeros(1)
    for ours, theirs in zip(
        half.rotary(x, positions, kind),
        whole.rotary(x, positions, kind),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert half(IDS).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("encoder", "spec"), [(GemmaEncoder, GEMMA), (GemmaEncoder, GEMMA_2), (JinaEncoder, JINA)]
)
def test_every_parameter_learns(encoder, spec):
    model = filled(encoder(spec)).train()
    first, second = model(IDS), model(IDS)
    assert torch.equal(first, second)  # nothing is dropped at random
    first.square().sum().backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        # softmax ignores what is common to all keys
        if not parameter.grad.any() and "k_proj.bias" not in name
    ]
    assert still == []
