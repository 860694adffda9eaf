"""The overlay with models of one's own: what its volumes hold, and for how long captures are kept."""

import os
import subprocess
import time
from pathlib import Path

from tests.deploy.test_kubernetes import CAPTURES, MODELS, OWN
from tests.support.kubernetes import of_kind, pod, rendered


def test_the_pod_of_own_models_reads_them_and_keeps_captures_as_long_as_its_settings_say() -> None:
    documents, settings = rendered(OWN), pod(OWN).settings
    assert len(settings["RCNN_MODEL"].split(",")) > 1
    assert settings["RCNN_MODEL_DIR"] == MODELS
    assert settings["RCNN_CAPTURE_DIR"] == f"{CAPTURES}/$(POD_NAME)"  # one process a folder
    claims = {
        one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "PersistentVolumeClaim"
    }
    volumes = pod(OWN).volumes()
    kept = claims[volumes[CAPTURES]["persistentVolumeClaim"]["claimName"]]
    assert volumes[MODELS]["persistentVolumeClaim"]["claimName"] in claims
    replicas = of_kind(documents, "HorizontalPodAutoscaler")["spec"]["maxReplicas"]
    size = int(kept["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    assert replicas * int(settings["RCNN_CAPTURE_MAX_BYTES"]) <= size
    clean_up = of_kind(documents, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = clean_up["containers"]
    command = container["command"]
    assert int(command[command.index("-mtime") + 1]) + 1 == int(settings["RCNN_CAPTURE_DAYS"])
    assert container["image"] == pod(OWN).container["image"]
    assert container["securityContext"] == pod(OWN).container["securityContext"]
    assert clean_up["securityContext"] == pod(OWN).spec["securityContext"]


def test_the_clean_up_deletes_what_is_too_old_and_nothing_else(tmp_path: Path) -> None:
    clean_up = of_kind(rendered(OWN), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    old, young = tmp_path / "gone" / "shapes" / "a.jpg", tmp_path / "there" / "shapes" / "b.jpg"
    for file, days in ((old, 30.1), (young, 29.5)):
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (time.time() - days * 86400,) * 2)
    command = [word.replace(CAPTURES, str(tmp_path)) for word in clean_up["containers"][0]["command"]]
    subprocess.run(command, check=True, timeout=60)
    assert (old.exists(), young.exists()) == (False, True)
