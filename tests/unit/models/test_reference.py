"""ResNet, BERT and GPT-2 give what the ``transformers`` implementations give, weights being equal.

A mapping from our names to theirs copies the weights over; every weight of theirs must be met.
"""

import re

import pytest
import torch

from eflib.models import GPT2, Bert, BertClassifier, ResNet

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}

RESNET_NAMES = (
    (r"^stem\.0", "resnet.embedder.embedder.convolution"),
    (r"^stem\.1", "resnet.embedder.embedder.normalization"),
    (r"^stages\.(\d+)\.(\d+)", r"resnet.encoder.stages.\1.layers.\2"),
    (r"conv(\d)\.", lambda match: f"layer.{int(match[1]) - 1}.convolution."),
    (r"norm(\d)\.", lambda match: f"layer.{int(match[1]) - 1}.normalization."),
    (r"shortcut\.0", "shortcut.convolution"),
    (r"shortcut\.1", "shortcut.normalization"),
    (r"^classifier", "classifier.1"),
)
BERT_NAMES = (
    (r"^words", "embeddings.word_embeddings"),
    (r"^places", "embeddings.position_embeddings"),
    (r"^segments", "embeddings.token_type_embeddings"),
    (r"^norm\.", "embeddings.LayerNorm."),
    (r"^layers", "encoder.layer"),
    (r"(query|key|value)", r"attention.self.\1"),
    (r"\.out\.", ".attention.output.dense."),
    (r"norm1", "attention.output.LayerNorm"),
    (r"expand", "intermediate.dense"),
    (r"contract", "output.dense"),
    (r"norm2", "output.LayerNorm"),
    (r"^pooler", "pooler.dense"),
)
GPT2_NAMES = (
    (r"^tokens", "wte"),
    (r"^places", "wpe"),
    (r"^blocks", "h"),
    (r"norm(\d)", r"ln_\1"),
    (r"^norm", "ln_f"),
    (r"\.qkv", ".attn.c_attn"),
    (r"\.out", ".attn.c_proj"),
    (r"expand", "mlp.c_fc"),
    (r"contract", "mlp.c_proj"),
)


def renamed(name, names):
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def with_random_norms(model):
    """Draw what starts as ones and zeros, so that nothing is equal by being left out."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.dim() == 1 and tensor.is_floating_point():
            tensor.normal_(mean=0.5, std=0.2)
    return model.eval()


def copied(ours, theirs, names, *, transposed=()):
    """Give their model our weights, each exactly once."""
    state = {renamed(name, names): value for name, value in ours.state_dict().items()}
    for name, value in state.items():
        if name.endswith(tuple(f"{part}.weight" for part in transposed)):
            state[name] = value.T.contiguous()
    wanted = {name for name in theirs.state_dict() if not name.endswith("position_ids")}
    assert set(state) == wanted
    theirs.load_state_dict(state, strict=False)
    return theirs.eval()


@pytest.fixture(scope="module")
def transformers():
    """Load the library when it is needed, which takes seconds."""
    import transformers

    return transformers


@torch.no_grad()
def test_resnet_scores_images_as_the_reference_does(transformers):
    torch.manual_seed(0)
    ours = with_random_norms(ResNet(depths=(2, 1, 2, 1), width=4, num_classes=7))
    sizes = {"embedding_size": 4, "hidden_sizes": [16, 32, 64, 128], "depths": [2, 1, 2, 1]}
    theirs = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(**sizes, num_labels=7)
    )
    images = torch.randn(2, 3, 65, 48)

    expected = copied(ours, theirs, RESNET_NAMES)(images).logits

    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images), expected, **TOLERANCE)


def bert_pair(transformers):
    torch.manual_seed(0)
    sizes = {"vocabulary_size": 60, "context": 16, "width": 24, "num_layers": 3, "num_heads": 4}
    ours = with_random_norms(Bert(**sizes, hidden=40, example_length=8))
    theirs = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=60,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
            max_position_embeddings=16,
        )
    )
    return ours, copied(ours, theirs, BERT_NAMES)


@torch.no_grad()
def test_bert_encodes_and_pools_texts_as_the_reference_does(transformers):
    ours, theirs = bert_pair(transformers)
    tokens = torch.randint(60, (3, 11))
    segments = (torch.arange(11) > 5).long().expand(3, -1)
    seen = torch.arange(11) < torch.tensor([[11], [7], [3]])

    expected = theirs(tokens, seen.long(), segments)
    encoded = ours.encode(tokens, segments, seen)

    torch.testing.assert_close(encoded[seen], expected.last_hidden_state[seen], **TOLERANCE)
    torch.testing.assert_close(ours.pool(encoded), expected.pooler_output, **TOLERANCE)


@torch.no_grad()
def test_bert_classifies_by_the_reference_s_pooled_vector(transformers):
    ours, theirs = bert_pair(transformers)
    sizes = {"vocabulary_size": 60, "context": 16, "width": 24, "num_layers": 3, "num_heads": 4}
    classifier = BertClassifier(3, **sizes, hidden=40, example_length=8).eval()
    classifier.bert.load_state_dict(ours.state_dict())
    tokens = torch.randint(60, (3, 11))

    expected = classifier.classifier(theirs(tokens).pooler_output)

    torch.testing.assert_close(classifier(tokens), expected, **TOLERANCE)


@torch.no_grad()
def test_gpt2_scores_tokens_and_their_loss_as_the_reference_does(transformers):
    torch.manual_seed(0)
    sizes = {"vocabulary_size": 60, "context": 16, "width": 24, "num_layers": 3, "num_heads": 4}
    ours = with_random_norms(GPT2(**sizes))
    config = {"vocab_size": 60, "n_positions": 16, "n_embd": 24, "n_layer": 3, "n_head": 4}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
    layers = ("c_attn", "c_proj", "c_fc")  # theirs multiply from the other side
    copied(ours, theirs.transformer, GPT2_NAMES, transposed=layers)
    text = torch.randint(60, (2, 15))

    expected = theirs.eval()(text, labels=text)

    torch.testing.assert_close(ours(text), expected.logits, **TOLERANCE)
    loss = ours.loss(ours(text)[:, :-1], text[:, 1:])
    torch.testing.assert_close(loss, expected.loss, **TOLERANCE)


@torch.no_grad()
def test_the_first_weights_of_gpt2_spread_as_the_reference_s_do(transformers):
    torch.manual_seed(0)
    ours = GPT2(vocabulary_size=400, context=16, width=64, num_layers=8, num_heads=4)
    config = {"vocab_size": 400, "n_positions": 16, "n_embd": 64, "n_layer": 8, "n_head": 4}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)).transformer
    spread = {name: value.std() for name, value in theirs.state_dict().items()}

    for name, value in ours.state_dict().items():
        if value.dim() > 1:
            expected = spread[renamed(name, GPT2_NAMES)]
            assert value.std() == pytest.approx(expected.item(), rel=0.1), name
