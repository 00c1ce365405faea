"""BraTS: the year of a scan by the name of its files, and its nested regions in that year's labels.

| year | necrosis and non-enhancing | oedema | enhancing |
| --- | --- | --- | --- |
| 2015 | 1 and 3 | 2 | 4 |
| 2017 to 2021 | 1 | 2 | 4 |
| 2023 (glioma, Africa, meningioma, metastases) | 1 | 2 | 3 |

References:
    Menze et al. 2015, The Multimodal Brain Tumor Image Segmentation Benchmark, IEEE TMI 34:1993-2024.
    Baid et al. 2021, The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

REGIONS = ("whole_tumour", "tumour_core", "enhancing_tumour")


@dataclass(frozen=True)
class Year:
    """How BraTS names and labels the scans of a year.

    Args:
        name: of the year or years.
        pattern: regular expression found in the path of each file.
        regions: labels of whole tumour, tumour core and enhancing tumour.
    """

    name: str
    pattern: str
    regions: tuple[list[int], list[int], list[int]]

    @property
    def structures(self) -> dict[str, list[int]]:
        """Name → labels of each region."""
        return dict(zip(REGIONS, self.regions, strict=True))

    @property
    def label_map(self) -> Mapping[int, int] | None:
        """Label → class, if the labels leave numbers out."""
        labels = sorted({label for region in self.regions for label in region})
        return None if labels == list(range(1, len(labels) + 1)) else dict(zip(labels, range(1, 9), strict=False))


YEARS = (
    Year("2015", r"(?:^|/)VSD\.Brain", ([1, 2, 3, 4], [1, 3, 4], [4])),
    Year("2017 to 2021", r"(?i:(?:^|/)brats(?:17|18|19|20|2021)_)", ([1, 2, 4], [1, 4], [4])),
    Year("2023", r"(?:^|/)BraTS-(?:GLI|SSA|MEN|MET)-", ([1, 2, 3], [1, 3], [3])),
)


def year_of(labels: Iterable[str]) -> Year | None:
    """Return the year whose names all of these label files have; None if there is none.

    Args:
        labels: paths relative to the folder of the data.

    Example:
        >>> year_of(["HGG/Brats18_2013_2_1/Brats18_2013_2_1_seg.nii.gz"]).label_map
        {1: 1, 2: 2, 4: 3}
    """
    paths = list(labels)
    return next((year for year in YEARS if paths and all(re.search(year.pattern, path) for path in paths)), None)
