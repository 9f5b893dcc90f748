"""Writes the golden tokenisers: small SentencePiece models, and the ids that transformers gives to difficult texts.

Run it in an environment with sentencepiece, transformers and no need of pairjax (the files come from sentencepiece
0.2.3 and transformers 5.23):

    python tests/golden/make_tokenisers.py

Each folder of tests/golden/tokenisers gets a SentencePiece model under its usual name and tokenizer_config.json.
golden.json holds, for each folder, the ids and segment ids of each text paired with the next one.
"""

import contextlib
import json
from pathlib import Path

import sentencepiece
import transformers

HERE = Path(__file__).parent / "tokenisers"
TEXTS = [
    "",
    " ",
    "Um homem está dormindo no chão, e ninguém o vê.",
    "A man isn't playing ``the guitar''; 1,234.56 dollars, 12, 5,",
    "  tabs\tand\nlines  and   runs  of spaces ",
    "naïve café — “quotes” … ﬁ ligature ＦＵＬＬ ½ ①",
    "e\u0301 decomposed, c\u0327a\u0303o, ß, İ, ΣΑΣ",
    "中文 and ไทย and 🙂👩\u200d👩\u200d👧",
    "\u200b\u0000\ufeff soft\u00adhyphen\u00a0space\u3000wide",
    "[SEP] inside [CLS] a [MASK] text </s> <s> <mask> <unk> [UNK] <pad>",
    "▁ meta ▁▁ space",
    "x" * 60,
]
CORPUS = [
    "um homem está dormindo no chão",
    "a man is playing the guitar",
    "uma mulher não vê ninguém",
    "1,234 dollars, 12,",
]
OWN = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
OWN |= {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
ALBERT = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "<pad>", "unk_piece": "<unk>"}
ALBERT |= {"control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
MODELS = {
    "xlm-roberta": ("sentencepiece.bpe.model", {}, {"tokenizer_class": "XLMRobertaTokenizerFast"}),
    "deberta-v2": ("spm.model", OWN, {"do_lower_case": False}),
    "albert": ("spiece.model", ALBERT, {"keep_accents": True}),
}


def main() -> None:
    """Writes every folder, and golden.json."""
    golden = {}
    HERE.mkdir(exist_ok=True)
    # A few rules, since those of the usual normalisation take 240 kB.
    pairs = {"ﬁ": "fi", "½": "1/2", "①": "1", "\u00a0": " ", "\u3000": " ", "\u00ad": ""}
    codes = ((" ".join(f"{ord(letter):X}" for letter in text) for text in pair) for pair in pairs.items())
    rules = "".join("\t".join(pair) + "\n" for pair in codes)
    for name, (file, options, settings) in MODELS.items():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "rules.tsv").write_text(rules)
        with contextlib.chdir(folder):  # The model records the names of its files, so they are relative.
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(CORPUS * 20),
                model_prefix="model",
                model_type="unigram",
                vocab_size=90,
                hard_vocab_limit=False,
                normalization_rule_tsv="rules.tsv",
                **options,
            )
        (folder / "rules.tsv").unlink()
        (folder / "model.model").rename(folder / file)
        (folder / "model.vocab").unlink()
        (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
        (folder / "config.json").write_text(json.dumps({"model_type": name}))
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
        (folder / "config.json").unlink()
        rows = tokenizer(TEXTS, TEXTS[1:] + TEXTS[:1], truncation=False, return_token_type_ids=True)
        golden[name] = {"ids": rows["input_ids"], "segments": rows["token_type_ids"]}
    text = json.dumps({"texts": TEXTS, **golden}, ensure_ascii=True)
    (HERE / "golden.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
