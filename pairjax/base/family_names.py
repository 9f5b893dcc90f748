"""The names that differ between families: keys of config.json, modules in weight files, special tokens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfigKeys:
    """Keys of `config.json` that differ between families; the defaults are BERT's.

    Attributes:
        hidden_size: Width of the hidden states.
        embedding_size: Width of the embeddings; None if it is always the hidden size.
        num_layers: Number of transformer layers.
        num_heads: Number of attention heads.
        intermediate_size: Width of the feed-forward sublayers.
        type_vocab_size: Number of segment embeddings; None if the family has none.
        layer_norm_eps: Epsilon of layer normalisation; None if it is always 1e-12.
        activation: Activation of the feed-forward sublayers.
        hidden_dropout: Dropout rate after the embeddings and each sublayer.
        attention_dropout: Dropout rate of the attention probabilities.
    """

    hidden_size: str = "hidden_size"
    embedding_size: str | None = None
    num_layers: str = "num_hidden_layers"
    num_heads: str = "num_attention_heads"
    intermediate_size: str = "intermediate_size"
    type_vocab_size: str | None = "type_vocab_size"
    layer_norm_eps: str | None = "layer_norm_eps"
    activation: str = "hidden_act"
    hidden_dropout: str = "hidden_dropout_prob"
    attention_dropout: str = "attention_probs_dropout_prob"


@dataclass(frozen=True)
class LayerNames:
    """Names of a transformer layer's modules in a weight file; the defaults are BERT's.

    Attributes:
        layers: Prefix of all layers; the layer's number follows.
        query: Projection to queries.
        key: Projection to keys.
        value: Projection to values.
        attention_out: Projection of the attention's output.
        attention_norm: Layer normalisation after attention.
        mlp_in: First dense layer of the feed-forward sublayer.
        mlp_out: Second dense layer of the feed-forward sublayer.
        mlp_norm: Layer normalisation after the feed-forward sublayer.
        position_key: Projection of relative positions to keys.
        position_query: Projection of relative positions to queries.
    """

    layers: str = "encoder.layer"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attention_out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    mlp_in: str = "intermediate.dense"
    mlp_out: str = "output.dense"
    mlp_norm: str = "output.LayerNorm"
    position_key: str = "attention.self.pos_key_proj"
    position_query: str = "attention.self.pos_query_proj"


@dataclass(frozen=True)
class ModelNames:
    """Names of the modules outside the layers in a weight file; the defaults are BERT's.

    Attributes:
        words: Word embeddings.
        norm: Layer normalisation of the embeddings.
        projection: Dense layer from the embeddings to the hidden size.
        relative: Relative positions.
        relative_norm: Layer normalisation of the relative positions.
        final_norm: Layer normalisation after the last layer.
        pooler: The pooler's dense layer.
    """

    words: str = "embeddings.word_embeddings"
    norm: str = "embeddings.LayerNorm"
    projection: str = "embeddings_project"
    relative: str = ""
    relative_norm: str = "encoder.LayerNorm"
    final_norm: str = "final_norm"
    pooler: str = "pooler.dense"


@dataclass(frozen=True)
class SpecialTokens:
    """Usual token of each role of `tokenizer_config.json`; the defaults are BERT's.

    Attributes:
        cls_token: Opens a row.
        sep_token: Closes a text.
        pad_token: Fills empty slots.
        mask_token: Hides a token in pretraining.
        unk_token: Replaces text that has no token.
    """

    cls_token: str = "[CLS]"
    sep_token: str = "[SEP]"
    pad_token: str = "[PAD]"
    mask_token: str = "[MASK]"
    unk_token: str = "[UNK]"
