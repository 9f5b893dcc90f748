"""The encoder families that pairjax reads: one record per family, with everything that sets it apart.

`weights/` takes configuration keys and tensor names from the records, and `data/` takes special tokens and the way two
texts are joined. A new family needs an entry in `FAMILIES`; it needs a module in `models/` only if its arithmetic
differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from pairjax.base.errors import UserError
from pairjax.base.family_names import ConfigKeys, LayerNames, ModelNames, SpecialTokens


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
        model_names: Names of the other modules in a weight file.
        fixed: Settings of config.json that pairjax supports with one value only, which is the default too.
        has_pooler: Whether the bare model has a pooler, a tanh layer on the first token's hidden state.
        pad_token_id: Id of the padding token if config.json does not give it.
        positions_follow_padding: Whether positions count from the padding token's id + 1 instead of 0.
        segments: Whether the second text of a joint row carries segment id 1; otherwise all tokens carry 0.
        double_separator: Whether a joint row has two separators between its texts instead of one.
        special_tokens: Special tokens of a tokeniser whose settings name none.
        layer_norm_eps: Epsilon of layer normalisation if config.json does not give it.
        activation: Activation of the feed-forward sublayers if config.json does not give it.
    """

    name: str
    bare_model: str
    prefix: str
    head: ClassificationHead
    config_keys: ConfigKeys = field(default_factory=ConfigKeys)
    layer_names: LayerNames = field(default_factory=LayerNames)
    model_names: ModelNames = field(default_factory=ModelNames)
    fixed: tuple[tuple[str, object], ...] = ()
    has_pooler: bool = True
    pad_token_id: int = 0
    positions_follow_padding: bool = False
    segments: bool = False
    double_separator: bool = False
    special_tokens: SpecialTokens = field(default_factory=SpecialTokens)
    layer_norm_eps: float = 1e-12
    activation: str = "gelu"


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
            Family(
                name="mpnet",
                bare_model="MPNetModel",
                prefix="mpnet",
                head=replace(_ROBERTA.head, model="MPNetForSequenceClassification"),
                config_keys=ConfigKeys(type_vocab_size=None),
                layer_names=LayerNames(
                    query="attention.attn.q",
                    key="attention.attn.k",
                    value="attention.attn.v",
                    attention_out="attention.attn.o",
                    attention_norm="attention.LayerNorm",
                ),
                model_names=ModelNames(relative="encoder.relative_attention_bias"),
                # transformers has these two values in its code, whatever config.json says.
                fixed=(("pad_token_id", 1), ("relative_attention_num_buckets", 32)),
                pad_token_id=1,
                positions_follow_padding=True,
                double_separator=True,
                special_tokens=SpecialTokens("<s>", "</s>", "<pad>", "<mask>", "[UNK]"),
            ),
            Family(
                name="albert",
                bare_model="AlbertModel",
                prefix="albert",
                head=ClassificationHead("AlbertForSequenceClassification", dense="pooler"),
                config_keys=ConfigKeys(embedding_size="embedding_size"),
                layer_names=LayerNames(
                    layers="encoder.albert_layer_groups.0.albert_layers",
                    query="attention.query",
                    key="attention.key",
                    value="attention.value",
                    attention_out="attention.dense",
                    attention_norm="attention.LayerNorm",
                    mlp_in="ffn",
                    mlp_out="ffn_output",
                    mlp_norm="full_layer_layer_norm",
                ),
                model_names=ModelNames(projection="encoder.embedding_hidden_mapping_in", pooler="pooler"),
                fixed=(("num_hidden_groups", 1), ("inner_group_num", 1)),
                segments=True,
                special_tokens=SpecialTokens(pad_token="<pad>", unk_token="<unk>"),
                activation="gelu_new",
            ),
            Family(
                name="modernbert",
                bare_model="ModernBertModel",
                prefix="model",
                head=ClassificationHead(
                    "ModernBertForSequenceClassification",
                    pooling=("cls", "mean"),
                    pooling_key="classifier_pooling",
                    dense="head.dense",
                    activation="gelu",
                    bias=False,
                    norm="head.norm",
                ),
                config_keys=ConfigKeys(
                    type_vocab_size=None,
                    layer_norm_eps="norm_eps",
                    activation="hidden_activation",
                    hidden_dropout="mlp_dropout",
                    attention_dropout="attention_dropout",
                ),
                layer_names=LayerNames(
                    layers="layers",
                    query="attn.Wqkv",
                    key="attn.Wqkv",
                    value="attn.Wqkv",
                    attention_out="attn.Wo",
                    attention_norm="attn_norm",
                    mlp_in="mlp.Wi",
                    mlp_out="mlp.Wo",
                    mlp_norm="mlp_norm",
                ),
                model_names=ModelNames(words="embeddings.tok_embeddings", norm="embeddings.norm"),
                fixed=(
                    ("norm_bias", False),
                    ("attention_bias", False),
                    ("mlp_bias", False),
                    ("classifier_bias", False),
                    ("classifier_activation", "gelu"),
                ),
                has_pooler=False,
                pad_token_id=50283,
                layer_norm_eps=1e-5,
            ),
            Family(
                name="deberta-v2",
                bare_model="DebertaV2Model",
                prefix="deberta",
                head=ClassificationHead(
                    "DebertaV2ForSequenceClassification", pooling=("cls",), activation="gelu", dropout_first=True
                ),
                layer_names=LayerNames(
                    query="attention.self.query_proj",
                    key="attention.self.key_proj",
                    value="attention.self.value_proj",
                ),
                model_names=ModelNames(relative="encoder.rel_embeddings"),
                fixed=(("conv_kernel_size", 0), ("pooler_hidden_act", "gelu")),
                has_pooler=False,
                segments=True,
                layer_norm_eps=1e-7,
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
