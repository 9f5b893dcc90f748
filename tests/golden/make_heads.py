"""Writes head.npz beside each golden encoder: torch's classification head on that encoder, and its logits.

Run it in an environment with torch and transformers (the files come from torch 2.13, transformers 5.23), after
make_golden.py, whose inputs it reads:

    PYTHONPATH=. python tests/golden/make_heads.py

Each file holds the tensors of the family's class for sequence classification that the encoder's file does not have, by
their names in a weight file, and `logits`, float32 [3, 3], for the inputs in golden.npz.
"""

from pathlib import Path

import numpy as np
import torch
import transformers

from pairjax.base.families import FAMILIES, find_family

HERE = Path(__file__).parent


def main() -> None:
    """Writes the file of every family that has a golden encoder."""
    for seed, family in enumerate(FAMILIES):
        folder, record = HERE / family, find_family(family)
        torch.manual_seed(100 + seed)
        config = transformers.AutoConfig.from_pretrained(folder, num_labels=3, attn_implementation="eager")
        model, info = getattr(transformers, record.head.model).from_pretrained(
            folder, config=config, output_loading_info=True
        )
        own = sorted(info["missing_keys"])
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in own:
                    value.normal_(1.0 if "norm" in name else 0.0, 0.3 if value.ndim == 2 else 0.1)
        with np.load(folder / "golden.npz") as arrays:
            names = ["input_ids", "attention_mask"]
            names += ["token_type_ids"] if record.config_keys.type_vocab_size else []
            tokens = {name: torch.from_numpy(arrays[name]).long() for name in names}
        logits = model.eval()(**tokens).logits
        tensors = model.state_dict()
        saved = {name: tensors[name].numpy() for name in own} | {"logits": logits.detach().numpy()}
        np.savez_compressed(folder / "head.npz", **saved)
        print(family, {name: value.shape for name, value in saved.items()})


if __name__ == "__main__":
    main()
