"""What the rules of the house compare with: homes of dependencies, rooms and their imports, old names."""

# A dependency and the files that may import it. What is not here is not a dependency of the product.
HOMES: dict[str, tuple[str, ...]] = {
    "torch": ("models/*",),
    "torchvision": ("models/*",),
    "triton": ("models/ops/triton_kernels.py",),  # comes with torch for GPUs
    "safetensors": ("models/zoo/*", "models/checkpoints/*", "models/training/*", "models/shapes/*"),
    "faster_coco_eval": ("models/evaluation/*",),
    "matplotlib": ("models/evaluation/*", "models/diagnosis/*", "models/training/report.py"),
    "yaml": ("models/datasets/*", "models/importing/*"),
    "imagesize": ("models/datasets/*",),
    "cv2": ("models/lineage/*",),
    "openvino": ("models/engines/openvino_import.py",),
    "onnx": ("models/exporting/*",),
    "onnxscript": ("models/exporting/*",),
    "onnxruntime": ("models/exporting/*",),
    "av": ("models/images/video/frames.py", "models/images/video/camera.py"),
    "nncf": ("models/quantization/*",),
    "numpy": ("app/*", "models/*", "client/*"),
    "pillow_heif": ("models/images/openers.py", "bench/decode_memory.py"),
    "pillow_jxl": ("models/images/jxl_process.py", "bench/decode_memory.py"),
    "PIL": ("models/images/*", "models/pipeline/resize.py", "models/shapes/*", "client/*"),
    "tenacity": ("client/*", "app/cameras/*"),
    "aiomqtt": ("app/cameras/mqtt.py",),
    "trackers": ("app/cameras/tracking.py",),
    "fastapi": ("app/main.py", "app/routes/*", "app/protocols/*", "app/transport/*", "app/distributed/*"),
    "starlette": ("app/main.py", "app/routes/*", "app/protocols/*", "app/transport/*", "app/distributed/*"),
    "backports": ("app/transport/middleware/inflate.py",),  # zstd of Python 3.14 for older ones
    "compression": ("app/transport/middleware/inflate.py",),  # of Python 3.14
    "python_multipart": ("app/transport/*", "app/protocols/*"),
    "grpc": ("app/protocols/openinference/grpc/*",),
    "grpc_reflection": ("app/protocols/openinference/grpc/reflection.py",),
    "google": ("app/protocols/openinference/grpc/*",),  # protobuf
    "ray": ("app/distributed/ray_serve.py",),
    "opentelemetry": ("app/telemetry/*",),
    "pythonjsonlogger": ("app/telemetry/*",),
    "uvicorn": ("app/server.py", "app/http_server/*"),
    "httptools": ("app/http_server/*",),
    "websockets": ("app/http_server/*",),
    "prometheus_client": ("app/telemetry/*",),
    "pydantic": (
        "app/settings/*",
        "app/schemas/*",
        "app/transport/*",
        "app/routes/*",
        "app/protocols/*",
        "app/commands/*",
        "app/distributed/arguments.py",
        "models/zoo/accuracy.py",
        "models/zoo/cards.py",
        "models/zoo/sections.py",
    ),
    "pydantic_core": (
        *("app/schemas/*", "app/transport/*", "app/routes/*", "app/protocols/*", "app/cameras/*"),
    ),
    "pydantic_settings": ("app/settings/*",),
    "typer": ("app/cli.py", "app/commands/*"),
    "rich": ("app/cli.py", "app/commands/*", "models/training/*", "models/shapes/*", "client/*"),
    "filelock": ("models/zoo/download.py",),
    "fsspec": ("models/zoo/transports.py",),
    "huggingface_hub": ("models/zoo/transports.py",),
    "botocore": ("models/zoo/transports.py",),  # errors that s3fs lets through
    "httpx": ("client/*", "app/transport/url_images.py", "app/cameras/webhook.py", "models/zoo/*"),
    "supervision": ("client/*", "app/cameras/tracking.py"),
    "pandas": ("client/*",),
    "sahi": ("client/rcnn_client/sahi.py",),
    "fiftyone": ("client/rcnn_client/result.py",),
}

# Plain values: open to every room but the closed ones.
VALUES = (
    "models.detections models.options models.regions models.images models.tiling.tiles "
    "models.precision.proof models.zoo.accuracy models.zoo.cards models.zoo.sections models.zoo.classes "
    "models.zoo.catalogue"
)
CLOSED = (
    *("app.batching", "app.settings", "app.telemetry", "rcnn_client"),
    *("models.ops", "models.networks", "models.zoo", "models.engines", "models.runtime"),
)
SERVING = "app.batching app.telemetry app.settings app.schemas"
TRANSPORT = f"app.serving {SERVING}"
ROUTES = f"app.transport {TRANSPORT}"
LEARNING = "models.evaluation models.datasets models.detector models.engines models.zoo"

