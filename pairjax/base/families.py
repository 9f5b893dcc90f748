"""The encoder families that pairjax reads: one record per family, with everything that sets it apart.

`weights/` takes configuration keys and tensor names from the records, and `data/` takes special tokens and the way two
texts are joined. A new family needs an entry in `FAMILIES`; it needs a module in `models/` only if its arithmetic
differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from pairjax.base.errors import UserError


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


@dataclass(frozen=True)
class ClassificationHead:
    """The head of a family's class for sequence classification in transformers; the defaults are BERT's.

    It computes `logits = output(norm(activation(dense(h))))` from the pooled vector h, and most families have no norm.
    With these fields import, training (`--model.head.kind family`) and export are complete, so the head of a new family
    is one entry in its record. `pairjax.models.heads.build_head` builds the module, and
    `pairjax.weights.names.head_tensors` names its tensors.

    Attributes:
        model: The class in transformers.
        pooling: The poolings that the class knows, the usual one first. `pooler` means that the dense layer and its
            tanh are the pooler of the bare model.
        pooling_key: Key of config.json that names the pooling; None if the class knows only one.
        dense: Name of the dense layer in a weight file, without the bare model's prefix.
        activation: Activation after the dense layer.
        bias: Whether the dense layer has a bias.
        norm: Name of the layer normalisation (without bias) after the activation; None if there is none.
        output: Name of the last layer.
        dropout_first: Whether training also drops out the input of the dense layer.
    """

    model: str
    pooling: tuple[Literal["pooler", "cls", "mean"], ...] = ("pooler",)
    pooling_key: str | None = None
    dense: str = "pooler.dense"
    activation: Literal["relu", "gelu", "tanh"] = "tanh"
    bias: bool = True
    norm: str | None = None
    output: str = "classifier"
    dropout_first: bool = False

    @property
    def is_pooler(self) -> bool:
        """Whether the dense layer is the bare model's pooler."""
        return "pooler" in self.pooling


@dataclass(frozen=True)
class Family:
    """What sets one family of encoders apart; the defaults are BERT's.

    Attributes:
        name: The family's `model_type` in config.json.
        bare_model: Class in transformers of the model without a head.
        prefix: Prefix of the bare model's tensor names in a weight file that holds a head too.
        head: The head of the family's class for sequence classification.
        config_keys: Keys of config.json.
        layer_names: Names of a layer's modules in a weight file.
        has_pooler: Whether the bare model has a pooler, a tanh layer on the first token's hidden state.
        pad_token_id: Id of the padding token if config.json does not give it.
        positions_follow_padding: Whether positions count from the padding token's id + 1 instead of 0.
        segments: Whether the second text of a joint row carries segment id 1; otherwise all tokens carry 0.
        double_separator: Whether a joint row has two separators between its texts instead of one.
        special_tokens: Special tokens of a tokeniser whose settings name none.
    """

    name: str
    bare_model: str
    prefix: str
    head: ClassificationHead
    config_keys: ConfigKeys = ConfigKeys()
    layer_names: LayerNames = LayerNames()
    has_pooler: bool = True
    pad_token_id: int = 0
    positions_follow_padding: bool = False
    segments: bool = False
    double_separator: bool = False
    special_tokens: SpecialTokens = SpecialTokens()


_ROBERTA = Family(
    name="roberta",
    bare_model="RobertaModel",
    prefix="roberta",
    head=ClassificationHead(
        "RobertaForSequenceClassification",
        pooling=("cls",),
        dense="classifier.dense",
        output="classifier.out_proj",
        dropout_first=True,
    ),
    pad_token_id=1,
    positions_follow_padding=True,
    double_separator=True,
    special_tokens=SpecialTokens("<s>", "</s>", "<pad>", "<mask>", "<unk>"),
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                name="bert",
                bare_model="BertModel",
                prefix="bert",
                head=ClassificationHead("BertForSequenceClassification"),
                segments=True,
            ),
            _ROBERTA,
            replace(
                _ROBERTA,
                name="xlm-roberta",
                bare_model="XLMRobertaModel",
                head=replace(_ROBERTA.head, model="XLMRobertaForSequenceClassification"),
            ),
            Family(
                name="distilbert",
                bare_model="DistilBertModel",
                prefix="distilbert",
                head=ClassificationHead(
                    "DistilBertForSequenceClassification",
                    pooling=("cls",),
                    dense="pre_classifier",
                    activation="relu",
                ),
                config_keys=ConfigKeys(
                    hidden_size="dim",
                    num_layers="n_layers",
                    num_heads="n_heads",
                    intermediate_size="hidden_dim",
                    type_vocab_size=None,
                    layer_norm_eps=None,
                    activation="activation",
                    hidden_dropout="dropout",
                    attention_dropout="attention_dropout",
                ),
                layer_names=LayerNames(
                    layers="transformer.layer",
                    query="attention.q_lin",
                    key="attention.k_lin",
                    value="attention.v_lin",
                    attention_out="attention.out_lin",
                    attention_norm="sa_layer_norm",
                    mlp_in="ffn.lin1",
                    mlp_out="ffn.lin2",
                    mlp_norm="output_layer_norm",
                ),
                has_pooler=False,
            ),
            Family(
                name="electra",
                bare_model="ElectraModel",
                prefix="electra",
                head=ClassificationHead(
                    "ElectraForSequenceClassification",
                    pooling=("cls",),
                    dense="classifier.dense",
                    activation="gelu",
                    output="classifier.out_proj",
                    dropout_first=True,
                ),
                config_keys=ConfigKeys(embedding_size="embedding_size"),
                has_pooler=False,
                segments=True,
            ),
        )
    }
)
"""Every known family, by name."""


def find_family(name: object, *, place: str = "") -> Family:
    """Returns the record of a family.

    Args:
        name: The family's name, as read from a file.
        place: Where the name was read, for the error message ("config.json: model_type").

    Raises:
        UserError: The family is not known.
    """
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise UserError(
            f"{place or 'the encoder family'} is not supported",
            got="none" if name is None else name,
            expected=f"one of {', '.join(FAMILIES)}",
            fix="name the folder of such an encoder, or of a finished pairjax run",
        )
    return family
