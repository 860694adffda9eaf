#!/usr/bin/env bash
# A model of your own: bash train.sh DATA PHOTOS [options of rcnn train]
set -euo pipefail
data=${1:?name a folder of annotated images} photos=${2:?name a folder of photos}

rcnn train "$data" --out runs/mine "${@:3}"
rcnn evaluate "$data" --split val --model runs/mine/model.toml
rcnn detect "$photos" --model runs/mine/model.toml --save drawn/

echo "Serve it: RCNN_MODEL=runs/mine/model.toml rcnn serve"
