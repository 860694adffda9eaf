"""Ids that objects keep from frame to frame, by ByteTrack of the library `trackers` (the extra `track`)."""

import numpy as np
import supervision
from trackers import ByteTrackTracker

from models.detections import Detections

CERTAIN = 0.5  # the score from which an object begins a track; one below it may go on with a track


class ByteTrack:
    """The tracker of one stream. Objects of all classes share it, so an id stays where a class flickers."""

    def __init__(self) -> None:
        self._tracker = ByteTrackTracker(track_activation_threshold=CERTAIN, high_conf_det_threshold=CERTAIN)

    def update(self, detections: Detections, seconds: float) -> list[int | None]:
        """The id of each detection of a frame at that time, None while it is too new to have one."""
        count = len(detections)
        tracked = self._tracker.update(
            supervision.Detections(
                xyxy=detections.boxes,
                confidence=detections.scores,
                class_id=detections.labels,
                data={"index": np.arange(count)},  # their order may change
            ),
            timestamp=seconds,
        )
        ids: list[int | None] = [None] * count
        if tracked.tracker_id is not None:
            for index, found in zip(tracked.data.get("index", ()), tracked.tracker_id, strict=True):
                ids[int(index)] = int(found) if found >= 0 else None
        return ids
