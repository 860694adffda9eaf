"""Operators that need only torch: RoIAlign, NMS, scratch memory."""
