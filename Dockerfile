# Two images: `cpu`, the default, and `cuda` for NVIDIA GPUs. Sizes and times: docs/install.md.
#   docker build -t rcnn-serve --build-arg TORCH_INDEX_URL=… .     # the index of torch's CPU wheels: 1.4 GB in place of 5.4
#   docker build -t rcnn-serve:cuda --target cuda .                # torch's default wheel carries CUDA
#   docker run --rm -p 127.0.0.1:8000:8000 rcnn-serve              # for rcnn-serve:cuda add `--gpus all`
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL …      # works too: only /tmp and the cache are written
# For a driver or a GPU that is too old for the default wheel: `cuda` with torch's index of an older CUDA (cu126, …).

# A release passes the digest of a base that was looked at, as no tag stays the same:
#   --build-arg BASE=python:3.11-slim@sha256:…                     # not verified: here it was built on the tag alone
ARG BASE=python:3.11-slim

FROM ${BASE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
ARG PIP_EXTRA_INDEX_URL
# Takes torch, torchvision and CUDA's libraries from that index alone, in the pinned versions.
ARG TORCH_INDEX_URL
RUN python -m venv /opt/venv && python -m venv /opt/sbom
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
# Every file is checked by its hash (make lock), except torch, torchvision and CUDA's libraries: those differ by index,
# and only their versions are pinned. An edit of the code does not install any of it again.
COPY docker/requirements.txt docker/sbom-requirements.txt constraints.txt ./
RUN pip install --quiet --require-hashes --no-deps -r requirements.txt \
    && pip install --quiet ${TORCH_INDEX_URL:+-i "$TORCH_INDEX_URL"} -c constraints.txt torch torchvision \
    && /opt/sbom/bin/pip install --quiet --require-hashes --no-deps -r sbom-requirements.txt
# What only compiles against torch or tests the libraries. Triton keeps its own headers.
RUN packages=$(python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
    && rm -rf "$packages"/torch/include "$packages"/torch/share "$packages"/torch/bin/protoc* \
    && find "$packages" -type d -name tests -prune -exec rm -rf {} + \
    && find /opt/venv -name '*.a' -delete

# On the CPU nothing compiles with Triton (torch's default wheel brings it).
FROM dependencies AS dependencies-cpu
RUN pip uninstall --quiet --yes triton \
    && python -c "import torch; print('torch', torch.__version__, '' if torch.version.cuda is None else 'has CUDA: pass TORCH_INDEX_URL for an image of a quarter of the size')"

# The product apart from its dependencies: a new version is a layer of megabytes, not of gigabytes.
FROM dependencies AS product
COPY . .
RUN pip install --quiet --no-deps --no-build-isolation --target /opt/rcnn ./client .

FROM product AS product-cuda
RUN PYTHONPATH=/opt/rcnn /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml -o /opt/rcnn/sbom.cdx.json /opt/venv/bin/python

FROM dependencies-cpu AS product-cpu
COPY --from=product /opt/rcnn /opt/rcnn
COPY pyproject.toml ./
RUN PYTHONPATH=/opt/rcnn /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml -o /opt/rcnn/sbom.cdx.json /opt/venv/bin/python

FROM ${BASE} AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp rcnn \
    && install -d -o 10001 -g 10001 /var/cache/rcnn
# MALLOC_ARENA_MAX=1: glibc keeps a heap for each thread otherwise, which costs 50 MB and more with every core.
ENV PATH=/opt/rcnn/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/rcnn \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MALLOC_ARENA_MAX=1 \
    RCNN_HOST=0.0.0.0 \
    RCNN_CACHE_DIR=/var/cache/rcnn
VOLUME /var/cache/rcnn
USER 10001
# Not RCNN_PORT, which would win over the port that Vertex AI or SageMaker sets.
EXPOSE 8000
# SageMaker starts several containers on a machine only where each takes its port from SAGEMAKER_BIND_TO_PORT.
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
STOPSIGNAL SIGTERM
# A first start may fetch weights before it is ready: until start-period is over, a failed probe does not count. The
# certificate of RCNN_TLS_CERT has another name than 127.0.0.1, so it is not checked here.
HEALTHCHECK --interval=5s --timeout=4s --retries=3 --start-period=10m \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; e = os.environ.get; tls = e('RCNN_TLS_CERT'); u.urlopen(('https' if tls else 'http') + '://127.0.0.1:' + (e('RCNN_PORT') or e('AIP_HTTP_PORT') or e('SAGEMAKER_BIND_TO_PORT') or '8000') + '/health/ready', timeout=3, context=ssl._create_unverified_context() if tls else None)"]
CMD ["rcnn", "serve"]

FROM runtime AS cuda
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=product-cuda /opt/rcnn /opt/rcnn
# Which driver libraries are mounted when a GPU is given; it asks for none by itself.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The last target is the default one.
FROM runtime AS cpu
COPY --from=dependencies-cpu /opt/venv /opt/venv
COPY --from=product-cpu /opt/rcnn /opt/rcnn
