"""Push a model to the Hugging Face hub, as a model folder of pairjax or in another format."""

import tempfile
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.base.export_config import ExportConfig
from pairjax.export.model import check_target, export_model
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.model_folder import MANIFEST, find_artifact, load_artifact


def push_model(
    path: str, repository: str, *, to: str | None = None, pull_request: bool = False, private: bool = False
) -> str:
    """Uploads a model and returns the address of the commit or pull request.

    The token is the one that huggingface_hub finds: HF_TOKEN, or that of `hf auth login`. It is written nowhere.

    Args:
        path: A model folder or a run folder.
        repository: Id of the repository, org/name; it is created if it does not exist.
        to: Format to export to first; by default the model folder is uploaded as it is.
        pull_request: Whether to open a pull request; the repository must then exist.
        private: Whether a repository that is created is private.

    Raises:
        UserError: The model cannot be read or exported, or the hub refuses; its own words are quoted.
    """
    if to is None:
        folder = find_artifact(path)
        if not (folder / MANIFEST).is_file():
            raise UserError(f"{folder}: not a model folder of pairjax", fix="name a format with --format")
        load_artifact(path)  # A damaged model is not published.
        return _upload(folder, repository, pull_request=pull_request, private=private)
    artifact = load_artifact(path)
    with tempfile.TemporaryDirectory() as place:
        # The folder's name is the title of a card that has none.
        output, config = Path(place) / repository.rsplit("/", 1)[-1], ExportConfig()
        check_target(to, output, artifact, config)
        result = export_model(PairClassifier(artifact), to, output, config=config)
        return _upload(result.folder, repository, pull_request=pull_request, private=private)


def _upload(folder: Path, repository: str, *, pull_request: bool, private: bool) -> str:
    """Uploads a folder and returns the address of its commit or pull request."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError

    api = HfApi()
    try:
        if not pull_request:
            api.create_repo(repository, exist_ok=True, private=private)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            create_pr=pull_request,
            commit_message="Upload a model of pairjax",
        )
    except HFValidationError:
        raise UserError(f"{repository}: not the id of a repository", expected="org/name") from None
    except Exception as error:  # errors of the hub, of its HTTP client and of the system
        words, token = str(error), get_token()
        words = words.replace(token, "(token)") if token else words
        raise UserError(
            f"{repository}: the hub refused the model",
            got=f"{type(error).__name__}: {words[:300]}",
            fix="check the name, the network and the token (hf auth login, or HF_TOKEN)",
        ) from None
    return str(commit.pr_url if pull_request else commit.commit_url)
