"""Cases: read from files or simulated, brought to the network's grid and into batches, and results brought back."""

from pyro_dwp.data.augmentation import Augment
from pyro_dwp.data.batches import Batch, stack
from pyro_dwp.data.check import CaseReport, check_cases
from pyro_dwp.data.decathlon import Decathlon
from pyro_dwp.data.folder import Folder
from pyro_dwp.data.folder_pairs import FolderPairs
from pyro_dwp.data.given import Image, Sequences, Spacing
from pyro_dwp.data.labels import check_labels, labels_of_classes, map_labels
from pyro_dwp.data.layouts import CaseSource
from pyro_dwp.data.nifti import write_volume
from pyro_dwp.data.patches import Patches, cut_patch, draw_patch
from pyro_dwp.data.paths import case_name, expand, scan_files
from pyro_dwp.data.phantoms import Phantoms
from pyro_dwp.data.png import write_png
from pyro_dwp.data.reading import read_label, read_scan
from pyro_dwp.data.scan import Origin, Scan
from pyro_dwp.data.split import Split, read_split, write_split
from pyro_dwp.data.split_plan import SplitPlan, bootstrap
from pyro_dwp.data.transforms import Prepared, Preprocess

__all__ = [
    "Augment",
    "Batch",
    "CaseReport",
    "CaseSource",
    "Decathlon",
    "Folder",
    "FolderPairs",
    "Image",
    "Origin",
    "Patches",
    "Phantoms",
    "Prepared",
    "Preprocess",
    "Scan",
    "Sequences",
    "Spacing",
    "Split",
    "SplitPlan",
    "bootstrap",
    "case_name",
    "check_cases",
    "check_labels",
    "cut_patch",
    "draw_patch",
    "expand",
    "labels_of_classes",
    "map_labels",
    "read_label",
    "read_scan",
    "read_split",
    "scan_files",
    "stack",
    "write_png",
    "write_split",
    "write_volume",
]
