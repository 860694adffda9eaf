"""The layouts of annotation programs' exports, with the images of FRUIT, as each program writes them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.data.datasets import (
    FRUIT,
    NAMES,
    Picture,
    coco_document,
    save_picture,
    write,
    xml,
    yolo_line,
)

ALL = (*FRUIT["train"], *FRUIT["val"])
ROBOFLOW = {"train": "train", "val": "valid"}  # the folder of each split


def _stem(picture: Picture) -> str:
    return Path(picture.name).stem


def _lines(picture: Picture) -> str:
    return "\n".join(yolo_line(name, box, picture.size) for name, box in picture.objects)


def roboflow_coco(root: Path) -> Path:
    for split, pictures in FRUIT.items():
        folder = root / ROBOFLOW[split]
        document = coco_document(pictures)
        root_category = {"id": 0, "name": "fruit", "supercategory": "none"}
        document["categories"] = [root_category, *document["categories"]]
        for picture in pictures:
            save_picture(folder / picture.name, picture)
        write(folder / "_annotations.coco.json", json.dumps(document))
    write(root / "README.roboflow.txt", "exported")
    return root


def roboflow_yolo(root: Path) -> Path:
    for split, pictures in FRUIT.items():
        folder = root / ROBOFLOW[split]
        for picture in pictures:
            save_picture(folder / "images" / picture.name, picture)
            write(folder / f"labels/{_stem(picture)}.txt", _lines(picture))
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    write(root / "data.yaml", f"{paths}nc: 3\nnames: {list(NAMES)}\n")
    return root


def roboflow_voc(root: Path) -> Path:
    for split, pictures in FRUIT.items():
        for picture in pictures:
            save_picture(root / ROBOFLOW[split] / picture.name, picture)
            write(root / ROBOFLOW[split] / f"{_stem(picture)}.xml", xml(picture))
    return root


def cvat_coco(root: Path) -> Path:
    for picture in ALL:
        save_picture(root / "images/default" / picture.name, picture)
    write(root / "annotations/instances_default.json", json.dumps(coco_document(ALL)))
    return root


def cvat_yolo(root: Path) -> Path:
    for picture in ALL:
        save_picture(root / "obj_train_data" / picture.name, picture)
        write(root / f"obj_train_data/{_stem(picture)}.txt", _lines(picture))
    write(
        root / "obj.data", "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    write(root / "obj.names", "\n".join(NAMES))
    write(root / "train.txt", "\n".join(f"data/obj_train_data/{picture.name}" for picture in ALL))
    return root


def cvat_voc(root: Path) -> Path:
    for picture in ALL:
        save_picture(root / "JPEGImages" / picture.name, picture)
        write(root / f"Annotations/{_stem(picture)}.xml", xml(picture))
    write(root / "ImageSets/Main/default.txt", "\n".join(_stem(picture) for picture in ALL))
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\n")
    return root


def cvat_images(root: Path) -> Path:
    images = ""
    for number, picture in enumerate(ALL):
        save_picture(root / "images" / picture.name, picture)
        boxes = "".join(
            f'<box label="{name}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>'
            for name, (x1, y1, x2, y2) in picture.objects
        )
        width, height = picture.size
        images += (
            f'<image id="{number}" name="{picture.name}" width="{width}" height="{height}">{boxes}</image>'
        )
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    meta = f"<version>1.1</version><meta><job><labels>{labels}</labels></job></meta>"
    write(
        root / "annotations.xml",
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{images}</annotations>',
    )
    return root


def label_studio_coco(root: Path) -> Path:
    for picture in ALL:
        save_picture(root / "images" / f"1a2b3c4d-{picture.name}", picture)
    document = coco_document(tuple(p._replace(name=f"images\\1a2b3c4d-{p.name}") for p in ALL))
    write(root / "result.json", json.dumps(document | {"info": {"contributor": "Label Studio"}}))
    return root


MOST_USED: dict[str, Callable[[Path], Path]] = {
    "roboflow coco": roboflow_coco,
    "roboflow yolo": roboflow_yolo,
    "roboflow voc": roboflow_voc,
    "cvat coco": cvat_coco,
    "cvat yolo": cvat_yolo,
    "cvat voc": cvat_voc,
    "cvat images": cvat_images,
    "label studio coco": label_studio_coco,
}


def voc_devkit(root: Path) -> Path:
    home = root / "VOCdevkit/VOC2012"
    for split, pictures in FRUIT.items():
        for picture in pictures:
            save_picture(home / "JPEGImages" / picture.name, picture)
            write(home / f"Annotations/{_stem(picture)}.xml", xml(picture))
        write(home / f"ImageSets/Main/{split}.txt", "\n".join(_stem(picture) for picture in pictures))
    return root


def voc_nested(root: Path) -> Path:
    for picture in ALL:
        save_picture(root / "JPEGImages/cam1" / picture.name, picture)
        write(root / f"Annotations/cam1/{_stem(picture)}.xml", xml(picture))
    return root


def voc_split_folders(root: Path) -> Path:
    for split, pictures in FRUIT.items():
        for picture in pictures:
            save_picture(root / "images" / split / picture.name, picture)
            write(root / f"annotations/{split}/{_stem(picture)}.xml", xml(picture))
    return root


def tensorflow_tutorial(root: Path) -> Path:
    for split, pictures in FRUIT.items():
        for picture in pictures:
            save_picture(root / "images" / split / picture.name, picture)
            write(root / f"images/{split}/{_stem(picture)}.xml", xml(picture))
    write(root / "annotations/label_map.pbtxt", "item { id: 1 name: 'apple' }")
    return root


def coco_in_parts(root: Path) -> Path:
    for number, picture in enumerate(ALL, start=1):
        save_picture(root / "images" / picture.name, picture)
        write(root / f"annotations/instances_train_part{number}.json", json.dumps(coco_document((picture,))))
    return root


def lvis(root: Path) -> Path:
    document = coco_document(ALL)
    for entry, picture in zip(document["images"], ALL, strict=True):
        save_picture(root / "images/train2017" / picture.name, picture)
        entry["coco_url"] = f"http://images.example/train2017/{entry.pop('file_name')}"
    write(root / "annotations/lvis_v1_train.json", json.dumps(document))
    return root


def labelme(root: Path) -> Path:
    for picture in ALL:
        save_picture(root / picture.name, picture)
        shapes = [
            {"label": name, "points": [[x2, y2], [x1, y1]], "shape_type": "rectangle"}
            for name, (x1, y1, x2, y2) in picture.objects
        ]
        width, height = picture.size
        document = {"version": "5", "shapes": shapes, "imagePath": picture.name, "imageData": None}
        document |= {"imageWidth": width, "imageHeight": height}
        write(root / f"{_stem(picture)}.json", json.dumps(document))
    return root


def _rect(box: tuple[float, float, float, float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}


def via(root: Path) -> Path:
    images = {}
    for picture in ALL:
        save_picture(root / picture.name, picture)
        regions = [
            {"shape_attributes": _rect(box), "region_attributes": {"fruit": name}}
            for name, box in picture.objects
        ]
        images[f"{picture.name}99"] = {"filename": picture.name, "size": 99, "regions": regions}
    write(root / "via_project.json", json.dumps({"_via_settings": {}, "_via_img_metadata": images}))
    return root


def via_table(root: Path) -> Path:
    rows = [
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    ]
    for picture in ALL:
        save_picture(root / picture.name, picture)
        for number, (name, box) in enumerate(picture.objects):
            cells = [json.dumps(_rect(box)), json.dumps({"fruit": name})]
            quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
            rows.append(f"{picture.name},9,{{}},2,{number},{quoted}")
        if not picture.objects:
            rows.append(f"{picture.name},9,{{}},0,0,{{}},{{}}")
    write(root / "via.csv", "\n".join(rows))
    return root


def tensorflow_table(root: Path) -> Path:
    for split, pictures in FRUIT.items():
        rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for picture in pictures:
            save_picture(root / "images" / split / picture.name, picture)
            size = f"{picture.size[0]},{picture.size[1]}"
            rows += [
                f"{picture.name},{size},{name},{','.join(map(str, box))}" for name, box in picture.objects
            ]
            if not picture.objects:
                rows.append(f"{picture.name},{size},,,,,")
        write(root / f"{split}_labels.csv", "\n".join(rows))
    return root


def retinanet(root: Path) -> Path:
    rows = []
    for picture in ALL:
        save_picture(root / "images" / picture.name, picture)
        rows += [f"images/{picture.name},{','.join(map(str, box))},{name}" for name, box in picture.objects]
        if not picture.objects:
            rows.append(f"images/{picture.name},,,,,")
    write(root / "annotations.csv", "\n".join(rows))
    write(root / "classes.csv", "\n".join(f"{name},{number}" for number, name in enumerate(NAMES)))
    return root


def open_images(root: Path) -> Path:
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    for split, pictures in FRUIT.items():
        rows = [head]
        for picture in pictures:
            save_picture(root / split / picture.name, picture)
            width, height = picture.size
            for name, (x1, y1, x2, y2) in picture.objects:
                sides = f"{x1 / width!r},{x2 / width!r},{y1 / height!r},{y2 / height!r}"
                rows.append(f"{_stem(picture)},xclick,/m/{name},1,{sides},0,0,0")
        write(root / f"{split}-annotations-bbox.csv", "\n".join(rows))
    rows = [f"/m/{name},{name}" for name in NAMES]
    write(root / "class-descriptions-boxable.csv", "\n".join(rows))
    return root


def zipped(root: Path) -> Path:
    path = root / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        folder = roboflow_coco(root / "unzipped")
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"fruit/{file.relative_to(folder)}")
    return path


FURTHER: dict[str, Callable[[Path], Path]] = {
    "voc devkit": voc_devkit,
    "voc nested": voc_nested,
    "voc split folders": voc_split_folders,
    "tensorflow tutorial": tensorflow_tutorial,
    "coco in parts": coco_in_parts,
    "lvis": lvis,
    "labelme": labelme,
    "via": via,
    "via table": via_table,
    "tensorflow table": tensorflow_table,
    "retinanet": retinanet,
    "open images": open_images,
    "zip": zipped,
}
