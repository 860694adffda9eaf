"""Models as files of other runtimes: ONNX, OpenVINO's IR, a state dict of torchvision's builders.

The dense part and the head are converted from torch. The stages around them are composed here of ONNX's
standard operators, because a trace would fix their sizes.
"""
