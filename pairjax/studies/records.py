"""Records of a claim: what each unit of work predicted, so that tables and verdicts are recomputed without training.

A folder of records holds `manifest.json` and one file of arrays for each look at the claim, `units-SEEDS.npz`. The
manifest names the design, the registration, and the SHA-256 of each file. More seeds append a file. `verdict.json` is
the verdict of the last look.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.errors import UserError
from pairjax.storage.files import read_json, whole_file, write_json
from pairjax.storage.hashes import hash_file

FORMAT = 1
MANIFEST = "manifest.json"

Unit = Mapping[str, np.ndarray]
"""What a unit of work leaves: arrays by name, such as the predictions for each test pair."""


class Records:
    """The units of a claim that were recorded, and those of this run.

    Attributes:
        folder: The folder of the records.
        design: SHA-256 of the docstring and the design that the records belong to.
        only_read: Whether a unit that was not recorded is an error instead of being computed.
        looks: The numbers of seeds of the recorded looks.
        registration: The registration that the records were made under; None before the first look.
    """

    def __init__(self, folder: Path, design: str, *, only_read: bool = False) -> None:
        """Reads and checks the records of a folder, which need not exist unless they are only read.

        Args:
            folder: The folder of the records.
            design: SHA-256 of the docstring and the design of the claim.
            only_read: Whether a unit that was not recorded is an error.

        Raises:
            UserError: The records are missing, damaged, or those of another design.
        """
        self.folder, self.design, self.only_read = folder, design, only_read
        self._parts: list[dict[str, Any]] = []
        self._units: dict[str, dict[str, np.ndarray]] = {}
        self._new: dict[str, dict[str, np.ndarray]] = {}
        self._seconds: dict[str, float] = {}
        self.registration: dict[str, Any] | None = None
        path = folder / MANIFEST
        if path.is_file():
            self._read(read_json(path))
        elif only_read:
            raise UserError(
                f"{folder}: there are no records", expected=MANIFEST, fix="run the claim without --from-records"
            )

    @property
    def looks(self) -> list[int]:
        """The numbers of seeds of the recorded looks."""
        return [part["seeds"] for part in self._parts]

    def unit(self, name: str, make: Callable[[], Unit]) -> Unit:
        """Returns a unit's arrays as they were recorded, or computes them and keeps them for `write`.

        Args:
            name: Identifies the unit within the claim, such as `sick/cls/subset 3`.
            make: Computes the arrays: int8 for classes and float16 for scores keep the records small.

        Raises:
            UserError: The unit was not recorded and records are only read.
        """
        if name in self._units:
            return self._units[name]
        if self.only_read:
            raise UserError(
                f"{self.folder}: no record of {name!r}",
                got=f"records of {len(self._units)} units",
                fix="run the claim without --from-records, which computes and appends it",
            )
        began = time.monotonic()
        arrays = {key: np.asarray(value) for key, value in make().items()}
        self._units[name] = self._new[name] = arrays
        self._seconds[name] = round(time.monotonic() - began, 2)
        return arrays

    def write(self, *, seeds: int, registration: dict[str, Any], verdict: dict[str, Any]) -> None:
        """Appends the new units as one look, and writes the verdict; recorded files are never changed.

        Args:
            seeds: The number of seeds of this look.
            registration: The registration of the claim.
            verdict: The content of verdict.json.
        """
        if self._new:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"units-{seeds}.npz"
            flat = {f"{name}:{key}": value for name, arrays in self._new.items() for key, value in arrays.items()}
            with whole_file(file, "wb") as stream:
                np.savez_compressed(stream, **flat)  # type: ignore[arg-type]
            part = {"file": file.name, "sha256": hash_file(file), "seeds": seeds, "seconds": dict(self._seconds)}
            self._parts.append(part)
            self.registration = self.registration or registration
            manifest = {"format": FORMAT, "design": self.design, "registration": self.registration}
            write_json(self.folder / MANIFEST, manifest | {"looks": self._parts})
            self._new, self._seconds = {}, {}
        # An earlier look does not replace the verdict of a later one; a claim without units leaves nothing.
        if self.looks and seeds == max(self.looks):
            write_json(self.folder / "verdict.json", verdict)

    def _read(self, manifest: dict[str, Any]) -> None:
        """Reads the files that a manifest names and checks their digests."""
        if manifest.get("format") != FORMAT:
            raise UserError(
                f"{self.folder / MANIFEST}: unknown format", got=manifest.get("format"), expected=f"format {FORMAT}"
            )
        if manifest["design"] != self.design:
            raise UserError(
                f"{self.folder}: these are records of another design",
                got=f"design {manifest['design'][:10]}",
                expected=f"design {self.design[:10]}, that of the claim's file",
                fix="restore the claim's docstring and constants, or give the changed claim another id",
            )
        self.registration = manifest["registration"]
        for part in manifest["looks"]:
            file = self.folder / part["file"]
            digest = hash_file(file) if file.is_file() else "no file"
            if digest != part["sha256"]:
                raise UserError(
                    f"{file}: the record was changed or is incomplete",
                    got=digest[:10],
                    expected=f"SHA-256 {part['sha256'][:10]}, as {MANIFEST} says",
                    fix=f"restore it, for example with git checkout {file.name}",
                )
            with np.load(file, allow_pickle=False) as arrays:
                for key in arrays.files:
                    name, _, array = key.rpartition(":")
                    self._units.setdefault(name, {})[array] = arrays[key]
            self._parts.append(part)
