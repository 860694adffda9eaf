"""Operators that need only torch, or Triton where it is: RoIAlign, NMS, scratch memory."""
