"""Cases: from files or phantoms, over the network's grid, into batches, and results back to the scan's own grid."""

from pyro_dwp.data.batches import Batch, prepare, stack
from pyro_dwp.data.layouts import CaseSource, Decathlon, FolderPairs, expand, nifti_files
from pyro_dwp.data.nifti import case_name, read_scan, write_volume
from pyro_dwp.data.phantoms import Phantoms
from pyro_dwp.data.scan import Scan
from pyro_dwp.data.splits import Split, bootstrap, keep_split, split_cases
from pyro_dwp.data.transforms import Prepared, Preprocess, check_labels

__all__ = [
    "Batch",
    "CaseSource",
    "Decathlon",
    "FolderPairs",
    "Phantoms",
    "Prepared",
    "Preprocess",
    "Scan",
    "Split",
    "bootstrap",
    "case_name",
    "check_labels",
    "expand",
    "keep_split",
    "nifti_files",
    "prepare",
    "read_scan",
    "split_cases",
    "stack",
    "write_volume",
]
