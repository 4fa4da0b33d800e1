#!/bin/sh
# Takes out of a virtual environment what kproxy never imports: python.sh /opt/kproxy. What is installed stays what
# lock/run.txt says, for both architectures; these are parts of it.
set -eu
cd "$1"/lib/python3*/site-packages

# The client of Kubernetes, of which kproxy uses what reads kubeconfig files and service accounts (kubernetes.config,
# kubernetes.client.Configuration and what these import). Left out:
# - a second, asynchronous client;
rm -rf kubernetes/aio
# - a class for every object and every call of the API: kproxy has its own few (kproxy/api/types.py). The package imports
#   them one by one when they are asked for, which nobody does;
find kubernetes/client/models -name '*.py' ! -name __init__.py -delete
rm -rf kubernetes/client/api kubernetes/client/apis
# - its tests.
rm -rf kubernetes/e2e_test
find kubernetes \( -name '*_test.py' -o -name 'test_*.py' \) -delete

# What that second client speaks HTTP with, and nobody else.
rm -rf aiohttp aiohttp_retry aiohappyeyeballs aiosignal frozenlist multidict propcache yarl

# Tests of others.
rm -rf certifi/tests websocket/tests
# What compiled modules were made from.
find . \( -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.hash' \) -delete
# Symbols of compiled modules, which only a debugger reads.
find . -name '*.so' -exec strip --strip-unneeded {} +
# Typing: nothing is type-checked in the image.
find . \( -name '*.pyi' -o -name py.typed \) -delete
# Commands of the libraries; the image has one of its own.
find ../../../bin -type f ! -name kproxy -delete
