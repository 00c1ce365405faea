"""Kind `detached`: a header in one file, .mhd or .nhdr, and its voxels in another beside it."""

import shutil
from pathlib import Path
from random import Random

from pyro_dwp.data import read_scan
from tests.fuzz import metaimage, nrrd
from tests.fuzz.damage import damage_file
from tests.fuzz.formats import AFFINE
from tests.fuzz.images import check_voxels, intensities
from tests.fuzz.nifti import Damaged
from tests.fuzz.text_header import damage_line
from tests.fuzz.trial import Input, Kind, Wrong


class Detached(Kind):
    """An image in two files."""

    name, share = "detached", 0.8

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        module, ending = draw.choice(((metaimage, ".mhd"), (nrrd, ".nhdr")))
        packed = draw.random() < 0.5
        voxels = intensities(draw, draw.choice(("f4", "f8", "i2", "u1")))
        header, body = folder / f"case{ending}", folder / "case.raw"
        whole, alone = (module.encode(voxels, AFFINE, packed, *file) for file in ((), (body.name,)))
        header.write_bytes(alone)
        body.write_bytes(whole[whole.index(module.LAST) + len(module.LAST) :])
        damage = "none"
        if not healthy and draw.random() < 0.5:
            changed, damage = damage_line(alone, draw)
            header.write_bytes(changed)
        elif not healthy:
            first, second = draw.choice(((header, body), (body, header)))
            damage = damage_file(first, draw, [second])
        for path in (header, body):
            if path.is_file():
                shutil.copyfile(path, folder / f"kept{path.suffix}")
        named = (header.name, body.name)
        return Input(folder, named, lambda: self.check(header), f"{ending} {'packed ' * packed}{damage}")

    def check(self, header: Path) -> None:
        scan = read_scan("case", [header])
        kept = [header.with_name(f"kept{ending}") for ending in (header.suffix, ".raw")]
        if not all(path.exists() for path in kept):
            raise Wrong("a file is missing")
        decode = metaimage.decode if header.suffix == ".mhd" else nrrd.decode
        try:
            decoded = decode(*(path.read_bytes() for path in kept))
        except Damaged as problem:
            raise Wrong(f"accepted, though {problem}") from problem
        except NotImplementedError:
            return
        check_voxels(scan.image.double().numpy(), scan.affine, decoded, exact=False)
