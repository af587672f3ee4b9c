# The image of every Kindred service: the worker, the trainer and all other `kindred` commands. docs/compose.md tells the
# build arguments.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS wheel
LABEL org.opencontainers.image.title=kindred-stream
COPY . /src
RUN mkdir /dependencies \
 && python /src/ops/docker/requirements.py /src/pyproject.toml > /dependencies/requirements.txt \
 && cp /src/constraints.txt /src/ops/docker/install.py /dependencies/ \
 && python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel /src

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title=kindred-stream \
      org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/opt/kindred/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1

# Dependencies first: they change seldom and take minutes. The compiler is for install.py, and gone again in the same layer.
# cpu, or cuda for an image that serves on a GPU.
ARG DEVICE=cpu
# An index that has a CPU build of torch, where there is one.
ARG PIP_EXTRA_INDEX_URL
COPY --from=wheel /dependencies /build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && python -m venv /opt/kindred \
 && python /build/install.py "$DEVICE" /build/requirements.txt /build/constraints.txt \
 && apt-get purge -y --autoremove gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* /root/.cache

RUN useradd --system --uid 10001 --home-dir /var/lib/kindred kindred \
 && install --directory --owner kindred /var/lib/kindred
COPY --from=wheel /wheel /build/wheel
RUN python -m pip install --no-cache-dir --no-deps /build/wheel/*.whl \
 && mkdir /usr/share/kindred \
 && ln -s "$(python -c 'import ops.demo; print(ops.demo.__path__[0])')/stackexchange.jsonl.gz" /usr/share/kindred/posts.jsonl.gz

USER kindred
WORKDIR /var/lib/kindred
ENV KINDRED_DEVICE=${DEVICE} \
    KINDRED_RELEASES=/var/lib/kindred/releases \
    KINDRED_CACHE=/var/lib/kindred/cache
VOLUME /var/lib/kindred
ENTRYPOINT ["kindred"]
CMD ["worker"]
