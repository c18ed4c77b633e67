# The command line for CPUs, built from these sources.
#   docker build -t nativebert .
#   docker run --rm -v "$PWD:/work" -v nativebert-models:/models nativebert embed reviews.csv --column text -o vectors.npy
# --user "$(id -u)" if the files are to belong to you. examples/serve/Dockerfile makes an image of a server with its model.
FROM python:3.12-slim AS build
# a compiler for the kernels, which does not go into the image that is kept
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY nativebert nativebert
COPY weights_map weights_map
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY constraints.txt /tmp/
COPY --from=build /wheels /wheels
# torch without CUDA, which would be some gigabytes
RUN pip install --no-cache-dir -c /tmp/constraints.txt torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -c /tmp/constraints.txt "$(echo /wheels/nativebert-*.whl)[cli,serve,tables]" \
    && rm -r /wheels /tmp/constraints.txt \
    && nativebert --version | grep -x "with C kernels"
# downloaded models stay in /models: mount a volume there; any user may write to it
ENV HF_HOME=/models
RUN mkdir /models && chmod 1777 /models
WORKDIR /work
USER nobody
ENTRYPOINT ["nativebert"]
CMD ["--help"]
