# The coordinator, and the `letheon` command; no torch. Built from the root of the repository:
#   docker build -f deploy/docker/coordinator.Dockerfile -t letheon-coordinator .
# Any Debian 12 serves as BASE.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/letheon
COPY deploy/locks/build.txt deploy/locks/coordinator.txt /locks/
# Every file that is installed is named by its hash; nothing is resolved here.
RUN /opt/letheon/bin/pip install --no-cache-dir --no-deps --require-hashes \
      -r /locks/build.txt -r /locks/coordinator.txt
COPY pyproject.toml README.md LICENSE /src/
COPY letheon /src/letheon
COPY coordinator /src/coordinator
COPY client_agent /src/client_agent
COPY calibrator /src/calibrator
RUN /opt/letheon/bin/pip install --no-cache-dir --no-deps --no-build-isolation /src \
 && /opt/letheon/bin/pip uninstall -y wheel setuptools pip \
 && find /opt/letheon -name tests -type d -path '*/site-packages/*' -prune -exec rm -rf {} +

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
    PYTHONDONTWRITEBYTECODE=1 \
    LETHEON_HEALTH_LISTEN=0.0.0.0:7301
USER 10001:10001
WORKDIR /var/lib/letheon
# Only /var/lib/letheon and /tmp are written to: the root may be read-only.
VOLUME ["/var/lib/letheon"]
EXPOSE 7300 7301 9464
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
  CMD ["letheon", "health", "127.0.0.1:7301", "--service", "liveness"]
ENTRYPOINT ["letheon-coordinator"]
CMD ["serve", "--config", "/etc/letheon/coordinator.toml"]
