# kproxy's image, for amd64 and arm64:
#
#   docker build -t kproxy:0.1.0 .
#   docker build --target ingress -t kproxy-ingress:0.1.0 .   the image of `kproxy ingress`, further below
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
    && apt-get install -y --no-install-recommends binutils gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# No traces of where and when it was built, so that the same source makes the same image.
ENV CFLAGS="-O2 -g0" LDFLAGS="-Wl,--build-id=none"
ARG SOURCE_DATE_EPOCH=315532800
WORKDIR /src
COPY lock/build.txt lock/run.txt lock/
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes -r lock/build.txt \
    && /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --require-hashes \
        -r lock/run.txt -w /wheels
COPY deploy/image/python.sh deploy/image/
RUN python3 -m venv --without-pip /opt/kproxy \
    && /build/bin/pip --python /opt/kproxy/bin/python install --no-index --no-deps --no-compile /wheels/*.whl \
    && sh deploy/image/python.sh /opt/kproxy
COPY pyproject.toml README.md LICENSE ./
COPY kproxy kproxy
# Bytecode is compiled here, as the root file system is read-only later. It is never compared with its source again: a build
# that sets the times of all files would make it look stale, and each start of kproxy compile it anew.
RUN /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps . -w /own \
    && /build/bin/pip --python /opt/kproxy/bin/python install --no-index --no-deps --no-compile /own/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/kproxy/lib

# The image starts from nothing and takes all files at once, so that what is taken out here takes no room in a layer below.
# What goes, and why, is said in deploy/image/debian.sh, and of Python packages in deploy/image/python.sh.
#
# Both variants of iptables are in the package; kproxy looks which one the node uses when it starts. libnftables1 serves
# mode nftables, kmod the init container, which loads nf_conntrack before its settings can be made.
FROM ${BASE} AS proxy-system
COPY deploy/image/debian.sh /
RUN apt-get update \
    && apt-get install -y --no-install-recommends iptables kmod libnftables1 python3 \
    && sh /debian.sh && rm /debian.sh
COPY --from=builder /opt/kproxy /opt/kproxy
RUN ln -s /opt/kproxy/bin/kproxy /usr/local/bin/kproxy \
    && ln -s kproxy /usr/local/bin/kube-proxy

# The image of `kproxy ingress`: docker build --target ingress -t kproxy-ingress:0.1.0 .
FROM builder AS ingress-builder
COPY lock/ingress.txt lock/
RUN /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --require-hashes -r lock/ingress.txt -w /more \
    && /build/bin/pip --python /opt/kproxy/bin/python install --no-index --no-deps --no-compile /more/*.whl \
    && sh deploy/image/python.sh /opt/kproxy \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/kproxy/lib

# The package starts HAProxy where it is installed, unless a policy forbids that.
FROM ${BASE} AS ingress-system
COPY deploy/image/debian.sh /
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
    && apt-get update \
    && apt-get install -y --no-install-recommends haproxy python3 \
    && sh /debian.sh && rm /debian.sh /usr/sbin/policy-rc.d
COPY --from=ingress-builder /opt/kproxy /opt/kproxy
RUN ln -s /opt/kproxy/bin/kproxy /usr/local/bin/kproxy \
    && mkdir -m 0700 /run/kproxy-ingress && chown 65532:65532 /run/kproxy-ingress

# It runs as nobody in particular. Ports below 1024 it may have by what Docker and containerd set for a container's network,
# or by net.ipv4.ip_unprivileged_port_start, which deploy/ingress sets for its pods.
FROM scratch AS ingress
COPY --from=ingress-system / /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="kproxy-ingress" \
      org.opencontainers.image.description="Ingress and Gateway API for Kubernetes, by HAProxy" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
# Health is at 10254, metrics at 10253.
EXPOSE 80 443 10253 10254
ENTRYPOINT ["/usr/local/bin/kproxy", "ingress"]

# What `docker build` makes unless it is told otherwise, hence the last.
FROM scratch AS proxy
COPY --from=proxy-system / /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="kproxy" \
      org.opencontainers.image.description="A service proxy for Kubernetes nodes, in place of kube-proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
# Health is at 10256, metrics at 10249. A command line of kube-proxy's works as it is, as arguments or as a command.
EXPOSE 10249 10256
ENTRYPOINT ["/usr/local/bin/kproxy"]