# The rooms and what each may import beside the values; `app` (its version) and app.errors are open to all of
# app. Inside a room imports are free, but for cycles. A room that is named inside another is one of its own.
ROWS: dict[str, str] = {
    # what imports nothing of ours
    "app.batching app.telemetry app.schemas app.settings app.errors rcnn_client": "",
    "models.detections models.options models.regions models.images models.tiling.tiles": "",
    "models.ops models.networks models.runtime models.datasets models.checkpoints": "",
    # the service, from the command line down
    "app.cli": "app.commands",
    "app.commands": (
        "rcnn_client app.captures.files app.schemas app.settings app.server app.serving.loading models"
    ),
    "app.client": "rcnn_client",
    "app.http_server": "app.telemetry",
    "app.server": "app.http_server app.main app.serving app.telemetry app.settings",
    "app.distributed": f"app.main app.protocols.base {ROUTES}",
    "app.main": f"app.routes app.protocols app.serving.loading app.captures app.cameras {ROUTES}",
    "app.captures": f"app.captures.files {TRANSPORT}",
    "app.captures.files": "",
    "app.cameras": ROUTES,
    "app.routes": f"app.captures app.captures.files app.cameras {ROUTES}",
    "app.protocols.base": ROUTES,
    "app.protocols": f"app.protocols.base {ROUTES}",  # each protocol is a room of its own
    "app.transport": TRANSPORT,
    "app.serving": SERVING,
    "app.serving.loading": "app.settings models.detector models.runtime models.zoo",
    # the detector
    "models.precision": "models.zoo",
    "models.zoo": "models.networks models.checkpoints",
    "models.engines": "models.ops models.precision",
    "models.pipeline": "models.engines.protocol models.ops",
    "models.detector": "models.pipeline models.engines models.ops models.precision models.zoo",
    "models.tiling": "models.detector",
    "models.evaluation": "models.datasets models.detector models.engines models.tiling models.pipeline "
    "models.precision models.zoo",
    "models.diagnosis": "models.evaluation models.datasets models.detector models.pipeline models.zoo",
    "models.quantization": LEARNING,
    "models.training": f"{LEARNING} models.networks models.checkpoints",
    "models.shapes": f"models.training models.networks {LEARNING}",
    "models.importing": "models.checkpoints models.detector models.zoo",
    "models.exporting": "models.detector models.pipeline models.ops models.engines models.zoo",
    "models.lineage": "models.pipeline models.ops models.engines models.networks",
    # the benchmarks
    "bench": "app models rcnn_client",
    "bench.harness": "app models bench.peers",
    "bench.capacity": "bench.harness app.serving app.errors models",
    "bench.gpu": "bench.harness bench.peers app.server app.settings models",
    "bench.peers": "models app.settings",
    "bench.servers": "bench.harness bench.peers models",
    "bench.scale": "bench.harness bench.latency bench.peers models",
}
ARROWS = {room: allowed for rooms, allowed in ROWS.items() for room in rooms.split()}
OURS = ("app", "models", "bench", "rcnn_client")
MOST_FILES = 16  # Python files in a folder

# Names that no class, function or attribute of ours has any more, and what the thing is called now.
OLD_NAMES: dict[str, str] = dict(
    pair.split()
    for pair in """
    Caller RequestHandle, Waiter QueueItem, Answered Completed, Ran RunResult,
    Inferred InferenceResult, WaitingRoom BatchScheduler, RankedQueue PriorityQueue,
    GroupedQueue PriorityQueue, Condition DeviceStatus, Ready PreparedImage, Steps infer_tiles,
    Asked ParsedRequest, SPOKEN DIALECTS, Places StreamSlots, Newest LatestFrame, Order StreamSpec,
    Answer FrameResult, End EndOfStream, Swap ModelSwapper, Swapped SwapResult, _see_off _release_old,
    _tell _notify_released, Room ScratchBuffer, Stages StageTimer, Sight ResizeLimits,
    Upload DeviceUpload, Place ProcessRank, blaming_the_data decoder_errors,
    _hush_pillow silence_pillow_warnings, Patience RetryPolicy, Which FrameSelection,
    refuse_nobody check_reachable, Door ProxyMiddleware, Passage ProxiedRequest, Ledger MetricsLedger,
    FAR_TOO_LONG HANG_FACTOR, ALONE LAST_DEVICE_HANG_FACTOR, GIVEN_WAY DECODE_NICENESS,
    wait_at_door wait_for_capacity, wait_for_room wait_for_capacity, refuse_if_full check_capacity,
    give_place_back release_slot, relearn reset_estimates, begun_with pinned_model,
    unless_gone cancel_on_disconnect, reached_device dispatched, holder device, moved requeued,
    wake notify, wanted is_pending, owed has_outstanding, _patience _hang_timeout,
    _suspect _mark_stuck, _hand_back _requeue, _ended _on_loop_end, DetectParams DetectOptions,
    params_of DetectOptions, rises promotions
    """.split(",")  # noqa: SIM905  # a table that reads like one
)

# `except Exception` is a last resort: once in each of these files, where somebody still waits for an answer.
LAST_RESORTS = (
    "app/batching/batcher.py",
    "app/batching/worker.py",
    "app/transport/middleware/request_context.py",
    "app/protocols/openinference/grpc/server.py",
    "app/cli.py",
    "models/pipeline/batches/device_thread.py",
)
