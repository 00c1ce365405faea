"""Folders and files of scans on disk, and what they are called."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyro_dwp.errors import UNPRINTABLE, DataError

NIFTI = (".nii.gz", ".nii")
META = (".mha", ".mhd")
NRRD = (".seg.nrrd", ".nrrd", ".nhdr")
VOLUMES = (*NIFTI, *META, *NRRD)
PNG = ".png"
OTHERS = (".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".dcm")
CONVERT = (
    "Scans are volumes (.nii.gz, .nii, .mha, .mhd or .nrrd), PNG files, or folders of PNG slices: convert other formats. JPEG "
    "alters pixels, so export labels again from where they were drawn"
)
CHOOSE = "Put scans (.nii.gz, .nii, .mha, .mhd, .nrrd or .png) there, or name another one."
MASK = "_mask"
MAPS = ("_probability", "_entropy", "_mutual_information")
RESULT = re.compile(
    rf"(?P<case>.+)(?P<kind>{MASK}|(?:{'|'.join(MAPS)})(?:_[\w-]+)?)"
)  # the latter may be of a structure


def expand(folder: str | Path) -> Path:
    """Return a path in which ~ and environment variables are replaced.

    Args:
        folder: as the settings have it, for instance "${PYRO_DWP_DATA}/hippocampus".

    Raises:
        DataError: if a variable is not set.
    """
    expanded = os.path.expandvars(os.path.expanduser(str(folder)))
    unset = re.search(r"\$(\w+)|\$\{(\w+)\}", expanded)
    if unset:
        variable = unset[1] or unset[2]
        raise DataError(
            f"The path {str(folder)!r} needs the environment variable {variable}, which is not set. "
            f"Set it (export {variable}=/path/to/data), or give the path in full."
        )
    return Path(expanded)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses inside the block into a DataError with its reason.

    Args:
        path: what is read, named in the error.

    Raises:
        DataError: if an OSError with an error number is raised inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a library's own complaint about the content
            raise
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from error


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside the block, while a file is decoded, into a DataError that names it.

    Args:
        path: of the file.
        what: it should hold, with its article.

    Raises:
        DataError: if it is not a file, or anything is raised inside.
    """
    try:
        with readable(path):
            if not path.is_file():
                found = "is a folder" if path.is_dir() else "does not exist"
                raise DataError(f"A file with {what} is needed, but {path} {found}. Check the path.")
            yield
    except DataError:
        raise
    except Exception as error:  # a damaged header can make a library raise almost anything
        raise DataError(
            f"{path} cannot be read as {what} ({' '.join(str(error).split()) or repr(error)}). It is truncated, damaged or of "
            "another format; copy or download it again."
        ) from error


def read_beside(path: Path, file: str) -> bytes:
    """Return the content of another file of the same folder, which a header names as that of its voxels.

    Raises:
        ValueError: if it names a file of another folder, or what is no file, such as a device, which may have no end.
    """
    if not file or Path(file).name != file:
        raise ValueError(f"its voxels are in {file!r}, not in one file of the same folder")
    if not path.with_name(file).is_file():
        raise ValueError(f"its voxels are in {file!r}, which is no file of the same folder")
    return path.with_name(file).read_bytes()


def case_name(path: Path) -> str:
    """Return the name of a file without its folder and the extension of a scan.

    Example:
        >>> case_name(Path("imagesTr/case.1.nii.gz")), case_name(Path("slides/case.1.PNG"))
        ('case.1', 'case.1')
    """
    return path.name[: len(path.name) - len(extension_of(path))]


def extension_of(path: Path) -> str:
    """Return the extension of a scan as it is written, such as ".nii.gz"; "" of any other file."""
    if is_png(path):
        return path.name[-len(PNG) :]
    return next((extension for extension in VOLUMES if path.name.endswith(extension)), "")


def is_png(path: Path) -> bool:
    """Tell by its name whether a file is a PNG image."""
    return path.suffix.lower() == PNG


def png_slices(path: Path) -> list[Path]:
    """Return the PNG files of a stack in the natural order of their names, 2.png before 10.png; none if it is not a folder.

    Args:
        path: folder of the stack.

    Raises:
        DataError: if it cannot be read.
    """
    with readable(path):
        if not path.is_dir():
            return []
        return sorted((file for file in path.iterdir() if is_png(file) and not _hidden(file)), key=_natural)


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _natural(path: Path) -> list[str | int]:
    """Return the parts of a name, digits as numbers, to sort by: text and numbers alternate, beginning with text."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split("([0-9]+)", path.name))]


def existing_folder(folder: str | Path) -> Path:
    """Return a folder's path with ~ and environment variables replaced.

    Args:
        folder: as the settings have it.

    Raises:
        DataError: if it does not exist, is a file, or cannot be accessed.
    """
    path = expand(folder)
    with readable(path):
        if not path.is_dir():
            found = "is a file" if path.exists() else "does not exist"
            raise DataError(f"A folder of scans is needed, but {path} {found}. Check the path.")
    return path


def scan_files(folder: str | Path, results: bool = False) -> dict[str, Path]:
    """Map the name of each case of a folder, without extension, to its file.

    The files of a folder are of one kind. If it has volumes (NIfTI, MHA, NRRD), these are the scans, and PNG images beside them
    are not; if not, its PNG images are; if it has none, each folder of PNG slices in it is one.

    Hidden files are left out. So are NAME_mask, NAME_probability, NAME_entropy and NAME_mutual_information, which are results
    of a prediction and not scans, unless they are asked for.

    Args:
        folder: ~ and environment variables are replaced.
        results: whether masks and maps are wanted too.

    Returns:
        Name → path of the file, or of the folder of slices; sorted by name of the file.

    Raises:
        DataError: if the folder is missing, unreadable or without scans, two files differ only in their extension, or a name
            cannot be printed.
    """
    root = existing_folder(folder)
    with readable(root):
        found = sorted(path for path in root.iterdir() if not _hidden(path))
    volumes, png = [path for path in found if path.name.endswith(VOLUMES)], [path for path in found if is_png(path)]
    files: dict[str, Path] = {}
    passed_over = 0
    for path in volumes or png or [path for path in found if png_slices(path)]:
        name = case_name(path)
        if not results and RESULT.fullmatch(name):
            passed_over += 1
            continue
        if UNPRINTABLE.search(name):
            raise DataError(f"{root} has a file with a line break or the like in its name: {path.name!a}. Rename it.")
        if name in files:
            raise DataError(f"{root} has both {files[name].name} and {path.name}. Remove one.")
        files[name] = path
    if not files:
        besides = f" besides {passed_over} masks and maps of a prediction" if passed_over else ""
        others = [path.name for path in found if path.suffix.lower() in OTHERS]
        cure = f"It has {len(others)} such as {others[0]}. {CONVERT}." if others else CHOOSE
        raise DataError(f"The folder {root} has no scan{besides}. {cure}")
    return files
