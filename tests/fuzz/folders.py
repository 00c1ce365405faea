"""Kind `folders`: folders of scans in the layouts that are known, with files missing, odd or in the wrong place."""

import json
import os
import shutil
from pathlib import Path
from random import Random

import numpy as np

from pyro_dwp.data import CaseSource, Decathlon, FolderPairs
from tests.fuzz import nifti
from tests.fuzz.damage import damage_file, displace
from tests.fuzz.formats import AFFINE, SHAPE
from tests.fuzz.images import check_voxels
from tests.fuzz.nifti import Damaged
from tests.fuzz.trees import damage_json
from tests.fuzz.trial import Input, Kind, Wrong

NAMES = ("a", "b", "c_1")
ODD = (
    "ü ñ.nii", "a\nb.nii", " .nii", "x" * 240 + ".nii", ".nii", "..nii", "A.NII", "a.nii.gz", "b_mask.nii", "a_0000.nii",
    "a_0001.nii",     "a.nii.nii", "a.png", "a.dcm", "Thumbs.db", ".DS_Store", "-rf.nii", "$HOME.nii", "%s.nii", "\u202e.nii",
    "a\\b.nii",     "c_1_0000.nii", "a_9999.nii", "con.nii", "'.nii", "🧠.nii",
)  # fmt: skip


def damage_folder(root: Path, draw: Random) -> str:
    """Do one thing to a folder, and say what."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return "nothing is left"
    path, other = draw.choice(files), draw.choice(files)
    way = draw.choice(("json", "file", "odd", "odd", "copy", "raw", "folder", "displace", "two", "case", "link"))
    if way == "json" and (root / "dataset.json").is_file():
        try:
            return damage_json(root / "dataset.json", draw)
        except (ValueError, RecursionError):  # damaged before
            return "nothing"
    if way == "odd":
        name = draw.choice(ODD)
        path.rename(path.with_name(name))
        return f"{path.name} → {name!r}"
    if way == "copy":
        name = draw.choice(ODD)
        shutil.copyfile(path, other.with_name(name))
        return f"{path.name} copied to {other.parent.name}/{name!r}"
    if way == "raw":
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xfe.nii"))
        return f"{path.name} → a name that is not UTF-8"
    if way == "folder":
        folder = draw.choice(
            [found for found in root.rglob("*") if found.is_dir() and not found.is_symlink()] or [root]
        )
        return displace(folder, draw)
    if way == "two" and path.suffix == ".nii":
        shutil.copyfile(path, path.with_name(path.name + ".gz"))
        return f"{path.name} twice"
    if way == "link":
        path.unlink()
        path.symlink_to(other)
        return f"{path.name}: a link to {other.name}"
    if way == "displace":
        return displace(path, draw)
    return damage_file(path, draw, [other] if other != path else [])


class Folders(Kind):
    """Folders of pairs, and tasks of the Decathlon."""

    name, share = "folders", 1.5

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        root, layout = folder / "scans", draw.choice(("pairs", "channels", "decathlon"))
        source = self.write(root, layout)
        damage = "none"
        if not healthy:
            done = [damage_folder(root, draw) for _ in range(draw.choice((1, 1, 2)))]
            damage = ", ".join(done)
        return Input(folder, (str(root), "numbered from NAME_0000"), lambda: self.check(source), f"{layout}: {damage}")

    def write(self, root: Path, layout: str) -> CaseSource:
        """Write three cases, and return their source."""
        images, labels = ("imagesTr", "labelsTr") if layout == "decathlon" else ("images", "labels")
        (root / images).mkdir(parents=True)
        (root / labels).mkdir()
        for number, name in enumerate(NAMES):
            draw = np.random.default_rng(number)
            for end in ("_0000", "_0001") if layout == "channels" else ("",):
                voxels = draw.uniform(1, 9, SHAPE).astype("f4")
                (root / images / f"{name}{end}.nii").write_bytes(nifti.encode(voxels, AFFINE))
            (root / labels / f"{name}.nii").write_bytes(nifti.encode(draw.integers(0, 3, SHAPE).astype("u1"), AFFINE))
        if layout != "decathlon":
            return FolderPairs(str(root / images), str(root / labels))
        listed = [{"image": f"./{images}/{name}.nii", "label": f"./{labels}/{name}.nii"} for name in NAMES]
        task = {
            "name": "x",
            "modality": {"0": "T1"},
            "labels": {"0": "background", "1": "a", "2": "b"},
            "training": listed,
        }
        (root / "dataset.json").write_text(json.dumps(task))
        return Decathlon(str(root))

    def check(self, source: CaseSource) -> None:
        names = source.names()
        if not names or names != sorted(set(names)):
            raise Wrong(f"the cases {names}")
        for name in names:
            scan = source.load(name)
            name.encode()
            assert scan.origin is not None
            for number, path in enumerate(scan.origin.images):
                self.compare(path, scan.image.double().numpy()[number : number + 1], scan.affine)
            if scan.label is not None and scan.origin.label is not None:
                self.compare(scan.origin.label, scan.label.double().numpy()[None], scan.affine)
                if scan.origin.label.name.partition(".")[0] != name.partition(".")[0]:
                    raise Wrong(f"{name} has the label {scan.origin.label.name}")

    def compare(self, path: Path, found: np.ndarray, affine: np.ndarray) -> None:
        data = path.read_bytes()
        try:
            check_voxels(
                found, affine, nifti.decode(nifti.unpack(data) if path.name.endswith(".gz") else data), exact=False
            )
        except Damaged as problem:
            raise Wrong(f"{path.name} accepted, though {problem}") from problem
