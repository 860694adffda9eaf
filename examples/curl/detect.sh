#!/usr/bin/env bash
# Detect objects in one image: bash detect.sh photo.jpg
set -euo pipefail
url=${RCNN_URL:-http://127.0.0.1:8000}
image=${1:?name an image}
key=(${RCNN_API_KEY:+-H "X-API-Key: $RCNN_API_KEY"})
call=(curl --silent --show-error --fail-with-body "${key[@]}")

"${call[@]}" -F "image=@$image" "$url/detect?score_threshold=0.6"
"${call[@]}" -F "image=@$image" "$url/detect?format=png" --output drawn.png
"${call[@]}" -F "image=@$image" "$url/detect?format=coco&file_name=$(basename "$image")" --output photo.coco.json
"${call[@]}" -F "image=@$image" -F "image=@$image" "$url/detect/batch?max_detections=3"
