"""All images of a folder to a table: python detect_folder.py FOLDER TABLE.csv"""

import csv
import sys
from pathlib import Path

from rcnn_client import Client, ClientError

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


def main(folder: str, table: str) -> int:
    """Write the table; the number of images that failed."""
    images = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS)
    failed = 0
    with Client() as client, open(table, "w", newline="") as file:  # RCNN_URL and RCNN_API_KEY
        rows = csv.writer(file)
        rows.writerow(["image", "name", "score", "x1", "y1", "x2", "y2"])
        for image, outcome in zip(images, client.detect_many(images, in_flight=8), strict=True):
            if isinstance(outcome, ClientError):
                print(f"{image}: {outcome}", file=sys.stderr)
                failed += 1
                continue
            for found in outcome:
                rows.writerow(
                    [image, found.name, f"{found.score:.3f}", *(f"{side:.1f}" for side in found.box)]
                )
    print(f"{len(images) - failed} of {len(images)} images in {table}")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:3]) else 0)
