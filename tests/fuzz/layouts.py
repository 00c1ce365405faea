"""Kind `layouts`: folders as other programs and people lay them out, recognised by `Folder`, looked through, made a config of."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import yaml

from pyro_dwp.data import Folder, Preprocess
from pyro_dwp.errors import PyroDwpError
from pyro_dwp.intake import propose, survey
from pyro_dwp.runs.script import script_settings
from pyro_dwp.train import Machine
from tests.fuzz import metaimage, nifti, nrrd
from tests.fuzz.folders import damage_folder
from tests.fuzz.formats import AFFINE
from tests.fuzz.images import check_voxels
from tests.fuzz.nifti import Damaged
from tests.fuzz.settings import finite, main_of, run
from tests.fuzz.trial import Input, Kind, Wrong

SHAPE = (9, 10, 8)
CASES = ("p1", "p2", "p3", "p4")
SEQUENCES = ("flair", "t1")
MODULES = {".nii": nifti, ".nii.gz": nifti, ".mha": metaimage, ".nrrd": nrrd}
WORDS = (
    *("{case}_flair", "{case}_t1", "{case}_t2", "{case}_mask", "{case}_seg", "{case}_brain_mask", "{case}", "p1", "mask"),
    *("flair", "{case}_flair_2", "{case}-flair", "{case} flair", "{case}_FLAIR",
      "_{case}_flair", "{case}flair", "p11_flair", "sub-01_T1w"),
    *("BraTS2021_9_seg", "VSD.Brain.XX.O.OT.9", "{case}_0000", "{case}_entropy", "ü_flair", "a\nb_flair", "{case}_*", "[{case}]"),
)  # fmt: skip
PATHS: dict[str, tuple[str, str, str]] = {  # the path of a sequence, that of a label, and the ending
    "pairs": ("images/{case}", "labels/{case}", ".nii.gz"),
    "kinds": ("{word}/{case}", "mask/{case}", ".nii.gz"),
    "flat": ("{case}_{word}", "{case}_mask", ".nrrd"),
    "folder for each case": ("{case}/{word}", "{case}/seg", ".nii"),
    "BraTS 2021": ("BraTS2021_{case}/BraTS2021_{case}_{word}", "BraTS2021_{case}/BraTS2021_{case}_seg", ".nii.gz"),
    "BraTS 2023": ("BraTS-GLI-{case}-000/BraTS-GLI-{case}-000-{word}",
        "BraTS-GLI-{case}-000/BraTS-GLI-{case}-000-seg", ".nii.gz"),
    "BraTS 2015": (
        "{case}/VSD.Brain.XX.O.MR_{word}.{n}/VSD.Brain.XX.O.MR_{word}.{n}",
        "{case}/VSD.Brain_3more.XX.O.OT.{n}/VSD.Brain_3more.XX.O.OT.{n}",
        ".mha",
    ),
    "BIDS": ("sub-{case}/anat/sub-{case}_{word}", "derivatives/manual/sub-{case}/anat/sub-{case}_label-lesion_mask", ".nii.gz"),
    "nnU-Net": ("imagesTr/{case}_000{number}", "labelsTr/{case}", ".nii.gz"),
    "Decathlon": ("imagesTr/{case}", "labelsTr/{case}", ".nii.gz"),
    "table": ("scans/{n}_{word}", "scans/{n}_x", ".mha"),
}  # fmt: skip
SINGLE = ("pairs", "Decathlon")


def write_volume(path: Path, voxels: np.ndarray) -> Path:
    """Write voxels as the extension says."""
    ending = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    path.parent.mkdir(parents=True, exist_ok=True)
    if MODULES[ending] is nifti:
        data = nifti.encode(voxels, AFFINE)
        path.write_bytes(nrrd.repack(data) if ending == ".nii.gz" else data)
    else:
        path.write_bytes(MODULES[ending].encode(voxels, AFFINE, packed=True))
    return path


def write_layout(root: Path, layout: str) -> Path:
    """Write four cases with a label, and return what names them: the folder, or the table."""
    image, label, ending = PATHS[layout]
    rows, root = [], root.absolute()
    for n, case in enumerate(CASES):
        noise, files = np.random.default_rng(n), {}
        truth = np.zeros(SHAPE, "u1")
        truth[2:6, 3 : 6 + n % 2, 2:5] = 1
        truth[3:5, 4, 3] = 2
        for number, word in enumerate(SEQUENCES[: 1 if layout in SINGLE else 2]):
            voxels = (noise.uniform(1, 9, SHAPE) + 9 * truth).astype("f4")
            files[word] = write_volume(
                root / f"{image}{ending}".format(case=case, word=word, n=n, number=number), voxels
            )
        files["label"] = write_volume(root / f"{label}{ending}".format(case=case, n=n), truth)
        rows.append([case, *(str(path.relative_to(root)) for path in files.values())])
    if layout == "table":
        with (root / "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["case", *SEQUENCES, "label"], *rows])
        return root / "table.csv"
    if layout in ("nnU-Net", "Decathlon"):
        names, classes = {"0": "flair", "1": "t1"}, {"background": 0, "edema": 1, "core": 2}
        task = {"channel_names": names, "labels": classes, "numTraining": 4, "file_ending": ending}
        if layout == "Decathlon":
            listed = [{"image": f"./imagesTr/{case}{ending}", "label": f"./labelsTr/{case}{ending}"} for case in CASES]
            numbered = {str(number): name for name, number in classes.items()}
            task = {"name": "x", "modality": {"0": "flair"}, "labels": numbered, "training": listed}
        (root / "dataset.json").write_text(json.dumps(task))
    return root


class Layouts(Kind):
    """A folder of scans in a usual layout, or a table of their paths."""

    name, share = "layouts", 2.5

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        layout, root = draw.choice(list(PATHS)), folder / "scans"
        named = write_layout(root, layout)
        done = [] if healthy else [self.damage(root, draw) for _ in range(draw.choice((0, 1, 1, 2, 4)))]
        words = draw.choice(
            (
                None,
                None,
                None,
                None,
                None,
                None,
                ["flair"],
                ["t1", "flair"],
                ["{case}_flair"],
                ["*"],
                ["nothing"],
                ["{case}/*"],
            )
        )
        images = None if healthy else words
        whole = draw.random() < 0.15
        reader = self.check_intact if not done and images is None else self.check
        read: Callable[[], None] = lambda: reader(named, images, whole)  # noqa: E731
        asked = f" (images {images})" if images else ""
        return Input(
            folder,
            (str(root), "case", "nothing to learn", "can be used"),
            read,
            f"{layout}{asked}: {', '.join(done) or 'none'}",
        )

    def damage(self, root: Path, draw: Random) -> str:
        """Do one thing to a folder, and say what."""
        files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        if draw.random() < 0.5 or not files:
            return damage_folder(root, draw)
        path, other = draw.choice(files), draw.choice(files)
        end = draw.choice(("".join(path.suffixes[-2:]), *MODULES, ".MHA", ""))
        name = draw.choice(WORDS).format(case=draw.choice(CASES)) + end
        folders = path.parent, other.parent, root, root / "p9", root / "extra_mask"
        target = draw.choice(folders) / name
        target.parent.mkdir(exist_ok=True)
        if draw.random() < 0.5:
            target.write_bytes(path.read_bytes())
            return f"{path.relative_to(root)} copied to {str(target.relative_to(root))!r}"
        path.rename(target)
        return f"{path.relative_to(root)} → {str(target.relative_to(root))!r}"

    def check_intact(self, named: Path, images: list[str] | None, whole: bool) -> None:
        """Check a folder to which nothing was done."""
        try:
            self.check(named, images, whole)
            usable = [*survey(Folder(named), show=False).usable]
        except PyroDwpError as error:
            raise Wrong(f"a healthy folder is refused: {error}") from error
        if len(usable) != len(CASES):
            raise Wrong(f"of a healthy folder {usable} can be used")

    def check(self, named: Path, images: list[str] | None, whole: bool) -> None:
        source = Folder(named, images=images)
        found = survey(source, show=False)
        found.table(), found.report()
        names = [*found.cases, *(it.case for it in found.problems if it.case)]
        if {*source.names()} - {*names} or len({*found.cases}) != len(found.cases):
            raise Wrong("a case is neither read nor complained about")
        owners: dict[Path, str] = {}
        for name, facts in found.cases.items():
            scan = source.load(name)
            assert scan.origin is not None
            files = [*scan.origin.images, *([scan.origin.label] if scan.origin.label else [])]
            for path in files:
                if owners.setdefault(path, name) != name and named.suffix != ".csv":
                    raise Wrong(f"{path.name} belongs to {owners[path]} and to {name}")
            if len({*files}) != len(files) and named.suffix != ".csv":
                raise Wrong(f"{name} has one file twice: {files}")
            self.compare(files, scan.image.double().numpy(), scan.affine, scan.label)
            if (facts.volumes is None) != (scan.label is None) or facts.shape != scan.shape:
                raise Wrong(f"other facts of {name}")
        self.config(named, found, images)
        if whole:
            chosen = [] if images is None else ["--images", json.dumps(images)]
            run("inspect_data", named, "--output", "whole.yaml", "--sheet", "whole.png", *chosen)

    def compare(self, files: list[Path], image: np.ndarray, affine: np.ndarray, label: object) -> None:
        stored = len(image) // max(1, len(files) - (label is not None))
        for number, path in enumerate(files):
            data, is_label = path.read_bytes(), label is not None and number == len(files) - 1
            found = np.asarray(label, np.float64)[None] if is_label else image[number * stored : (number + 1) * stored]
            module = MODULES.get(path.suffix, nifti)
            try:
                decoded = module.decode(nifti.unpack(data) if path.name.endswith(".gz") else data)
            except Damaged as problem:
                raise Wrong(f"{path.name} accepted, though {problem}") from problem
            check_voxels(found, affine, decoded, exact=False)

    def config(self, named: Path, found: object, images: list[str] | None) -> None:
        """Write the proposal, which must be settings that a training takes, of the same cases."""
        data = {"class": "folder", "folder": str(named)} | ({"images": images} if images else {})
        proposal = propose(found, Machine("cpu"), data, Preprocess())
        path = Path("proposal.yaml")
        path.write_text(proposal.to_yaml(), encoding="utf-8")
        if not finite(yaml.safe_load(path.read_text(encoding="utf-8"))):
            raise Wrong("a proposal with a number that is not finite")
        recipe, call = script_settings(main_of("svi_target"), ["--config", str(path)], None)
        source = recipe.arguments["data"].build(call)
        if not {*found.usable} <= {*source.names()}:
            raise Wrong("the proposal reads other cases")
