"""The names that numbers go by: dense indices, money and time."""

from __future__ import annotations

from typing import NewType

import numpy as np
import numpy.typing as npt

UserIdx = NewType("UserIdx", int)
ItemIdx = NewType("ItemIdx", int)
Micros = NewType("Micros", int)
"""Money in millionths of the currency's unit. Never a float."""

Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
UInt16 = npt.NDArray[np.uint16]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
