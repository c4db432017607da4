"""Exports students for phones and servers: each file is run and compared before it is kept."""

from kdkeras.export.checks import PRECISIONS
from kdkeras.export.contents import about
from kdkeras.export.flavours import FLAVOURS, flavours
from kdkeras.export.writing import onnx, saved_model, tflite

__all__ = ["FLAVOURS", "PRECISIONS", "about", "flavours", "onnx", "saved_model", "tflite"]
