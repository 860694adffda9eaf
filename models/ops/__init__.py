"""Operators that need torch alone: RoIAlign, NMS, scratch memory."""
