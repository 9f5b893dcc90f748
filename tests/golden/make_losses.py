"""Writes losses.npz: losses of sentence-transformers on random vectors, with the gradient of each vector.

Run it in an environment with torch and sentence-transformers (the file comes from sentence-transformers 6.2, torch
2.13):

    python tests/golden/make_losses.py
"""

from pathlib import Path

import numpy as np
import torch
from sentence_transformers.sentence_transformer import losses

PAIRS, SIZE = 12, 8


def main() -> None:
    """Computes each loss in float64 and saves inputs, values and gradients."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(PAIRS, 3, SIZE))
    # Matches are near their anchors, so that no loss is at an extreme.
    vectors[:, 1] += vectors[:, 0]
    arrays = {"vectors": vectors, "score": rng.uniform(size=PAIRS), "similar": rng.integers(0, 2, PAIRS)}
    model = torch.nn.Identity()
    cases = {
        "cosine": (losses.CosineSimilarityLoss(model), 2, "score"),
        "contrastive": (losses.ContrastiveLoss(model), 2, "similar"),
        "contrastive_0_9": (losses.ContrastiveLoss(model, margin=0.9), 2, "similar"),
        "in_batch": (losses.MultipleNegativesRankingLoss(model), 2, "similar"),
        "in_batch_5": (losses.MultipleNegativesRankingLoss(model, scale=5.0), 2, "similar"),
        "triplets": (losses.MultipleNegativesRankingLoss(model), 3, "similar"),
    }
    for name, (loss, sides, label) in cases.items():
        given = torch.tensor(vectors, requires_grad=True)
        value = loss.compute_loss_from_embeddings(
            [given[:, side] for side in range(sides)], torch.tensor(arrays[label])
        )
        value.backward()
        arrays |= {f"{name}/value": np.asarray(value.item()), f"{name}/gradient": given.grad.numpy()}
    np.savez_compressed(Path(__file__).parent / "losses.npz", **arrays)


if __name__ == "__main__":
    main()
