# kproxy's image, for amd64 and arm64:
#
#   docker build -t kproxy:0.1.0 .
#
# For an image that can be made again bit by bit, name the base by its digest and give a time for all files:
#
#   docker buildx build --build-arg BASE=debian:trixie-slim@sha256:… --build-arg SOURCE_DATE_EPOCH=… \
#       --output type=docker,rewrite-timestamp=true -t kproxy:0.1.0 .
#   buildah bud --build-arg BASE=debian:trixie-slim@sha256:… --timestamp … -t kproxy:0.1.0 .
#
# It runs as root, without any of root's rights but NET_ADMIN and NET_RAW: /run/xtables.lock, which all programs that
# write iptables rules share, is root's and for root only. `kproxy render` needs no rights: --user 65534 will do.
ARG BASE=debian:trixie-slim

# python-iptables comes as source, so it takes a compiler; neither that nor pip gets into the image.
FROM ${BASE} AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv
# No traces of where and when it was built, so that the same source makes the same image.
ENV CFLAGS="-O2 -g0" LDFLAGS="-Wl,--build-id=none"
ARG SOURCE_DATE_EPOCH=315532800
WORKDIR /src
COPY lock/build.txt lock/run.txt lock/
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes -r lock/build.txt \
    && /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --require-hashes \
        -r lock/run.txt -w /wheels
COPY pyproject.toml README.md LICENSE ./
COPY kproxy kproxy
# Of the client of Kubernetes, kproxy uses what reads credentials; the second, asynchronous client is a third of it all.
# Bytecode is compiled here, as the root file system is read-only later; it is never compared with its source again.
RUN /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps . -w /wheels \
    && python3 -m venv --without-pip /opt/kproxy \
    && /build/bin/pip --python /opt/kproxy/bin/python install --no-index --find-links /wheels --no-compile kproxy \
    && rm -rf /opt/kproxy/lib/python3*/site-packages/kubernetes/aio \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/kproxy/lib

FROM ${BASE}
# Both variants of iptables are in the package; kproxy looks which one the node uses when it starts. libnftables1 serves
# mode nftables, kmod the init container, which loads nf_conntrack before its settings can be made.
RUN apt-get update \
    && apt-get install -y --no-install-recommends iptables kmod libnftables1 python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig/* /var/log/* \
    && ln -s /opt/kproxy/bin/kproxy /usr/local/bin/kproxy \
    && ln -s kproxy /usr/local/bin/kube-proxy
COPY --from=builder /opt/kproxy /opt/kproxy
ENV PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="kproxy" \
      org.opencontainers.image.description="A service proxy for Kubernetes nodes, in place of kube-proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
# Health is at 10256, metrics at 10249. A command line of kube-proxy's works as it is, as arguments or as a command.
EXPOSE 10249 10256
ENTRYPOINT ["/usr/local/bin/kproxy"]
