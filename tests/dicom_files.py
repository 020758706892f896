"""Small real DICOM files for tests, written by pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def a_dicom(pixels: np.ndarray, **tags: Any) -> Dataset:
    """A CT image of `pixels`, [rows, columns], [frames, rows, columns] or [rows, columns, 3]."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientID = "jane-doe"
    dataset.PatientName = "Doe^Jane"
    dataset.Modality = "CT"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def ramp(rows: int = 4, columns: int = 5, *, dtype: str = "u2", top: int = 1000) -> np.ndarray:
    """Values from 0 to `top`, left to right and down."""
    return np.linspace(0, top, rows * columns).reshape(rows, columns).astype(dtype)


def a_series(
    folder: Path, depth: int = 5, *, numbers: list[int] | None = None, **tags: Any
) -> None:
    """`depth` slices 2 mm apart along z; slice k holds k * 100, file names in no order."""
    series, study = generate_uid(), generate_uid()
    for place in range(depth):
        values = np.full((4, 5), place * 100, dtype=np.int16)
        values[0, 0] = 500  # so that no slice is constant
        told = {
            "SeriesInstanceUID": series,
            "StudyInstanceUID": study,
            "InstanceNumber": numbers[place] if numbers else place + 1,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, 2.0 * place],
            **tags,
        }
        save(a_dicom(values, **told), folder / f"{(place * 7) % depth}-{place}.dcm")
