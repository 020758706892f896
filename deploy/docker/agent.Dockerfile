# The agent of a site, with torch and the readers of DICOM and NIfTI. Built from the root of the
# repository:
#   docker build -f deploy/docker/agent.Dockerfile -t letheon-agent .
# Any Debian 12 serves as BASE.
ARG BASE=docker.io/library/debian:bookworm-slim

# cuda, from PyPI, large; cpu: put PyTorch's wheel for processors into deploy/docker/wheels.
ARG TORCH=cpu

FROM ${BASE} AS build
ARG TORCH
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/letheon
COPY deploy/locks/build.txt deploy/locks/torch-${TORCH}.txt /locks/
COPY deploy/docker/wheels /wheels
# Every file that is installed is named by its hash; nothing is resolved here.
RUN /opt/letheon/bin/pip install --no-cache-dir --no-deps --require-hashes --find-links /wheels \
      -r /locks/build.txt -r /locks/torch-${TORCH}.txt
COPY pyproject.toml README.md LICENSE /src/
COPY letheon /src/letheon
COPY coordinator /src/coordinator
COPY client_agent /src/client_agent
COPY calibrator /src/calibrator
RUN /opt/letheon/bin/pip install --no-cache-dir --no-deps --no-build-isolation /src \
 && /opt/letheon/bin/pip uninstall -y wheel setuptools pip

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 letheon \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp letheon \
 && install -d -o 10001 -g 10001 /var/lib/letheon /etc/letheon
COPY --from=build /opt/letheon /opt/letheon
ENV PATH=/opt/letheon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/letheon
# Only /var/lib/letheon and /tmp are written to: the root may be read-only.
VOLUME ["/var/lib/letheon"]
EXPOSE 9466
# An agent listens nowhere: it is watched by its process, and by last-seen at the coordinator.
HEALTHCHECK NONE
ENTRYPOINT ["letheon-agent"]
CMD ["run", "--config", "/etc/letheon/client_agent.toml"]
