# An image that serves a classifier on CPUs, offline, as a user without rights: docs/serving.md.
FROM python:3.12-slim AS build
# The default build of torch brings gigabytes of CUDA libraries.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PATH=/opt/sentikit/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY constraints.txt .
RUN python -m venv /opt/sentikit \
    && pip install --constraint constraints.txt --index-url "$TORCH_INDEX" torch
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY sentikit sentikit
COPY plugins plugins
COPY recipes recipes
RUN pip install --constraint constraints.txt ".[serve]"

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 sentikit
COPY --from=build /opt/sentikit /opt/sentikit
# Models are mounted; nothing is fetched from a hub.
ENV PATH=/opt/sentikit/bin:$PATH HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/sentikit
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["sentikit"]
CMD ["serve", "/model", "--host", "0.0.0.0", "--port", "8080"]
