"""Cases: read from files or simulated, brought to the network's grid and into batches, and results brought back."""

from pyro_dwp.data.batches import Batch, stack
from pyro_dwp.data.check import CaseReport, check_cases
from pyro_dwp.data.labels import check_labels, labels_of_classes, map_labels
from pyro_dwp.data.layouts import CaseSource, Decathlon, FolderPairs
from pyro_dwp.data.nifti import write_volume
from pyro_dwp.data.paths import case_name, expand, nifti_files
from pyro_dwp.data.phantoms import Phantoms
from pyro_dwp.data.reading import read_label, read_scan
from pyro_dwp.data.scan import Origin, Scan
from pyro_dwp.data.splits import Split, SplitPlan, bootstrap, read_split, split_cases, write_split
from pyro_dwp.data.transforms import Prepared, Preprocess

__all__ = [
    "Batch",
    "CaseReport",
    "CaseSource",
    "Decathlon",
    "FolderPairs",
    "Origin",
    "Phantoms",
    "Prepared",
    "Preprocess",
    "Scan",
    "Split",
    "SplitPlan",
    "bootstrap",
    "case_name",
    "check_cases",
    "check_labels",
    "expand",
    "labels_of_classes",
    "map_labels",
    "nifti_files",
    "read_label",
    "read_scan",
    "read_split",
    "split_cases",
    "stack",
    "write_split",
    "write_volume",
]
